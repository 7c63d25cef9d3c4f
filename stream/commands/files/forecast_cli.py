"""`pathcast forecast`: where the entities of a file will be. Heavy imports wait for the call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from stream.adapters.options import Columns, Timezone, recording_of
from stream.commands.files import outputs
from stream.commands.files.options import AsJson, AsksItself, AtlasFile, Force, Kind, check_out, print_json
from stream.commands.files.outputs import STD
from stream.commands.replay import settings_of
from stream.config.options import DEFAULT_HORIZONS, Horizons, Weights, quiet
from stream.config.settings import Settings
from stream.config.wording import counted

if TYPE_CHECKING:
    from stream.adapters.recorded import Recording
    from stream.atlas.building import Built
    from stream.atlas.own import OwnAtlas
    from stream.commands.files.answering import RowCounts
    from stream.commands.files.plan import RejectedRows
    from stream.commands.files.showing import Steps
    from stream.commands.files.survey import Read, Survey
    from stream.wire import Forecast


def forecast(
    file: Annotated[
        str, typer.Argument(metavar="FILE|FORMAT:PATH|-", help="recorded pings; - is NDJSON on standard input")
    ],
    *,
    out: Annotated[str, typer.Option("--out", metavar="OUT|-", help="where the forecasts go")] = STD,
    kind: Annotated[Kind | None, typer.Option("--format", help="if not by the suffix of OUT")] = None,
    each: Annotated[bool, typer.Option("--each", help="from each row, not only from each entity's last")] = False,
    columns: Columns = None,
    timezone: Timezone = None,
    weights: Weights = Settings.weights,
    horizons: Horizons = DEFAULT_HORIZONS,
    atlas: AtlasFile = None,
    own_atlas: AsksItself = True,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Forecast where the entities of a recorded file will be.

    FILE is what pathcast replay takes: CSV, NDJSON, GPX, Parquet, a folder, FORMAT:PATH, or - for NDJSON on standard
    input. OUT gets a row for each horizon: entity_id, ts (of the row that it starts from, ms UTC), h_s, forecast_ts,
    lat, lon, sigma_m (one standard deviation), its covariance, status and model. By default there is one forecast for
    each entity, from its last row; --each makes one from each row.

    A forecast also asks where the file's other entities, and the same one, went that came the same way before: what the
    file knows of later times is not used, so that a file can judge its own forecasts. --atlas asks a fleet's atlas
    instead, with all that it knows, and --no-own-atlas neither.

    The suffix of OUT says the format: .csv, .ndjson (or .jsonl), .parquet, or .gpx, where each forecast is a track.
    Standard output gets NDJSON, or what --format says.

    [bold]Examples[/]

      pathcast forecast fleet.csv --columns t:s=timestamp,entity_id=vehicle --format csv
      pathcast forecast week.parquet --each --out forecasts.parquet --horizons 60,600
      pathcast forecast ride.gpx --out ahead.gpx --atlas fleet.atlas
    """
    settings, format = settings_of(weights, horizons), _kind_of(out, kind)
    check_out(out, parquet=format is Kind.PARQUET, force=force)
    console, began_s = Console(stderr=True), time.monotonic()
    with quiet(), outputs.as_file(file, ".ndjson") as path:
        recorded = recording_of(file if file != STD else str(path), columns, zone=timezone)
        from stream.commands.files.answering import RowCounts
        from stream.commands.files.formats.forecasts import WRITERS
        from stream.commands.files.plan import RejectedRows
        from stream.commands.files.showing import Steps, describe_own
        from stream.commands.files.survey import survey

        steps, counts, rejects = Steps(console), RowCounts(), RejectedRows()
        read = recorded.rows if recorded.archive is None else recorded.in_order().__iter__
        with steps.step("reading") as progress:
            seen = survey(read(), progress)
        own = _own(read, seen, settings, steps, each=each) if own_atlas and atlas is None else None
        with outputs.writing(out, force=force) as sink:
            of_file = recorded, read, seen, settings, steps, counts, rejects
            WRITERS[format](sink, _forecasts(*of_file, each=each, atlas=atlas, own=own))
    summary = {
        "rows": counts.rows,
        "pings": counts.pings,
        "forecasts": counts.forecasts,
        "forecasts_along_passages": counts.along,
        "duplicates": counts.duplicates,
        "rejects": sum(rejects.codes.values()),
        "rejects_by_code": dict(rejects.codes.most_common()),
        "out": out,
        "seconds": round(time.monotonic() - began_s, 3),
    }
    if as_json:
        print_json(summary, out)
    else:
        if own is not None:
            text = describe_own(own, counts.along, counts.forecasts, "forecast")
            console.print(text, highlight=False, soft_wrap=True)
        _print_summary(summary, rejects, console)


