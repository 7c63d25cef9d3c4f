"""`pathcast train` and `pathcast evaluate`: options in, a table or JSON out. Heavy imports wait for the call."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from train.data import Corpus
    from train.fit import Tick

DEFAULT_MINUTES = 30.0  # on two cores about what `small` needs to leave every baseline behind

TRAIN_HELP = """Train weights on your own tracks. They serve at once: pathcast worker --weights DIR.

A file needs entity_id, t (or ts: milliseconds UTC), lat and lon; speed_mps, heading_deg and traj_id are used where they
are. A tenth of the vehicles and the last tenth of each file in time stay out, for `pathcast evaluate`; so do the
vehicles and the day that `pathcast demo` replays. An interrupted run goes on when the same command is given again.

[bold]Examples[/]

  pathcast train --data austin.parquet --out runs/austin --minutes 20
  pathcast train --data taxis.csv buses.parquet --out runs/city --steps 5000 --seed 7
  pathcast train --data austin.parquet --out runs/austin --no-resume
"""

EVALUATE_HELP = """Judge weights on tracks that they were not trained on: model and baselines, per data set and horizon.

Tracks are cut at silences over 5 min (three cadences for slow sources) and above 50 m/s. Forecasts start where there
are at least 8 earlier pings; they are judged at the next ping and at those nearest to 60, 300 and 900 s. 50 % and 90 %
are the shares of what happened that fell inside the regions meant to hold as much. CRPS is of the Gaussian of mean and
covariance that is served. Filters, smoother and trees are fitted to the train split, never to what is judged: with
--split all they need --fit-on.

[bold]Examples[/]

  pathcast evaluate --data austin.parquet
  pathcast evaluate --weights runs/mine --data austin.parquet porto.csv --split all --json
  pathcast evaluate --data austin.parquet --task gapfill
  pathcast evaluate --data austin.parquet --task eta
  pathcast evaluate --data geolife.parquet --mode car,taxi,bus --baseline trees --picture geolife.png
