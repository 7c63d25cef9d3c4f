"""Atlases made of a few pings, and choices among them that a test states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
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
    return atlas_bytes(*built.published(Rules(min_entities=1)))


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
