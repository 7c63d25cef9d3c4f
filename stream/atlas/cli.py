"""`pathcast train atlas`: builds an atlas of a fleet from its recorded pings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from stream.adapters.live.option import MapOption
from stream.adapters.options import Columns, Timezone, recording_of
from stream.atlas.counting.cli import HalfLife, MinEntities, PassagesPerCell, Weights, Without
from stream.atlas.showing.cli import check_folder
from stream.config.options import COMMON, Bootstrap, Json, quiet, with_common
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.config.settings import Settings
from stream.config.times import DAY_S, seconds
from stream.config.wording import counted
from stream.wire import NO_TIME_MS, Record, Reject


@with_common
def build(
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="the file to write")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="[FORMAT:]FILE", help="recorded pings, as replay takes them")
    ] = None,
    columns: Columns = None,
    timezone: Timezone = None,
    from_topic: Annotated[
        str | None, typer.Option("--from-topic", metavar="TOPIC", help="instead: the pings that a topic still has")
    ] = None,
    map_: MapOption = None,
    min_entities: MinEntities = 3,
    half_life: HalfLife = "14d",
    passages_per_cell: PassagesPerCell = 128,
    weights: Weights = Settings.weights,
    without: Without = None,
    bootstrap: Bootstrap = COMMON.bootstrap,
    security: KafkaSecurity = PLAIN_KAFKA,
    as_json: Json = False,
) -> None:
    """Find how vehicles passed each map cell and by which way they went on, and write what three entities or more show.

    What fewer did could be recognised, as where they live: --min-entities 1 is for an atlas that stays with you. The
    same pings give the same bytes, from a file or from a topic, in whatever order their entities come.

    [bold]Examples[/]

      pathcast train atlas --data fleet.csv --columns t:s=timestamp,entity_id=vehicle --out fleet.atlas
      pathcast train atlas --from-topic pathcast.pings.v1 --bootstrap localhost:9092 --out fleet.atlas
      pathcast export atlas fleet.atlas --out flows.geojson
    """
    if (data is None) == (from_topic is None):
        raise typer.BadParameter("give either --data or --from-topic")
    if columns is not None and data is None:
        raise typer.BadParameter("--columns is for --data")
    check_folder(out)
    recorded = None if data is None else recording_of(data, columns, zone=timezone)
    if recorded is not None and out.exists() and Path(recorded.path).exists() and out.samefile(recorded.path):
        raise typer.BadParameter(f"{out} is the input itself", param_hint="--out")
    days = seconds(half_life, "--half-life") / DAY_S
    from model.api import Predictor
    from model.atlas.version import pieces
    from model.files import write_whole
    from stream.atlas import building
    from stream.tracks.clean import parse

    rules, nobody = building.Rules(days, min_entities, passages_per_cell), without or ()
    predictor = Predictor.load(weights)  # first: what is wrong with them is known before all pings are read
    with _progress(silent=as_json) as advance, quiet():
        if recorded is not None:
            rows = recorded.in_order()
            built = building.of_rows(rows, lambda done: advance(done / max(1, len(rows))), nobody)
        else:
            built = asyncio.run(building.of_topic(bootstrap, str(from_topic), security, advance, nobody, map_))
        made = built.publishable(rules, predictor)
    if recorded is not None and built.left_out and not made.contains["pings"]:
        first = next(iter(rows))
        found = parse(Record("", 0, 0, NO_TIME_MS, first.key, first.value))
        if isinstance(found, Reject):
            raise recorded.without_pings(built.left_out, found.code, found.message)
    raw = pieces(*made)
    write_whole(out, raw)
    size = {"passages": len(made.passages.known), "buckets": len(made.passages.bucket), "bytes": sum(map(len, raw))}
    if as_json:
        typer.echo(json.dumps({**made.contains, "left_out": built.left_out, **size}))
        return
    typer.echo(
        f"{counted(made.contains['pings'], 'ping')} of {counted(made.contains['entities'], 'entity', 'entities')} "
        f"({counted(built.left_out, 'record')} left out), "
        f"{counted(size['passages'], 'passage')}, {size['bytes'] / 1e6:,.1f} MB in {out}"
    )


@contextmanager
def _progress(*, silent: bool) -> Iterator[Callable[[float], None]]:
    """Yields a function that shows the share of the records that are read, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=silent or not console.is_terminal) as shown:
        task = shown.add_task("", total=1.0)
        yield lambda done: shown.update(task, completed=done)
