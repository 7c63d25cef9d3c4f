"""Which versions each ping of a batch asks: of the atlas, and of the weights. The engine is told: `stream.versions`
decides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.api import Approach, Atlas, Guide, Predictor
from stream.kafka.records.columns import I64
from stream.kafka.records.record_columns import Records
from stream.wire import AtlasRef

U32 = NDArray[np.uint32]


class AtlasChoice(Protocol):
    """The versions of the atlas at one moment. It never changes, so that any thread may use it."""

    @property
    def atlases(self) -> Sequence[Atlas]:
        """The versions that pings may ask."""

    def of(self, number: int, offsets: I64) -> tuple[I64, NDArray[np.bool_]]:
        """Returns for pings [N] of the partition of this number the index of each one's atlas, or -1 for none; and for
        which of them another version may be due, as nobody could wait to know it."""


class WeightsChoice(Protocol):
    """The versions of the weights at one moment. It never changes, so that any thread may use it."""

    @property
    def networks(self) -> Sequence[Predictor]:
        """The networks that pings may ask now or soon. Others can be let go."""

    def settle(self, number: int, first: int, last: int) -> int | None:
        """Returns the index of the network that all pings of the partition of this number ask from offset `first` to
        `last`, whoever sent them, and which is the due one; None if there is no such."""

    def of(self, number: int, offsets: I64, places: U32) -> tuple[I64, NDArray[np.bool_]]:
        """Returns for pings [N] of the partition of this number, whose entities have these places (`places_of`), the
        index of each one's network; and for which of them another may be due, as nobody could wait to know it."""


class VersionChoice(NamedTuple):
    """What the pings of a batch ask."""

    atlas: AtlasChoice | None = None  # None: no atlas is asked, and no answer speaks of one
    weights: WeightsChoice | None = None  # None: one network answers all


NOTHING: Final = VersionChoice()


def places_of(entity_ids: Sequence[str]) -> U32:
    """Returns where entities [N] are in the order in which they move to other weights: evenly spread over uint32."""
    digests = b"".join(
        blake2b(entity_id.encode(), digest_size=4, person=b"weights").digest() for entity_id in entity_ids
    )
    return np.frombuffer(digests, "<u4").astype(np.uint32)


@dataclass(frozen=True)
class NoAtlas:
    """A choice for pings that no topic has."""

    atlases: Sequence[Atlas] = ()

    def of(self, number: int, offsets: I64) -> tuple[I64, NDArray[np.bool_]]:
        return np.full(len(offsets), -1), np.zeros(len(offsets), np.bool_)


class RequestedVersions(NamedTuple):
    """What N records ask."""

    atlases: Sequence[Atlas]
    which: I64  # N: an index of `atlases`, or -1 for none
    late: NDArray[np.bool_]  # N

    @classmethod
    def of(cls, records: Records, choice: AtlasChoice) -> RequestedVersions:
        which, late = np.empty(len(records), np.int64), np.empty(len(records), np.bool_)
        for index, (_, number) in enumerate(records.partitions):
            rows = np.flatnonzero(records.which == index)
            if len(rows):
                which[rows], late[rows] = choice.of(number, records.offsets[rows])
        return cls(choice.atlases, which, late)

    @classmethod
    def join(cls, parts: Sequence[RequestedVersions]) -> RequestedVersions:
        """Returns what all parts of a batch ask, in this order."""
        which, late = (np.concatenate(columns) for columns in zip(*(part[1:] for part in parts), strict=True))
        return cls(parts[0].atlases, which, late)

    def at(self, rows: I64) -> RequestedVersions:
        return RequestedVersions(self.atlases, self.which[rows], self.late[rows])

    def guide(self, approach: Approach) -> Guide:
        """Returns what the model is told of pings that came so."""
        return Guide(self.atlases, self.which, approach)

    def refs(self, pings: Sequence[int]) -> list[AtlasRef]:
        """Returns how answers [N] that rest on so many pings name what they asked."""
        versions = [*(atlas.version for atlas in self.atlases), None]  # the index of none is -1
        which, late = self.which.tolist(), self.late.tolist()
        return [AtlasRef(versions[one], *rest) for one, *rest in zip(which, pings, late, strict=True)]


class Networks(NamedTuple):
    """The networks that N records ask. Records that are no pings ask the first."""

    networks: Sequence[Predictor]
    which: I64  # N: an index of `networks`
    late: NDArray[np.bool_]  # N

    @classmethod
    def of(cls, records: Records, names: Sequence[str], entity: I64, choice: WeightsChoice) -> Networks:
        """Takes the names of the entities, and whose each record is [N]: an index of `names`, or -1 for nobody's."""
        which, late = np.zeros(len(records), np.int64), np.zeros(len(records), np.bool_)
        places: U32 | None = None  # which cost some 50 us per hundred entities
        for index, (_, number) in enumerate(records.partitions):
            rows = np.flatnonzero((records.which == index) & (entity >= 0))
            if not len(rows):
                continue
            offsets = records.offsets[rows]
            if (alone := choice.settle(number, int(offsets.min()), int(offsets.max()))) is not None:
                which[rows] = alone
                continue
            places = places_of(names) if places is None else places
            which[rows], late[rows] = choice.of(number, offsets, places[entity[rows]])
        return cls(choice.networks, which, late)

    def turns(self, entity: I64) -> list[I64] | None:
        """Returns the rows by turn, where an entity's networks change between its pings: all before its first change
        are in the first turn, and so on. None if no entity's change, which is nearly always so."""
        if (self.which == self.which[:1]).all():
            return None
        order = np.argsort(entity, kind="stable")
        change = (entity[order][1:] == entity[order][:-1]) & (self.which[order][1:] != self.which[order][:-1])
        if not (change & (entity[order][1:] >= 0)).any():
            return None
        begins = np.append(True, entity[order][1:] != entity[order][:-1])
        changes = np.append(0, np.cumsum(change))
        of_first = np.repeat(changes[begins], np.diff(np.append(np.flatnonzero(begins), len(order))))
        turn = np.empty(len(order), np.int64)
        turn[order] = np.where(entity[order] < 0, 0, changes - of_first)
        return [np.flatnonzero(turn == one) for one in range(int(turn.max()) + 1)]
