"""`pathcast verify`: defines the options, shows the progress, and prints the report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from stream.adapters.live.option import MapOption
from stream.config.options import (
    COMMON,
    DEFAULT_HORIZONS,
    Common,
    Group,
    Horizons,
    Json,
    Servers,
    Weights,
    horizons_of,
    option,
    quiet,
    with_common,
)
from stream.config.security import PLAIN_REDIS, RedisSecurity
from stream.config.settings import DeliveryGuarantee, Settings
from stream.verify.compare import DEFAULT_M
from stream.wire.escape import escaped, escaped_json

if TYPE_CHECKING:  # importing numba and Kafka clients takes a second, for which --help should not wait
    from rich.table import Table

    from stream.verify.report import Example, Report, Tally


class Numbers(StrEnum):
    EXACT = "exact"
    CLOSE = "close"


@with_common
def verify(
    common: Common = COMMON,
    redis_security: RedisSecurity = PLAIN_REDIS,
    group: Group = Settings.group,
    weights: Weights = Settings.weights,
    horizons: Horizons = DEFAULT_HORIZONS,
    delivery: Annotated[
        DeliveryGuarantee, option("--delivery", "DELIVERY", "exactly_once: as a read_committed reader, and no copies")
    ] = DeliveryGuarantee.AT_LEAST_ONCE,
    start: Annotated[
        str,
        typer.Option(
            "--from", help="where judging begins: earliest, OFFSET, PARTITION:OFFSET,... or a time (RFC 3339)"
        ),
    ] = "earliest",
    warmup: Annotated[
        int | None, typer.Option("--warmup", min=0, help="replay so many records before --from; default: all there are")
    ] = None,
    redis: Annotated[
        str | None, typer.Option("--redis", help="compare the states that are checkpointed there; default: none")
    ] = None,
    atlases: Annotated[
        Path | None,
        option(
            "--atlases",
            "ATLASES",
            "the workers' directory of atlases: did each forecast ask the one that is due?",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    registry: Annotated[
        str | None,
        option(
            "--registry", "REGISTRY", "the workers' registry of weights: was each forecast made by those that are due?"
        ),
    ] = None,
    map_: MapOption = None,
    tolerance_m: Annotated[
        float, typer.Option("--tolerance-m", min=0, help="metres that numbers may be apart after a rebuild")
    ] = DEFAULT_M,
    numbers: Annotated[
        Numbers, typer.Option("--numbers", help="close: the workers' sums may round otherwise (another processor)")
    ] = Numbers.EXACT,
    allow_retention: Annotated[
        bool, typer.Option("--allow-retention", help="records that retention deleted unanswered are counted, not wrong")
    ] = False,
    json: Json = False,
) -> None:
    """Compare every output with a replay of the input, and report what is lost, duplicated, different or unexpected.

    Reads the pings topic and the output topics, runs the pings through the worker's own engine, and compares. Workers
    may run meanwhile: answers to records that the group has not committed yet may be missing. Nothing is published,
    committed or claimed. With --redis, each partition's checkpoint is compared with the replayed states, too. The exit
    code is 1 if anything is wrong.

    Give the workers' --prefix, --group, --weights, --horizons, --atlases, --registry and --map. Numbers must be equal
    to the bit until a state was rebuilt, by a late ping, by other weights or by a takeover that could not use it; then
    within --tolerance-m and 10 % of sigma.

    [bold]Examples[/]

      pathcast verify
      pathcast verify --redis redis://127.0.0.1:6379/0 --json
      pathcast verify --delivery exactly_once --from 2026-11-25T08:00:00Z
      pathcast verify --from 0:120000,1:118500 --warmup 64000
    """
    servers = Servers(common, redis or Settings.redis_url, group, redis_security)
    try:
        settings = servers.settings(
            weights=weights, horizons_s=horizons_of(horizons), atlases=atlases, registry=registry, map=map_
        )
    except ValueError as error:
        raise typer.BadParameter(f"{horizons!r}: {error}", param_hint="--horizons") from None
    with quiet():
        from stream.verify.compare import Tolerance
        from stream.verify.offsets import Start
        from stream.verify.run import Wanted, verified

        try:
            begin = Start.parse(start)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--from") from None
        wanted = Wanted(
            once=delivery is DeliveryGuarantee.EXACTLY_ONCE,
            start=begin,
            warmup=warmup,
            states=redis is not None,
            tolerance=Tolerance(tolerance_m),
            to_the_bit=numbers is Numbers.EXACT,
            allow_retention=allow_retention,
        )
        with _progress() as progressed:
            report = asyncio.run(verified(settings, wanted, progressed))
        if json:
            typer.echo(escaped_json(msgspec.json.encode(report.as_json())))
        else:
            show(report)
    if not report.ok:
        raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yields a function that shows the progress on a terminal's stderr: what is done, how many, of how many."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times, console = (TimeElapsedColumn(), TimeRemainingColumn()), Console(stderr=True)
    # Disabled, for where there is no terminal it would still end with an empty line.
    with Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks = {}

        def progressed(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        yield progressed


# The columns of the table, in order: the field of a Tally, and its heading. A finding has a column only if it occurred.
COLUMNS = (
    ("records", "records"),
    ("forecasts", "forecasts"),
    ("dead_letters", "letters"),
    ("gap_fills", "fills"),
    ("open", "open"),
    ("states", "states"),
)
# The parts of a line under the table, each shown if its count is not 0.
BESIDE = (
    ("input_duplicates", "duplicates in the input"),
    ("quarantined", "letters taken at their word (quarantine, quota)"),
    ("unread", "answered without the entity's stored state, as they say"),
    ("again", "copies"),
    ("close", "answers close, not equal"),
    ("states_close", "states close, not equal"),
    ("other_model", "answers of other weights"),
    ("late_atlas", "answers that say that their atlas may be late"),
    ("late_weights", "answers that say that other weights may have been due"),
    ("without_atlas", "answers of workers without atlases"),
    ("other_atlas", "answers whose atlas could not be asked, so that their numbers are not compared"),
    ("unjudged", "answers not judged"),
    ("states_skipped", "states not judged"),
    ("warmup", "records replayed for the states alone"),
)


def show(report: Report) -> None:
    """Prints a table for people, the findings under it, and a last line with the result."""
    from rich.console import Console

    from stream.kafka.partitioner import ADVICE
    from stream.verify.report import MEANING, NAMES, VERDICTS

    console, total = Console(), report.total
    console.print(_table(report))
    beside = [f"{count:,} {what}" for name, what in BESIDE if (count := getattr(total, name))]
    for line in ([", ".join(beside)] if beside else []) + report.notes:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for line in filter(None, (report.entities.split_in_words(), report.entities.elsewhere_in_words())):
        console.print(escaped(f"{line}: {ADVICE}"), markup=False, highlight=False, soft_wrap=True)
    for verdict in VERDICTS:
        if count := getattr(total, verdict):
            style = None if verdict in report.allowed else "red"
            console.print(f"{count:,} {NAMES[verdict]}: {MEANING[verdict]}", style=style, highlight=False)
        for found in report.examples:
            if found.verdict == verdict:
                console.print(_line(found), markup=False, highlight=False, soft_wrap=True)
    how = f"in {report.seconds:.1f} s ({report.delivery})"
    console.print("nothing is wrong" if report.ok else f"{report.wrong:,} findings", how, highlight=False)


def _table(report: Report) -> Table:
    from rich.table import Table

    from stream.verify.report import NAMES, VERDICTS

    total = report.total
    shown = [*COLUMNS, *((name, NAMES[name]) for name in VERDICTS if getattr(total, name))]
    table = Table("partition", box=None, pad_edge=False)
    for _, heading in shown:
        table.add_column(heading, justify="right")
    rows: list[tuple[str, Tally]] = [(str(number), tally) for number, tally in sorted(report.tallies.items())]
    if any(getattr(report.strays, name) for name in VERDICTS):
        rows.append(("none", report.strays))
    for label, tally in (*rows, ("all", total)):
        table.add_row(label, *(f"{getattr(tally, name):,}" for name, _ in shown))
    return table


def _line(found: Example) -> str:
    number = "" if found.partition < 0 else f"/{found.partition}"
    offset = "" if found.offset is None else f"@{found.offset}"
    return escaped(f"  {found.topic}{number}{offset}  {found.entity or '-'}  {found.reason}")