"""

FilesOption = Annotated[
    list[Path],
    typer.Option(
        "--data",
        exists=True,
        dir_okay=False,
        help="tracks, Parquet or CSV: entity_id, t (ms), lat, lon[, speed_mps...]",
    ),
]
MoreFiles = Annotated[
    list[Path] | None, typer.Argument(exists=True, dir_okay=False, metavar="[FILE]...", help="more files after --data")
]
CacheOption = Annotated[
    Path | None, typer.Option("--cache", file_okay=False, help="where columns are kept; default: the user's cache")
]


class Task(StrEnum):
    forecast = "forecast"
    gapfill = "gapfill"
    eta = "eta"


class Baseline(StrEnum):
    trees = "trees"


class Part(StrEnum):
    train = "train"
    val = "val"
    test = "test"
    all = "all"


def train(
    data: FilesOption,
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="where weights and checkpoints go")],
    more: MoreFiles = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, help=f"how long to train; {DEFAULT_MINUTES:g} if nothing is said"),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="the same, in steps")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of weights and batches")] = 0,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="go on with an interrupted run in DIR")] = True,
    lr: Annotated[float | None, typer.Option("--lr", help="learning rate at its peak; default: the trainer's")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="default: all cores")] = None,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="the outcome as one JSON object")] = False,
) -> None:
    if minutes is not None and steps is not None:
        raise typer.BadParameter("give --minutes or --steps, not both")
    from model.config import SMALL
    from train.data import load
    from train.fit import FitOptions, fit
    from train.splits import split

    if minutes is None and steps is None:
        minutes = DEFAULT_MINUTES
    options = FitOptions(out=out, minutes=minutes, steps=steps, seed=seed, threads=threads)
    if lr is not None:
        options = replace(options, lr=lr)
    corpus = load([*data, *(more or [])], cache)
    splits = split(corpus)
    if len(splits.train) == 0:
        raise ValueError(
            f"no track to train on: {len(splits.val):,} are for validation and {len(splits.test):,} for the test, "
            f"which is where everything of the bundled sample's vehicles and day goes"
        )
    facts = {
        "split": splits.fingerprint,
        "train": _size(splits.train),
        "val": _size(splits.val),
        "dropped": corpus.dropped,
    }
    typer.echo(f"data: {json.dumps(facts)}", err=True)
    with _training() as watch:
        report = fit(splits.train, splits.val, SMALL, options, resume=resume, watch=watch)
    last = report.validations[-1][1] if report.validations else None
    outcome = {"out": str(out), "steps": report.steps, "loss": report.losses[-1], "validation": last, **facts}
    typer.echo(json.dumps(outcome, indent=2) if as_json else f"{out}: {report.steps:,} steps{_metres_of(last)}")


train.__doc__ = TRAIN_HELP


def evaluate(
    data: FilesOption,
    more: MoreFiles = None,
    weights: Annotated[
        str, typer.Option("--weights", help="a bundled name or a directory; none: baselines alone")
    ] = "small",
    split: Annotated[
        Part, typer.Option("--split", help="which part of each file; all: also what was trained on")
    ] = Part.test,
    task: Annotated[Task, typer.Option("--task", help="what is judged")] = Task.forecast,
    max_anchors: Annotated[
        int, typer.Option("--max-anchors", min=1, help="per file, by taking every n-th track")
    ] = 50_000,
    max_gaps: Annotated[int, typer.Option("--max-gaps", min=1, help="per file and block length")] = 5_000,
    mode: Annotated[str, typer.Option("--mode", help="only tracks travelled so, e.g. car,taxi,bus")] = "",
    fit: Annotated[bool, typer.Option("--fit/--no-fit", help="fit filters to the train split")] = True,
    fit_on: Annotated[
        list[Path] | None,
        typer.Option("--fit-on", exists=True, dir_okay=False, help="fit to the train split of this file instead"),
    ] = None,
    baseline: Annotated[
        Baseline | None, typer.Option("--baseline", help="one baseline more, trained on the train split")
    ] = None,
    trees_absolute: Annotated[
        bool, typer.Option("--trees-absolute", help="the trees also see where they are, as in a region of their own")
    ] = False,
    trees_rows: Annotated[int, typer.Option("--trees-rows", min=1, help="forecasts that they learn from")] = 400_000,
    picture: Annotated[
        Path | None, typer.Option("--picture", dir_okay=False, help="draw errors, reliability and tracks: .png or .svg")
    ] = None,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object, with strata, instead of tables")] = False,
) -> None:
    if task is not Task.forecast and (baseline is not None or picture is not None):
        raise typer.BadParameter("--baseline and --picture are for --task forecast")
    from model.api import Predictor
    from train import judging

    predictor = None if weights == "none" else Predictor.load(weights)
    options = judging.Options(
        part=split.value,
        modes=tuple(name.strip() for name in mode.split(",") if name.strip()),
        most_anchors=max_anchors,
        most_gaps=max_gaps,
        fit=fit,
        fit_on=tuple(fit_on or []),
        trees=baseline is Baseline.trees,
        trees_absolute=trees_absolute,
        trees_rows=trees_rows,
        picture=picture,
        cache=cache,
    )
    reports = []
    for file, judge in judging.tasks(task.value, [*data, *(more or [])], predictor, options):
        with _progress(file, hidden=as_json) as progress:
            reports.append(judge(progress))
    model = None if predictor is None else {"name": predictor.name, "version": predictor.version}
    if as_json:
        typer.echo(json.dumps({"task": task.value, "split": split.value, "model": model, "data": reports}, indent=2))
        return
    from train.report import show

    for report in reports:
        show(report, judging.named(predictor))


evaluate.__doc__ = EVALUATE_HELP


def _size(corpus: Corpus) -> dict[str, int]:
    return {"tracks": len(corpus), "pings": corpus.pings}


@contextmanager
def _training() -> Iterator[Callable[[Tick], None]]:
    """A bar with loss and metres on a terminal; elsewhere a line per validation, fit for a log. Both on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def watch(tick: Tick) -> None:
            bar.update(task, completed=tick.step, total=tick.total, description=_losses(tick.loss, tick.parts))
            if tick.validation is not None:
                typer.echo(
                    f"step {tick.step:,}: validation {_losses(tick.validation['total'], tick.validation)}", err=True
                )

        yield watch


def _losses(loss: float, parts: dict[str, float]) -> str:
    return f"loss {loss:.3f}{_metres_of(parts)}"


def _metres_of(parts: dict[str, float] | None) -> str:
    if parts is None:
        return ""
    return "".join(f", {name} {parts[f'{name}_m']:,.0f} m" for name in ("next", "far", "gap"))


@contextmanager
def _progress(what: str, *, hidden: bool) -> Iterator[Callable[[float], None]]:
    """A bar on stderr while it lasts; on nothing but a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=hidden or not console.is_terminal) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share: bar.update(task, completed=share)
