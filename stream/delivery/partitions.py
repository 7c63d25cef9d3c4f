"""What `delivery` asks of its input and its output, and what it keeps per partition. No behaviour here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from stream.kafka.encoded_batches import NONE, Answers
from stream.kafka.log import UNKNOWN, CommittedOffset, History, Log, Partition
from stream.kafka.record_columns import Records


class InputLog(Protocol):
    """The input topic, and what our group has committed of it. `stream.worker.faust_driver.Consumer` is one."""

    async def confirm_membership(self) -> None:
        """Ask the group whether our assignment is still the current one. It changes nothing.

        Raises:
            Rebalanced: it is not, or a rebalance is under way.
            KafkaError: the group did not answer.
        """

    async def commit_offsets(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        """Raises Rebalanced if they are not ours any more; returns only when they are committed."""

    async def committed(self, partition: Partition) -> CommittedOffset | None: ...

    async def describe_log(self, partition: Partition, leader_epoch: int) -> Log:
        """What the brokers say of its log now, to a reader of that leader epoch (-1: unknown). Raises KafkaError."""

    async def first_offset(self, partition: Partition) -> int:
        """The first offset that its log still has. Raises KafkaError."""

    def rejoin(self) -> None:
        """Begin again at the committed offsets of all our partitions, as after a rebalance. Returns at once."""

    def pause(self, partition: Partition) -> None:
        """Fetch no more of it, and forget what is fetched and not yet handed over, so that other partitions of its
        broker need not wait for it. What was handed over already may still come."""

    def resume(self, partition: Partition) -> None:
        """Go on behind the last record that was handed over."""

    def reread(self, partition: Partition, start: int, end: int) -> AsyncIterator[Records]:
        """What the log still holds of [start, end), in order, apart from what the group consumes."""


class Output(Protocol):
    """Where answers go. `stream.kafka.producer.Publisher` is one."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def publish(self, answers: Answers) -> None:
        """Returns when every record is durable; raises if one may not be."""


class Guarantee(Protocol):
    """How answers and input offsets become durable: AtLeastOnce or ExactlyOnce (`stream.delivery.guarantees`)."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def fence(self, partition: Partition) -> CommittedOffset | None:
        """Ask the group whether our assignment is still the current one. If it is, end the writing of earlier owners,
        and settle what they began. Returns what is committed then, which stands still.

        Raises:
            Rebalanced: the group has moved on; nobody is fenced.
            KafkaError, OSError: the brokers cannot be reached.
        """

    async def release(self, partition: Partition) -> None:
        """The partition is another's now."""

    async def publish(self, answers: Answers) -> None:
        """Returns when the answers are durable, where they may be so before their offsets. Batches come one after the
        other; the `commit` of one may follow the next one's answers.

        Raises KafkaError, OSError: what waiting does not cure.
        """

    async def commit(self, marks: Mapping[Partition, CommittedOffset], answers: Answers = NONE) -> set[Partition]:
        """Returns when the offsets of these partitions are durable, and with them the answers, if `publish` left them;
        but for the partitions it returns: their writer was fenced, and nothing of theirs is committed by this call.

        Raises:
            Rebalanced: the group has moved on; none of the offsets is committed.
            KafkaError, OSError: what waiting does not cure.
        """


@dataclass(eq=False)
class Owned:
    """A partition that the group has given us. Replaced, not reused, at the next assignment."""

    partition: Partition
    epoch: int = 0
    next_offset: int = 0  # the next record to process; all below are answered and committed
    taken: int = 0  # the next record for the engine: two batches may be folded and not yet committed
    saved: int = 0  # the next_offset of the last checkpoint
    history: History = UNKNOWN  # of the log below `taken`
    save_at_ms: float = 0.0  # no checkpoint before then
    ready: bool = False  # the takeover is complete
    waits: bool = False  # for the store, to read entities that are not in memory (`stream.delivery.cold_reads`)
    unread: bool = False  # it has entities that were taken for new, as the store could not be read: no checkpoint then
    paused: bool = False  # no more of it is fetched
    checkpoints_failed: int = 0  # in a row
    gone: bool = False  # revoked, or lost to another owner
    rebuilt_ms: float = float("-inf")  # when a takeover last rebuilt states that the store had lost
    failed_below: int = 0  # the engine failed in a batch that ended here: what is before is not taken lightly
    takeover: asyncio.Task[None] | None = None


@dataclass(eq=False)
class Poll:
    """The pieces of one poll, as one: they are retired together, when the last of them is."""

    left: int
    done: Callable[[], None] = field(repr=False)  # retires the input; it commits nothing

    def retire(self) -> None:
        """One of the pieces."""
        self.left -= 1
        if self.left == 0:
            self.done()


@dataclass(frozen=True)
class Piece:
    """One poll's records of one partition, waiting for their turn."""

    owned: Owned
    records: Records
    fetched_ms: float
    done: Callable[[], None] = field(repr=False)


class PartitionStatus(NamedTuple):
    """One owned partition, for people."""

    partition: Partition
    epoch: int
    ready: bool
    next_offset: int  # all below are answered and committed
    saved: int  # all below are in the checkpoint
    waiting: int  # records that are fetched, and not yet at the engine
    at_work: int  # records at the engine, or folded and not yet committed
    unread: int  # entities that were taken for new, as the store could not be read


class Status(NamedTuple):
    """How delivery is doing, for people."""

    partitions: Sequence[PartitionStatus]
    draining: bool
    away: str  # why Redis cannot be reached; empty while it can
    away_since_ms: float  # since when
    assigned: bool  # the group has spoken, were it to give us nothing
    batch_s: float  # how long a batch has been at the engine
