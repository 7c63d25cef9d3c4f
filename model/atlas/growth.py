"""Counts outcomes while pings come: a ping makes outcomes of earlier ones due.

It keeps the pings of each entity that something may still become of: those of the last horizon before its newest one.
That is also all that the rule of `sums.counted` asks for, because a slot is no longer than that horizon. What it counts
does not depend on how the pings are split, and is what `outcomes.of_tracks` finds in whole tracks.

Shapes: P pings in an order in which each follows those before it in its track, K outcomes, L levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas.cells import LEVELS, keys, levels_of
from model.atlas.days import Day, by_day
from model.atlas.outcomes import (
    HORIZONS_MS,
    HORIZONS_S,
    MAX_APART_MS,
    expected_m,
    fade,
    offsets_cm,
    one_line,
    velocities,
)
from model.atlas.sums import I64, SLOT_MS, Ids, Sums, firsts
from model.kinematics.features import FIX
from model.kinematics.geo import F64, displacement_m

# One ping of which something may still become.
WAITING: Final = np.dtype(
    [
        ("id", "<u8"),  # of its entity
        ("fix", FIX),
        ("begins", "u1"),  # a track; or ANEW
        ("moves", "?"),  # it has a velocity: of the step from the ping before it in its track, if that is near enough
        ("counts", "?", LEVELS),  # `sums.counted`
        ("key", "<i8"),  # of the last level
        ("velocity_mps", "<f8", 2),
        ("came_m", "<f8", 2),  # `outcomes.ways_m`
    ]
)
assert HORIZONS_MS[-1] >= SLOT_MS
_SLICE: Final = 65_536  # pings: at all levels, 400,000 rows of sums, which take some 200 MB to add up
ANEW: Final = 2  # in place of 1: the ping begins a track of an entity of which nothing is known any more


class Growth:
    """Counts what becomes of the pings of one partition."""

    def __init__(self, waiting: NDArray[Any] = np.empty(0, WAITING)) -> None:  # noqa: B008 - it is never changed
        self._waiting = waiting  # in the order of their entities, and of each entity's pings

    def add(self, ids: Ids, fixes: NDArray[Any], begins: NDArray[Any]) -> Iterator[tuple[int, Day]]:
        """Takes the next pings: the ids of their entities [P], FIX [P], and which begin a track [P]: 1 or ANEW, and 0
        for the others. Returns what is new, in pieces, each of one day: these pings, and the outcomes that they made
        due, on the day of the ping whose outcome it is. All pieces have to be read: a ping makes them once.
        """
        if not len(ids):
            return iter(())
        rows, fresh, others = self._joined(ids, fixes, begins)
        _set_velocities(rows, fresh)
        _set_counts(rows, fresh)
        kept = rows[_still_waiting(rows)]
        self._waiting = np.insert(others, np.searchsorted(others["id"], kept["id"]), kept)
        pings = ((day, Day.of_pings(ids[at], fixes["ts_ms"][at])) for day, at in by_day(fixes["ts_ms"]))
        due = ((day, Day.of_sums(sums)) for day, sums in _due(rows, fresh))
        return chain(pings, due)

    def _joined(
        self, ids: Ids, fixes: NDArray[Any], begins: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any]]:
        """Returns the pings of these entities, the waiting ones of each before its new ones, which of them are new, and
        the waiting ones of the other entities.
        """
        here = np.unique(ids)
        touched = _among(self._waiting["id"], here)
        new = np.zeros(len(ids), WAITING)
        new["id"], new["fix"], new["begins"] = ids, fixes, begins
        rows = np.concatenate([self._waiting[touched], new])
        order = np.argsort(rows["id"], kind="stable")
        return rows[order], order >= len(rows) - len(new), self._waiting[~touched]

    def forget(self, ids: Ids) -> None:
        """Keeps nothing of these entities, sorted; the next ping of any of them has to begin ANEW."""
        self._waiting = self._waiting[~_among(self._waiting["id"], ids)]

    def dumps(self) -> bytes:
        return self._waiting.tobytes()

    @classmethod
    def loads(cls, raw: bytes) -> Growth:
        return cls(np.frombuffer(raw, WAITING))


def _among(ids: Ids, those: Ids) -> NDArray[np.bool_]:
    """Returns which ids are among those, which are sorted."""
    if not len(those):
        return np.zeros(len(ids), np.bool_)
    return np.asarray(those[np.minimum(np.searchsorted(those, ids), len(those) - 1)] == ids)


def _set_velocities(rows: NDArray[Any], fresh: NDArray[np.bool_]) -> None:
    """Sets whether the fresh ones of P rows move, their velocities, the ways they came and their keys, in place."""
    begins, fixes = _begins_track(rows), rows["fix"]
    steps = np.zeros((len(rows), 2))
    steps[1:] = displacement_m(
        *(fixes[name][part] for part in (slice(-1), slice(1, None)) for name in ("lat_e7", "lon_e7"))
    )
    came = rows["came_m"].copy()
    fade(steps, begins, fresh, came)
    rows["came_m"] = came
    at = np.flatnonzero(fresh & ~begins)
    at = at[fixes["ts_ms"][at] - fixes["ts_ms"][at - 1] <= MAX_APART_MS]
    velocity = velocities(fixes[at], fixes[at - 1])
    rows["moves"][at], rows["velocity_mps"][at] = True, velocity
    rows["key"][at] = keys(fixes["lat_e7"][at], fixes["lon_e7"][at], velocity, came[at])[:, -1]


def _begins_track(rows: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray((rows["begins"] > 0) | firsts(rows["id"]))


def _goes_back(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns before which rows nothing of their entity counts any more: its first ones, and those that are earlier
    than the row before, as a track can go back from a false time.
    """
    back = firsts(rows["id"]) | (rows["begins"] == ANEW)
    back[1:] |= np.diff(rows["fix"]["ts_ms"]) < 0
    return np.asarray(back)


