"""Continuous coordinates against discrete regions: the same data, trunk and steps, with metres or H3 cells as inputs
and outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.config import ModelConfig
from model.kinematics import baselines
from model.kinematics.geo import F64, haversine_m
from train.batches.options import BatchOptions
from train.data.corpus import Corpus
from train.evaluation.forecasts import errors_en_m
from train.evaluation.metrics import is_inside, mahalanobis2
from train.evaluation.rollout import Answers
from train.experiments.lab.cell_model import (
    PLACED,
    Vocabulary,
    forecast_cells,
    is_within,
    learn,
    mean_position,
    median_position,
    require_h3,
)
from train.experiments.lab.exams import Exam, forecast, judged_tracks, pose_questions, read_anchors
from train.experiments.lab.lab import Lab
from train.experiments.lab.report import Finding, Line, Picture, Table, table_cells

STEPS: Final = 400
FILE: Final = "cabspotting_sf.parquet"
RESOLUTIONS: Final = (8, 9)  # edges of 530 and 200 m
MOTION: Final = BatchOptions()
MOST_ANCHORS: Final = 2_000
TICKS_S: Final = (60.0, 300.0, 900.0)
HORIZONS: Final = ("next", "60 s", "300 s", "900 s")

QUESTION = (
    "Should positions be continuous, or regions of a vocabulary as words are? An open question of the tutorial "
    '"Building a Foundation Model for Trajectory from Scratch" (arXiv 2511.20610).'
)
METHOD = (
    "Taxis of one city, the same tracks, width, blocks and steps. Continuous models see displacements (and, in a "
    "second one, Fourier features of the position) and answer a position and its spread in metres; which cell that "
    "falls in is counted in the larger cells. Discrete ones see the H3 cell that a ping lies in and when it was, and "
    "answer a distribution over the cells that training visited at the time asked for, from which a position is taken "
    "twice: its mean, and its geometric median, best in mean distance. Positions outside the vocabulary enter as "
    "unknown, teach nothing, and count as missed in accuracy and coverage."
)


@dataclass(frozen=True)
class ModelScore:
    """One model on the anchors of the test split; tuples are by horizon."""

    name: str
    mean_m: tuple[float, ...]  # NaN where there is no target
    top_1: tuple[float, ...]  # share of answers in the true cell
    coverage_90: tuple[float, ...]
    parameters: int = 0
    cpu_s: float = 0.0


def run(lab: Lab) -> Finding:
    require_h3()  # before files are read, some of which are large
    file = lab.file_or_first(FILE).name
    train = lab.splits(without=[other.name for other in lab.data if other.name != file]).train
    exam = pose_questions(judged_tracks(lab, lab.file(file), MOST_ANCHORS))
    vocabularies = [Vocabulary.visited(train, resolution) for resolution in RESOLUTIONS]
    rows, floors = [_physics(exam, lab.config, vocabularies[0])], []
    rows += [_continuous(lab, train, exam, vocabularies[0], absolute=absolute) for absolute in (False, True)]
    for vocabulary in vocabularies:
        rows += _discrete(lab, train, exam, vocabulary)
        floors.append(_floor(exam, vocabulary))
    return Finding(
        QUESTION,
        METHOD,
        [_errors(rows), _facts(rows), _vocabularies(vocabularies, floors)],
        [_picture(rows, exam)],
        conclude(rows),
        (lab.seed,),
        [f"{file}, {len(exam.token):,} anchors of the test split, {lab.steps(STEPS):,} steps"],
    )


def conclude(rows: Sequence[ModelScore]) -> str:
    """Concludes which is nearer, and what a cell costs."""
    discrete = [row for row in rows if row.name.startswith("H3")]
    metres = [row for row in rows if row.name.startswith("continuous")]
    known = [h for h in range(len(HORIZONS)) if not np.isnan(metres[0].mean_m[h])]
    best = {h: [min(row.mean_m[h] for row in ways) for ways in (metres, discrete)] for h in known}
    wins = [HORIZONS[h] for h, (continuous_m, cell_m) in best.items() if continuous_m < cell_m]
    others = [HORIZONS[h] for h in known if HORIZONS[h] not in wins]
    factors = ", ".join(f"{cell_m / continuous_m:.2f} ({HORIZONS[h]})" for h, (continuous_m, cell_m) in best.items())
    verdict = (
        "Continuous coordinates are nearer at every horizon"
        if not others
        else "Regions are nearer at every horizon"
        if not wins
        else f"Continuous coordinates are nearer at {', '.join(wins)}, regions at {', '.join(others)}"
    )
    small, large = min(row.parameters for row in metres), max(row.parameters for row in discrete)
    named = max(discrete, key=lambda row: row.top_1[known[-1]])
    top = [100 * max(row.top_1[known[-1]] for row in ways) for ways in (discrete, metres)]
    return (
        f"{verdict}: the best discrete error is {factors} times the best continuous one. "
        f"Regions need up to {large / small:.1f} times the parameters and know nothing of any other town; at "
        f"{HORIZONS[known[-1]]} the best of them, {named.name}, names the right cell in {top[0]:.1f} % of the cases, "
        f"and a continuous answer falls in the right one of resolution {RESOLUTIONS[0]} in {top[1]:.1f} %."
    )


def _continuous(lab: Lab, train: Corpus, exam: Exam, vocabulary: Vocabulary, *, absolute: bool) -> ModelScore:
    name = "continuous, with position" if absolute else "continuous"
    batch = PLACED if absolute else MOTION
    config = replace(lab.config, absolute=absolute)
    trained = lab.train(f"regions/{'absolute' if absolute else 'motion'}", config, STEPS, train=train, batch=batch)
    mean, cov = forecast(trained.network, exam)
    row = _row(name, exam, mean, vocabulary, covers=_ellipses(exam, mean, cov))
    return replace(row, parameters=count(trained.network.trunk, trained.network.forecast), cpu_s=trained.cpu_s)


def _discrete(lab: Lab, train: Corpus, exam: Exam, vocabulary: Vocabulary) -> list[ModelScore]:
    """Returns the rows of the two positions from one model's distributions."""
    name = f"H3 resolution {vocabulary.resolution}"
    config = replace(lab.config, name=f"cells-{vocabulary.resolution}")
    net, cpu_s = learn(lab, config, train, vocabulary, lab.steps(STEPS))
    shape = exam.anchors.dt_s.shape
    means, medians = np.empty((*shape, 2)), np.empty((*shape, 2))
    top, covers = np.zeros(shape, bool), np.zeros(shape, bool)
    truth = vocabulary.number(*exam.truth)
    for rows, share in forecast_cells(net, exam, vocabulary):
        centre = vocabulary.metres_from(exam.corpus.fixes(exam.anchors.row[rows]))
        means[rows], medians[rows] = mean_position(share, centre), median_position(share, centre)
        top[rows], covers[rows] = share.argmax(-1) == truth[rows], is_within(share, truth[rows], 0.9)
    facts: dict[str, Any] = {"parameters": count(net.trunk, net.cell_embed, net.cell), "cpu_s": cpu_s}
    both = ((f"{name}, mean", means), (f"{name}, median", medians))
    rows_ = [_row(which, exam, en, vocabulary, covers=covers) for which, en in both]
    return [replace(row, top_1=_shares(top, exam), **facts) for row in rows_]


