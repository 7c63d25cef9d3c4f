"""Draws an atlas as GeoJSON (RFC 7946): an arrow for each bucket, which is a map cell and an octant, from the middle of
where things passed to the middle of where they were some time later. Middles are medians.

Shapes: N arrows, R passages of which is known where they were then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.atlas.buckets import OCTANT_BITS, STILL, Keys
from model.atlas.published import Published
from model.atlas.ways import I64, ON_M, ON_S
from model.kinematics.geo import E7, F64, displacement_m, move_deg

DIGITS: Final = 6  # of degrees: 0.1 m


class Arrows(NamedTuple):
    """The arrows of an atlas, in columns of N rows, in the order of their buckets."""

    bucket: Keys
    lat: F64  # [N]
    lon: F64
    to_lat: F64
    to_lon: F64
    n: I64  # passages


def arrows(passages: Published, horizon_s: float, least: int) -> Arrows:
    """Returns the arrows of buckets in which it is known of `least` passages or more where they were horizon_s later.

    Raises ValueError for a horizon that passages do not have.
    """
    if horizon_s not in ON_S:
        raise ValueError(f"{horizon_s:g} s: an atlas has {', '.join(f'{later_s:g}' for later_s in ON_S)} s")
    place = ON_S.index(horizon_s)
    rows = np.flatnonzero(passages.known > place)
    bucket = np.searchsorted(passages.stop, rows, side="right")
    enough = np.bincount(bucket, minlength=len(passages.bucket))[bucket] >= least
    rows = rows[enough]
    bucket, arrow, n = np.unique(bucket[enough], return_inverse=True, return_counts=True)
    own = [column[rows] for column in passages.places()]
    lat_e7, lon_e7 = (_medians(column, arrow) for column in own)
    own_m = displacement_m(lat_e7[arrow], lon_e7[arrow], *own)
    east_m, north_m = (own_m + passages.on[rows, place] * ON_M).T
    to_m = np.stack([_medians(east_m, arrow), _medians(north_m, arrow)], axis=-1)
    here = lat_e7 / E7, lon_e7 / E7
    return Arrows(passages.bucket[bucket], *here, *move_deg(*here, to_m), n)


def features(passages: Published, horizon_s: float, least: int) -> Iterator[dict[str, Any]]:
    """Yields the arrows as GeoJSON features. Raises as `arrows`."""
    for bucket, lat, lon, to_lat, to_lon, n in zip(*arrows(passages, horizon_s, least), strict=True):
        ends = [[round(float(x), DIGITS) for x in pair] for pair in ((lon, lat), (to_lon, to_lat))]
        yield {
            "type": "Feature",
            "geometry": {"type": "LineString", "coordinates": ends},
            "properties": {"n": int(n), "heading_deg": heading_deg(bucket), "after_s": horizon_s},
        }


def heading_deg(bucket: int) -> int | None:
    """Returns the middle of a bucket's octant; None for what stood."""
    octant = int(bucket) & ((1 << OCTANT_BITS) - 1)
    return None if octant == STILL else 45 * octant


def _medians(values: NDArray[Any], group: I64) -> F64:
    """Returns the medians of groups of values [R]; `group` [R] rises from 0 on, and leaves no number out."""
    values = values[np.lexsort((values, group))]
    count = np.bincount(group)
    begin = np.cumsum(count) - count
    return np.asarray((values[begin + (count - 1) // 2].astype(np.float64) + values[begin + count // 2]) / 2)
