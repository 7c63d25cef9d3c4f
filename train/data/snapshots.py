"""Lets an atlas grow as it would have lived: pings of a file are walked in the order of their times, and at each full
hour a new version knows the passages that were known by then, and no other.

Letters: A pings that ask, R rows of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import Approach, Atlas, Predictor, approaches
from model.atlas.believing import HORIZONS_S, Forecast
from model.atlas.days import Day, PartialSums, adding, days_of
from model.atlas.growth import Growth
from model.atlas.passages import entity_ids
from model.atlas.published import MIN_VEHICLES
from model.atlas.questions import Questions
from model.serving.making import Rules, forecasts_of, make_version
from train.data.corpus import Corpus

HOUR_MS: Final = 3_600_000
HISTORY: Final = 180  # pings that a worker with the bundled weights keeps of a track
I64 = NDArray[np.int64]


class Snapshot(NamedTuple):
    """A version, and the pings that it answers."""

    rows: I64  # of those that ask
    atlas: Atlas


def grow_versions(
    fleet: Corpus,
    ts_ms: I64,
    *,
    every_ms: int = HOUR_MS,
    min_entities: int = MIN_VEHICLES,
    predictor: Predictor | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[Snapshot]:
    """Yields the versions of an atlas of `fleet` that pings ask, at times ts_ms (A,).

    Args:
        every_ms: a new version answers from each multiple of this time on.
        min_entities: that must have passed a cell (`published`).
        predictor: beside whose forecasts versions find out how far passages are believed.
    """
    pings, growth, days = _Pings(fleet), Growth(), dict[int, PartialSums[Day]]()
    remembered = None if predictor is None else _Remembered(predictor)
    at = ts_ms // every_ms
    order = np.argsort(at, kind="stable")
    in_order, times, taken = at[order], np.unique(at), 0
    for number, now in enumerate(times):
        upto = int(np.searchsorted(pings.ts_ms, now * every_ms))
        for begin in range(taken, upto, _Pings.AT_ONCE):
            ids, fixes, begins = pings.at(begin, min(begin + _Pings.AT_ONCE, upto))
            for day, more in days_of(ids, fixes["ts_ms"], *growth.add(ids, fixes, begins)):
                days.setdefault(day, adding()).add(more)
        taken = upto
        whole = {day: parts.total() for day, parts in days.items()}
        made = make_version(whole, lambda day: whole[day].passages, Rules(min_entities=min_entities), remembered)  # noqa: B023
        rows = order[slice(*np.searchsorted(in_order, [now, now + 1]))]
        yield Snapshot(rows, Atlas(*made, ""))
        progress((number + 1) / len(times))


class _Pings:
    """The pings of a file in the order of their times."""

    AT_ONCE: Final = 500_000

    def __init__(self, fleet: Corpus) -> None:
        length = fleet.lengths
        rows = fleet.rows
        begins = np.zeros(len(rows), np.bool_)
        begins[np.cumsum(length) - length] = True
        ids = entity_ids(fleet.names)[np.repeat(fleet.entity, length)]
        order = np.argsort(fleet.ts_ms[rows], kind="stable")
        self._fleet, self._rows, self._ids, self._begins = fleet, rows[order], ids[order], begins[order]
        self.ts_ms = fleet.ts_ms[self._rows]

    def at(self, begin: int, end: int) -> tuple[NDArray[np.uint64], NDArray[Any], NDArray[np.bool_]]:
        """Returns the ids of the entities, FIX, and which begin a track; those of one entity one after the other."""
        order = begin + np.argsort(self._ids[begin:end], kind="stable")
        return self._ids[order], self._fleet.fixes(self._rows[order]), self._begins[order]


class _Remembered:
    """The forecasts of a model at questions, which are asked again at each version."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._draws = np.empty(0, np.uint64)  # sorted
        self._known = Forecast(np.empty((0, len(HORIZONS_S), 2)), np.empty((0, len(HORIZONS_S), 3)))

    def __call__(self, questions: Questions) -> Forecast:
        draws = questions.rows["draw"]
        new = Questions(questions.rows[~np.isin(draws, self._draws)])
        if len(new):
            more = forecasts_of(self._predictor, new)
            both = np.concatenate([self._draws, new.rows["draw"]])
            order = np.argsort(both)
            self._draws = both[order]
            self._known = Forecast(*(np.concatenate(two)[order] for two in zip(self._known, more, strict=True)))
        return Forecast(*(part[np.searchsorted(self._draws, draws)] for part in self._known))


def count_history_h(fleet: Corpus, ts_ms: I64, every_ms: int = HOUR_MS) -> I64:
    """Returns how many hours with pings of the fleet the version knows that answers at each of these times (A,)."""
    hours = np.unique(fleet.ts_ms[fleet.rows] // HOUR_MS)
    return np.searchsorted(hours, ts_ms // every_ms * every_ms // HOUR_MS)


def find_approaches(corpus: Corpus, row: I64, track: I64) -> Approach:
    """Returns by which ways the pings at rows (A,) of tracks (A,) came, as far as a worker would remember it."""
    fixes = corpus.fixes(slice(None))
    size = np.minimum(row - corpus.tracks[track, 0] + 1, HISTORY)
    return approaches(fixes[None], np.zeros(len(row), np.int64), row, size)
