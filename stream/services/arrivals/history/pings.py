"""Pings as columns, of which the newest are kept, and the passages that are made of them."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrivals.passages import Passages

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
SLACK: Final = 2  # how many times the wanted pings may be in memory before those that are too old are left out


class Columns(NamedTuple):
    """N pings, in any order."""

    entity: I64  # [N] a number for each entity
    ts_ms: I64  # [N]
    lat_deg: F64  # [N]
    lon_deg: F64  # [N]


class Newest:
    """The newest of all pings that were added: `most` of them, and those of the same time as the oldest of these."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[Columns] = []
        self._held = 0

    def add(self, pings: Columns) -> None:
        self._parts.append(pings)
        self._held += len(pings.ts_ms)
        if self._held > SLACK * self._most:
            self._parts = [self._newest()]
            self._held = len(self._parts[0].ts_ms)

    def passages(self) -> Passages:
        """Returns the passages of all of them: a track for each entity, in the order of its times."""
        kept = self._newest()
        order = np.lexsort((kept.ts_ms, kept.entity))
        entity, ts_ms, lat_deg, lon_deg = (column[order] for column in kept)
        begins = np.diff(entity, prepend=-1) != 0
        # Rows of one time are one ping: a track's times rise strictly.
        single = begins | (np.diff(ts_ms, prepend=0) > 0)
        return Passages(ts_ms[single], lat_deg[single], lon_deg[single], begins[single], entity[single])

    def _newest(self) -> Columns:
        whole, real = np.zeros(0, np.int64), np.zeros(0, np.float64)
        parts = [Columns(whole, whole, real, real), *self._parts]
        columns = [np.concatenate(each) for each in zip(*parts, strict=True)]
        if len(columns[1]) <= self._most:
            return Columns(*columns)
        kept = columns[1] >= np.partition(columns[1], -self._most)[-self._most]
        return Columns(*(column[kept] for column in columns))
