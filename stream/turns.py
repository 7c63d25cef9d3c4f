"""One ping's part in a batch, and what the model and the answers need to know of it. Knows tracks and slots; calls
neither the model nor the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model import api
from model.api import FIX
from stream.render import Answered
from stream.residents import Entity, Shard, windows
from stream.store import Partition
from stream.track import FIX_BYTES, Accepted, Gap, Late, Track, first_ts_ms, last_fix
from stream.wire import Outgoing, Ping, Record, Reject, Window


@dataclass(frozen=True, eq=False)
class Turn:
    """One ping's part in a round: the entity's track right after it, and the verdict that put it there."""

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


@dataclass(eq=False)
class Batch:
    """One call of `process`: its input, its clocks, and its answers by record."""

    records: Sequence[Record]
    parsed: Sequence[Ping | Reject]
    shards: Mapping[Partition, Shard]
    started_ms: float
    fetched_ms: float
    silent: bool
    out: list[list[Outgoing]] = field(init=False)

    def __post_init__(self) -> None:
        self.out = [[] for _ in self.records]


def answered(record: Record, turn: Turn) -> Answered:
    seen = turn.seen
    anchor = last_fix(seen)
    window = Window(len(seen) // FIX_BYTES, first_ts_ms(seen), anchor.ts_ms)
    return Answered(record, turn.entity.id, anchor, window, turn.late, "rebuilt" if turn.late else turn.entity.cache)


def ceilings(batch: Batch, partition: Partition) -> dict[str, int]:
    """The first offset of each entity in the batch: no stored record can include it."""
    first: dict[str, int] = {}
    for record, ping in zip(batch.records, batch.parsed, strict=True):
        if isinstance(ping, Ping) and (record.topic, record.partition) == partition:
            first.setdefault(ping.entity_id, record.offset)
    return first


def slots(turns: Sequence[Turn]) -> NDArray[np.int64]:
    return np.array([turn.entity.slot for turn in turns], dtype=np.int64)


def fixes(turns: Sequence[Turn]) -> NDArray[Any]:
    """The newest fix of each turn's window, as FIX records."""
    return np.frombuffer(b"".join(turn.track.window[-FIX_BYTES:] for turn in turns), FIX)


def model_gap(gap: Gap) -> api.Gap:
    return api.Gap(windows(gap.before), windows(gap.after), np.array(gap.times_ms, dtype=np.int64))
