"""The interfaces that `delivery` needs for its input and its output, and what it keeps for each partition.

It holds data and has no behaviour.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from stream.kafka.log import UNKNOWN, CommittedOffset, History, Log, Partition
from stream.kafka.records.encoded_batches import NONE, Answers
from stream.kafka.records.record_columns import Records

AT_ONCE: Final = float("-inf")


class InputLog(Protocol):
    """The input topic and our group's committed offsets. `stream.worker.faust_driver.Consumer` is one."""

    async def confirm_membership(self) -> None:
        """Asks the group whether our assignment is still the current one. It changes nothing.

        Raises:
            Rebalanced: it is not, or a rebalance is under way.
            KafkaError: the group did not answer.
        """

    async def commit_offsets(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        """Returns only when the offsets are committed. Raises Rebalanced if the partitions are not ours any more."""

    async def committed(self, partition: Partition) -> CommittedOffset | None: ...

    async def describe_log(self, partition: Partition, leader_epoch: int) -> Log:
        """Returns what the brokers report of the partition's log now, for a reader of that leader epoch (-1: unknown).

        Raises KafkaError.
        """

    async def first_offset(self, partition: Partition) -> int:
        """Returns the first offset that the partition's log still has. Raises KafkaError."""

    def rejoin(self) -> None:
        """Begins again at the committed offsets of all our partitions, as after a rebalance. Returns at once."""

    def pause(self, partition: Partition) -> None:
        """Stops fetching the partition, and drops what is fetched and not yet handed over, so that the other partitions
        of its broker need not wait for it. Records that were handed over already may still come."""

    def resume(self, partition: Partition) -> None:
        """Continues fetching after the last record that was handed over."""

    def reread(self, partition: Partition, start: int, end: int) -> AsyncIterator[Records]:
        """Yields what the log still holds of [start, end), in order. It does not change what the group consumes."""


class Output(Protocol):
    """Publishes answers. `stream.kafka.producer.Publisher` is one."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def publish(self, answers: Answers) -> None:
        """Returns when every record is durable; raises if one may not be."""


class Guarantee(Protocol):
    """Makes answers and input offsets durable: AtLeastOnce or ExactlyOnce (`stream.delivery.guarantees`)."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def fence(self, partition: Partition) -> CommittedOffset | None:
        """Asks the group whether our assignment is still the current one. If it is, fences earlier owners and settles
        their open transactions. Returns the committed offset, which they cannot move any more.

        Raises:
            Rebalanced: the group has moved on; nobody is fenced.
            KafkaError, OSError: the brokers cannot be reached.
        """

    async def release(self, partition: Partition) -> None:
        """Gives the partition up: it belongs to another worker now."""

    async def publish(self, answers: Answers) -> None:
        """Returns when the answers are durable, if they may be durable before their offsets.

        Batches come one after the other; the `commit` of one may follow the answers of the next.

        Raises KafkaError or OSError if waiting does not help.
        """

    async def commit(self, marks: Mapping[Partition, CommittedOffset], answers: Answers = NONE) -> set[Partition]:
        """Returns when the offsets of these partitions are durable, and with them the answers, if `publish` left them.

        It returns the partitions whose writer was fenced: this call commits nothing for them.

        Raises:
            Rebalanced: the group has moved on; none of the offsets is committed.
            KafkaError, OSError: waiting does not help.
        """


@dataclass(eq=False)
class Owned:
    """A partition that the group has assigned to us. The next assignment makes a new object."""

    partition: Partition
    epoch: int = 0
    next_offset: int = 0  # the next offset to process; all records below are answered and committed
    taken: int = 0  # the next offset for the engine: two batches may be folded and not yet committed
    saved: int = 0  # the next_offset of the last checkpoint
    history: History = UNKNOWN  # of the log below `taken`
    save_at_ms: float = 0.0  # no checkpoint before this time; AT_ONCE if it has to hold what was just folded
    ready: bool = False  # the takeover is complete
    began_ms: float = float("inf")  # its first takeover, before anything was fetched
    unproven: bool = False  # what was fetched may be of a topic before the one that the takeover found
    waits: bool = False  # for stored states of entities that are not in memory (`stream.delivery.cold_reads`)
    undecided: bool = False  # it waits for a version of the atlas (`stream.delivery.waiting_pings`)
    unread: bool = False  # it has entities treated as new because the store could not be read: no checkpoint then
    paused: bool = False  # the consumer does not fetch it
    checkpoints_failed: int = 0  # in a row
    gone: bool = False  # revoked, or lost to another owner
    ended: tuple[int, int] = (-1, 0)  # a leader that the takeover knew and that leads no more: its epoch and log end
    heard_ms: float = float("-inf")  # when its last records were fetched that follow the others
    rebuilt_ms: float = float("-inf")  # when a takeover last rebuilt states that the store had lost
    failed_below: int = 0  # the engine raised in a batch that ended here: records below are processed carefully
    takeover: asyncio.Task[None] | None = None


@dataclass(eq=False)
class Poll:
    """Retires a poll once the last of its pieces is retired."""

    left: int
    done: Callable[[], None] = field(repr=False)  # retires the poll's message; it commits nothing

    def retire(self) -> None:
        """Retires one of the pieces."""
        self.left -= 1
        if self.left == 0:
            self.done()


@dataclass(frozen=True)
class Piece:
    """One poll's records of one partition."""

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
    waiting: int  # records that are fetched, and not yet in the engine
    at_work: int  # records in the engine, or folded and not yet committed
    unread: int  # entities treated as new because the store could not be read
    undecided: bool  # it waits for a version of the atlas


class Status(NamedTuple):
    """States how delivery is doing, for people."""

    partitions: Sequence[PartitionStatus]
    draining: bool
    away: str  # why Redis cannot be reached; empty while it can
    assigned: bool  # the group has made an assignment, even an empty one
    batch_s: float  # how long a batch has been in the engine
