"""Makes of passages what may be published: what too few vehicles show is left out, and so is who they are.

    buckets    in whose cell fewer than MIN_VEHICLES vehicles passed are left out: they could show where somebody lives
    ways       in and on end where fewer than so many vehicles went along: from there on a way could be recognised. A
               vehicle went along if it passed the square where the way starts and the one where it is; squares are
               larger the longer the way is
    choice     of a bucket with more than `most` passages, those with the smallest draw are taken
    vehicles   stay together by a mark, so that none speaks for many (`model.atlas.asking`). It is another one in
               each square of some kilometres, so that nobody can be followed by it

Shapes: K buckets, P passages, S = NUMBERS, I ways in, W places of a way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.buckets import OCTANT_BITS, Keys, tiles
from model.atlas.passages import Ids, Passages, firsts, mix, ranks
from model.atlas.ways import I64, IN_M, IN_S, ON_M, ON_S, as_integers
from model.kinematics.geo import E7, move_deg, to_e7

MIN_VEHICLES: Final = 3
MOST: Final = 128
# Squares by which ways go along: of 1,060 m in Austin up to so many seconds, and of 2,110 m beyond. In smaller ones the
# ways of a young fleet end early.
NEAR_S: Final = 180.0
NEAR_ZOOM: Final = 15
FAR_ZOOM: Final = 14
MARK_ZOOM: Final = 13  # squares of 4 km
# Passages that are shortened at a time, in some 200 MB. A square of NEAR_ZOOM has 16 cells, which have 36,864 at
# most (model.atlas.passages).
SLICE: Final = 65_536
_I: Final = len(IN_S)
NUMBERS: Final = 2 + 2 * _I + 2  # of a signature: a place, the ways in, a velocity
_TURN_E7: Final = 360 * E7
_PLACES_S: Final = np.array([*IN_S, *ON_S])  # of a way in and on


class Signatures(NamedTuple):
    """The numbers by which pings are compared with some passages [...]."""

    lat_e7: NDArray[np.int32]  # [...]
    lon_e7: NDArray[np.int32]
    in_m: NDArray[np.int16]  # [..., I, 2] as in PASSAGE
    velocity: NDArray[np.int16]  # [..., 2]


class Published(NamedTuple):
    """The passages of a version, as they lie in its file: those of bucket k are the rows before stop[k] that are not
    before stop[k - 1].

    What pings are compared by lies together: of a bucket's n passages, the signatures are S runs of n numbers, one for
    each number. So a bucket is read at once, and its passages are compared several at a time.
    """

    bucket: Keys  # [K] sorted, each there once
    stop: I64  # [K]
    origin_e7: NDArray[np.int32]  # [K, 2] latitude and longitude of each bucket's first passage
    # [P, S] in runs: the latitude and longitude from there in 1e-7 degrees, the ways in and the velocity as in PASSAGE
    signature: NDArray[np.int16]
    on: NDArray[np.int16]  # [P, K, 2] as in PASSAGE
    known: NDArray[np.uint8]  # [P]
    mark: NDArray[np.uint16]  # [P] alike for passages of one vehicle that are near each other

    @classmethod
    def of(cls, passages: Passages, marks: NDArray[np.uint16]) -> Published:
        """Returns passages, which come in the order of their buckets. Where a bucket is larger than 16 bits reach, as
        it may be beyond MAX_LAT_DEG, places are nearer to its first one than they were."""
        rows = passages.rows
        first = np.flatnonzero(firsts(rows["bucket"]))
        stop = np.append(first, len(rows))[1:]
        of, at, each = _runs(stop, np.arange(len(rows)))
        lat_e7, lon_e7 = rows["lat_e7"].astype(np.int64), rows["lon_e7"].astype(np.int64)
        off_lat_e7 = lat_e7 - lat_e7[first][of]
        off_lon_e7 = (lon_e7 - lon_e7[first][of] + _TURN_E7 // 2) % _TURN_E7 - _TURN_E7 // 2
        origin_e7 = np.stack([rows["lat_e7"][first], rows["lon_e7"][first]], axis=-1)
        ways = (rows["in_m"][:, way, axis] for way in range(_I) for axis in range(2))
        signature = np.empty(len(rows) * NUMBERS, np.int16)
        for number, column in enumerate((off_lat_e7, off_lon_e7, *ways, *rows["velocity"].T)):
            signature[at + number * each] = as_integers(column, 1)
        on, known = np.ascontiguousarray(rows["on"]), np.ascontiguousarray(rows["known"])
        return cls(rows["bucket"][first], stop, origin_e7, signature.reshape(-1, NUMBERS), on, known, marks)

    @classmethod
    def none(cls) -> Published:
        return cls.of(Passages.none(), np.empty(0, np.uint16))

    def signatures(self, row: I64) -> Signatures:
        """Returns those of passages at `row` [...]."""
        in_m = self._numbers(row, range(2, NUMBERS - 2)).reshape(*row.shape, _I, 2)
        return Signatures(*self._places(row), in_m, self._numbers(row, range(NUMBERS - 2, NUMBERS)))

    def places(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Returns the latitudes and longitudes of all passages [P], 1e-7 degrees."""
        return self._places(np.arange(len(self.known)))

    @property
    def lat_e7(self) -> NDArray[np.int32]:
        return self.places()[0]

    @property
    def lon_e7(self) -> NDArray[np.int32]:
        return self.places()[1]

    @property
    def in_m(self) -> NDArray[np.int16]:
        return self.signatures(np.arange(len(self.known))).in_m

    @property
    def velocity(self) -> NDArray[np.int16]:
        return self.signatures(np.arange(len(self.known))).velocity

    def _places(self, row: I64) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        of, _, _ = _runs(self.stop, row)
        found = self.origin_e7[of] + self._numbers(row, range(2))
        return found[..., 0], found[..., 1]

    def _numbers(self, row: I64, numbers: range) -> NDArray[np.int16]:
        """Returns some numbers of the signatures of passages at `row` [...], [..., len(numbers)]."""
        _, at, each = _runs(self.stop, row)
        return np.asarray(self.signature.reshape(-1)[at[..., None] + each[..., None] * np.array(numbers)])