def _kind_of(out: str, given: Kind | None) -> Kind:
    if given is None and out == STD:
        return Kind.NDJSON
    suffix = Path(out).suffix.lower().removeprefix(".").replace("jsonl", "ndjson")
    if given is None and suffix not in list(Kind):
        known = ", ".join(f".{one}" for one in Kind)
        raise typer.BadParameter(f"{out}: expected {known}, or --format", param_hint="--out")
    return given or Kind(suffix)


def _own(read: Read, seen: Survey, settings: Settings, steps: Steps, *, each: bool) -> OwnAtlas:
    """Returns what the file's forecasts may ask of the file itself; a file with few pings is not read for it."""
    from model.api import Predictor
    from stream.atlas.own import LEAST_PINGS, OwnAtlas, for_forecasts, read_own
    from stream.commands.files.answering import gap_policy
    from stream.commands.files.survey import batches

    if len(seen) < LEAST_PINGS:
        return OwnAtlas(len(seen), len(seen.names))
    predictor = Predictor.load(settings.weights)
    policy = gap_policy(predictor.history)
    with steps.step("reading where they went", len(seen)) as progress:

        def build(until_ms: int) -> Built:
            rows = (row for some in batches(read, seen) for _, row in some if (row.ts_ms or 0) < until_ms)
            return read_own(rows, policy, progress)

        return for_forecasts(build, seen.ts_ms if each else seen.newest_ms(), seen.ts_ms, predictor)


def _forecasts(
    recorded: Recording,
    read: Read,
    seen: Survey,
    settings: Settings,
    steps: Steps,
    counts: RowCounts,
    rejects: RejectedRows,
    *,
    each: bool,
    atlas: Path | None,
    own: OwnAtlas | None,
) -> Iterator[Forecast]:
    """Yields the forecasts of a file; `counts` and `rejects` say at the end what became of its rows. Raises ValueError
    if it has rows, and none is a ping."""
    from stream.commands.files.answering import answers, bad
    from stream.commands.files.plan import raise_if_none
    from stream.commands.files.survey import batches
    from stream.wire import loads_forecast

    newest: dict[bytes, bytes] = {}  # by entity

    def counting(value: bytes) -> Forecast:
        forecast = loads_forecast(value)
        counts.forecasts += 1
        counts.along += forecast.atlas is not None and forecast.atlas.pings > 0
        return forecast

    with steps.step("forecasting", len(seen)) as progress:
        for row, answer in answers(batches(read, seen), settings, counts, progress, atlas=atlas, own=own):
            if answer.topic == settings.topics.forecasts:
                if each:
                    yield counting(answer.value or b"")
                else:
                    newest[answer.key or b""] = answer.value or b""
            elif answer.topic == settings.topics.dead_letters:
                rejects.add(bad(row, answer))
    raise_if_none(recorded, counts, rejects)
    yield from map(counting, newest.values())


def _print_summary(summary: dict[str, Any], found: RejectedRows, console: Console) -> None:
    from stream.commands.files.showing import list_rejects

    for line in list_rejects(found.first, found.codes, {}, "row"):
        console.print(f"no ping: {line}", style="yellow", markup=False, soft_wrap=True)
    console.print(
        ", ".join(counted(summary[f"{one}s"], one) for one in ("row", "forecast", "reject", "duplicate")),
        highlight=False,
        soft_wrap=True,
    )
