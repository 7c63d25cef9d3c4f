"""`pathcast train`: options in, weights out. Heavy imports wait for the call."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.config.options import with_common
from train.data.options import NO_TRACKS, CacheOption, TrackOptions, read_watch

if TYPE_CHECKING:
    from model.config import ModelConfig
    from stream.adapters.sources import Source
    from train.batches.options import FitOptions
    from train.data.corpus import Corpus
    from train.data.splits import Splits
    from train.fit.trainer import Report, Tick

DEFAULT_MINUTES = 30.0  # about what `small` needs on two cores to be better than every baseline


class Optimizer(StrEnum):
    adamw = "adamw"
    muon = "muon"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


@with_common
def train(
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="where weights and checkpoints go")],
    tracks: TrackOptions = NO_TRACKS,
    invented: Annotated[
        list[Path] | None,
        typer.Option(
            "--invented", exists=True, dir_okay=False, help="a file of `pathcast train synth`: only ever trains"
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="small, or a config.json; default: small, or that of --init")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="a field of model, batches or run that has no option; wrong names list them",
        ),
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
    init: Annotated[
        str | None, typer.Option("--init", help="refresh these weights, a name or a directory, with their config")
    ] = None,
    only: Annotated[
        str, typer.Option("--only", help="with --init: parts that learn while the rest stays, e.g. gap or gap,interval")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="of weights and batches")] = 0,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="go on with an interrupted run in --out, or begin anew and replace what is there",
        ),
    ] = True,
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
        Path | None, typer.Option("--tensorboard", file_okay=False, help=r"write event files there: pathcast\[train]")
    ] = None,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="the outcome as one JSON object")] = False,
) -> None:
    """Train weights on your own tracks. They serve at once: pathcast worker --weights DIR. The few settings
    that no worker can serve, such as patches of pings, are named before training begins.

    A Parquet or CSV file needs entity_id, t (or ts: milliseconds UTC), lat and lon, by these names or by --columns;
    speed_mps, heading_deg, traj_id and mode are used where they are. Other formats have names: geolife:DIR, tdrive:DIR,
    porto:FILE, ais:FILE, gpx:DIR, gtfs:DIR; a folder of .plt, .gpx or .pb files needs none. --from-topic reads a topic
    of pings up to where it ends now, and says where it keeps them, for --data.

    A tenth of the vehicles and the last tenth of each source in time stay out, for `pathcast evaluate`; so do the
    vehicles and the day that `pathcast demo` replays, and another tenth of the vehicles: half of it to validate and
    calibrate with, half for a last judgement.

    A checkpoint is written every 200 steps, from which the same command, given again, goes on with an interrupted run.
    Finished weights are replaced with --no-resume only.

    On several GPUs, or several processes of a CPU, torchrun starts one rank each; a step is then one batch of every
    rank.

    [bold]Examples[/]

      pathcast train --data austin.parquet --out runs/austin --minutes 20
      pathcast train --data taxis.csv buses.parquet --out runs/city --steps 5000 --seed 7
      pathcast train --data austin.parquet --out runs/austin --no-resume
      pathcast train --data taxis.csv --out runs/city --steps 20000 --patience 5 --tensorboard runs/board
      pathcast train --data taxis.csv --out runs/fills --init runs/city --only gap --steps 3000
      torchrun --standalone --nproc-per-node 2 --no-python pathcast train --data taxis.csv --out runs/city --steps 5000
      pathcast train --data trucks.csv --columns "t:s=timestamp,lat=y,lon=x,entity_id=vehicle" --out runs/trucks
      pathcast train --data geolife:Data porto:train.csv --out runs/mixed
      pathcast train --from-topic pathcast.pings.v1 --bootstrap localhost:9092 --out runs/live
    """
    if minutes is not None and steps is not None:
        raise typer.BadParameter("give --minutes or --steps, not both")
    if size is not None and init is not None:
        raise typer.BadParameter("give --size or --init, not both: weights that exist keep their size")
    sources = tracks.sources()
    from model.parameters.reading import CONFIG_FILE, resolve
    from train.batches.options import FitOptions
    from train.data.corpus import load
    from train.fit import progress
    from train.fit.distributed import rank_place
    from train.fit.recipe import build_recipe
    from train.fit.run_state import delete_checkpoint, is_finished

    if tracks.from_topic is not None and rank_place().world > 1:
        raise typer.BadParameter(
            "--from-topic is not for torchrun, as each rank would read a live topic to another end: let one process "
            "read it first (evaluate --from-topic, say), and give all of them the file that it names as --data"
        )
    made = build_recipe(size or "small" if init is None else str(resolve(init) / CONFIG_FILE), settings or [])
    towns = _invented_names(sources, invented or [])
    # Every rank checks this before it connects to the others, and nothing is written before all have connected: they
    # agree.
    if resume and is_finished(out):
        raise typer.BadParameter(
            f"{out} holds finished weights, and no interrupted run to go on with: give --no-resume to replace them, or "
            f"another --out"
        )
    if minutes is None and steps is None:
        minutes = DEFAULT_MINUTES
    options = FitOptions(
        out=out,
        minutes=minutes,
        steps=steps,
        patience=patience,
        init=init,
        only=tuple(part.strip() for part in only.split(",") if part.strip()),
        seed=seed,
        accumulate=accumulate,
        optimizer=optimizer.value,
        device=device.value,
        threads=threads,
        batch=replace(made.batch, invented=made.batch.invented + towns),
        **made.run,
    )
    if lr is not None:
        # both learning rates change by the same factor
        options = replace(options, lr=lr, muon_lr=options.muon_lr * lr / options.lr)
    with progress.watch_training(tensorboard) as watch:
        with read_watch() as reading:
            sources += tracks.topic_snapshot(cache, reading)
            corpus = load([*sources, *(invented or [])], cache, reading=reading)
        splits = _splits(corpus, towns)
        facts = {
            "split": splits.fingerprint,
            "train": _count_tracks(splits.train),
            "val": _count_tracks(splits.val),
            "test": _count_tracks(splits.test),
            "final": _count_tracks(splits.final),
            "copies_left_out_of_test": _count_tracks(splits.copies),
            "dropped": corpus.dropped,
        }
        if corpus.unreadable:
            facts["first_unreadable"] = corpus.unreadable
        for line in progress.describe_data(splits, corpus.dropped, corpus.unreadable):
            progress.tell(line)
        if (reason := made.config.not_servable()) is not None:
            progress.tell(f"no worker will serve these weights, and nothing calibrates them: {reason}")
        report = _fit(splits, made.config, options, resume, watch)
        if progress.leads():
            _calibrate(report, sources, options, cache, progress.tell)
            delete_checkpoint(out)
    outcome = {"out": str(out), "steps": report.steps, "loss": report.losses[-1], "validation": report.validation}
    if progress.leads():
        text = f"{out}: {report.steps:,} steps{progress.describe_metres(report.validation)}"
        typer.echo(json.dumps(outcome | facts, indent=2) if as_json else text)
    else:
        # A finished rank exits at once: threads of gloo that outlive Python's own end have been seen to abort it, and
        # torchrun takes that for a failure of all.
        os._exit(0)


def _invented_names(sources: list[Source], invented: list[Path]) -> tuple[str, ...]:
    """Returns the names of the invented files in the corpus."""
    names = tuple(path.name for path in invented)
    if both := {source.name for source in sources} & set(names):
        raise typer.BadParameter(f"real and invented files cannot have one name: {', '.join(sorted(both))}")
    return names


def _count_tracks(corpus: Corpus) -> dict[str, int]:
    return {"tracks": len(corpus), "pings": corpus.pings}


def _splits(corpus: Corpus, invented: tuple[str, ...]) -> Splits:
    from train.data.cutting import TRAINING
    from train.data.splits import split

    splits = split(corpus, invented=invented)
    if len(splits.train) == 0:
        if not len(splits.val) and not len(splits.test):
            raise ValueError(
                f"no track is long enough to train on: {len(corpus.ts_ms):,} pings hold no two of one entity in one "
                f"split, at most an hour and {TRAINING.speed_mps:g} m/s apart"
            )
        raise ValueError(
            f"no track to train on: {len(splits.val):,} are for validation and {len(splits.test):,} for the test, "
            f"where all of the bundled sample's vehicles and day goes"
        )
    return splits


def _calibrate(
    report: Report, sources: list[Source], options: FitOptions, cache: Path | None, tell: Callable[[str], None]
) -> None:
    """Calibrates the covariances on the validation tracks, source by source, and writes the weights again."""
    from model.network.checkpoint import save_pretrained
    from model.parameters.reading import CARD_FILE
    from train.calibration.calibrate import calibrate, tracks_to_calibrate_on

    samples = tracks_to_calibrate_on(sources, "val", cache, say=tell)
    if samples and report.network.config.not_servable() is None:
        for held in calibrate(report.network, samples, say=tell):
            tell(str(held))
        card = (options.out / CARD_FILE).read_text(encoding="utf-8")
        save_pretrained(report.network, options.out, card)


def _fit(
    splits: Splits, config: ModelConfig, options: FitOptions, resume: bool, watch: Callable[[Tick], None]
) -> Report:
    """Trains as one of the ranks that torchrun started, or alone."""
    from train.batches.options import choose_device
    from train.fit.distributed import join, rank_place
    from train.fit.progress import tell
    from train.fit.trainer import fit

    device = choose_device(options.device, rank_place().local)
    with join(device) as peers:
        return fit(
            splits.train,
            splits.val,
            config,
            options,
            resume=resume,
            unfinished=True,
            watch=watch,
            say=tell,
            peers=peers,
        )
