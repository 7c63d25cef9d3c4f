"""Finds passages and questions while pings come: one is known when its way on is, or when its track has ended.

It keeps the pings of each entity from which one may still come: those of the last half-hour before its newest one. What
it finds does not depend on how the pings are split.

Shapes: R pings, those of one entity one after the other in the order of their times; P passages.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.believing import HORIZONS_S
from model.atlas.buckets import NOWHERE, buckets
from model.atlas.passages import Ids, Passages, draws, firsts
from model.atlas.questions import COLUMNS, NEAR, QUESTION, WINDOW, WINDOW_MS, Questions, is_question
from model.atlas.ways import (
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
from model.kinematics.features import FIX

# A ping from which a passage may still come, or by which its way in is known.
WAITING: Final = np.dtype(
    [
        ("id", "<u8"),  # of its entity
        ("fix", FIX),
        ("begins", "u1"),  # a track; or ANEW
        ("bucket", "<i8"),  # NOWHERE for the first ping of a track
        ("passes", "?"),  # it is a passage that is not known yet
        ("asks", "?"),  # it is a question whose answer is not known yet
    ]
)
ANEW: Final = 2  # in place of 1: the ping begins a track of an entity of which nothing is known any more
# After a longer silence nobody remembers where the track before it ended: shorter than what a follower waits before it
# forgets an entity, so that it does not matter whether anything was written meanwhile.
LOST_MS: Final = 6 * 86_400_000
KEEP_MS: Final = round(1000 * (ON_S[-1] + IN_S[-1])) + MAX_APART_MS
assert round(1000 * ON_S[-1]) + WINDOW_MS <= KEEP_MS


class Findings(NamedTuple):
    """The passages and questions that pings have made known, of all days: none is left out yet
    (`model.atlas.days.days_of`).
    """

    passages: Passages
    questions: Questions


class Growth:
    """Finds the passages and the questions of one partition."""

    def __init__(self, waiting: NDArray[Any] = np.empty(0, WAITING)) -> None:  # noqa: B008 - it is never changed
        self._waiting = waiting  # in the order of their entities, and of each entity's pings

    def add(self, ids: Ids, fixes: NDArray[Any], begins: NDArray[Any]) -> Findings:
        """Takes the next pings: the ids of their entities [R], FIX [R], and which begin a track [R]: 1 or ANEW, and 0
        for the others. Returns what they make known.
        """
        if not len(ids):
            return Findings(Passages.none(), Questions.none())
        rows, fresh, others = self._join(ids, fixes, begins)
        tracks = _Tracks.of(rows)
        _set_buckets(rows, fresh, tracks)
        due = _due(rows, tracks)
        passages = _passages(rows, due[rows["passes"][due]], tracks)
        questions = _questions(rows, due[rows["asks"][due]], tracks)
        rows["passes"][due], rows["asks"][due] = False, False
        kept = rows[_still_waiting(rows, tracks)]
        self._waiting = np.insert(others, np.searchsorted(others["id"], kept["id"]), kept)
        return Findings(Passages(passages), Questions(questions))

    def _join(
        self, ids: Ids, fixes: NDArray[Any], begins: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any]]:
        """Returns the pings of these entities, the waiting ones of each before its new ones, which of them are new, and
        the waiting ones of the other entities.
        """
        touched = np.isin(self._waiting["id"], ids)
        new = np.zeros(len(ids), WAITING)
        new["id"], new["fix"], new["begins"], new["bucket"] = ids, fixes, begins, NOWHERE
        rows = np.concatenate([self._waiting[touched], new])
        order = np.argsort(rows["id"], kind="stable")
        return rows[order], order >= len(rows) - len(new), self._waiting[~touched]

    def known_so_far(self) -> Findings:
        """Returns the passages and questions of waiting pings, as far as their ways on are known by now. They stay
        waiting."""
        rows = self._waiting
        if not len(rows):
            return Findings(Passages.none(), Questions.none())
        tracks = _Tracks.of(rows)
        passages = _passages(rows, np.flatnonzero(rows["passes"]), tracks)
        questions = _questions(rows, np.flatnonzero(rows["asks"]), tracks)
        return Findings(Passages(passages), Questions(questions))

    def forget(self, ids: Ids) -> None:
        """Keeps nothing of these entities; the next ping of any of them has to begin ANEW."""
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
        following = np.minimum(self.last + 1, len(rows) - 1)
        silent_ms = rows["fix"]["ts_ms"][following] - rows["fix"]["ts_ms"][self.last]
        # [R] whether it has ended, and its end is known.
        self.has_ended = ~self.goes_on & (rows["begins"][following] != ANEW) & (silent_ms < LOST_MS)

    @classmethod
    def of(cls, rows: NDArray[Any]) -> _Tracks:
        apart_ms = np.diff(rows["fix"]["ts_ms"], prepend=0)
        begins = (rows["begins"] > 0) | firsts(rows["id"]) | (apart_ms > MAX_APART_MS) | (apart_ms <= 0)
        return cls(np.flatnonzero(begins), rows)


def _set_buckets(rows: NDArray[Any], fresh: NDArray[np.bool_], tracks: _Tracks) -> None:
    """Sets the buckets of the fresh ones of R rows, and which of them are passages and questions, in place. A passage's
    bucket is not that of the ping before it. The first ping of a track came from nowhere, and is neither.
    """
    at = np.flatnonzero(fresh & (tracks.start < np.arange(len(rows))))
    came_m = ways_in(rows["fix"], tracks.line_ms, at, tracks.start[at], IN_S[:1])[:, 0]
    rows["bucket"][at] = buckets(rows["fix"]["lat_e7"][at], rows["fix"]["lon_e7"][at], -came_m)
    rows["passes"][at] = rows["bucket"][at] != rows["bucket"][at - 1]
    rows["asks"][at] = is_question(draws(rows["id"][at], rows["fix"]["ts_ms"][at]))


def _due(rows: NDArray[Any], tracks: _Tracks) -> I64:
    """Returns which of R rows are passages or questions that are known now."""
    all_known = tracks.line_ms[tracks.last] >= tracks.line_ms + round(1000 * ON_S[-1])
    return np.flatnonzero((rows["passes"] | rows["asks"]) & (all_known | tracks.has_ended))


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


def _questions(rows: NDArray[Any], at: I64, tracks: _Tracks) -> NDArray[Any]:
    """Returns the questions, QUESTION [Q], at some of the rows, without those to which there is no answer."""
    fixes, ts_ms = rows["fix"], rows["fix"]["ts_ms"]
    on_m, known = ways_on(fixes, tracks.line_ms, at, tracks.last[at])
    out = np.zeros(len(at), QUESTION)
    out["id"], out["draw"] = rows["id"][at], draws(rows["id"][at], ts_ms[at])
    out["went"], out["known"] = as_integers(on_m[:, COLUMNS], ON_M), np.searchsorted(COLUMNS, known)
    out["near"] = _near(tracks, at)
    oldest = np.searchsorted(tracks.line_ms, tracks.line_ms[at] - WINDOW_MS)
    oldest = np.maximum(np.maximum(oldest, tracks.start[at]), at + 1 - WINDOW)
    out["size"] = at + 1 - oldest
    for place in range(WINDOW):
        there = np.flatnonzero(place < out["size"])
        out["fixes"][there, place] = fixes[oldest[there] + place]
    return out[out["known"] > 0]


def _near(tracks: _Tracks, at: I64) -> NDArray[np.bool_]:
    """Returns whether pings of the same track lie near each of HORIZONS_S after some of the rows: [Q, B]."""
    horizons_ms = 1000 * np.array(HORIZONS_S)
    begin_ms, end_ms = (tracks.line_ms[at, None] + part * horizons_ms for part in (1 - NEAR, 1 + NEAR))
    first = np.searchsorted(tracks.line_ms, begin_ms)
    found = np.minimum(first, tracks.last[at, None])
    return np.asarray((first == found) & (tracks.line_ms[found] <= end_ms))


def _still_waiting(rows: NDArray[Any], tracks: _Tracks) -> NDArray[np.bool_]:
    """Returns which of R rows are of the newest track of their entity, and not too old to be asked for."""
    newest_ms = tracks.line_ms[tracks.last]
    return np.asarray(tracks.goes_on & (tracks.line_ms >= newest_ms - KEEP_MS))
