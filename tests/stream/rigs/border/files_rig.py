"""Tracks with gaps, and `pathcast fill` on them. Tests import this; it tests nothing itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.testing import CliRunner, Result

from stream.commands.files.fill_cli import fill
from stream.commands.files.forecast_cli import forecast

T0 = 1_700_000_000_000  # a whole second
STEP_S = 20


class Fix(NamedTuple):
    entity_id: str
    ts: int
    lat: float
    lon: float


def track(entity_id: str, *, late_s: int = 0, before: int = 8, missing: int = 15, after: int = 5) -> list[Fix]:
    """Reports every STEP_S seconds, of which some in a row are missing."""
    numbers = [*range(before), *range(before + missing, before + missing + after)]
    start = T0 + 1000 * late_s
    return [Fix(entity_id, start + 1000 * STEP_S * n, 30.0 + n * 1e-3, -97.0 + late_s * 1e-4) for n in numbers]


def by_time(*tracks: Sequence[Fix]) -> list[Fix]:
    return sorted((one for fixes in tracks for one in fixes), key=lambda one: one.ts)


def app() -> typer.Typer:
    made = typer.Typer()
    made.command("fill")(fill)
    made.command("forecast")(forecast)
    return made


def run(command: str, *arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(app(), [command, *map(str, arguments)], input=stdin)


def filled(path: Path, weights: str, *arguments: object) -> tuple[Path, dict[str, Any]]:
    """Fills a file; returns where, and the summary."""
    result = run("fill", path, "--weights", weights, "--json", *arguments)
    if isinstance(result.exception, ValueError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    summary: dict[str, Any] = json.loads(result.stdout)
    return Path(summary["out"]), summary
