"""The input topic as a log to read back. Knows aiokafka's positions; knows no group and no state."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.kafka import fetcher
from stream.kafka.patches import patch_aiokafka
from stream.kafka.record_columns import Records

Partition = tuple[str, int]  # topic, number
Isolation = Literal["read_uncommitted", "read_committed"]
# Feeders may write in transactions (`pathcast dlq replay` does): what they took back never was a ping.
INPUT_ISOLATION: Final = "read_committed"

NO_ACCESS: Mapping[str, Any] = {}  # to brokers that ask for none
EPOCH: Final = "epoch="
STALL_S = 60.0  # no record and no progress for so long while some must come: the broker is not well
REPLAY_CHUNK = 2_000  # records a time: some 2 MB, and short enough that other partitions get their turn


class History(NamedTuple):
    """What a commit tells of the log that it was made on, so that a later owner recognises another log by it."""

    topic_id: str = ""  # of the topic; a topic that is made anew gets another. Empty: unknown
    leader_epoch: int = -1  # of a record at or behind the last that was answered; -1: unknown
    lost: int = 0  # records that retention deleted before they were answered, in all
    cut: int = -1  # the lowest offset to which the log was ever shortened while it was answered; -1: it never was


UNKNOWN: Final = History()
_DEFAULTS: Final = UNKNOWN._asdict()


class CommittedOffset(NamedTuple):
    """What a group commits for a partition: the next offset to read, and as its metadata the owner's epoch and the
    history of the log: `epoch=3;topic_id=5f0e;leader_epoch=2`.

    The epoch is there so that it survives a Redis that lost its own (`stream.store.base`).
    """

    offset: int
    epoch: int = 0
    history: History = UNKNOWN

    @property
    def metadata(self) -> str:
        told = (pair for pair in zip(History._fields, self.history, strict=True) if pair[1] != _DEFAULTS[pair[0]])
        return ";".join([f"{EPOCH}{self.epoch}", *(f"{name}={value}" for name, value in told)])

    @classmethod
    def of(cls, offset: int, metadata: str) -> CommittedOffset:
        """Epoch 0 where the metadata is not ours: an operator has moved the group, or an earlier version committed.
        What else it does not tell, or tells in no way that we know, is unknown."""
        told = dict(pair.split("=", 1) for pair in metadata.split(";") if "=" in pair)
        history = History(told.get("topic_id", ""), *(_number(told, name) for name in History._fields[1:]))
        return cls(offset, max(0, _number(told, EPOCH.removesuffix("="), 0)), history)


def _number(told: Mapping[str, str], name: str, default: int | None = None) -> int:
    value = told.get(name, "")
    return int(value) if value.isdecimal() else int(_DEFAULTS[name] if default is None else default)


class Bounds(NamedTuple):
    """The offsets that a partition's log still has: begin <= offset < end."""

    begin: int
    end: int


class Log(NamedTuple):
    """What the brokers say of a partition's log, to somebody who has read it up to some leader epoch.

    Kafka counts the leaders of a partition by epochs, and each record has that of its leader. Where the records of an
    epoch end tells what a later leader did not have (KIP-101, KIP-320).
    """

    begin: int
    end: int
    topic_id: str = ""  # empty: these brokers have none
    kept: int | None = None  # below this offset it has what any reader of that epoch was given; None: unknown
    kept_epoch: int = -1  # of the record before `kept`


@asynccontextmanager
async def _reader(
    bootstrap: Sequence[str], access: Mapping[str, Any], isolation: Isolation
) -> AsyncIterator[AIOKafkaConsumer]:
    patch_aiokafka()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(bootstrap),
        **access,
        enable_auto_commit=False,
        isolation_level=isolation,
        key_deserializer=fetcher.COLUMNS,
        auto_offset_reset="earliest",  # records that retention has deleted meanwhile cannot be replayed
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def reread(
    bootstrap: Sequence[str],
    partition: Partition,
    start: int,
    end: int,
    *,
    access: Mapping[str, Any] = NO_ACCESS,
    isolation: Isolation = INPUT_ISOLATION,
) -> AsyncGenerator[Records]:
    """The records of [start, end) that still exist, in order, in chunks. Joins no group, commits nothing.

    `access` is what else aiokafka needs to get in (`stream.config.security`).

    Raises:
        RuntimeError: the broker hands out nothing more before `end`.
    """
    if start >= end:
        return  # aiokafka's `stop` raises CancelledError in a consumer that never came to fetch
    tp = TopicPartition(*partition)
    async with _reader(bootstrap, access, isolation) as consumer:
        consumer.assign([tp])
        consumer.seek(tp, start)
        moved_at = time.monotonic()
        # The position, not the last record's offset: offsets without a record (markers, compaction) end a log, too.
        while (position := await consumer.position(tp)) < end:
            polled = await consumer.getmany(tp, timeout_ms=500, max_records=REPLAY_CHUNK)
            if tp in polled and (records := polled[tp].before(end)):
                yield records
            if await consumer.position(tp) > position:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > STALL_S:
                raise RuntimeError(f"cannot read {partition} back from {position} to {end}: no record for {STALL_S} s")


class Rebalanced(Exception):
    """The group has moved on: these offsets are another member's to commit."""
