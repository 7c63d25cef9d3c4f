"""Makes an atlas of a benchmark's own pings, and fills it up to the size of a large fleet's: so its passages are found,
and lie far apart.

Shapes: K buckets, P passages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.atlas.buckets import COLUMN, OCTANT_BITS, ZOOM, Keys
from model.atlas.passages import Passages
from model.atlas.published import Published
from model.atlas.version import dumps
from model.atlas.ways import I64, PASSAGE
from stream.adapters.files import RecordedRow
from stream.atlas.building import of_rows
from stream.bench.harness.workload import Sent

REACH: Final = (1 << ZOOM) // 128  # cells, some 300 km
_TILES: Final = 1 << ZOOM


def bytes_of(pings: Iterable[Sent], passages: int) -> bytes:
    """Returns the bytes of an atlas of these pings, with at least so many passages. All are believed alike."""
    made = of_rows(RecordedRow(one.entity_id.encode(), one.value, one.ts_ms) for one in pings).published()
    return dumps(filled(made.passages, passages), made.belief, made.contains)


def filled(found: Published, passages: int) -> Published:
    """Returns what was found and, in cells around, copies of it, until there are at least so many passages. Raises
    ValueError if nothing was found."""
    if not len(found.known):
        raise ValueError("no way was gone by enough entities: ask for more of them, or for more pings")
    rng, size = np.random.default_rng(0), np.diff(found.stop, prepend=0)
    bucket, like = found.bucket, np.arange(len(found.bucket))
    while (missing := passages - int(size[like].sum())) > 0:
        more = rng.integers(0, len(size), 1 + missing * len(size) // len(found.known))
        bucket, first = np.unique(np.concatenate([bucket, _elsewhere(found.bucket[more], rng)]), return_index=True)
        like = np.concatenate([like, more])[first]
    return _copies(found, bucket, like)


def _elsewhere(bucket: Keys, rng: np.random.Generator) -> Keys:
    """Returns buckets [K] of the same octants in other cells around."""
    for begin in (COLUMN, OCTANT_BITS):
        here = _coordinate(bucket, begin)
        there = (here + rng.integers(-REACH, REACH + 1, len(bucket))) % _TILES
        bucket = bucket + (there - here << begin)
    return bucket


def _coordinate(bucket: Keys, begin: int) -> Keys:
    """Returns the columns (from the bit COLUMN on) or the rows (from OCTANT_BITS on) of the cells of buckets [K]."""
    return bucket >> begin & _TILES - 1


def _copies(found: Published, bucket: Keys, like: I64) -> Published:
    """Returns buckets [K] with the passages of the buckets that they are like [K], moved there."""
    size = np.diff(found.stop, prepend=0)[like]
    row = np.repeat(found.stop[like] - np.cumsum(size), size) + np.arange(size.sum())
    right, down = (
        np.repeat(_coordinate(bucket, begin) - _coordinate(found.bucket[like], begin), size)
        for begin in (COLUMN, OCTANT_BITS)
    )
    rows = np.zeros(len(row), PASSAGE)
    rows["bucket"] = np.repeat(bucket, size)
    for name in ("in_m", "velocity", "on", "known"):
        rows[name] = getattr(found, name)[row]
    rows["lat_e7"], rows["lon_e7"] = _moved(found.lat_e7[row], found.lon_e7[row], right, down)
    return Published.of(Passages(rows), found.mark[row])


def _moved(lat_e7: NDArray[Any], lon_e7: NDArray[Any], right: I64, down: I64) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns places [P] moved by so many cells of the Web Mercator map [P]: where they were in their cells."""
    up = np.arcsinh(np.tan(np.radians(lat_e7 / 1e7))) - down * (2 * np.pi / _TILES)
    lon = (lon_e7 / 1e7 + right * (360.0 / _TILES) + 180.0) % 360.0 - 180.0
    return np.rint(1e7 * np.degrees(np.arctan(np.sinh(up)))), np.rint(1e7 * lon)
