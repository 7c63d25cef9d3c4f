"""Should the head predict displacements or coordinates?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from model.config import ModelConfig
from model.kinematics.geo import haversine_m
from train.batches.options import BatchOptions
from train.data.corpus import Corpus
from train.experiments.lab import exams
from train.experiments.lab.exams import Exam
from train.experiments.lab.lab import SHORT, Lab, TrainedVariant
from train.experiments.lab.report import Finding, Line, Picture, Table, table_cells
from train.fit.trainer import TrainingDiverged

STEPS: Final = 300
VALIDATIONS: Final = 15
CONFIG = ModelConfig(d=64, window=32)
BATCH = BatchOptions(rows=16, tokens=64, drop_place=0.0)  # absolute targets need the place in every row
NEAR: Final = 1.1  # times the best final validation error: a variant that reaches it has converged
MOST_ANCHORS: Final = 5_000

# name: what the head's metres are added to, and whether the inputs contain the position
VARIANTS: Final = {
    "absolute": ("absolute", True),
    "delta": ("delta", True),
    "Kalman residual": ("kalman", True),
    "delta, motion only": ("delta", False),
}
FAIR: Final = ("absolute", "delta")  # same inputs, same rows; only the target differs

QUESTION = """Question: are displacements or absolute coordinates the better target: which trains more steadily, which
converges sooner, and which holds at long horizons? Source: "Building a Foundation Model for Trajectory from Scratch"
(arXiv 2511.20610), which predicts coordinates and names delta against absolute as an open question."""
METHOD = """One region, so that absolute coordinates have their best case: the origin is the median of the training
pings, the unit (`region_m`) the distance within which 90 % of them lie. The variants see the same windows of the first
file (half of the default's width and band). The first three get Fourier features of the position and no turned rows,
and differ in the target alone; "motion only" sees no position, so its rows are turned and mirrored as in production."""


@dataclass(frozen=True)
class Outcome:
    """One training; `None` where it diverged."""

    steps: list[int]  # of the validations
    next_m: list[float]
    far_m: list[float]
    unsteadiness: float  # standard deviation of the loss from one step to the next over its mean, second half
    clipped: float  # share of steps whose gradient was longer than 1
    test_m: list[float]  # mean error per column of exams.COLUMNS


def run(lab: Lab) -> Finding:
    """Trains all variants with two seeds on the first file, and evaluates them on its test split."""
    file = lab.data[0]
    splits = lab.splits(without=[other.name for other in lab.data[1:]])
    exam = exams.pose_questions(exams.judged_tracks(lab, file, MOST_ANCHORS))
    region = _region(splits.train)
    found: dict[str, list[Outcome | None]] = {name: [] for name in VARIANTS}
    for seed in lab.seeds:
        for name, (target, absolute) in VARIANTS.items():
            config = replace(region, target=target, absolute=absolute)
            found[name].append(
                _train(lab, f"{target}{absolute:d}-{seed}", config, splits.train, splits.val, exam, seed)
            )
            lab.say(f"{name}, seed {seed}: {found[name][-1]}")
    converged = {name: [one for one in runs if one is not None] for name, runs in found.items()}
    lost = {name: len(lab.seeds) - len(runs) for name, runs in converged.items()}
    table = _table(converged, lost)
    return Finding(
        question=QUESTION,
        method=METHOD,
        tables=[_errors(converged), table],
        pictures=[_picture(converged)],
        conclusion=conclude(converged, lost),
        seeds=lab.seeds,
        notes=[
            f"Trained on {file.name} for {lab.steps(STEPS):,} steps; region of {region.region_m / 1000:.1f} km around "
            f"{region.origin_lat_deg:.3f}, {region.origin_lon_deg:.3f}"
        ],
    )


def conclude(found: Mapping[str, Sequence[Outcome]], lost: Mapping[str, int]) -> str:
    """Compares error, steadiness and convergence of absolute and delta targets, and names the best variant."""
    absolute, delta = FAIR
    if lost[absolute] or lost[delta]:
        safer = "neither" if lost[absolute] == lost[delta] else min(FAIR, key=lambda name: lost[name])
        gone = f"{lost[absolute]} with absolute and {lost[delta]} with delta targets diverged"
        return f"Of the trainings, {gone}. So {safer} is the steadier target, and errors are not compared."
    scores = {name: [exams.geometric_mean(one.test_m) for one in runs] for name, runs in found.items() if runs}
    even = {name: values for name, values in scores.items() if len(values) == len(scores[delta])}
    shaky = [100 * _mean([one.unsteadiness for one in found[name]]) for name in FAIR]
    far = int(np.flatnonzero(~np.isnan(found[delta][0].test_m))[-1])  # the farthest that any track reaches
    far_m = [_mean([one.test_m[far] for one in found[name]]) for name in FAIR]
    reached = steps_to(found)
    best = exams.best(even)
    end = "none does better than delta" if best == delta else f"{best} is {exams.compare(even, best, delta)}"
    first = (
        f"With the same inputs, delta targets are {exams.compare(even, delta, absolute)} over the horizons, and the "
        f"loss varies by {shaky[1]:.1f} % from step to step against {shaky[0]:.1f} % with absolute ones."
    )
    second = (
        f"To come within {100 * (NEAR - 1):.0f} % of the best validation error, delta takes {_steps(reached[delta])} "
        f"and absolute {_steps(reached[absolute])}; at {exams.COLUMNS[far]} they err by {far_m[1]:,.0f} m and "
        f"{far_m[0]:,.0f} m, and over all horizons {end}."
    )
    return f"{first} {second}"


def steps_to(found: Mapping[str, Sequence[Outcome]]) -> dict[str, float | None]:
    """Returns the mean step at which the validation's errors, next and far, are within NEAR of the best final ones;
    None: never.
    """
    last = [np.sqrt(one.next_m[-1] * one.far_m[-1]) for runs in found.values() for one in runs]
    goal = NEAR * min(last)
    out: dict[str, float | None] = {}
    for name, runs in found.items():
        first = [_first_below(one, goal) for one in runs]
        known = [step for step in first if step is not None]
        out[name] = _mean(known) if known and len(known) == len(first) else None
    return out


def _first_below(one: Outcome, goal: float) -> int | None:
    both = np.sqrt(np.array(one.next_m) * np.array(one.far_m))
    below = np.flatnonzero(both <= goal)
    return one.steps[below[0]] if len(below) else None


def _region(train: Corpus) -> ModelConfig:
    """Returns CONFIG with the origin and the radius of the training pings."""
    lat, lon = train.lat[train.rows], train.lon[train.rows]
    at = np.array([np.median(lat), np.median(lon)])
    radius_m = max(100.0, float(np.quantile(haversine_m(lat, lon, *at), 0.9)))
    return replace(CONFIG, origin_lat_deg=float(at[0]), origin_lon_deg=float(at[1]), region_m=radius_m)


def _train(
    lab: Lab, name: str, config: ModelConfig, train: Corpus, val: Corpus, exam: Exam, seed: int
) -> Outcome | None:
    try:
        trained = lab.train(
            name, config, STEPS, train=train, val=val, batch=BATCH, options=SHORT, seed=seed, validations=VALIDATIONS
        )
    except TrainingDiverged:
        return None
    return _outcome(trained, exams.examine(trained.network, exam).mean_m())


def _outcome(trained: TrainedVariant, test_m: list[float]) -> Outcome:
    losses = trained.losses
    half = np.array(losses[min(len(losses) // 2, len(losses) - 2) :])  # in a trial of two steps, both
    # Half the variance of the differences removes the trend, whose share of a difference is small.
    unsteady = float(np.sqrt((np.diff(half) ** 2).mean() / 2) / abs(half.mean()))
    return Outcome(
        [step for step, _ in trained.validations],
        [losses["next_m"] for _, losses in trained.validations],
        [losses["far_m"] for _, losses in trained.validations],
        unsteady,
        float((np.array(trained.gradient_norms) > 1.0).mean()),
        test_m,
    )


def _errors(found: Mapping[str, Sequence[Outcome]]) -> Table:
    rows: list[tuple[object, ...]] = []
    for name, runs in found.items():
        if runs:
            mean_m = table_cells(np.mean([one.test_m for one in runs], axis=0))
            own = " and ".join(f"{exams.geometric_mean(one.test_m):.1f}" for one in runs)
            rows.append((name, *mean_m, own))
    return Table("Mean error in metres on the test tracks", ("target", *exams.COLUMNS, "geometric mean by seed"), rows)


def _table(found: Mapping[str, Sequence[Outcome]], lost: Mapping[str, int]) -> Table:
    reached = steps_to(found)
    rows: list[tuple[object, ...]] = []
    for name, runs in found.items():
        steady = [(100 * one.unsteadiness, 100 * one.clipped) for one in runs]
        means = np.mean(steady, axis=0).tolist() if steady else [None, None]
        rows.append((name, lost[name], *means, _steps(reached.get(name))))
    columns = ("target", "diverged", "loss, step to step, %", "clipped gradients, %", f"to {NEAR:g} x the best error")
    return Table("Steadiness and speed", columns, rows)


def _picture(found: Mapping[str, Sequence[Outcome]]) -> Picture:
    lines = []
    for name, runs in found.items():
        if runs:
            y = np.array([one.far_m for one in runs])
            lines.append(Line(name, runs[0].steps, y.mean(0).tolist(), y.min(0).tolist(), y.max(0).tolist()))
    title = "Error at random times 3 s to 25 min ahead, in training"
    return Picture("convergence", title, "steps", "validation error, m", lines, log_y=True)


def _steps(count: float | None) -> str:
    return "more steps than it had" if count is None else f"{count:,.0f} steps"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
