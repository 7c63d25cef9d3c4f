"""`pathcast bench`: the options of each benchmark, progress, and where the results go. Measures nothing itself."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli_options import Json, quiet
from stream.settings import Settings

if TYPE_CHECKING:
    from stream.bench.report import Report
    from stream.bench.servers import Servers

    Show = Callable[[str], None]

app = typer.Typer(
    help="Measure: the bare model step, a worker, latency, scale, takeover, and other ways to do the same.\n\n"
    "Starts an Apache Kafka (Java and Maven are needed) and a redis-server of its own on loopback, unless --bootstrap "
    "and --redis name running ones, and leaves nothing behind. Nothing is recorded without --record.",
    no_args_is_help=True,
)

Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap", help="a running Kafka, host:port; default: an Apache Kafka of our own")
]
RedisUrl = Annotated[str | None, typer.Option("--redis", help="a running Redis; default: one of our own")]
Weights = Annotated[str, typer.Option("--weights", help="a bundled name or a directory")]
Record = Annotated[bool, typer.Option("--record", help="put the results into stream/bench/RESULTS.md")]
Data = Annotated[
    Path | None, typer.Option("--data", exists=True, dir_okay=False, help="tracks to use; default: the bundled buses")
]
Entities = Annotated[int, typer.Option("--entities", min=1, max=1_000_000)]
Rounds = Annotated[int, typer.Option("--rounds", min=2, max=100_000, help="pings per entity")]
Partitions = Annotated[int, typer.Option("--partitions", min=1, max=256)]
Runs = Annotated[int, typer.Option("--runs", min=1, max=100, help="each number is the median of so many")]
Timeout = Annotated[float, typer.Option("--timeout-s", min=1, max=7_200, help="the longest that one phase may take")]


@app.command()
def step(
    sizes: Annotated[str, typer.Option("--sizes", help="entities per batch, separated by commas")] = "1,32,256,1024",
    steps: Annotated[int, typer.Option("--steps", min=1, help="per run")] = 100,
    runs: Runs = 5,
    weights: Weights = Settings.weights,
    data: Data = None,
    json: Json = False,
    record: Record = False,
) -> None:
    """The bare model step: advance and forecast, no broker and no store."""
    with _showing(json) as show:
        from stream.bench.step import measured

        report = measured(weights, _counts(sizes, "--sizes"), steps=steps, runs=runs, data=data, show=show)
    _tell(report, json=json, record=record)


@app.command()
def worker(
    entities: Entities = 2_000,
    rounds: Rounds = 100,
    partitions: Partitions = 8,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, max=65_536)] = Settings.max_batch,
    runs: Runs = 5,
    profile: Annotated[bool, typer.Option("--profile/--no-profile", help="where the CPU goes, by py-spy")] = True,
    flame: Annotated[Path | None, typer.Option("--flame", dir_okay=False, help="write a flame graph (SVG)")] = None,
    weights: Weights = Settings.weights,
    data: Data = None,
    timeout_s: Timeout = 600.0,
    bootstrap: Bootstrap = None,
    redis: RedisUrl = None,
    json: Json = False,
    record: Record = False,
) -> None:
    """A filled topic through one worker as fast as it goes, beside the bare step on the same batches."""
    if flame is not None and not flame.absolute().parent.is_dir():
        raise typer.BadParameter(f"no such directory: {flame.parent}", param_hint="--flame")

    def work(servers: Servers, show: Show) -> Report:
        from stream.bench.worker import Options, run

        how = {"partitions": partitions, "max_batch": max_batch, "runs": runs, "timeout_s": timeout_s}
        more: dict[str, Any] = {**how, "profile": profile, "flame": flame, "data": data}
        return run(Options(weights=weights, entities=entities, rounds=rounds, **more), servers, show)

    _on_servers(work, bootstrap, redis, json=json, record=record)


def _on_servers(
    work: Callable[[Servers, Show], Report], bootstrap: str | None, redis: str | None, *, json: bool, record: bool
) -> None:
    with _showing(json) as show:
        from stream.bench.servers import servers

        with servers(show, bootstrap=bootstrap, redis_url=redis) as found:
            report = work(found, show)
    _tell(report, json=json, record=record)


@contextmanager
def _showing(json: bool) -> Iterator[Show]:
    """What is being done, on stderr: one line that changes on a terminal, else a line per phase."""
    from rich.console import Console

    console = Console(stderr=True)
    with quiet():
        if console.is_terminal:
            with console.status("") as status:
                yield lambda text: status.update(text)
            return
        phase = ""

        def line(text: str) -> None:
            nonlocal phase
            head = text.partition(":")[0]  # "run 1 of 5: 1,234 pings" is told once
            if head != phase:
                phase = head
                console.print(text, highlight=False, soft_wrap=True)

        yield line


def _tell(report: Report, *, json: bool, record: bool) -> None:
    from dataclasses import replace

    from stream.bench import report as reports

    report = replace(report, command=reports.command_line(sys.argv[1:]))
    if json:
        typer.echo(reports.dumps(report))
    else:
        _print(report)
    if record:
        reports.record(report)
        typer.echo(f"recorded in {reports.RESULTS}", err=True)


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    from stream.bench.report import shown

    # A pipe has no width: a table that is cut there is lost.
    console = Console(width=None if sys.stdout.isatty() else max(120, shutil.get_terminal_size().columns))
    for table in report.tables:
        drawn = RichTable(title=table.title, title_justify="left")
        for number, name in enumerate(table.columns):
            left = any(isinstance(row[number], str) for row in table.rows)
            drawn.add_column(name, justify="left" if left else "right")
        for row in table.rows:
            drawn.add_row(*(shown(cell) for cell in row))
        console.print(drawn)
    for note in (*report.notes, report.machine, report.servers, report.versions):
        if note:
            console.print(f"  {note}", highlight=False, markup=False, soft_wrap=True)


def _counts(text: str, hint: str) -> list[int]:
    try:
        counts = [int(part.replace("_", "")) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"not whole numbers separated by commas: {text!r}", param_hint=hint) from None
    if not all(1 <= count <= 1_000_000 for count in counts):
        raise typer.BadParameter(f"each must be in 1..1,000,000, got {text}", param_hint=hint)
    return counts
