"""`pathcast try`: how good it is on somebody's own tracks, in a minute, with the map."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.adapters.options import Columns, MapOfLines, Timezone, recording_of
from stream.config.options import Json, Weights
from stream.config.settings import Settings
from stream.demo.cli import run_demo

if TYPE_CHECKING:
    from stream.adapters.recorded import Recording
    from stream.demo.board import Board

FEW = 30  # pairs of a forecast and a ping; fewer say little
AHEAD = {"300": "5 minutes ahead", "60": "1 minute ahead", "900": "15 minutes ahead", "next": "at the next ping"}


def try_file(
    file: Annotated[str, typer.Argument(metavar="FILE|FORMAT:PATH", help="your tracks: whatever pathcast feed takes")],
    columns: Columns = None,
    timezone: Timezone = None,
    map_: MapOfLines = None,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="how long to replay")] = 60.0,
    speedup: Annotated[
        float | None,
        typer.Option(min=0.01, max=100_000, help="times real time; default: as fast as the tracks' last part needs"),
    ] = None,
    vehicles: Annotated[int | None, typer.Option(min=1, help="the first so many; without it, all")] = None,
    weights: Weights = Settings.weights,
    without_map: Annotated[bool, typer.Option("--no-map", help="show no live map")] = False,
    stays: Annotated[bool, typer.Option("--stay", help="keep the map after the replay, until Ctrl-C")] = False,
    json: Json = False,
) -> None:
    """Forecast your own tracks, here and now, and say how good that is.

    It runs a broker, a store, a worker and a live map of its own, and replays the last part of the file into them in a
    minute; an atlas of the part before it shows what the fleet's own passages are worth. Nothing is left behind.

    FILE is CSV (also .csv.gz), Parquet, NDJSON, GPX, or what pathcast train takes. What its columns mean, and in which
    form its times are, is guessed from names and values, and printed as options to keep. Times without a zone are UTC,
    or of --timezone.

    [bold]Examples[/]

      pathcast try fleet.csv
      pathcast try export.csv --timezone Europe/London
      pathcast try fleet.csv --columns 't:%d.%m.%Y %H:%M=when,entity_id=van' --seconds 20
      pathcast try positions.ndjson --map traccar --stay
    """
    tracks = recording_of(file, columns, map_, timezone)
    from stream.demo.run import DemoOptions
    from stream.tracks.clean import parse

    if not tracks.has_pings(parse):
        raise ValueError(f"{file}: it has no rows")
    options = DemoOptions(seconds, vehicles, tracks, speedup, weights, not without_map, stays)
    run_demo(options, partial(judge_tracks, file, tracks, map_), as_json=json)


def judge_tracks(file: str, tracks: Recording, map_: str | None, board: Board, summary: dict[str, Any]) -> str:
    """Returns what the replay showed, in a sentence, and the commands to go on with."""
    pairs = board.pairs()
    target = next((name for name in AHEAD if len(pairs[name]) >= FEW), None)
    if target is None:
        said = "The tracks are too short to say how good forecasts are"
    else:
        metres = summary["error_m"][target]
        against = " and ".join(
            f"{_compare(metres['model'], metres[name])} {name.replace('_', ' ')}"
            for name in ("constant_velocity", "damped_velocity")
        )
        said = f"On your tracks, {AHEAD[target]}, pathcast is {against} ({len(pairs[target]):,} cases)"
    gaps, points = board.gaps()
    said += f"; it filled {gaps:,} gaps with {points:,} points"
    hidden = board.gap_errors
    if hidden is not None and hidden.gaps:
        said += (
            f", and where {hidden.gaps:,} stretches of 5 minutes were hidden, its fills were {hidden.fill_m:,.0f} m "
            f"off, a straight line {hidden.line_m:,.0f} m"
        )
    given = " ".join([shlex.quote(file), *([tracks.columns.options()] if tracks.columns else [])])
    if map_ is None:
        return f"{said}. To go on, with the file as the fleet's history: pathcast up --history {given}"
    return f"{said}. To go on: pathcast up, and then pathcast ingest files {given} --map {shlex.quote(map_)}"


def _compare(ours_m: float, theirs_m: float) -> str:
    """Returns how much nearer we are than another way, in percent of its error."""
    if not theirs_m:
        return "no nearer than"
    percent = round(100 * (1 - ours_m / theirs_m))
    return f"{percent} % nearer than" if percent >= 0 else f"{-percent} % farther off than"
