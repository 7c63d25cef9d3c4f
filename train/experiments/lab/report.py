"""Writes a finding as a dated report: Markdown, the same facts as JSON, and its pictures.

<out>/<name>.md      question, command, commit, machine, seeds, tables, pictures, conclusion
<out>/<name>.json    the tables, for programs
<out>/<name>-*.svg   the pictures
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from train.evaluation.plots import require_matplotlib


@dataclass(frozen=True)
class Table:
    """Rows under named columns; numbers are written with `digits` digits after the point."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    digits: int = 1


@dataclass(frozen=True)
class Line:
    """One series of a picture. `low` and `high` are an interval around y."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    reference: bool = False  # the other series are compared with it


@dataclass(frozen=True)
class Picture:
    """Lines over one pair of axes."""

    name: str
    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    log_x: bool = False
    x_ticks: Sequence[float] | None = None  # where the default ticks of a logarithmic axis would be hard to read
    log_y: bool = False


@dataclass(frozen=True)
class Finding:
    """The result of an experiment. The conclusion is two sentences that are computed from the tables."""

    question: str  # with its source
    method: str
    tables: list[Table]
    pictures: list[Picture]
    conclusion: str
    seeds: tuple[int, ...] = (0,)
    notes: list[str] = field(default_factory=list)


def describe_machine(cores: int) -> str:
    """Describes the machine, without names, and the number of cores that were requested."""
    cpu = "unknown CPU"
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].split(":", 1)[1].strip() if lines else cpu
    return (
        f"{cpu}, {os.cpu_count()} cores ({cores} used), Python {platform.python_version()}, torch {torch.__version__}"
    )


def table_cells(values: Iterable[float]) -> list[float | None]:
    """Returns numbers as table cells: None for NaN."""
    return [None if math.isnan(value) else float(value) for value in values]


def describe_code(file: Path = Path(__file__)) -> str:
    """Identifies the code: the commit that contains `file`, and whether any Python file has changed since; for an
    installed package its version.
    """
    # An environment inside somebody's checkout does not belong to that checkout's commits.
    if _git(file, "ls-files", "--error-unmatch", file.name) is not None:
        commit, changed = _git(file, "rev-parse", "--short=7", "HEAD"), _git(file, "status", "--porcelain", ":/*.py")
        if commit is not None:
            return f"commit {commit}" + (", changed since" if changed else "")
    try:
        return f"pathcast {version('pathcast')}, installed"
    except PackageNotFoundError:
        return "of no commit and no version"


def _git(file: Path, *arguments: str) -> str | None:
    """Returns git's output in the file's folder; None where git fails or is missing."""
    try:
        ended = subprocess.run(
            ["git", "-C", str(file.parent), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout.strip() if ended.returncode == 0 else None


def write_report(
    finding: Finding,
    name: str,
    command: str,
    out: Path,
    *,
    cpu_s: float,
    cores: int,
    code: str | None = None,
) -> Path:
    """Writes the report and returns the Markdown's path. `code` is the result of `describe_code` when the run began; if
    None, it is called.

    Raises ValueError, with nothing written, where a table contains NaN or infinity.
    """
    date, code = datetime.now(UTC).date().isoformat(), code or describe_code()
    tables = [asdict(table) for table in finding.tables]
    # NaN is not valid JSON, and no conclusion follows from it: `table_cells` returns None for unknown numbers.
    facts = json.dumps(
        {"name": name, "date": date, "command": command, "code": code, "tables": tables}, indent=1, allow_nan=False
    )
    out.mkdir(parents=True, exist_ok=True)
    pictures = [draw(picture, out / f"{name}-{picture.name}.svg") for picture in finding.pictures]
    head = [
        f"# {name}",
        "",
        finding.question,
        "",
        finding.method,
        "",
        f"- Run: {date}, `{command}`, {cpu_s / 60:.1f} CPU minutes, seeds {', '.join(map(str, finding.seeds))}",
        f"- Code: {code}",
        f"- Machine: {describe_machine(cores)}",
        *(f"- {note}" for note in finding.notes),
        "",
    ]
    body = [line for table in finding.tables for line in (f"**{table.title}**", "", *_markdown(table), "")]
    images = [f"![{picture.title}]({path.name})" for picture, path in zip(finding.pictures, pictures, strict=True)]
    text = "\n".join([*head, *body, *images, *([""] if images else []), "## Conclusion", "", finding.conclusion, ""])
    path = out / f"{name}.md"
    path.write_text(text, encoding="utf-8")
    (out / f"{name}.json").write_text(facts + "\n", encoding="utf-8")
    return path


def draw(picture: Picture, path: Path) -> Path:
    """Draws one SVG. Raises ValueError with the name of the extra where matplotlib is missing."""
    figure_of = require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

    # A fixed salt and no date, so that the same numbers give the same file.
    with rc_context({"svg.hashsalt": "pathcast", "font.size": 9}):
        figure = figure_of(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        for line, colour in zip(picture.lines, _colours(len(picture.lines)), strict=True):
            if line.reference:
                axes.plot(line.x, line.y, label=line.name, color="#555555", ls="--", lw=1)
                continue
            axes.plot(line.x, line.y, label=line.name, color=colour, marker="o" if len(line.x) < 20 else None, ms=3)
            if line.low is not None and line.high is not None:
                axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, lw=0)
        axes.set(title=picture.title, xlabel=picture.x_label, ylabel=picture.y_label)
        for axis, scale, wanted in (
            (axes.xaxis, axes.set_xscale if picture.log_x else None, picture.x_ticks),
            (axes.yaxis, axes.set_yscale if picture.log_y else None, None),
        ):
            if scale is not None:
                scale("log")
                low, high = axis.get_view_interval()
                # Over many decades the labels between them would overlap.
                axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e5 * low else (1,)))
                axis.set_minor_locator(NullLocator())
            if wanted is not None:
                axis.set_major_locator(FixedLocator(list(wanted)))
            if scale is not None or wanted is not None:
                axis.set_major_formatter(lambda tick, _: f"{tick:,g}")
        axes.grid(alpha=0.25)
        figure.legend(frameon=False, loc="outside right upper")  # beside the axes, so that it never covers the data
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})
    return path


def _colours(count: int) -> list[str]:
    """Okabe & Ito's palette, which colour-blind people can distinguish."""
    palette = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#B8860B"]
    return [palette[i % len(palette)] for i in range(count)]


def _markdown(table: Table) -> list[str]:
    def cell(value: Any) -> str:
        if value is None:
            return ""
        return f"{value:,.{table.digits}f}" if isinstance(value, float) else str(value)

    rows = [[cell(value) for value in row] for row in table.rows]
    return ["| " + " | ".join(row) + " |" for row in (list(table.columns), ["---"] * len(table.columns), *rows)]
