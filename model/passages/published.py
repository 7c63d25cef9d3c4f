"""Makes of passages what may be published: what too few vehicles show is left out, and so is who they are.

    buckets    of fewer than MIN_VEHICLES vehicles are left out: they could show where somebody lives
    ways       end where fewer than so many vehicles of the bucket go along: from there on a way could be recognised.
               They go along if they come through the same cell, which is larger the longer the way is
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
from model.passages.passages import Ids, Passages, firsts, mixed
from model.passages.ways import I64, IN_M, ON_M, ON_S

MIN_VEHICLES: Final = 3
MOST: Final = 128
# Cells by which ways go along: of 530 m in Austin up to so many seconds, and of 1,060 m beyond.
NEAR_S: Final = 180.0
NEAR_ZOOM: Final = 15
FAR_ZOOM: Final = 14
START_ZOOM: Final = 15
MARK_ZOOM: Final = 13  # squares of 4 km


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
    on, known = _shortened(rows, min_vehicles)
    rows = rows.copy()
    rows["on"], rows["known"] = on, known
    rows = rows[known > 0]
    order = np.lexsort((rows["draw"], rows["bucket"]))
    rows = rows[order]
    first = firsts(rows["bucket"])
    place = np.arange(len(rows))
    rows = rows[place - np.maximum.accumulate(np.where(first, place, 0)) < most]
    return Published.of(Passages(rows), marks_of(rows["id"], rows["lat_e7"], rows["lon_e7"], secret))


def marks_of(ids: Ids, lat_e7: NDArray[Any], lon_e7: NDArray[Any], secret: int) -> NDArray[np.uint16]:
    """Returns the marks [P] of vehicles at these places."""
    column, row = tiles(lat_e7, lon_e7, MARK_ZOOM)
    square = (column << MARK_ZOOM | row).astype(np.uint64)
    return (mixed(ids ^ mixed(square ^ np.uint64(secret))) & np.uint64(0xFFFF)).astype(np.uint16)


def _vehicles(rows: NDArray[Any]) -> I64:
    """Returns how many vehicles passed the cell of each passage [P], in whatever direction."""
    return _counts(rows["bucket"] >> OCTANT_BITS, rows["id"])[0]


def _counts(group: NDArray[Any], vehicle: Ids) -> tuple[I64, NDArray[Any]]:
    """Returns how many vehicles there are in the group of each row [N], and the groups' places."""
    groups, place = np.unique(group, return_inverse=True)
    first = np.unique(np.stack([place.astype(np.uint64), vehicle]), axis=1)[0]
    return np.bincount(first.astype(np.int64), minlength=len(groups))[place], groups


def _shortened(rows: NDArray[Any], min_vehicles: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Returns the ways on, and how much of them is known [P], as far as enough vehicles go along."""
    reach = np.arange(len(ON_S)) < rows["known"][:, None]
    near = np.array(ON_S) <= NEAR_S
    along = np.zeros(reach.shape, np.bool_)
    for zoom, of in ((NEAR_ZOOM, near), (FAR_ZOOM, ~near)):
        along[:, of] = reach[:, of] & (_along(rows, rows["on"][:, of] * ON_M, reach[:, of], zoom) >= min_vehicles)
    known = np.logical_and.accumulate(along, axis=1).sum(axis=1).astype(np.uint8)
    on = np.where((np.arange(len(ON_S)) < known[:, None])[..., None], rows["on"], 0).astype(np.int16)
    return on, known


def _along(rows: NDArray[Any], ways_m: F64, reach: NDArray[np.bool_], zoom: int) -> I64:
    """Returns how many vehicles of the cell come through each place [P, W] of the ways on, or came through it."""
    cells = [_cells(rows, way, zoom) for way in (ways_m, rows["in_m"] * IN_M)]
    column, row = tiles(rows["lat_e7"], rows["lon_e7"], START_ZOOM)
    here = mixed((column << START_ZOOM | row).astype(np.uint64))[:, None]
    group = [mixed(cell ^ here) for cell in cells]  # of 64 bits: of a million groups, two are alike once in 40 million
    vehicle = [np.broadcast_to(rows["id"][:, None], one.shape) for one in group]
    taken = reach, np.ones(group[1].shape, np.bool_)
    flat = [np.concatenate([one[where] for one, where in zip(some, taken, strict=True)]) for some in (group, vehicle)]
    count, _ = _counts(*flat)
    out = np.zeros(reach.shape, np.int64)
    out[reach] = count[: int(reach.sum())]
    return out


def _cells(rows: NDArray[Any], way_m: F64, zoom: int) -> NDArray[np.uint64]:
    """Returns the cells [P, W] that ways come through."""
    lat, lon = moved_deg(rows["lat_e7"][:, None] / E7, rows["lon_e7"][:, None] / E7, way_m)
    column, row = tiles(to_e7(lat), to_e7(lon), zoom)
    return np.asarray((column << zoom | row).astype(np.uint64))
