"""Lets an atlas grow as it would have lived: pings of a file are walked in the order of their times, and at each full
hour a new version knows the outcomes that were known by then, and no other.

Letters: A pings that ask, M pings with an outcome, L levels of cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas import outcomes, sums
from model.atlas.cells import Keys, keys
from model.atlas.days import by_day
from model.atlas.outcomes import NEVER, Outcomes
from model.atlas.published import MIN_ENTITIES, Published, published, weights
from model.atlas.sums import Sums, bucket_of
from train.data.corpus import Corpus

HOUR_MS: Final = 3_600_000
I64 = NDArray[np.int64]


class Snapshot(NamedTuple):
    """A version, and the pings that it answers."""

    rows: I64  # of those that ask
    published: Published  # only what is under their keys
    contains: dict[str, int]  # which pings of the fleet are in it, as `model.atlas.days.contents` says it


class _Fleet(NamedTuple):
    """All outcomes of a file, in the order in which they become known."""

    found: Outcomes
    counts: NDArray[np.bool_]  # (M, L)
    ids: sums.Ids  # (M,) of the entities
    ts_ms: I64  # (M,) of the pings
    order: I64  # indices of known_ms, flattened
    known_ms: I64  # of these


def snapshots(
    fleet: Corpus,
    asked: Keys,
    ts_ms: I64,
    *,
    every_ms: int = HOUR_MS,
    min_entities: int = MIN_ENTITIES,
    without: I64 | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[Snapshot]:
    """Yields the versions of an atlas of `fleet` that pings ask, at times ts_ms (A,) with keys `asked` (A, L).

    Args:
        every_ms: a new version answers from each multiple of this time on.
        min_entities: that a key must have been counted for (`published`).
        without: the bucket of entities (A,) whose outcomes are left out of what a ping is told, or -1 for none.
    """
    known, pings_ms = _fleet(fleet), np.sort(fleet.ts_ms[_rows(fleet)])
    without = np.full(len(ts_ms), -1) if without is None else without
    at = ts_ms // every_ms
    order = np.argsort(at, kind="stable")
    in_order = at[order]
    days: dict[int, Sums] = {}
    taken, times = 0, np.unique(at)
    for number, now in enumerate(times):
        upto = int(np.searchsorted(known.known_ms, now * every_ms))
        for day, more in _sums(known, known.order[taken:upto]):
            days[day] = days.get(day, Sums.none()).plus(more)
        taken = upto
        rows = order[slice(*np.searchsorted(in_order, [now, now + 1]))]
        contains, counting = _contains(pings_ms, now * every_ms), weights(days, days)
        for bucket in np.unique(without[rows]).tolist():
            some = rows[without[rows] == bucket]
            here = np.unique(asked[some])
            known_here = ((_others(days[day].under(here), bucket), of_day) for day, of_day in counting.items())
            yield Snapshot(some, published(known_here, min_entities), contains)
        progress((number + 1) / len(times))


def _others(sums: Sums, bucket: int) -> Sums:
    """Returns the sums of all entities that are not in this bucket."""
    return sums if bucket < 0 else sums.at(bucket_of(sums.row) != bucket)


def _contains(pings_ms: I64, cut_off_ms: int) -> dict[str, int]:
    """Returns what is known of pings, whose sorted times are given, before a cut-off."""
    known = pings_ms[: int(np.searchsorted(pings_ms, cut_off_ms))]
    first, last = (int(known[0]), int(known[-1])) if len(known) else (0, 0)
    return {"pings": len(known), "from_ms": first, "to_ms": last}


def history_h(fleet: Corpus, ts_ms: I64, every_ms: int = HOUR_MS) -> I64:
    """Returns how many hours with pings of the fleet the version knows that answers at each of these times (A,)."""
    hours = np.unique(fleet.ts_ms[_rows(fleet)] // HOUR_MS)
    return np.searchsorted(hours, ts_ms // every_ms * every_ms // HOUR_MS)


def keys_at(corpus: Corpus, rows: I64) -> Keys:
    """Returns the keys (A, L) of pings at these rows (A,), each of which has an earlier one in its track."""
    length = corpus.tracks[:, 1] - corpus.tracks[:, 0]
    all_rows = _rows(corpus)
    begins = np.zeros(len(all_rows), np.bool_)
    begins[np.cumsum(length) - length] = True
    came = outcomes.ways_m(corpus.fixes(all_rows), begins)[np.searchsorted(all_rows, rows)]
    fixes = corpus.fixes(rows)
    return keys(fixes["lat_e7"], fixes["lon_e7"], outcomes.velocities(fixes, corpus.fixes(rows - 1)), came)


def _rows(corpus: Corpus) -> I64:
    return np.concatenate([np.empty(0, np.int64), *(np.arange(first, stop) for first, stop in corpus.tracks)])


def _fleet(fleet: Corpus) -> _Fleet:
    length = fleet.tracks[:, 1] - fleet.tracks[:, 0]
    fixes = fleet.fixes(_rows(fleet))
    found = outcomes.of_tracks(fixes, np.cumsum(length) - length)
    entity = np.repeat(fleet.entity, length)[found.row]
    ts_ms = fixes["ts_ms"][found.row]
    counts = sums.counted(entity, found.key, ts_ms)
    known_ms = found.known_ms.reshape(-1)
    order = np.argsort(known_ms, kind="stable")
    order = order[: int(np.searchsorted(known_ms[order], NEVER))]
    return _Fleet(found, counts, sums.entity_ids(fleet.names)[entity], ts_ms, order, known_ms[order])


def _sums(fleet: _Fleet, which: I64) -> Iterator[tuple[int, Sums]]:
    """Yields by day the sums of the outcomes with these indices."""
    row, horizon = np.divmod(which, fleet.found.known_ms.shape[1])
    for day, at in by_day(fleet.ts_ms[row]):
        yield day, Sums.of_outcomes(fleet.found, fleet.counts, fleet.ids, row[at], horizon[at])