def _set_counts(rows: NDArray[Any], fresh: NDArray[np.bool_]) -> None:
    """Sets at which levels the fresh ones of P rows count, in place."""
    slot = rows["fix"]["ts_ms"] // SLOT_MS
    new_run = _goes_back(rows)
    new_run[1:] |= slot[1:] != slot[:-1]
    run = np.cumsum(new_run)
    with_fresh = np.zeros(int(run[-1]) + 1, np.bool_)
    with_fresh[run[fresh]] = True
    at = np.flatnonzero(rows["moves"] & with_fresh[run])
    of_run, fresh = run[at], fresh[at]
    for level, key in enumerate(levels_of(rows["key"][at])):
        order = np.lexsort((key, of_run))  # which is stable
        first = firsts(key[order]) | firsts(of_run[order])
        chosen = order[first]
        chosen = chosen[fresh[chosen]]
        rows["counts"][at[chosen], level] = True


def _due(rows: NDArray[Any], fresh: NDArray[np.bool_]) -> Iterator[tuple[int, Sums]]:
    """Yields by day the sums of the outcomes that the fresh ones of P rows make due, _SLICE pings at a time."""
    fixes, begins = rows["fix"], _begins_track(rows)
    ts_ms = fixes["ts_ms"]
    line_ms = one_line(ts_ms, np.flatnonzero(begins))
    later = np.flatnonzero(fresh & ~begins)
    later = later[ts_ms[later] - ts_ms[later - 1] <= MAX_APART_MS]
    parts = [_due_after(rows, line_ms, later, h) for h in range(len(HORIZONS_MS))]
    pings, ping = np.unique(np.concatenate([row for row, _ in parts]), return_inverse=True)
    n, off_cm = np.zeros((len(pings), len(parts)), np.int32), np.zeros((len(pings), len(parts), 2), np.int64)
    begin = 0
    for h, (row, off) in enumerate(parts):
        of_h = ping[begin : begin + len(row)]
        n[of_h, h], off_cm[of_h, h] = 1, off
        begin += len(row)
    for day, of_day in by_day(ts_ms[pings]):
        for at in np.split(of_day, range(_SLICE, len(of_day), _SLICE)):
            some = rows[pings[at]]
            key = np.stack(levels_of(some["key"]), axis=-1)
            yield day, Sums.of_pings(key, some["counts"], some["id"], n[at], off_cm[at])


def _due_after(rows: NDArray[Any], line_ms: I64, later: I64, h: int) -> tuple[I64, F64]:
    """Returns the outcomes after one horizon that the pings at `later` make due: the rows of the pings whose outcomes
    they are [K], each there once, and the offsets [K, 2] in cm.
    """
    horizon_ms = HORIZONS_MS[h]
    low, high = (np.searchsorted(line_ms, line_ms[at] - horizon_ms, side="right") for at in (later - 1, later))
    count = high - low
    row = np.repeat(low - np.cumsum(count) + count, count) + np.arange(count.sum())
    later = np.repeat(later, count)
    some = rows["moves"][row]
    row, later = row[some], later[some]
    expected = expected_m(rows["velocity_mps"][row], np.full((len(row), 1), HORIZONS_S[h]))[:, 0]
    off_cm, near = offsets_cm(rows["fix"], row, later, horizon_ms, expected)
    return row[near], off_cm[near]


def _still_waiting(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns which of P rows something may still become of, or are in the slot of their entity's last ping."""
    back = np.flatnonzero(_goes_back(rows))
    last = np.append(back[1:], len(rows)) - 1
    ends_entity = np.append(firsts(rows["id"])[1:], True)
    kept = ends_entity[last]
    run = np.repeat(np.arange(len(back)), last - back + 1)
    ts_ms = rows["fix"]["ts_ms"]
    return np.asarray(kept[run] & (ts_ms > ts_ms[last][run] - HORIZONS_MS[-1]))
