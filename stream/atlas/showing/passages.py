"""Finds the passages that an entity was compared with, as lines for a map: by which way each came, and where it went.

Seconds count from when a passage was beside the entity's ping (`model.atlas.asking.beside`): 300 is where it was five
minutes later. Where a version knows no more of a way, because too few vehicles went along, its line ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas import asking
from model.atlas.published import Published
from model.atlas.ways import IN_M, IN_S, MAX_APART_MS, ON_M, ON_S, velocities, ways_in
from model.kinematics.geo import E7, F64, displacement_m, move_deg, to_e7

LAST_S: Final = 900.0  # of a line: until the last horizon that is forecast
_AT_S: Final = np.array([*(-s for s in IN_S[::-1]), 0.0, *ON_S])  # of the places of a whole way
_FIX: Final = np.dtype([("ts_ms", "<i8"), ("lat_e7", "<i4"), ("lon_e7", "<i4")])


class Line(NamedTuple):
    """One passage: its weight, at most 1, and seconds, latitude and longitude of its places."""

    weight: float
    way: list[tuple[float, float, float]]


def compare(version: Published, track: Sequence[tuple[int, float, float]]) -> list[Line]:
    """Returns the passages nearest to the last ping of a track, which has time in ms, latitude and longitude of pings,
    the oldest first. There are none where it is not known by which way the ping came.
    """
    window = _window(track)
    if len(window) < 2:
        return []
    ping, newest = window[-1:], np.array([len(window) - 1])
    in_m = ways_in(window, window["ts_ms"], newest, np.zeros(1, np.int64))
    near = asking.neighbours(version, ping, in_m, velocities(ping, window[-2:-1]))
    row = near.row[:, near.row[0] >= 0]
    if not row.size:
        return []
    own = version.signatures(row)
    own_m = displacement_m(ping["lat_e7"][:, None], ping["lon_e7"][:, None], own.lat_e7, own.lon_e7)
    (begin_s,), _ = asking.beside(asking.ways(version, row), version.known[row] + 1, -own_m)
    weight = asking.weights(near.apart_m2)[0].round(3).tolist()
    lines = []
    for number, passage in enumerate(row[0]):
        came_m, known = own.in_m[0, number, ::-1] * IN_M, int(version.known[passage])
        way_m = np.concatenate([came_m, np.zeros((1, 2)), version.on[passage, :known] * ON_M])
        here = own.lat_e7[:, number] / E7, own.lon_e7[:, number] / E7
        lines.append(Line(weight[number], _places(way_m, _AT_S[: len(way_m)] - begin_s[number], *here)))
    return lines


def _window(track: Sequence[tuple[int, float, float]]) -> NDArray[Any]:
    """Returns the pings since the last silence after which nobody knows by which way a thing went on."""
    window = np.zeros(len(track), _FIX)
    for name, column in zip(_FIX.names or (), zip(*track, strict=True), strict=False):
        window[name] = column if name == "ts_ms" else to_e7(np.array(column))
    silences = np.flatnonzero(np.diff(window["ts_ms"]) > MAX_APART_MS)
    return window[silences[-1] + 1 :] if len(silences) else window


def _places(way_m: F64, at_s: F64, lat: F64, lon: F64) -> list[tuple[float, float, float]]:
    """Returns the places of a way [W, 2], which it was at at_s [W], up to LAST_S, and where it was beside the ping."""
    seconds = np.unique(np.round([*at_s[at_s < LAST_S], 0.0, min(LAST_S, at_s[-1])], 1))
    en_m = np.stack([np.interp(seconds, at_s, way_m[:, axis]) for axis in range(2)], axis=-1)
    columns = (seconds, *(np.round(one, 6) for one in move_deg(lat, lon, en_m)))
    return list(zip(*(one.tolist() for one in columns), strict=True))
