"""What a batch and its rounds consist of. Knows tracks, slots and records; calls neither the model nor the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import api
from model.api import Moment
from stream.residents import Entity, Shard, Slots, windows
from stream.store import Partition
from stream.track import FIX_BYTES, Accepted, Gap, Late, Track
from stream.tracks import packed
from stream.wire import Outgoing, Ping, Record, Reject

PARTITION_OF: Final = attrgetter("topic", "partition")


@dataclass(eq=False)
class Batch:
    """One call of `process`: its input, its clocks, and its answers by record."""

    records: Sequence[Record]
    parsed: Sequence[Ping | Reject]
    shards: Mapping[Partition, Shard]
    started_ms: float
    fetched_ms: float
    silent: bool
    moments: list[Moment] = field(default_factory=list)  # of the slots in `fills`, in that order
    fills: list[Asked] = field(default_factory=list)
    shard_of: list[Shard] = field(init=False)  # of each record
    out: list[list[Outgoing]] = field(init=False)

    def __post_init__(self) -> None:
        self.out = [[] for _ in self.records]
        self.shard_of = []
        for partition, run in groupby(self.records, PARTITION_OF):  # they come in runs
            self.shard_of += [self.shards[partition]] * len(list(run))

    def part(self, rows: Sequence[int]) -> Batch:
        """These of its records, in order, as a batch of their own."""
        records, parsed = [self.records[row] for row in rows], [self.parsed[row] for row in rows]
        return Batch(records, parsed, self.shards, self.started_ms, self.fetched_ms, self.silent)

    def take(self, rows: Sequence[int], part: Batch) -> None:
        """The answers to these rows are those of the part."""
        for row, answers in zip(rows, part.out, strict=True):
            self.out[row] = answers


@dataclass(eq=False)
class Round:
    """At most one ping of each entity, in rows."""

    index: list[int] = field(default_factory=list)  # of a row's record in the batch
    slot: list[int] = field(default_factory=list)
    slots: Slots = field(init=False)
    fixes: NDArray[Any] = field(init=False)  # FIX
    offsets: NDArray[np.int64] = field(init=False)

    def close(self, batch: Batch) -> None:
        """All rows are in: make the columns of them."""
        self.slots = np.array(self.slot, np.int64)
        self.fixes = packed(batch.parsed[index] for index in self.index)  # type: ignore[misc]  # only pings are in rounds
        self.offsets = np.array([batch.records[index].offset for index in self.index], np.int64)


@dataclass(frozen=True, eq=False)
class Turn:
    """A ping that was not plain, but changed its entity's track: the track right after it, and the verdict."""

    row: int  # in its round
    index: int  # of its record in the batch
    entity: Entity
    shard: Shard
    track: Track
    verdict: Accepted | Late

    @property
    def seen(self) -> bytes:
        """The window as this ping knew it: up to itself."""
        if isinstance(self.verdict, Late):
            return self.track.window[: (self.verdict.position + 1) * FIX_BYTES]
        return self.track.window

    @property
    def late(self) -> bool:
        return isinstance(self.verdict, Late)

    @property
    def restart(self) -> bool:
        return isinstance(self.verdict, Accepted) and self.verdict.restart


class Asked(NamedTuple):
    """A gap that a ping has closed or made final."""

    turn: Turn
    gap: Gap
    status: Literal["provisional", "final"]


def rows_of(turns: Sequence[Turn]) -> NDArray[np.int64]:
    return np.array([turn.row for turn in turns], np.int64)


def slots_of(turns: Sequence[Turn]) -> Slots:
    return np.array([turn.entity.slot for turn in turns], np.int64)


def ceilings(batch: Batch, partition: Partition) -> dict[str, int]:
    """The first offset of each entity in the batch: no stored record can include it."""
    first: dict[str, int] = {}
    shard = batch.shards[partition]
    for record, ping, of in zip(batch.records, batch.parsed, batch.shard_of, strict=True):
        if of is shard and isinstance(ping, Ping):
            first.setdefault(ping.entity_id, record.offset)
    return first


def model_gap(gap: Gap) -> api.Gap:
    return api.Gap(windows(gap.before), windows(gap.after), np.array(gap.times_ms, dtype=np.int64))
