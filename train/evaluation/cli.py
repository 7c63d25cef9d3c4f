"""`pathcast evaluate`: options in, a table or JSON out. Heavy imports wait for the call."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stream.config.options import with_common
from stream.config.times import seconds
from train.data.options import NO_TRACKS, CacheOption, TrackOptions, progress_bar, read_watch

PICTURES = (".png", ".svg", ".pdf")
MOST_ANCHORS, MOST_GAPS, TREES_ROWS = 50_000, 5_000, 400_000  # default numbers of anchors, gaps and training rows


class Task(StrEnum):
    forecast = "forecast"
    gapfill = "gapfill"
    arrivals = "arrivals"
    transit = "transit"


class Baseline(StrEnum):
    trees = "trees"


class Precision(StrEnum):
    int8 = "int8"
    float32 = "float32"


class SplitName(StrEnum):
    train = "train"
    val = "val"
    test = "test"
    final = "final"
    all = "all"


def _check_picture(path: Path | None) -> Path | None:
    """Checks the path of a picture before anything is evaluated, because the picture is written at the very end."""
    if path is not None and path.suffix.lower() not in PICTURES:
        raise typer.BadParameter(f"{path}: the name of a picture ends in {', '.join(PICTURES)}")
    if path is not None and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise typer.BadParameter(f"{path}: {path.parent} is no folder that can be written to")
    return path


@with_common
def evaluate(
    tracks: TrackOptions = NO_TRACKS,
    weights: Annotated[
        str, typer.Option("--weights", help="a bundled name or a directory; none: baselines alone")
    ] = "small",
    split: Annotated[
        SplitName,
        typer.Option(
            "--split", help="which part of each file; final: once, choose nothing by it; all: also what was trained on"
        ),
    ] = SplitName.test,
    task: Annotated[Task, typer.Option("--task", help="what is judged")] = Task.forecast,
    max_anchors: Annotated[
        int | None,
        typer.Option(
            "--max-anchors",
            min=1,
            help=f"per file, by taking every n-th track, so perhaps not all entities; default: {MOST_ANCHORS:,}",
        ),
    ] = None,
    max_gaps: Annotated[
        int | None,
        typer.Option("--max-gaps", min=1, help=f"gapfill: per file and block length; default: {MOST_GAPS:,}"),
    ] = None,
    mode: Annotated[str, typer.Option("--mode", help="only tracks travelled so, e.g. car,taxi,bus")] = "",
    fit: Annotated[bool, typer.Option("--fit/--no-fit", help="fit filters to the train split")] = True,
    fit_on: Annotated[
        list[str] | None,
        typer.Option("--fit-on", metavar="[FORMAT:]PATH", help="fit to the train split of this, as --data, instead"),
    ] = None,
    baseline: Annotated[
        Baseline | None, typer.Option("--baseline", help="forecast: one more, trained on the train split")
    ] = None,
    trees_absolute: Annotated[
        bool, typer.Option("--trees-absolute", help="the trees also see where they are, as in a region of their own")
    ] = False,
    trees_rows: Annotated[
        int | None,
        typer.Option("--trees-rows", min=1, help=f"forecasts that they learn from; default: {TREES_ROWS:,}"),
    ] = None,
    atlas: Annotated[
        str | None,
        typer.Option(
            "--atlas",
            metavar="TIME",
            help="forecast, gapfill: also judge an atlas that grows from the file's own pings, a new one each 1h, 30m",
        ),
    ] = None,
    atlas_of: Annotated[
        list[str] | None,
        typer.Option(
            "--atlas-of", metavar="[FORMAT:]PATH", help="the atlas grows from these pings, as --data, instead"
        ),
    ] = None,
    min_entities: Annotated[
        int | None,
        typer.Option("--min-entities", min=1, max=16, help="that must have passed a cell of the atlas; default: 3"),
    ] = None,
    precision: Annotated[
        Precision, typer.Option("--precision", help="of keys, values and layers: as served, or exact")
    ] = Precision.int8,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            dir_okay=False,
            writable=True,
            callback=_check_picture,
            help="forecast: draw errors, reliability and tracks: .png, .svg or .pdf",
        ),
    ] = None,
    gtfs: Annotated[
        str | None, typer.Option("--gtfs", metavar="ZIP", help="transit: the schedule of the trips that pings name")
    ] = None,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object, with strata, instead of tables")] = False,
) -> None:
    """Judge weights on tracks that they were not trained on: model and baselines, per data set and horizon.

    Tracks are cut at silences over 5 min (three cadences for slow sources) and above 50 m/s. Forecasts start where
    there are at least 8 earlier pings; they are judged at the next ping and at those nearest to 60, 300 and 900 s. 50 %
    and 90 % are the shares of what happened that fell inside the regions meant to hold as much. CRPS is of the Gaussian
    of mean and covariance that is served. Filters, smoother and trees are fitted to the train split, never to what is
    judged: with --split all they need --fit-on. --data, --fit-on and --from-topic take what `train` takes.

    --task transit judges when vehicles reach the stops of their trips (stream/transit/README.md). It needs neither
    weights nor splits.

    [bold]Examples[/]

      pathcast evaluate --data austin.parquet
      pathcast evaluate --weights runs/mine --data austin.parquet porto.csv --split all --json
      pathcast evaluate --data austin.parquet --split all --atlas 1h --picture austin.png
      pathcast evaluate --data austin.parquet --task gapfill
      pathcast evaluate --data tdrive:release/taxi_log_2008_by_id --split all
      pathcast evaluate --data austin.parquet --task arrivals --max-anchors 8000
      pathcast evaluate --data buses.parquet --task transit --gtfs feed.zip
      pathcast evaluate --from-topic pathcast.pings.v1 --bootstrap localhost:9092 --split all
      pathcast evaluate --data geolife.parquet --mode car,taxi,bus --baseline trees --picture geolife.png
    """
    for option, given, fits, where in (
        ("--baseline", baseline, task is Task.forecast, "--task forecast"),
        ("--picture", picture, task is Task.forecast, "--task forecast"),
        ("--max-gaps", max_gaps, task is Task.gapfill, "--task gapfill"),
        ("--trees-absolute", trees_absolute or None, baseline is Baseline.trees, "--baseline trees"),
        ("--trees-rows", trees_rows, baseline is Baseline.trees, "--baseline trees"),
        ("--atlas", atlas, task in (Task.forecast, Task.gapfill), "--task forecast and gapfill"),
        ("--gtfs", gtfs, task is Task.transit, "--task transit"),
        ("--atlas-of", atlas_of, atlas is not None, "--atlas"),
        ("--min-entities", min_entities, atlas is not None, "--atlas"),
    ):
        if given is not None and not fits:
            raise typer.BadParameter(f"{option} is for {where}")
    if task is Task.transit:
        from train.evaluation import transit

        if gtfs is None:
            raise typer.BadParameter("--task transit needs the schedule: --gtfs ZIP")
        transit.evaluate(tracks, gtfs, as_json=as_json)
        return
    if baseline is not None and split in (SplitName.train, SplitName.all) and not fit_on:
        raise typer.BadParameter(
            f"--baseline {baseline} learns from a train split, which --split {split} judges: --fit-on"
        )
    sources, known = tracks.sources_and_others(fit_on)
    _, counted = tracks.sources_and_others(atlas_of)
    from model.api import Predictor
    from model.atlas.published import MIN_VEHICLES
    from train.evaluation import run

    options = run.EvaluateOptions(
        part=split.value,
        modes=tuple(name.strip() for name in mode.split(",") if name.strip()),
        most_anchors=max_anchors or MOST_ANCHORS,
        most_gaps=max_gaps or MOST_GAPS,
        fit=fit,
        fit_on=tuple(known),
        trees=baseline is Baseline.trees,
        trees_absolute=trees_absolute,
        trees_rows=trees_rows or TREES_ROWS,
        atlas_ms=None if atlas is None else 1000 * seconds(atlas, "--atlas"),
        atlas_of=tuple(counted),
        min_entities=min_entities or MIN_VEHICLES,
        picture=picture,
        cache=cache,
    )
    run.require_extras(options)
    predictor = None if weights == "none" else Predictor.load(weights, precision=precision.value)
    reports = []
    with read_watch() as reading:
        sources += tracks.topic_snapshot(cache, reading)
        tasks = list(run.open_tasks(task.value, sources, predictor, replace(options, reading=reading)))
    for file, judge in tasks:
        with progress_bar(file, hidden=as_json) as progress:
            reports.append(judge(progress))
    model = None
    if predictor is not None:
        model = {"name": predictor.name, "version": predictor.version, "precision": predictor.precision}
    if as_json:
        typer.echo(json.dumps({"task": task.value, "split": split.value, "model": model, "data": reports}, indent=2))
        return
    from train.evaluation.report import print_report

    for report in reports:
        print_report(report, run.model_label(predictor))
