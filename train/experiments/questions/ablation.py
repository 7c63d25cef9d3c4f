"""How much does each part of the model contribute, in metres, in bytes and in speed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from model.config import ModelConfig
from model.network.network import Network, build
from train.batches.options import BatchOptions
from train.experiments.lab import full_pass as ex
from train.experiments.lab import seeds
from train.experiments.lab.full_pass import Exam
from train.experiments.lab.kv_cost import Cost, served_cost, with_int8_rings
from train.experiments.lab.lab import SHORT, Lab
from train.experiments.lab.report import Finding, Line, Picture, Table, cells

CONFIG = ModelConfig(d=64, window=32)
BATCH = BatchOptions(rows=16, tokens=64)
STEPS: Final = 250
PLACES: Final = 20_000
MOST_ANCHORS: Final = 4_000

REFERENCE: Final = "reference"
INT8: Final = "int8 rings"


@dataclass(frozen=True)
class Part:
    """The reference with one change."""

    config: dict[str, Any] = field(default_factory=dict)
    batch: dict[str, Any] = field(default_factory=dict)


PARTS: Final[Mapping[str, Part]] = {
    REFERENCE: Part(),
    "no Kalman residual": Part({"target": "delta"}),
    "no query time": Part({"query_time": False}),
    "no thinning": Part(batch={"thin": 0.0}),
    "no turning": Part(batch={"turn": 0.0}),
    "no noise": Part(batch={"noise": 0.0}),
    "no stretching": Part(batch={"rescale": 0.0}),
    "nothing left out": Part(batch={"drop_reported": 0.0, "drop_clock": 0.0}),
    "2 KV heads": Part({"kv_heads": 2}),
    "4 KV heads": Part({"kv_heads": 4}),
    "with places": Part({"places": PLACES}),
}
CACHES: Final = (REFERENCE, "2 KV heads", "4 KV heads")

QUESTION = """Question: what is each part worth: the residual over the Kalman filter, the head that is asked for a
time, augmentation (thinning, turning, noise, stretched space and time, features left out), more key/value heads, the
learned map (`places`), and int8 rings?
Source: "Building a Foundation Model for Trajectory from Scratch" (arXiv 2511.20610), which names ablations as the next
check after its first experiments."""
METHOD = """The reference (half of the default's width and band: d=64, two blocks, window 32, one key/value head) is
trained on the first file, and again with one thing changed at a time; same seeds, same windows. All are judged on the
file's test tracks, on the same tracks with each ping kept with a chance of one half ("irregular"), and on the other
files, of which nothing was trained ("elsewhere"). A score is the geometric mean of the mean errors at next, 60, 300
and 900 s. int8 is simulated on the trained reference: keys and values of each token rounded to 255 levels of one
scale, as a ring of int8 would hold them."""

Scores = dict[str, list[float]]  # by variant, one per seed


def run(lab: Lab) -> Finding:
    """Trains the reference and its variants with two seeds each, and evaluates them alike."""
    train = lab.splits(without=[file.name for file in lab.data[1:]]).train
    exams = _exams(lab)
    scores: dict[str, Scores] = {exam: {name: [] for name in (*PARTS, INT8)} for exam in exams}
    own: dict[str, list[list[float]]] = {name: [] for name in (*PARTS, INT8)}
    networks: dict[str, Network] = {}
    for seed in lab.seeds:
        for name, part in PARTS.items():
            config, batch = replace(CONFIG, **part.config), replace(BATCH, **part.batch)
            label = f"{name.replace(' ', '-')}-{seed}"
            trained = lab.train(label, config, STEPS, train=train, batch=batch, options=SHORT, seed=seed)
            networks[name] = trained.network
            judged = {name: trained.network}
            if name == REFERENCE:
                judged[INT8] = with_int8_rings(trained.network)
            for variant, network in judged.items():
                marks = {title: ex.sit(network, exam).mean_m() for title, exam in exams.items()}
                own[variant].append(marks["own"])
                for title, errors in marks.items():
                    scores[title][variant].append(ex.geometric_mean(errors))
                lab.say(f"{variant}, seed {seed}: {marks}")
    physics = {title: ex.sit(build(CONFIG, 0), exam).mean_m() for title, exam in exams.items()}
    caches = [served_cost(name, networks[name], exams["own"].corpus) for name in CACHES]
    return Finding(
        question=QUESTION,
        method=METHOD,
        tables=[_changes(scores), _errors(own, physics["own"]), _caches(caches, scores)],
        pictures=[_picture(scores)],
        conclusion=conclude(scores, caches),
        seeds=lab.seeds,
        notes=[f"Trained on {lab.data[0].name} for {lab.steps(STEPS):,} steps"],
    )


def change(scores: Scores, name: str) -> float:
    """Returns the change of the error in percent of the reference: above 0 the reference is better."""
    return 0.0 - 100.0 * seeds.gain(scores, name, REFERENCE)  # not -100 times, which would give -0


def conclude(scores: Mapping[str, Scores], caches: Sequence[Cost]) -> str:
    """Two sentences: which parts matter beyond the noise, and what cache and precision cost."""
    trained = {exam: {name: rows[name] for name in PARTS} for exam, rows in scores.items()}
    chance = {exam: 100 * seeds.noise(rows) for exam, rows in trained.items()}
    moved = [
        (change(rows, name), name, exam)
        for exam, rows in trained.items()
        for name in PARTS
        if abs(change(rows, name)) > chance[exam] and name != REFERENCE
    ]
    hurts = _listed(sorted((one for one in moved if one[0] > 0), reverse=True))
    helps = _listed(sorted(one for one in moved if one[0] < 0))
    still = [name for name in PARTS if name != REFERENCE and all(name != other for _, other, _ in moved)]
    first = (
        f"Beyond seed noise, the error grows with {hurts or 'no change'} and falls with {helps or 'no change'}"
        f"{'; not told from noise anywhere: ' + ', '.join(still) if still else ''}."
    )
    small, large = caches[0], caches[-1]
    second = (
        f"int8 rings change the error by {change(scores['own'], INT8):+.1g} % and shrink the state from "
        f"{small.state_bytes:,} to {small.int8_bytes:,} bytes; {large.name} instead of one take {large.state_bytes:,} "
        f"bytes and a step runs at {large.pings_per_s / small.pings_per_s:.2f} times the speed for "
        f"{change(scores['own'], large.name):+.1f} % of the error."
    )
    return f"{first} {second}"


def _listed(changes: list[tuple[float, str, str]]) -> str:
    return ", ".join(f'"{name}" ({percent:+.1f} % {exam})' for percent, name, exam in changes)


def _exams(lab: Lab) -> dict[str, Exam]:
    corpus = ex.judged_tracks(lab, lab.data[0], MOST_ANCHORS)
    exams = {"own": ex.ask(corpus), "irregular": ex.ask(ex.irregular(corpus))}
    for file in lab.data[1:]:
        other = ex.judged_tracks(lab, file, MOST_ANCHORS)
        exams[f"elsewhere ({file.title})" if len(lab.data) > 2 else "elsewhere"] = ex.ask(other)
    return exams


def _changes(scores: Mapping[str, Scores]) -> Table:
    rows: list[tuple[object, ...]] = [
        (name, *(change(rows, name) for rows in scores.values())) for name in (*PARTS, INT8) if name != REFERENCE
    ]
    chance = [100 * seeds.noise({name: rows[name] for name in PARTS}) for rows in scores.values()]
    rows.append(("seed noise: a smaller change is none", *chance))
    title = "Change of the error against the reference, % (above 0: the reference is better)"
    return Table(title, ("variant", *scores), rows)


def _errors(own: Mapping[str, list[list[float]]], physics: Sequence[float]) -> Table:
    rows: list[tuple[object, ...]] = [("Kalman filter, no network", *cells(physics))]
    rows += [(name, *cells(np.mean(errors, axis=0).tolist())) for name, errors in own.items()]
    return Table("Mean error in metres on its own test tracks", ("variant", *ex.COLUMNS), rows)


def _caches(caches: Sequence[Cost], scores: Mapping[str, Scores]) -> Table:
    columns = ("KV heads", "error, %", "state, bytes", "state with int8 rings, bytes", "pings/s of one core, step only")
    rows: list[tuple[object, ...]] = [
        (
            one.name,
            change(scores["own"], one.name),
            f"{one.state_bytes:,}",
            f"{one.int8_bytes:,}",
            f"{one.pings_per_s:,.0f}",
        )
        for one in caches
    ]
    return Table("KV heads: error against the reference, bytes per entity, speed", columns, rows)


def _picture(scores: Mapping[str, Scores]) -> Picture:
    lines = [Line(name, [0], [change(scores["own"], name)]) for name in (*PARTS, INT8) if name != REFERENCE]
    chance = 100 * seeds.noise({name: scores["own"][name] for name in PARTS})
    title = f"One thing changed, own test tracks (seed noise ±{chance:.1f} %)"
    return Picture("parts", title, "change of the error against the reference, %", "", lines, bars=True)
