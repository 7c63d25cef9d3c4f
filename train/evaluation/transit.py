"""Judges arrivals at stops, for `pathcast evaluate --task transit`: `stream.transit.judging` says what is judged."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from stream.adapters.options import recording_of
from stream.transit.judging.judging import OURS, judge
from stream.transit.recordings import trip_pings
from stream.transit.schedule import read_schedule
from train.data.options import TrackOptions, progress_bar


def evaluate(tracks: TrackOptions, gtfs: str, *, as_json: bool) -> None:
    """Judges each file against a schedule, and prints tables, or one JSON object.

    Raises ValueError for a file without pings of trips of the schedule, or a broken schedule; FileNotFoundError.
    """
    if tracks.from_topic is not None:
        raise typer.BadParameter("--task transit takes recorded files: --data")
    files = [*(tracks.data or ()), *(tracks.more or ())]
    if not files:
        raise typer.BadParameter("--task transit needs a recording: --data FILE")
    reports = [_judge(file, tracks, gtfs, hidden=as_json) for file in files]
    if as_json:
        typer.echo(json.dumps({"task": "transit", "data": reports}, indent=2))
        return
    for report in reports:
        _print(report)


def _judge(file: str, tracks: TrackOptions, gtfs: str, *, hidden: bool) -> dict[str, Any]:
    schedule = read_schedule(gtfs)
    rows = recording_of(file, tracks.columns, None, tracks.timezone).pings_in_order()
    left = {"pings": 0, "rejects": 0, "without_trip": 0}
    pings = [one for one in trip_pings(rows, left, lambda _: None) if one.trip_id in schedule.trips]
    if not pings:
        raise ValueError(
            f"{file}: no ping of a trip that {gtfs} has, of {left['pings']:,} pings, {left['without_trip']:,} of them "
            "without a trip: which column has it? --columns trip_id=NAME"
        )
    with progress_bar(file, hidden=hidden) as progress:
        report = judge(schedule, pings, lambda number: progress(number / len(pings)))
    return {"file": file, "gtfs": gtfs, "pings": len(pings), **report}


def _print(report: dict[str, Any]) -> None:
    """Prints a report, at most 80 columns wide."""
    console = Console()
    title = f"{report['file']}: {report['questions']:,} questions of {report['rides']:,} rides"
    table = Table(title=title, caption="seconds; ± 95 %, over rides; within: TransitApp's bounds")
    table.add_column("it came in", no_wrap=True)
    table.add_column("method", no_wrap=True)
    for name in ("within", "mean", "median", "bias", "90 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, lead in enumerate(report["methods"][OURS]["leads"]):
        label = _label(lead)
        for row, (name, scores) in enumerate(report["methods"].items()):
            table.add_row(label if row == 0 else "", name, *_cells(scores, number))
        table.add_section()
    console.print(table)
    for name, scores in report["methods"].items():
        if scores["benchmark"] is not None:
            answered = f"answered {100 * scores['answered']:.1f} %"
            console.print(f"benchmark {100 * scores['benchmark']:.1f} %, {answered}: {name}", highlight=False)
    paired = Table(title="mean error more than pathcast's", caption="seconds; ± 95 %, over rides")
    paired.add_column("method", no_wrap=True)
    for lead in report["methods"][OURS]["leads"]:
        paired.add_column(_label(lead), justify="right", no_wrap=True)
    for name, leads in report["paired"].items():
        paired.add_row(name, *(_difference(lead) for lead in leads))
    console.print(paired)


def _difference(lead: dict[str, Any]) -> str:
    return f"{lead['more_s']:+.0f} ±{(lead['high_s'] - lead['low_s']) / 2:.1f}" if lead["n"] else ""


def _label(lead: dict[str, Any]) -> str:
    return f"{lead['from_s'] // 60}-{lead['to_s'] // 60} min"


def _cells(scores: dict[str, Any], number: int) -> list[str]:
    lead, accurate = scores["leads"][number], [*scores["accurate"], None]
    if not lead["n"]:
        return [""] * 5
    return [
        "" if accurate[number] is None else f"{100 * accurate[number]:.1f} %",
        f"{lead['mean_s']:.1f} ±{(lead['mean_high_s'] - lead['mean_low_s']) / 2:.1f}",
        f"{lead['median_s']:.0f}",
        f"{lead['bias_s']:+.0f}",
        "" if lead["held_90"] is None else f"{100 * lead['held_90']:.1f} %",
    ]
