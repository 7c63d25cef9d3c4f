"""Formats the results of a benchmark for a terminal, for a program and for `reports/bench.md`.

That page is a log, the newest entry first: each has its date, machine, versions and the command that made it (a number
without them cannot be checked). Nothing is written without `--record`.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec

from stream.bench.harness import proc

RESULTS: Final = Path("reports/bench.md")  # in the folder where the command runs: a checkout of this project, for ours
HEADING: Final = """# What was measured

Written by `pathcast dev bench ... --record` and `python tests/bench/measure.py ... --record`, newest first. Ratios
within one entry were measured in one run, side by side; numbers of different entries may come from different machines
and loads.
"""
VERSIONS: Final = ("pathcast", "torch", "numpy", "faust-streaming", "aiokafka", "redis", "msgspec")

Cell = str | int | float
UNKNOWN: Final = "-"  # where a row has no number


@dataclass(frozen=True)
class Table:
    """Rows of one kind. Floats are shown with three significant digits; the JSON has all digits."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Report:
    """One run of one benchmark."""

    bench: str
    tables: Sequence[Table]
    numbers: Mapping[str, Any]  # everything, unrounded, for --json
    notes: Sequence[str] = ()
    servers: str = ""
    command: str = ""
    when: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    machine: str = field(default_factory=proc.machine)
    versions: str = field(default_factory=lambda: versions())


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in VERSIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    if commit := _commit():
        found.append(f"commit {commit}")
    return ", ".join(found)


def _commit() -> str:
    """Returns the commit of the checkout that this runs from, if it is one; a + means uncommitted changes."""
    here = str(Path(__file__).parent)
    try:
        ended = subprocess.run(
            ["git", "-C", here, "describe", "--always", "--dirty=+"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout.strip() if ended.returncode == 0 else ""


def dumps(report: Report) -> bytes:
    """Returns the report as one JSON object."""
    parts = {name: getattr(report, name) for name in ("bench", "when", "machine", "versions", "servers", "command")}
    return msgspec.json.encode({**parts, "notes": list(report.notes), "numbers": dict(report.numbers)})


def render(report: Report) -> str:
    """Returns the report as one entry of the page."""
    facts = [("machine", report.machine), ("versions", report.versions), ("servers", report.servers)]
    lines = [f"## {report.bench}, {report.when}", "", f"    {report.command}", ""]
    lines += [f"- {name}: {text}" for name, text in facts if text]
    for table in report.tables:
        lines += ["", f"**{table.title}**", "", *_markdown(table)]
    if report.notes:
        lines += ["", *(f"- {note}" for note in report.notes)]
    return "\n".join(lines) + "\n"


def record(report: Report, path: Path = RESULTS) -> None:
    """Puts the entry first in the file, which is created if absent. Raises OSError if it cannot be written."""
    old = path.read_text() if path.exists() else HEADING
    head, mark, rest = old.partition("\n## ")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head.rstrip()}\n\n{render(report)}{mark}{rest}")


def shown(cell: Cell) -> str:
    """Returns a number for people: with separated thousands, three significant digits, and no exponent."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int) or abs(cell) >= 100:
        return f"{cell:,.0f}"
    if cell == 0:
        return "0"
    if abs(cell) >= 10:
        return f"{cell:.1f}"
    return f"{cell:.2f}" if abs(cell) >= 1 else f"{cell:.3g}"


def numeric(table: Table) -> list[bool]:
    """Returns for each column whether it has numbers and no words, so that it is to be aligned at the right."""
    found = []
    for number in range(len(table.columns)):
        cells = [row[number] for row in table.rows if row[number] != UNKNOWN]
        found.append(bool(cells) and not any(isinstance(cell, str) for cell in cells))
    return found


def _markdown(table: Table) -> list[str]:
    rule = ["---:" if right else "---" for right in numeric(table)]
    rows = [table.columns, rule, *([_escaped(shown(cell)) for cell in row] for row in table.rows)]
    return [f"| {' | '.join(row)} |" for row in rows]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