def _row(name: str, exam: Exam, mean_en: F64, vocabulary: Vocabulary, *, covers: NDArray[np.bool_]) -> ModelScore:
    error = exam.errors(mean_en).error_m
    truth = vocabulary.number(*exam.truth)
    hit = (vocabulary.number(*exam.places(mean_en)) == truth) & (truth < len(vocabulary))
    return ModelScore(name, tuple(np.nanmean(error, axis=0).tolist()), _shares(hit, exam), _shares(covers, exam))


def _physics(exam: Exam, config: ModelConfig, vocabulary: Vocabulary) -> ModelScore:
    mean, cov = np.empty((*exam.anchors.dt_s.shape, 2)), np.zeros((*exam.anchors.dt_s.shape, 3))
    for some in read_anchors(lambda fixes: (torch.zeros(*fixes.shape, 1), baselines.scan_fixes(fixes, config)), exam):
        law = baselines.damped_velocity(some.kin, exam.anchors.dt_s[some.anchor], config)
        mean[some.anchor], cov[some.anchor, :, 0], cov[some.anchor, :, 2] = law.mean_en, law.var_m2, law.var_m2
    return _row("damped velocity", exam, mean, vocabulary, covers=_ellipses(exam, mean, cov))


def _ellipses(exam: Exam, mean_en: F64, cov_m2: F64) -> NDArray[np.bool_]:
    """Returns whether the target is in the 90 % ellipse; false where there is none."""
    row, column = np.nonzero(exam.anchors.target >= 0)
    error = errors_en_m(exam.corpus, exam.anchors, Answers(*exam.places(mean_en), None), row, column)
    out = np.zeros(exam.anchors.target.shape, bool)
    out[row, column] = is_inside(mahalanobis2(error, cov_m2[row, column]), 0.9)
    return out


