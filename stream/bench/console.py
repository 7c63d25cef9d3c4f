"""Runs a benchmark for the command line: gets it servers, shows its progress, and prints and records its results."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from stream.config.options import quiet

if TYPE_CHECKING:
    from stream.bench.harness.report import Report
    from stream.bench.harness.servers import Servers

Show = Callable[[str], None]


def on_servers(
    work: Callable[[Servers, Show], Report],
    bootstrap: str | None,
    redis: str | None,
    *,
    embedded: bool = False,
    json: bool,
    record: bool,
) -> None:
    """Runs a benchmark on servers of our own, the given ones or the embedded ones, and tells its report. Raises
    RuntimeError or ConnectionError if a server or a process fails."""
    with showing() as show:
        from stream.bench.harness.servers import servers, start_embedded

        started = start_embedded(show) if embedded else servers(show, bootstrap=bootstrap, redis_url=redis)
        with started as found:
            report = work(found, show)
    tell(replace(report, command=shlex.join(["pathcast", *sys.argv[1:]])), json=json, record=record)


@contextmanager
def showing() -> Iterator[Show]:
    """Yields a function that shows the present activity on stderr: in one changing line on a terminal, otherwise in a
    line per phase."""
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
            head = text.partition(":")[0]  # the phase: "run 1 of 5: 1,234 pings" is printed once
            if head != phase:
                phase = head
                console.print(text, highlight=False, soft_wrap=True)

        yield line


def tell(report: Report, *, json: bool, record: bool) -> None:
    """Prints the report, for people or as JSON, and records it if that was asked."""
    from stream.bench.harness import report as reports

    if json:
        typer.echo(reports.dumps(report))
    else:
        _print(report)
    if record:
        reports.record(report)
        typer.echo(f"recorded in {reports.RESULTS}", err=True)


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    from stream.bench.harness.report import format_number, numeric

    # A pipe has no width, and the cut part of a table would be lost.
    console = Console(width=None if sys.stdout.isatty() else max(120, shutil.get_terminal_size().columns))
    for table in report.tables:
        drawn = RichTable(title=table.title, title_justify="left")
        for name, right in zip(table.columns, numeric(table), strict=True):
            drawn.add_column(name, justify="right" if right else "left")
        for row in table.rows:
            drawn.add_row(*(escape(format_number(cell)) for cell in row))  # pathcast[demo] is no markup
        console.print(drawn)
    for note in filter(None, (*report.notes, report.machine, report.servers, report.versions)):
        console.print(f"  {note}", highlight=False, markup=False, soft_wrap=True)


def whole_numbers(text: str, hint: str) -> list[int]:
    """Parses an option's whole numbers in 1..1,000,000. Raises typer.BadParameter."""
    try:
        counts = [int(part.replace("_", "")) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"not whole numbers separated by commas: {text!r}", param_hint=hint) from None
    if not all(1 <= count <= 1_000_000 for count in counts):
        raise typer.BadParameter(f"each must be in 1..1,000,000, got {text}", param_hint=hint)
    return counts
