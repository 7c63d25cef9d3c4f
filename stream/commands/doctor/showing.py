"""Shows findings, a line each, and what to do below those that ask for something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from stream.commands.doctor.finding import Finding, Level

STYLES: Final = {
    Level.OK: "green",
    Level.WARNING: "yellow",
    Level.PROBLEM: "bold red",
    Level.UNKNOWN: "cyan",
}


def show(findings: Sequence[Finding], console: Console) -> None:
    wide = max((len(one.check) for one in findings), default=0)
    for one in findings:
        line = Text.assemble((f"{one.level:<8}", STYLES[one.level]), f" {one.check:<{wide}}  {one.found}")
        console.print(line, soft_wrap=True, highlight=False)
        if one.advice:
            console.print(Text(f"{'':8} {'':{wide}}  -> {one.advice}"), soft_wrap=True, highlight=False)
    counts = Counter(one.level for one in findings)
    console.print(", ".join(f"{level}: {counts[level]}" for level in Level), highlight=False)


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [one._asdict() for one in findings]
