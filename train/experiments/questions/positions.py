"""Does a trajectory model need position encodings, and which of them work on tracks longer than those in training?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from model.config import MAX_LEARNED, ModelConfig
from model.network.network import Network, build
from train.batches.options import BatchOptions
from train.data import anchors as anchoring
from train.data.corpus import Corpus
from train.experiments.lab import exams
from train.experiments.lab.exams import Exam, Marks, Scores
from train.experiments.lab.lab import SHORT, Lab
from train.experiments.lab.report import Finding, Line, Picture, Table, table_cells

CONFIG = ModelConfig(d=64, window=32)
BATCH = BatchOptions(rows=16, tokens=64)  # so that no index above 63 is ever trained
STEPS: Final = 300
KINDS: Final = ("none", "learned", "sinusoidal", "rope", "time-rope")
BINS: Final = (8, 32, 64, 128, 256, 384, 512, exams.LONGEST)
LONG_TRACKS: Final = 40
MOST_ANCHORS: Final = 4_000  # per file and cadence
# to train on: every n-th track, because drawing from millions takes longer than the training
MOST_PINGS: Final = 1_000_000
Bin = tuple[int, int]  # first index and the one after the last
COLUMN: Final = 2  # index in exams.COLUMNS for the picture
AHEAD: Final = exams.COLUMNS[COLUMN]  # 300 s

QUESTION = """Question: do displacements and intervals alone ("delta alone") tell a transformer where a ping stands in
its track, or does it need positional encodings, and which of them hold on long and irregular tracks? Source:
"Building a Foundation Model for Trajectory from Scratch" (arXiv 2511.20610), which adapts GPT-2 with its learned
positions and leaves the choice of encoding open."""
METHOD = """Five models that differ in `ModelConfig.positions` alone (half of the default's width and band: d=64, two
blocks, window 32) are trained on the same batches of 64 tokens and asked the judge's questions about test tracks of up
to 640 pings, in full forward passes. "Irregular" keeps each ping of the test tracks with a chance of one half."""


def run(lab: Lab) -> Finding:
    """Trains all kinds with two seeds, and evaluates them on whole, long and irregular tracks."""
    train = lab.splits().train
    train = train.select(np.arange(0, len(train), -(-train.pings // MOST_PINGS)))
    tests = {file.title: exams.judged_tracks(lab, file) for file in lab.data}
    papers, long = _pose_questions(tests), _choose_long_tracks(list(tests.values()))
    if not (long.anchors.target[:, COLUMN] >= 0).any():
        raise ValueError(f"{', '.join(long.corpus.files)}: no test track has a ping {AHEAD} ahead: is each too short?")
    marks: dict[str, list[dict[str, Marks]]] = {kind: [] for kind in KINDS}
    for seed in lab.seeds:
        for kind in KINDS:
            config = replace(CONFIG, positions=kind)
            trained = lab.train(f"{kind}-{seed}", config, STEPS, train=train, batch=BATCH, options=SHORT, seed=seed)
            marks[kind].append({name: _examine(trained.network, paper) for name, paper in {**papers, "": long}.items()})
            lab.say(f"{kind}, seed {seed}: {marks[kind][-1][''].mean_m()}")
    scores = {kind: [_overall(one) for one in marks[kind]] for kind in KINDS}
    bins = [pair for pair in pairwise(BINS) if not np.isnan(_in_bin(marks["none"][0][""], long, pair))]
    by_index = {kind: [[_in_bin(one[""], long, pair) for pair in bins] for one in marks[kind]] for kind in KINDS}
    physics = {name: exams.examine(build(CONFIG, 0), paper).mean_m() for name, paper in papers.items()}
    return Finding(
        question=QUESTION,
        method=METHOD,
        tables=[_errors(physics, marks, scores), _growth(bins, by_index)],
        pictures=[_picture(bins, by_index)],
        conclusion=conclude(scores, relative(by_index)),
        seeds=lab.seeds,
        notes=[f"Trained for {lab.steps(STEPS):,} steps; long tracks: {len(long.corpus)} of {long.corpus.files[0]}"],
    )


def relative(by_index: Mapping[str, list[list[float]]]) -> dict[str, list[float]]:
    """Returns the error of each kind over that of `none` by bin of the index, mean of the seeds; NaN where it cannot
    answer.
    """
    mean = {kind: np.mean(rows, axis=0) for kind, rows in by_index.items()}
    return {kind: (row / mean["none"]).tolist() for kind, row in mean.items()}


def conclude(scores: Scores, ratio: Mapping[str, list[float]]) -> str:
    """Concludes which encoding is best, and what happens at indices that were never trained."""
    best = exams.best(scores)
    if best == "none":
        second = min((kind for kind in scores if kind != "none"), key=lambda kind: exams.mean(scores[kind]))
        first = (
            f"No encoding beats displacements and intervals alone: the best, {second}, is {_against(scores, second)}."
        )
    else:
        first = f"Over all horizons and files {best} does best, {_against(scores, best)}."
    trained = sum(high <= BATCH.tokens for high in BINS[1:])
    lost = {kind: _last(row) / float(np.nanmean(row[:trained])) - 1 for kind, row in ratio.items() if kind != "none"}
    worst, least = max(lost, key=lambda kind: lost[kind]), min(lost, key=lambda kind: lost[kind])
    ends = [kind for kind, row in ratio.items() if np.isnan(row[-1])]
    end = f", and {', '.join(ends)} cannot answer from index {MAX_LEARNED} on" if ends else ""
    second_sentence = (
        f"Against having none, from the trained indices to the farthest ones {worst} loses most "
        f"({_percent(lost[worst])}) and {least} least ({_percent(lost[least])}) at {AHEAD}{end}."
    )
    return f"{first} {second_sentence}"


def _against(scores: Scores, kind: str) -> str:
    return exams.compare(scores, kind, "none")


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"


def _last(row: list[float]) -> float:
    return [value for value in row if not np.isnan(value)][-1]


def _examine(network: Network, paper: Exam) -> Marks:
    learned = network.config.positions == "learned"
    return exams.examine(network, paper, longest=MAX_LEARNED if learned else exams.LONGEST)


def _pose_questions(tests: Mapping[str, Corpus]) -> dict[str, Exam]:
    """Returns per file the tracks as recorded, and made irregular; of at most 512 pings, so that all kinds answer the
    same questions.
    """
    papers = {}
    for name, corpus in tests.items():
        corpus = corpus.select(corpus.lengths <= MAX_LEARNED)
        corpus = anchoring.take_every_nth(corpus, MOST_ANCHORS)[0]
        papers[name] = exams.pose_questions(corpus)
        kept = np.flatnonzero(np.random.default_rng(0).random(len(corpus.ts_ms)) < 0.5)
        papers[f"{name}, irregular"] = exams.pose_questions(
            corpus.keep(kept)
        )  # another cadence, with unequal intervals
    return papers


def _choose_long_tracks(tests: Sequence[Corpus]) -> Exam:
    """Returns the longest tracks of the file that has the longest: nearly the same tracks in every bin of the index."""
    found = []
    for corpus in tests:
        length = np.minimum(corpus.lengths, exams.LONGEST)
        longest = np.sort(np.argsort(-length, kind="stable")[:LONG_TRACKS])
        found.append(exams.shorten(corpus, longest, length[longest]))
    return exams.pose_questions(max(found, key=lambda corpus: corpus.pings))


def _overall(marks: Mapping[str, Marks]) -> float:
    return exams.geometric_mean([error for name, one in marks.items() if name for error in one.mean_m()])


def _in_bin(marks: Marks, long: Exam, pair: Bin) -> float:
    return marks.mean_m((long.token >= pair[0]) & (long.token < pair[1]))[COLUMN]


def _errors(physics: Mapping[str, list[float]], marks: Mapping[str, list[dict[str, Marks]]], scores: Scores) -> Table:
    names = tuple(physics)
    mean = {(name, kind): np.mean([m[name].mean_m() for m in marks[kind]], axis=0) for name in names for kind in KINDS}
    rows: list[tuple[object, ...]] = [
        (name, column, physics[name][i], *(float(mean[name, kind][i]) for kind in KINDS))
        for name in names
        for i, column in enumerate(exams.COLUMNS)
        if not np.isnan(physics[name][i])
    ]
    whole, repeats = (
        exams.geometric_mean([error for errors in physics.values() for error in errors]),
        len(scores["none"]),
    )
    rows += [("geometric mean", f"seed {i}", whole, *(scores[kind][i] for kind in KINDS)) for i in range(repeats)]
    return Table("Mean error in metres, mean of the seeds", ("test tracks", "horizon", "Kalman filter", *KINDS), rows)


def _growth(bins: Sequence[Bin], by_index: Mapping[str, list[list[float]]]) -> Table:
    columns = ("positions", *(f"{low}-{high - 1}" for low, high in bins))
    rows = [(kind, *table_cells(np.mean(rows, axis=0).tolist())) for kind, rows in by_index.items()]
    return Table(f"Mean error in metres after {AHEAD} by the ping's index in its track", columns, list(rows))


def _picture(bins: Sequence[Bin], by_index: Mapping[str, list[list[float]]]) -> Picture:
    x = [(low + high) / 2 for low, high in bins]
    none = np.array(by_index["none"])
    lines = []
    for kind, rows in by_index.items():
        ratio = np.array(rows) / none
        there = ~np.isnan(ratio).any(0)
        some = [values[there].tolist() for values in (np.array(x), ratio.mean(0), ratio.min(0), ratio.max(0))]
        lines.append(Line(kind, *some))
    title = f"Error after {AHEAD} along long tracks (trained up to index 63)"
    return Picture("index", title, "index of the ping in its track", "error over that without positions", lines)
