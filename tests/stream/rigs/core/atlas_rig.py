"""Atlases made of a few pings, and choices among them that a test states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from engine_rig import M_PER_DEG, T0, steady
from msgspec.structs import replace
from numpy.typing import NDArray

from model.api import Atlas
from model.atlas.version import dumps as atlas_bytes
from stream.atlas.building import Builder, Rules
from stream.kafka.records.record_columns import Records
from stream.wire import Ping, Record, dumps


def version_of(pings: Iterable[Ping]) -> bytes:
    """The bytes of the atlas of these pings, with all that one entity shows."""
    builder = Builder()
    records = [Record("", 0, place, -1, one.entity_id.encode(), dumps(one)) for place, one in enumerate(pings)]
    builder.add(Records.of(records))
    built = builder.built()
    return atlas_bytes(*built.publishable(Rules(min_entities=1)))


def forked(fork_s: float = 300.0, pings: int = 250) -> bytes:
    """The bytes of an atlas of four entities that go north as those of `engine_rig` do, until two of them turn east."""
    fleet = []
    for name in "abcd":
        for one in steady(name, pings):
            beyond_m = 8 * max((one.ts - T0) / 1000 - fork_s, 0) * (name in "cd")
            lat, lon = one.lat - beyond_m / M_PER_DEG, one.lon + beyond_m / M_PER_DEG
            fleet.append(replace(one, lat=lat, lon=lon))
    return version_of(fleet)


@dataclass(frozen=True)
class Stated:
    """From each of `starts` on, in every partition, the pings ask the atlas of that place; None is none."""

    starts: Sequence[int]
    asked: Sequence[Atlas | None]
    late_from: int = 1 << 40
    atlases: Sequence[Atlas] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "atlases", [one for one in self.asked if one is not None])

    def of(self, number: int, offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        places = np.searchsorted(self.starts, offsets, side="right") - 1
        index = {id(one): place for place, one in enumerate(self.atlases)}
        which = [-1 if place < 0 else index.get(id(self.asked[place]), -1) for place in places.tolist()]
        return np.array(which, np.int64), offsets >= self.late_from
