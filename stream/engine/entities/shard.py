"""The entities of one partition that are in memory, as the table and all who ask it name them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.engine.counts import Counts
from stream.engine.entities.quarantine import Quarantine
from stream.store.base import Partition

Slots = NDArray[np.int64]


class Entity(NamedTuple):
    """One entity in memory, as a short-lived handle. Its track and its state are in the columns, at its slot."""

    id: str
    slot: int


@dataclass(eq=False)
class Shard:
    """The entities of one partition."""

    partition: Partition
    number: int  # unique among all shards that this process ever had
    counts: Counts
    entities: dict[str, int] = field(default_factory=dict)  # entity id to slot
    quarantine: dict[str, Quarantine] = field(default_factory=dict)  # quarantined entities; they have no slot
    unwritten: set[str] = field(default_factory=set)  # quarantined entities that are in no checkpoint yet
    stored: int = 0  # how many entities the store has, as it last reported
    new: set[str] = field(default_factory=set)  # entities in memory that the store does not have yet
    lost: set[str] = field(default_factory=set)  # entities whose states the store has lost; they still count as known
    refused: set[str] = field(default_factory=set)  # new entities of this batch that exceed the quota
    unread: set[str] = field(default_factory=set)  # entities treated as new because the store could not be read
    forgotten: dict[str, int] = field(default_factory=dict)  # entities that were forgotten, and the last such offset
    unremoved: set[str] = field(default_factory=set)  # those of them that the store may still have


def slots_of(entities: Iterable[Entity]) -> Slots:
    return np.fromiter((entity.slot for entity in entities), np.int64)


@contextmanager
def all_counted_or_none(shards: Iterable[Shard]) -> Iterator[None]:
    """Restores the counts if the block raises, because its records will come again."""
    before = [(shard.counts, dict(vars(shard.counts))) for shard in shards]
    try:
        yield
    except BaseException:
        for counts, then in before:
            vars(counts).update(then)
        raise
