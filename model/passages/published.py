"""Makes of passages what may be published: what too few vehicles show is left out, and so is who they are.

    buckets    in whose cell fewer than MIN_VEHICLES vehicles passed are left out: they could show where somebody lives
    ways       in and on end where fewer than so many vehicles went along: from there on a way could be recognised. A
               vehicle went along if it passed the square where the way starts and the one where it is; squares are
               larger the longer the way is
    choice     of a bucket with more than `most` passages, those with the smallest draw are taken
    vehicles   stay together by a mark, so that none speaks for many (`model.passages.asking`). It is another one in
               each square of some kilometres, so that nobody can be followed by it

Shapes: K buckets, P passages, W places of a way.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.kinematics.geo import E7, F64, moved_deg, to_e7
from model.passages.buckets import OCTANT_BITS, Keys, tiles
from model.passages.passages import Ids, Passages, firsts, mixed, ranks
from model.passages.ways import I64, IN_M, IN_S, ON_M, ON_S

MIN_VEHICLES: Final = 3
MOST: Final = 128
# Squares by which ways go along: of 1,060 m in Austin up to so many seconds, and of 2,110 m beyond. In smaller ones the
# ways of a young fleet end early.
NEAR_S: Final = 180.0
NEAR_ZOOM: Final = 15
FAR_ZOOM: Final = 14
MARK_ZOOM: Final = 13  # squares of 4 km
_I: Final = len(IN_S)
_PLACES_S: Final = np.array([*IN_S, *ON_S])  # of a way in and on


class Published(NamedTuple):
    """The passages of a version, as they lie in its file: those of bucket k are the rows before stop[k] that are not
    before stop[k - 1]."""

    bucket: Keys  # [K] sorted, each there once
    stop: I64  # [K]
    lat_e7: NDArray[np.int32]  # [P]
    lon_e7: NDArray[np.int32]
    in_m: NDArray[np.int16]  # [P, I, 2] as in PASSAGE
    velocity: NDArray[np.int16]  # [P, 2]
    on: NDArray[np.int16]  # [P, K, 2]
    known: NDArray[np.uint8]  # [P]
    mark: NDArray[np.uint16]  # [P] alike for passages of one vehicle that are near each other

    @classmethod
    def of(cls, passages: Passages, marks: NDArray[np.uint16]) -> Published:
        rows = passages.rows
        stop = np.append(np.flatnonzero(firsts(rows["bucket"]))[1:], len(rows)) if len(rows) else np.empty(0, np.int64)
        lat_e7, lon_e7, in_m, velocity, on, known = (
            np.ascontiguousarray(rows[name]) for name in ("lat_e7", "lon_e7", "in_m", "velocity", "on", "known")
        )
        return cls(rows["bucket"][stop - 1], stop, lat_e7, lon_e7, in_m, velocity, on, known, marks)

    @classmethod
    def none(cls) -> Published:
        return cls.of(Passages.none(), np.empty(0, np.uint16))


def published(passages: Passages, min_vehicles: int = MIN_VEHICLES, most: int = MOST, secret: int = 0) -> Published:
    """Returns what may be published of passages. `secret` is mixed into marks."""
    rows = passages.rows
    rows = rows[_vehicles(rows) >= min_vehicles]
    rows = _shortened(rows, min_vehicles)
    rows = rows[rows["known"] > 0]
    order = np.lexsort((rows["draw"], rows["bucket"]))
    rows = rows[order]
    rows = rows[ranks(firsts(rows["bucket"])) < most]
    return Published.of(Passages(rows), marks_of(rows["id"], rows["lat_e7"], rows["lon_e7"], secret))


def marks_of(ids: Ids, lat_e7: NDArray[Any], lon_e7: NDArray[Any], secret: int) -> NDArray[np.uint16]:
    """Returns the marks [P] of vehicles at these places."""
    column, row = tiles(lat_e7, lon_e7, MARK_ZOOM)
    square = (column << MARK_ZOOM | row).astype(np.uint64)
    return (mixed(ids ^ mixed(square ^ np.uint64(secret))) & np.uint64(0xFFFF)).astype(np.uint16)


def _vehicles(rows: NDArray[Any]) -> I64:
    """Returns how many vehicles passed the cell of each passage [P], in whatever direction."""
    return _counts((rows["bucket"] >> OCTANT_BITS).astype(np.uint64), rows["id"])


def _counts(group: NDArray[np.uint64], vehicle: Ids) -> I64:
    """Returns how many vehicles there are in the group of each row [N]. Pairs are told apart by 64 bits: of a million,
    two are alike once in 40 million times."""
    _, first = np.unique(mixed(group ^ mixed(vehicle)), return_index=True)
    groups, count = np.unique(group[first], return_counts=True)
    return np.asarray(count[np.searchsorted(groups, group)]) if len(groups) else np.zeros(len(group), np.int64)


def _shortened(rows: NDArray[Any], min_vehicles: int) -> NDArray[Any]:
    """Returns the passages with their ways as far as enough vehicles went along."""
    near = _PLACES_S <= NEAR_S
    ways_m = np.concatenate([rows["in_m"] * IN_M, rows["on"] * ON_M], axis=1)
    reach = np.concatenate([np.ones((len(rows), _I), np.bool_), _first(rows["known"], len(ON_S))], axis=1)
    count = np.where(near, _along(rows, ways_m, reach, NEAR_ZOOM), _along(rows, ways_m, reach, FAR_ZOOM))
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


def _along(rows: NDArray[Any], ways_m: F64, reach: NDArray[np.bool_], zoom: int) -> I64:
    """Returns how many vehicles that passed the square of each passage came through the square of each place [P, W] of
    its way, before or after."""
    column, row = tiles(rows["lat_e7"], rows["lon_e7"], NEAR_ZOOM)
    here = mixed((column << NEAR_ZOOM | row).astype(np.uint64))[:, None]
    group = mixed(
        _cells(rows, ways_m, zoom) ^ here
    )  # of 64 bits: of a million groups, two are alike once in 40 million
    out = np.zeros(reach.shape, np.int64)
    out[reach] = _counts(group[reach], np.broadcast_to(rows["id"][:, None], group.shape)[reach])
    return out


def _cells(rows: NDArray[Any], way_m: F64, zoom: int) -> NDArray[np.uint64]:
    """Returns the cells [P, W] that ways come through."""
    lat, lon = moved_deg(rows["lat_e7"][:, None] / E7, rows["lon_e7"][:, None] / E7, way_m)
    column, row = tiles(to_e7(lat), to_e7(lon), zoom)
    return np.asarray((column << zoom | row).astype(np.uint64))
