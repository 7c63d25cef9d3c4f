"""Can the model memorise one real track? A model that cannot overfit is broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from model.config import ModelConfig
from model.kinematics.geo import haversine_m
from train.batches.options import BatchOptions
from train.data.corpus import Corpus
from train.experiments.lab.exams import shorten
from train.experiments.lab.lab import SHORT, Lab, TrainedVariant
from train.experiments.lab.report import Finding, Line, Picture, Table

CONFIG = ModelConfig(d=64)
STEPS: Final = 1_200
VALIDATIONS: Final = 40
# of the track at most: nearly all of it is in every ping's attention window and in the window before that one
PINGS: Final = 100
LEAST_PINGS: Final = 10  # with fewer there is nothing to memorise
NEAR_ZERO: Final = 0.02  # of the mean step: memorised
# One row is the whole track, as recorded: nothing resampled, rotated, stretched, blurred or hidden.
BATCH = BatchOptions(
    rows=1,
    tokens=PINGS,
    forced=0.0,
    thin=0.0,
    turn=0.0,
    rescale=0.0,
    noise=0.0,
    drop_reported=0.0,
    drop_clock=0.0,
    drop_place=0.0,
)
OPTIONS: Final = {**SHORT, "weight_decay": 0.0, "ema": 0.0, "lr": 3e-3}  # the weights themselves, no average

QUESTION = """Question: does the network, with its head, its physics and its losses, reach near zero error on one real
track when it may see that track again and again? Source: the first check of "Building a Foundation Model for
Trajectory from Scratch" (arXiv 2511.20610): overfit before anything else, since a mistake in the data, the mask or
the loss shows here."""
METHOD = """One stretch of 100 pings from the training part of the first file, the one whose way is of median length, is
the only row, without augmentation, weight decay or averaging (d=64, two blocks). Next: the forecast of the next ping at
its own time. Far: the first ping after a random time of 3 s to 25 min, drawn anew at every step, so each training
question is new and only the track is the same."""


class Progress(NamedTuple):
    """The error in metres over the track, by training steps."""

    step: list[int]
    next_m: list[float]
    far_m: list[float]


def run(lab: Lab) -> Finding:
    """Trains on one track and measures on the same."""
    train = choose_track(lab.splits(without=[file.name for file in lab.data[1:]]).train)
    step_m = mean_step_m(train)
    batch = replace(BATCH, tokens=min(BATCH.tokens, train.pings))
    trained = lab.train(
        "overfit", CONFIG, STEPS, train=train, val=train, batch=batch, options=OPTIONS, validations=VALIDATIONS
    )
    progress = _progress(trained)
    pings = train.pings
    return Finding(
        question=QUESTION,
        method=METHOD,
        tables=[_table(progress, step_m)],
        pictures=[_picture(progress, step_m)],
        conclusion=conclude(progress, step_m),
        seeds=(lab.seed,),
        notes=[f"One track of {lab.data[0].name}: {pings} pings, {step_m:,.0f} m from one to the next on average"],
    )


def conclude(progress: Progress, step_m: float) -> str:
    """Concludes whether the next step is memorised, and how far longer horizons are off."""
    best, last = min(progress.next_m), progress.next_m[-1]
    share = last / step_m
    first_m = progress.next_m[0]
    if share <= NEAR_ZERO:
        when = next(step for step, m in zip(progress.step, progress.next_m, strict=True) if m <= NEAR_ZERO * step_m)
        first = (
            f"The track is learned by heart: the error of the next ping falls to {last:.1f} m, {100 * share:.1f} % of "
            f"the mean step of {step_m:,.0f} m, and is below {100 * NEAR_ZERO:.0f} % from step {when:,} on."
        )
    else:
        why = (
            "it was still falling, so more steps would lower it further"
            if last <= 1.05 * best and last < 0.9 * progress.next_m[len(progress.next_m) // 2]
            else "it has stopped falling, so something other than the number of steps holds it there"
        )
        first = (
            f"The error of the next ping falls from {first_m:,.1f} m to {last:,.1f} m, {100 * share:.1f} % of the mean "
            f"step of {step_m:,.0f} m, which is not near zero ({100 * NEAR_ZERO:.0f} %): {why}."
        )
    far = progress.far_m[-1]
    how = "too" if far <= NEAR_ZERO * 10 * step_m else "less far"
    second = (
        f"At random times ahead, asked anew at every step, the error falls {how}, from {progress.far_m[0]:,.0f} m to "
        f"{far:,.1f} m."
    )
    return f"{first} {second}"


def choose_track(corpus: Corpus) -> Corpus:
    """Returns one track of at most PINGS pings: among the sections of full length, the one with the median path length.

    Raises ValueError where none is long enough, or where that one does not move: there would be nothing to learn.
    """
    length = corpus.lengths
    pings = min(PINGS, int(length.max(initial=0)))
    if pings < LEAST_PINGS:
        raise ValueError(
            f"{', '.join(corpus.files)}: no training track has {LEAST_PINGS} pings: is all of it in pieces?"
        )
    chosen = np.flatnonzero(length >= pings)
    stretches = shorten(corpus, chosen, pings)
    ways_m = _ways_m(stretches)
    median = np.argsort(ways_m, kind="stable")[[len(chosen) // 2]]
    if ways_m[median] == 0:
        raise ValueError(f"{', '.join(corpus.files)}: half of the tracks of {pings} pings stay at one place")
    return stretches.select(median)


def mean_step_m(corpus: Corpus) -> float:
    """Returns the mean step of one track."""
    return float(_ways_m(corpus)[0]) / (corpus.pings - 1)


def _ways_m(corpus: Corpus) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Returns the path length in metres of each track; all have the same number of pings."""
    rows = corpus.tracks[:, :1] + np.arange(corpus.tracks[0, 1] - corpus.tracks[0, 0])
    lat, lon = corpus.lat[rows], corpus.lon[rows]
    return np.asarray(haversine_m(lat[:, :-1], lon[:, :-1], lat[:, 1:], lon[:, 1:]).sum(1))


def _progress(trained: TrainedVariant) -> Progress:
    steps = [step for step, _ in trained.validations]
    next_m, far_m = ([losses[name] for _, losses in trained.validations] for name in ("next_m", "far_m"))
    return Progress(steps, next_m, far_m)


def _table(progress: Progress, step_m: float) -> Table:
    chosen: Sequence[int] = np.unique(np.geomspace(1, len(progress.step), 9).round().astype(int) - 1).tolist()
    rows = [
        (f"{progress.step[i]:,}", progress.next_m[i], 100 * progress.next_m[i] / step_m, progress.far_m[i])
        for i in chosen
    ]
    return Table("Mean error on the track", ("steps", "next, m", "next, % of the mean step", "far, m"), list(rows))


def _picture(progress: Progress, step_m: float) -> Picture:
    lines = [
        Line("next ping", progress.step, progress.next_m),
        Line("random times ahead", progress.step, progress.far_m),
        Line("mean step", [progress.step[0], progress.step[-1]], [step_m, step_m]),
    ]
    return Picture("error", "One track, again and again", "steps", "mean error, m", lines, log_y=True)