def _runs(stop: I64, row: I64) -> tuple[I64, I64, I64]:
    """Returns the buckets of passages at `row` [...], which end at stop [K]; where in the runs the first number of each
    lies; and how far apart its numbers are."""
    of = np.searchsorted(stop, row, side="right")
    begin = np.where(of > 0, stop[of - 1], 0)
    return of, row + (NUMBERS - 1) * begin, stop[of] - begin


def publishable(passages: Passages, min_vehicles: int = MIN_VEHICLES, most: int = MOST) -> Passages:
    """Returns what may be published of passages; their vehicles' ids are still there. It takes twice the memory of what
    it returns, and 200 MB or so."""
    rows = passages.rows
    enough = np.flatnonzero(_vehicles(rows) >= min_vehicles)
    out = np.empty(len(enough), rows.dtype)
    for some in _slices(_squares(rows["lat_e7"][enough], rows["lon_e7"][enough], NEAR_ZOOM)):
        out[some] = _shorten(rows[enough[some]], min_vehicles)
    known = np.flatnonzero(out["known"])
    order = known[np.lexsort((out["draw"][known], out["bucket"][known]))]
    return Passages(out[order[ranks(firsts(out["bucket"][order])) < most]])


def publish(passages: Passages, secret: int = 0) -> Published:
    """Returns passages that may be published as they are read. `secret` is mixed into marks."""
    rows = passages.rows
    return Published.of(passages, marks_of(rows["id"], rows["lat_e7"], rows["lon_e7"], secret))


def marks_of(ids: Ids, lat_e7: NDArray[Any], lon_e7: NDArray[Any], secret: int) -> NDArray[np.uint16]:
    """Returns the marks [P] of vehicles at these places."""
    square = _squares(lat_e7, lon_e7, MARK_ZOOM) ^ np.uint64(secret)
    return (mix(ids ^ mix(square)) & np.uint64(0xFFFF)).astype(np.uint16)


