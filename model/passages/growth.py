"""Finds passages while pings come: one is known when its way on is, or when its track has ended.

It keeps the pings of each entity from which a passage may still come: those of the last half-hour before its newest
one. What it finds does not depend on how the pings are split.

Shapes: R pings, those of one entity one after the other in the order of their times; P passages.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.kinematics.features import FIX
from model.passages.buckets import NOWHERE, buckets
from model.passages.passages import Ids, Passages, draws, firsts
from model.passages.ways import (
    I64,
    IN_M,
    IN_S,
    MAX_APART_MS,
    ON_M,
    ON_S,
    PASSAGE,
    SPEED_MPS,
    as_integers,
    one_line,
    velocities,
    ways_in,
    ways_on,
)

# A ping from which a passage may still come, or by which its way in is known.
WAITING: Final = np.dtype(
    [
        ("id", "<u8"),  # of its entity
        ("fix", FIX),
        ("begins", "?"),  # a track
        ("bucket", "<i8"),  # NOWHERE for the first ping of a track
        ("passes", "?"),  # it is a passage that is not known yet
    ]
)
KEEP_MS: Final = round(1000 * (ON_S[-1] + IN_S[-1])) + MAX_APART_MS


class Growth:
    """Finds the passages of one partition."""

    def __init__(self, waiting: NDArray[Any] = np.empty(0, WAITING)) -> None:  # noqa: B008 - it is never changed
        self._waiting = waiting  # in the order of their entities, and of each entity's pings

    def add(self, ids: Ids, fixes: NDArray[Any], begins: NDArray[Any]) -> Passages:
        """Takes the next pings: the ids of their entities [R], FIX [R], and which begin a track [R]. Returns the
        passages that they make known.
        """
        if not len(ids):
            return Passages.none()
        rows, fresh, others = self._joined(ids, fixes, begins)
        tracks = _Tracks.of(rows)
        _set_buckets(rows, fresh, tracks)
        due = _due(rows, tracks)
        found = _passages(rows, due, tracks)
        rows["passes"][due] = False
        kept = rows[_still_waiting(rows, tracks)]
        self._waiting = np.insert(others, np.searchsorted(others["id"], kept["id"]), kept)
        return Passages.of(found)

    def _joined(
        self, ids: Ids, fixes: NDArray[Any], begins: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any]]:
        """Returns the pings of these entities, the waiting ones of each before its new ones, which of them are new, and
        the waiting ones of the other entities.
        """
        touched = np.isin(self._waiting["id"], ids)
        new = np.zeros(len(ids), WAITING)
        new["id"], new["fix"], new["begins"], new["bucket"] = ids, fixes, begins.astype(np.bool_), NOWHERE
        rows = np.concatenate([self._waiting[touched], new])
        order = np.argsort(rows["id"], kind="stable")
        return rows[order], order >= len(rows) - len(new), self._waiting[~touched]

    def forget(self, ids: Ids) -> None:
        """Keeps nothing of these entities; the next ping of any of them has to begin a track."""
        self._waiting = self._waiting[~np.isin(self._waiting["id"], ids)]

    def dumps(self) -> bytes:
        return self._waiting.tobytes()

    @classmethod
    def loads(cls, raw: bytes) -> Growth:
        return cls(np.frombuffer(raw, WAITING))


class _Tracks:
    """The tracks of R rows: they end where an entity does, at a long silence, and where the next one begins."""

    def __init__(self, starts: I64, rows: NDArray[Any]) -> None:
        lengths = np.diff(np.append(starts, len(rows)))
        self.start: I64 = np.repeat(starts, lengths)  # [R] the first row of each row's track
        self.last: I64 = np.repeat(starts + lengths - 1, lengths)  # [R] its last row
        self.line_ms = one_line(rows["fix"]["ts_ms"], starts)  # [R]
        ends_entity = np.append(firsts(rows["id"])[1:], True)
        self.goes_on = ends_entity[self.last]  # [R] whether the track is the newest one of its entity

    @classmethod
    def of(cls, rows: NDArray[Any]) -> _Tracks:
        apart_ms = np.diff(rows["fix"]["ts_ms"], prepend=0)
        begins = rows["begins"] | firsts(rows["id"]) | (apart_ms > MAX_APART_MS) | (apart_ms <= 0)
        return cls(np.flatnonzero(begins), rows)


def _set_buckets(rows: NDArray[Any], fresh: NDArray[np.bool_], tracks: _Tracks) -> None:
    """Sets the buckets of the fresh ones of R rows, and which of them are passages, in place: those whose bucket is not
    that of the ping before them. The first ping of a track came from nowhere.
    """
    at = np.flatnonzero(fresh & (tracks.start < np.arange(len(rows))))
    came_m = ways_in(rows["fix"], tracks.line_ms, at, tracks.start[at], IN_S[:1])[:, 0]
    rows["bucket"][at] = buckets(rows["fix"]["lat_e7"][at], rows["fix"]["lon_e7"][at], -came_m)
    rows["passes"][at] = rows["bucket"][at] != rows["bucket"][at - 1]


def _due(rows: NDArray[Any], tracks: _Tracks) -> I64:
    """Returns which of R rows are passages that are known now."""
    all_known = tracks.line_ms[tracks.last] >= tracks.line_ms + round(1000 * ON_S[-1])
    return np.flatnonzero(rows["passes"] & (all_known | ~tracks.goes_on))


def _passages(rows: NDArray[Any], at: I64, tracks: _Tracks) -> NDArray[Any]:
    """Returns the passages, PASSAGE [P], at some of the rows, without those whose track ends at once."""
    fixes, start = rows["fix"], tracks.start[at]
    on_m, known = ways_on(fixes, tracks.line_ms, at, tracks.last[at])
    out = np.zeros(len(at), PASSAGE)
    out["bucket"], out["id"], out["ts_ms"] = rows["bucket"][at], rows["id"][at], fixes["ts_ms"][at]
    out["lat_e7"], out["lon_e7"], out["draw"] = (
        fixes["lat_e7"][at],
        fixes["lon_e7"][at],
        draws(rows["id"][at], fixes["ts_ms"][at]),
    )
    out["in_m"] = as_integers(ways_in(fixes, tracks.line_ms, at, start), IN_M)
    out["velocity"] = as_integers(velocities(fixes[at], fixes[at - 1]), SPEED_MPS)
    out["on"], out["known"] = as_integers(on_m, ON_M), known
    return out[known > 0]


def _still_waiting(rows: NDArray[Any], tracks: _Tracks) -> NDArray[np.bool_]:
    """Returns which of R rows are of the newest track of their entity, and not too old to be asked for."""
    newest_ms = tracks.line_ms[tracks.last]
    return np.asarray(tracks.goes_on & (tracks.line_ms >= newest_ms - KEEP_MS))
