"""Makes an atlas of a benchmark's own pings, and fills it up to the size of a large fleet's: so its entries are found,
and lie far apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.atlas.cells import LEVEL_SHIFT, ZOOMS
from model.atlas.published import Published
from model.atlas.version import dumps
from stream.adapters.files import Row
from stream.atlas.building import Rules, of_rows
from stream.bench.harness.workload import Sent

REACH: Final = 64  # 1/64 of the world, some 600 km
MORE: Final = 1.3  # of the keys that are missing are made at a time, as some are there already


def bytes_of(pings: Iterable[Sent], keys: int) -> bytes:
    """Returns the bytes of an atlas of these pings, with at least so many keys."""
    found, contains = of_rows(Row(one.entity_id.encode(), one.value, one.ts_ms) for one in pings).published(Rules())
    return dumps(filled(found, keys), contains)


def filled(found: Published, keys: int) -> Published:
    """Returns what was found and, around it, as many keys more as are missing to `keys`. Raises ValueError if nothing
    was found."""
    if not len(found):
        raise ValueError("no key was counted for enough entities: ask for more of them, or for more pings")
    rng, source = np.random.default_rng(0), np.arange(len(found))
    key, row = found.key, source
    while len(key) < keys:
        like = rng.choice(source, int(MORE * (keys - len(key))) + 1)
        key, first = np.unique(np.concatenate([key, _elsewhere(found.key[like], rng)]), return_index=True)
        row = np.concatenate([row, like])[first]
    spare = rng.permutation(np.flatnonzero(~np.isin(key, found.key)))[: len(key) - max(keys, len(found))]
    kept = np.delete(np.arange(len(key)), spare)
    at = found.at(row[kept])
    return Published(key[kept], at.n, at.off_cm, at.off_cm2)


def _elsewhere(key: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Returns keys of the same levels and motions, in other cells around."""
    tiles = 2 ** np.array(ZOOMS)[key >> LEVEL_SHIFT]
    moved = key & ~((1 << LEVEL_SHIFT) - 1) | key & 255
    for shift in (40, 20):
        reach = tiles // REACH // 2
        cell = (key >> shift & 2**20 - 1) + rng.integers(-reach, reach + 1)
        moved |= cell % tiles << shift
    return np.asarray(moved)
