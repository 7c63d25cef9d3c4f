"""`pathcast train` and `pathcast evaluate`: options in, a table or JSON out. Heavy imports wait for the call."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from train.cli_data import (
    BootstrapOption,
    ColumnsOption,
    MoreFiles,
    NeededFiles,
    SomeFiles,
    TopicOption,
    read_watch,
    sources_of,
    topic_snapshot,
)

if TYPE_CHECKING:
    from model.config import ModelConfig
    from train.data import Corpus
    from train.fit import Report, Tick
    from train.options import FitOptions
    from train.sources import Source
    from train.splits import Splits

CALIBRATION_ANCHORS = 15_000  # per source
DEFAULT_MINUTES = 30.0  # on two cores about what `small` needs to leave every baseline behind

TRAIN_HELP = """Train weights on your own tracks. They serve at once: pathcast worker --weights DIR.

A Parquet or CSV file needs entity_id, t (or ts: milliseconds UTC), lat and lon, by these names or by --columns;
speed_mps, heading_deg, traj_id and mode are used where they are. Other formats have names: geolife:DIR, tdrive:DIR,
porto:FILE, ais:FILE, gpx:DIR, gtfs:DIR; a folder of .plt, .gpx or .pb files needs none. --from-topic reads a topic of
pings up to where it ends now, and says where it keeps them, for --data.

A tenth of the vehicles and the last tenth of each source in time stay out, for `pathcast evaluate`; so do the vehicles
and the day that `pathcast demo` replays. An interrupted run goes on when the same command is given again.

On several GPUs, or several processes of a CPU, torchrun starts one rank each; a step is then one batch of every rank.

[bold]Examples[/]

  pathcast train --data austin.parquet --out runs/austin --minutes 20
  pathcast train --data taxis.csv buses.parquet --out runs/city --steps 5000 --seed 7
  pathcast train --data austin.parquet --out runs/austin --no-resume
  pathcast train --data taxis.csv --out runs/city --steps 20000 --patience 5 --tensorboard runs/board
  torchrun --standalone --nproc-per-node 2 --no-python pathcast train --data taxis.csv --out runs/city --steps 5000
  pathcast train --data trucks.csv --columns "t:s=timestamp,lat=y,lon=x,entity_id=vehicle" --out runs/trucks
  pathcast train --data geolife:Data porto:train.csv --out runs/mixed
  pathcast train --from-topic pathcast.pings.v1 --bootstrap localhost:9092 --out runs/live
"""

EVALUATE_HELP = """Judge weights on tracks that they were not trained on: model and baselines, per data set and horizon.

Tracks are cut at silences over 5 min (three cadences for slow sources) and above 50 m/s. Forecasts start where there
are at least 8 earlier pings; they are judged at the next ping and at those nearest to 60, 300 and 900 s. 50 % and 90 %
are the shares of what happened that fell inside the regions meant to hold as much. --data takes what `train` takes.

[bold]Examples[/]

  pathcast evaluate --data austin.parquet
  pathcast evaluate --weights runs/mine --data austin.parquet porto.csv --split all --json
  pathcast evaluate --data austin.parquet --task gapfill
  pathcast evaluate --data tdrive:release/taxi_log_2008_by_id --split all