def _squares(lat_e7: NDArray[Any], lon_e7: NDArray[Any], zoom: int) -> NDArray[np.uint64]:
    """Returns the squares of a zoom that places [...] are in."""
    column, row = tiles(lat_e7, lon_e7, zoom)
    return np.asarray((column << zoom | row).astype(np.uint64))


def _slices(square: NDArray[np.uint64]) -> Iterator[I64]:
    """Yields which passages, of squares [P], are shortened at a time: all of some squares."""
    order = np.argsort(square, kind="stable")
    stops, begin = np.append(np.flatnonzero(firsts(square[order])), len(order))[1:], 0
    while begin < len(order):
        stop = max(stops[stops <= begin + SLICE].max(initial=0), stops[stops > begin].min())
        yield order[begin:stop]
        begin = stop


def _vehicles(rows: NDArray[Any]) -> I64:
    """Returns how many vehicles passed the cell of each passage [P], in whatever direction."""
    return _counts((rows["bucket"] >> OCTANT_BITS).astype(np.uint64), rows["id"])


def _counts(group: NDArray[np.uint64], vehicle: Ids) -> I64:
    """Returns how many vehicles there are in the group of each row [N]. Pairs are told apart by 64 bits: of a million,
    two are alike once in 40 million times."""
    _, first = np.unique(mix(group ^ mix(vehicle)), return_index=True)
    groups, count = np.unique(group[first], return_counts=True)
    return np.asarray(count[np.searchsorted(groups, group)]) if len(groups) else np.zeros(len(group), np.int64)


def _shorten(rows: NDArray[Any], min_vehicles: int) -> NDArray[Any]:
    """Returns the passages with their ways as far as enough vehicles went along."""
    near = _PLACES_S <= NEAR_S
    ways_m = np.concatenate([rows["in_m"] * IN_M, rows["on"] * ON_M], axis=1)
    reach = np.concatenate([np.ones((len(rows), _I), np.bool_), _first(rows["known"], len(ON_S))], axis=1)
    lat, lon = move_deg(rows["lat_e7"][:, None] / E7, rows["lon_e7"][:, None] / E7, ways_m)
    column, row = tiles(to_e7(lat), to_e7(lon), NEAR_ZOOM)
    up = NEAR_ZOOM - FAR_ZOOM
    squares = column << NEAR_ZOOM | row, column >> up << FAR_ZOOM | row >> up
    count = np.where(near, *(_along(rows, one.astype(np.uint64), reach) for one in squares))
    along = reach & (count >= min_vehicles)
    out, came = rows.copy(), _prefix(along[:, :_I])
    out["known"] = _prefix(along[:, _I:])
    out["on"] = np.where(_first(out["known"], len(ON_S))[..., None], rows["on"], 0)
    last = np.maximum(came - 1, 0)[:, None, None]  # beyond it, the thing was there: so it is for a track that began
    in_m = np.where(_first(came, _I)[..., None], rows["in_m"], np.take_along_axis(rows["in_m"], last, axis=1))
    out["in_m"] = np.where((came > 0)[:, None, None], in_m, 0)
    return out


def _prefix(holds: NDArray[np.bool_]) -> I64:
    """Returns how many of the first places [P, W] hold [P]."""
    return np.asarray(np.logical_and.accumulate(holds, axis=1).sum(axis=1))


def _first(count: NDArray[Any], places: int) -> NDArray[np.bool_]:
    """Returns the mask [P, places] of the first so many [P] places."""
    return np.arange(places) < count[:, None]


def _along(rows: NDArray[Any], squares: NDArray[np.uint64], reach: NDArray[np.bool_]) -> I64:
    """Returns how many vehicles that passed the square of each passage came through the square of each place [P, W] of
    its way that is known, before or after."""
    here = mix(_squares(rows["lat_e7"], rows["lon_e7"], NEAR_ZOOM))[:, None]
    group = mix(squares ^ here)  # of 64 bits: of a million groups, two are alike once in 40 million times
    fresh = reach.copy()
    fresh[:, 1:] &= group[:, 1:] != group[:, :-1]  # the others count as the place before them
    count = _counts(group[fresh], np.broadcast_to(rows["id"][:, None], group.shape)[fresh])
    return np.asarray(count[np.cumsum(fresh).reshape(fresh.shape) - 1])