def _shares(hit: NDArray[np.bool_], exam: Exam) -> tuple[float, ...]:
    known = exam.anchors.target >= 0
    return tuple(((hit & known).sum(axis=0) / np.maximum(known.sum(axis=0), 1)).tolist())


def _floor(exam: Exam, vocabulary: Vocabulary) -> tuple[float, float, float]:
    """Returns the mean metres from the targets to the centres of their cells, and the shares of pings and targets in no
    cell.
    """
    known = exam.anchors.target >= 0
    truth = vocabulary.number(*exam.truth)
    inside = known & (truth < len(vocabulary))
    lat, lon = (degrees[inside] for degrees in exam.truth)
    off = haversine_m(lat, lon, vocabulary.lat[truth[inside]], vocabulary.lon[truth[inside]])
    seen = vocabulary.number(exam.corpus.lat[exam.anchors.row], exam.corpus.lon[exam.anchors.row])
    return float(off.mean()), float((seen == len(vocabulary)).mean()), float(1 - inside.sum() / known.sum())


def count(*parts: nn.Module) -> int:
    """Returns the number of parameters of the parts that a forecast runs through."""
    return sum(p.numel() for part in parts for p in part.parameters())


def _errors(rows: Sequence[ModelScore]) -> Table:
    return Table("Mean error, m", ("way", *HORIZONS), [(row.name, *table_cells(row.mean_m)) for row in rows])


def _facts(rows: Sequence[ModelScore]) -> Table:
    columns = (*(f"right cell, % ({h})" for h in HORIZONS), *(f"90 % region holds, % ({h})" for h in HORIZONS))
    facts = [
        (
            row.name,
            *(100 * v for v in (*row.top_1, *row.coverage_90)),
            f"{row.parameters:,}",
            row.parameters * 4 / 2**20,
        )
        for row in rows
    ]
    return Table("Cells named, coverage and size", ("way", *columns, "parameters", "MiB"), facts)


def _vocabularies(vocabularies: Sequence[Vocabulary], floors: Sequence[tuple[float, float, float]]) -> Table:
    rows = [
        (f"H3 resolution {v.resolution}", f"{len(v):,}", *table_cells((off_m, 100 * pings, 100 * targets)))
        for v, (off_m, pings, targets) in zip(vocabularies, floors, strict=True)
    ]
    columns = ("vocabulary", "cells", "m from a place to its cell's centre", "unknown pings, %", "unknown targets, %")
    return Table("What a cell loses before any model", columns, rows)


def _picture(rows: Sequence[ModelScore], exam: Exam) -> Picture:
    known = exam.anchors.target >= 0
    dt_s = {h: float(np.median(exam.anchors.dt_s[known[:, h], h])) for h in range(len(HORIZONS)) if known[:, h].any()}
    order = sorted(dt_s, key=dt_s.__getitem__)
    x = [dt_s[i] for i in order]
    shown = [row for row in rows if not row.name.endswith(", mean")]
    lines = [Line(row.name, x, [row.mean_m[i] for i in order]) for row in shown]
    return Picture(
        "errors", "Metres or cells", "median time ahead, s", "mean error, m", lines, True, TICKS_S, log_y=True
    )