"""

CacheOption = Annotated[
    Path | None, typer.Option("--cache", file_okay=False, help="where columns are kept; default: the user's cache")
]


class Task(StrEnum):
    forecast = "forecast"
    gapfill = "gapfill"


class Optimizer(StrEnum):
    adamw = "adamw"
    muon = "muon"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Part(StrEnum):
    train = "train"
    val = "val"
    test = "test"
    all = "all"


def train(
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="where weights and checkpoints go")],
    data: SomeFiles = None,
    more: MoreFiles = None,
    columns: ColumnsOption = None,
    from_topic: TopicOption = None,
    bootstrap: BootstrapOption = "127.0.0.1:9092",
    size: Annotated[str, typer.Option("--size", help="small, base, or a config.json")] = "small",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="any field of model, batches or run; wrong names list them"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, help=f"how long to train; {DEFAULT_MINUTES:g} if nothing is said"),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="the same, in steps")] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            min=1,
            help="stop after so many validations without a gain, and keep the best weights; default: never",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of weights and batches")] = 0,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="go on with an interrupted run in DIR")] = True,
    lr: Annotated[float | None, typer.Option("--lr", help="learning rate at its peak; default: the trainer's")] = None,
    optimizer: Annotated[
        Optimizer, typer.Option("--optimizer", help="muon: of hidden matrices, and AdamW for the rest")
    ] = Optimizer.muon,
    accumulate: Annotated[
        int, typer.Option("--accumulate", min=1, help="micro-batches whose gradients make one step, on each rank")
    ] = 1,
    device: Annotated[Device, typer.Option("--device", help="auto: a GPU where there is one")] = Device.auto,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="default: all cores")] = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", file_okay=False, help="write event files there: pathcast[train]")
    ] = None,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="the outcome as one JSON object")] = False,
) -> None:
    if minutes is not None and steps is not None:
        raise typer.BadParameter("give --minutes or --steps, not both")
    if not data and from_topic is None:
        raise typer.BadParameter("give --data, --from-topic or both")
    sources = sources_of([*(data or []), *(more or [])], columns)
    from train import progress
    from train.data import load
    from train.options import FitOptions
    from train.recipe import recipe

    made = recipe(size, settings or [])
    if minutes is None and steps is None:
        minutes = DEFAULT_MINUTES
    options = FitOptions(
        out=out,
        minutes=minutes,
        steps=steps,
        patience=patience,
        seed=seed,
        accumulate=accumulate,
        optimizer=optimizer.value,
        device=device.value,
        threads=threads,
        batch=made.batch,
        **made.run,
    )
    if lr is not None:
        options = replace(options, lr=lr, muon_lr=options.muon_lr * lr / options.lr)  # slower is slower for both
    with progress.watching(tensorboard) as watch:
        with read_watch() as reading:
            if from_topic is not None:
                sources.append(topic_snapshot(from_topic, bootstrap, cache, reading))
            corpus = load(sources, cache, reading=reading)
        splits = _splits(corpus)
        facts = {
            "split": splits.fingerprint,
            "train": _size(splits.train),
            "val": _size(splits.val),
            "dropped": corpus.dropped,
        }
        progress.tell(f"data: {json.dumps(facts)}")
        report = _fit(splits, made.config, options, resume, watch)
        if progress.leads():
            _calibrate(report, sources, options, cache, progress.tell)
    outcome = {"out": str(out), "steps": report.steps, "loss": report.losses[-1], "validation": report.validation}
    if progress.leads():
        text = f"{out}: {report.steps:,} steps{progress.metres(report.validation)}"
        typer.echo(json.dumps(outcome | facts, indent=2) if as_json else text)


train.__doc__ = TRAIN_HELP


def evaluate(
    data: NeededFiles,
    more: MoreFiles = None,
    columns: ColumnsOption = None,
    weights: Annotated[str, typer.Option("--weights", help="a bundled name or a directory")] = "small",
    split: Annotated[
        Part, typer.Option("--split", help="which part of each file; all: also what was trained on")
    ] = Part.test,
    task: Annotated[Task, typer.Option("--task", help="what is judged")] = Task.forecast,
    max_anchors: Annotated[
        int, typer.Option("--max-anchors", min=1, help="per file, by taking every n-th track")
    ] = 50_000,
    max_gaps: Annotated[int, typer.Option("--max-gaps", min=1, help="per file and block length")] = 5_000,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object, with strata, instead of tables")] = False,
) -> None:
    sources = sources_of([*data, *(more or [])], columns)
    from model.api import Predictor
    from train import evaluate as judge
    from train import gapfill

    predictor = Predictor.load(weights)
    with read_watch() as reading:
        samples = judge.open_samples(sources, split.value, cache_dir=cache, most=max_anchors, reading=reading)
    reports = []
    for sample in samples:
        with _progress(sample.file, hidden=as_json) as progress:
            if task is Task.forecast:
                reports.append(judge.judge_forecasts(sample, predictor, progress=progress))
            else:
                reports.append(gapfill.judge_gap_fills(sample, predictor, most=max_gaps, progress=progress))
    if as_json:
        model = {"name": predictor.name, "version": predictor.version}
        typer.echo(json.dumps({"task": task.value, "split": split.value, "model": model, "data": reports}, indent=2))
    else:
        for report in reports:
            _print(report, f"{predictor.name} {predictor.version}")


evaluate.__doc__ = EVALUATE_HELP


def _size(corpus: Corpus) -> dict[str, int]:
    return {"tracks": len(corpus), "pings": corpus.pings}


def _splits(corpus: Corpus) -> Splits:
    from train.splits import split

    splits = split(corpus)
    if len(splits.train) == 0:
        raise ValueError(
            f"no track to train on: {len(splits.val):,} are for validation and {len(splits.test):,} for the test, "
            f"which is where everything of the bundled sample's vehicles and day goes"
        )
    return splits


def _calibrate(
    report: Report, sources: list[Source], options: FitOptions, cache: Path | None, tell: Callable[[str], None]
) -> None:
    """Widen the spreads to what the validation tracks ask for, source by source, and write the weights again."""
    from model.checkpoint import CARD_FILE, save_pretrained
    from train.calibrate import calibrate
    from train.evaluate import open_samples

    samples = []
    for source in sources:
        try:
            samples += open_samples([source], "val", cache_dir=cache, most=CALIBRATION_ANCHORS)
        except ValueError as error:
            tell(f"not calibrated on {source}: {error}")
    if samples and report.network.config.not_servable() is None:
        calibrate(report.network, samples, say=tell)
        card = (options.out / CARD_FILE).read_text(encoding="utf-8")
        save_pretrained(report.network, options.out, card)


def _fit(
    splits: Splits, config: ModelConfig, options: FitOptions, resume: bool, watch: Callable[[Tick], None]
) -> Report:
    """As one rank of those that torchrun started, or alone."""
    from train.fit import fit
    from train.options import choose_device
    from train.parallel import join, place

    device = choose_device(options.device, place().local)
    with join(device) as peers:
        return fit(splits.train, splits.val, config, options, resume=resume, watch=watch, peers=peers)


@contextmanager
def _progress(what: str, *, hidden: bool) -> Iterator[Callable[[float], None]]:
    """A bar on stderr while it lasts; on nothing but a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=hidden or not console.is_terminal) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _print(report: dict[str, Any], model: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    part = "all of it" if report["split"] == "all" else f"split {report['split']} ({report['split_fingerprint']})"
    table = Table(
        title=f"{report['file']}, {part}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        collapse_padding=True,
        pad_edge=False,
    )
    table.caption, table.caption_justify = f"{_counts(report)}\nmetres; ± of the mean: 95 %; model: {model}", "left"
    gaps = "blocks" in report
    table.add_column("hidden" if gaps else "horizon", no_wrap=True)
    table.add_column("predictor", no_wrap=True)
    for name in ("mean", "median", "p90", "CRPS", "50 %", "90 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for key, block in report["blocks" if gaps else "horizons"].items():
        label = f"{key} s" if key[0].isdigit() else key
        for name, score in block.items():
            if isinstance(score, dict) and name != "strata":
                table.add_row(label, name, *_cells(score), style="bold" if name == "model" else None)
                label = ""
        table.add_section()
    Console().print(table)


def _cells(score: dict[str, Any]) -> Iterator[str]:
    yield f"{_metres(score['mean_m'])} ±{_metres((score['mean_high_m'] - score['mean_low_m']) / 2)}"
    yield from (_metres(score[name]) for name in ("median_m", "p90_m", "crps_m"))
    yield from ("" if score[name] is None else f"{100 * score[name]:.1f}" for name in ("coverage_50", "coverage_90"))


def _metres(value: float) -> str:
    return f"{value:,.1f}" if value < 99.95 else f"{value:,.0f}"


def _counts(report: dict[str, Any]) -> str:
    """What was judged, and that it is a sample where it is one."""
    every = report["every_nth_track"]
    tracks = f"{report['tracks']:,} tracks"
    if every > 1:
        tracks += f" (one in {every:,} of {report['tracks_in_split']:,})"
    counts = [f"{report['entities']:,} entities", tracks]
    counts += [f"{report[name]:,} {name}" for name in ("anchors", "fallbacks") if report.get(name)]
    return ", ".join(counts)
