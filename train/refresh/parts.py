"""Splits the fleet's data: what trains, what regions are fitted to, and the newest hours, by which both are judged.

The parts are those of train.data.splits, whose rules hold here: a tenth of the entities trains nothing, another tenth
is for calibration and the final split, and nothing of the newest tenth of each file trains. That tenth has LATE_MS at
least. Only it is judged: of all entities, also of those that no training saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from stream.adapters.sources import Source
from train.data import anchors as anchoring
from train.data.corpus import Corpus, Reading, ignore_progress, load
from train.data.cutting import EVALUATION, TRAINING
from train.data.splits import NEVER, Splits, late_from_ms, split
from train.evaluation.forecasts import Sample, SplitPart

LATE_MS: Final = 2 * 3_600_000  # two hours: with a tenth of a morning, little would be judged
MOST_ANCHORS: Final = 20_000  # judged per file: a difference of half a percent is then beyond chance


class JudgedHours(NamedTuple):
    """The judged hours of one file."""

    file: str
    from_ms: int
    to_ms: int


class RefreshParts(NamedTuple):
    train: Corpus
    calibration: list[Sample]
    judged: list[Sample]
    hours: list[JudgedHours]


def split_parts(
    sources: Sequence[Source],
    invented: Sequence[Source] = (),
    cache: Path | None = None,
    *,
    late_ms: int = LATE_MS,
    most_anchors: int = MOST_ANCHORS,
    reading: Reading = ignore_progress,
) -> RefreshParts:
    """Returns the parts of these sources; invented towns only ever train. Raises ValueError where nothing is left to
    train on, or nothing to judge.
    """
    names = tuple(one.name for one in invented)
    both = [*sources, *invented]
    training = split(load(both, cache, cut=TRAINING, reading=reading), invented=names, late_ms=late_ms)
    if training.train.of_files(names).all():
        raise ValueError("no track to train on before the newest hours: give more data")
    whole = load(both, cache, cut=EVALUATION, reading=reading)
    splits = split(whole, invented=names, late_ms=late_ms)
    since = late_from_ms(whole, late_ms)
    late = splits.test.select(splits.test.ts_ms[splits.test.tracks[:, 0]] >= since[splits.test.file])
    judged = _samples(whole, splits, late, "test", most_anchors)
    if not judged:
        raise ValueError("no track of the newest hours has the eight pings that a forecast is judged after")
    named = {sample.file for sample in judged}
    ends = whole.file_start[1:]
    hours = [
        JudgedHours(file, int(begin), int(whole.ts_ms[first:last].max()))
        for file, begin, first, last in zip(whole.files, since, whole.file_start[:-1], ends, strict=True)
        if file in named and begin < NEVER
    ]
    calibration = _samples(whole, splits, splits.val, "val", most_anchors)
    return RefreshParts(training.train, calibration, judged, hours)


def _samples(whole: Corpus, splits: Splits, chosen: Corpus, part: SplitPart, most: int) -> list[Sample]:
    """Returns the tracks of each file that has any that is long enough."""
    found = []
    for number, file in enumerate(whole.files):
        mine = anchoring.keep_long(chosen.select(chosen.file == number))
        if len(mine) == 0:
            continue
        thinned, every = anchoring.take_every_nth(mine, most)
        fleet = whole.select(whole.file == number)
        found.append(Sample(file, part, splits.fingerprint, thinned, len(mine), every, fleet=fleet))
    return found


def spans_ms(corpus: Corpus) -> dict[str, tuple[int, int]]:
    """Returns the times of the first and the last ping of the tracks of each file."""
    first, last = corpus.ts_ms[corpus.tracks[:, 0]], corpus.ts_ms[corpus.tracks[:, 1] - 1]
    of = {name: corpus.file == number for number, name in enumerate(corpus.files)}
    return {name: (int(np.min(first[mine])), int(np.max(last[mine]))) for name, mine in of.items() if mine.any()}


def format_utc(ms: int) -> str:
    """Returns a time of a ping for people, to the minute."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
