"""`pathcast transit replay`: predicts when the vehicles of a recorded file reach their stops, from their schedule."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from stream.adapters.options import Columns, MapOfLines, Timezone, recording_of
from stream.commands.files import outputs
from stream.commands.files.options import print_json
from stream.commands.files.showing import Steps
from stream.config.wording import counted

app = typer.Typer(help="When vehicles on a schedule reach their stops: positions and GTFS in, arrivals out.")
app.callback()(lambda: None)  # else Typer makes one command of the group


@app.command()
def replay(
    file: Annotated[
        str, typer.Argument(metavar="FILE|FORMAT:PATH|-", help="recorded pings; - is NDJSON on standard input")
    ],
    *,
    gtfs: Annotated[str, typer.Option("--gtfs", metavar="ZIP", help="the schedule: a GTFS feed")],
    out: Annotated[str, typer.Option("--out", metavar="FILE.parquet", help="where the predictions go")],
    assign: Annotated[
        bool, typer.Option("--assign", help="find the trip of each vehicle, also where it names one")
    ] = False,
    every: Annotated[int, typer.Option("--every", min=1, max=3600, help="seconds between two answers")] = 60,
    columns: Columns = None,
    timezone: Timezone = None,
    map_: MapOfLines = None,
    force: Annotated[bool, typer.Option("--force", help="replace OUT")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON")] = False,
) -> None:
    """Predict when the vehicles of a recorded file reach their stops, each minute from what was known then.

    FILE is what pathcast replay takes. A vehicle names its trip in the column trip_id, which --columns trip_id=NAME may
    name; of one that does not, the trip is found by its way and time. Pings on no trip of the feed are left out, and
    counted. OUT gets one row for each stop ahead of each trip under way and each minute: made_at, trip_id, start_date,
    stop_sequence, predicted_arrival, predicted_departure, lo and hi, the ends of the 90 % interval of the arrival.
    Times are milliseconds UTC.

    [bold]Examples[/]

      pathcast transit replay buses.parquet --gtfs feed.zip --out predictions.parquet
      pathcast transit replay buses.csv --columns trip_id=trip --gtfs feed.zip --out predictions.parquet --every 30
    """
    try:
        outputs.check(out, force=force)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from None
    from model.files import writing_whole
    from stream.transit.assigning import Assigner
    from stream.transit.predicting import Predictor
    from stream.transit.recordings import trip_pings
    from stream.transit.replaying import PredictionWriter
    from stream.transit.replaying import replay as play
    from stream.transit.schedule import read_schedule

    schedule = read_schedule(gtfs)
    predictor, assigner = Predictor(schedule), Assigner(schedule)
    console = Console(stderr=True)
    rows = recording_of(file, columns, map_, timezone).pings_in_order()
    left: dict[str, int] = {"pings": 0, "rejects": 0, "without_trip": 0, "assigned": 0}
    started_s = time.perf_counter()
    with writing_whole(Path(out)) as part:
        writer = PredictionWriter(part)
        with Steps(console).step("replaying", len(rows)) as progress:
            for made_s, arrivals in play(
                predictor, trip_pings(rows, left, progress, assigner, ignores_names=assign), every
            ):
                writer.add(made_s, arrivals)
        writer.close()
        if not writer.rows:
            raise ValueError(_why_nothing(file, gtfs, left, predictor.unknown_trip, predictor.off_path))
        part.chmod(0o644)
    summary = {
        **left,
        "of_unknown_trips": predictor.unknown_trip,
        "off_path": predictor.off_path,
        "predictions": writer.rows,
        "seconds": round(time.perf_counter() - started_s, 1),
    }
    if as_json:
        print_json(summary, out)
    else:
        _print_summary(summary, console)


def _why_nothing(file: str, gtfs: str, left: dict[str, int], unknown: int, off_path: int) -> str:
    if not left["pings"]:
        return f"{file}: none of {counted(left['rejects'], 'row')} is a ping"
    if left["without_trip"] == left["pings"]:
        return f"{file}: no ping names its trip, and none was found: is there such a column? --columns trip_id=NAME"
    return (
        f"{file}: no prediction, of {counted(left['pings'], 'ping')}: {unknown:,} of trips that {gtfs} does not have, "
        f"{off_path:,} too far from the path of theirs: is it the feed of these days?"
    )


def _print_summary(summary: dict[str, Any], console: Console) -> None:
    console.print(
        f"{counted(summary['predictions'], 'prediction')} from {counted(summary['pings'], 'ping')}; left out: "
        f"{summary['without_trip']:,} on no trip, {summary['of_unknown_trips']:,} of trips that the feed does not have,"
        f" {summary['off_path']:,} off their path, {counted(summary['rejects'], 'reject')}; "
        f"{summary['seconds']:,} s",
        highlight=False,
        soft_wrap=True,
    )
