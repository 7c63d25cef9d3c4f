"""Makes answers and offsets durable: at least once, or exactly once.

    at_least_once   Answers are flushed, then the offsets are committed. Meanwhile the next batch's answers are flushed,
                    because a broker may delay a commit (Apache Kafka 4 gathers commits for 5 ms). After a crash in
                    between, or with a zombie, answers are published again with the same ids; consumers may drop them.
    exactly_once    Answers and offset of a partition are in one transaction, whose transactional id belongs to the
                    partition: a new owner first fences the old one. It does not matter then whether an old owner is
                    still a member, so offsets need not carry the group's generation (aiokafka cannot send it). A worker
                    must be a member to fence another one, so it asks the group first (`ownership.takeover` says why). A
                    `read_committed` reader sees each answer once.

There is one transactional id per input partition, not per worker: with an id per worker nothing would stop a zombie
from writing for a partition that went to a worker with another id. This costs a transaction per partition and batch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Final, Protocol

from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced

from stream.config import failpoints
from stream.config.wording import place
from stream.delivery.partitions import InputLog, Output
from stream.kafka.log import CommittedOffset, Partition, Rebalanced
from stream.kafka.records.encoded_batches import NONE, Answers

log = logging.getLogger(__name__)

TRIES: Final = 5  # of one transaction that fails for an unknown reason, each with a new producer
# How long brokers may be unreachable before the worker ends: as long as a send waits for them under at_least_once.
PATIENCE_S: Final = 120.0
RETRY_S: Final = 0.5  # after the first try; it grows with each try
LONGEST_S: Final = 5.0
# aiokafka asserts its state transitions, and raises the second where a send meets a transaction that has just failed.
BY_STATE: Final = (AssertionError, IllegalOperation)
CLOSE_S: Final = 5.0  # limit for closing a failed producer, which may wait for a broker that it lost


class AtLeastOnce:
    """Flushes answers, then commits offsets."""

    def __init__(self, output: Output, input_log: InputLog) -> None:
        self._output = output
        self._input = input_log

    async def start(self) -> None:
        await self._output.start()

    async def close(self) -> None:
        await self._output.close()

    async def fence(self, partition: Partition) -> CommittedOffset | None:
        """Checks our membership; it fences nobody.

        A zombie's answers have the same ids as ours, and the group refuses its offsets. The caller is about to claim in
        Redis, however, and a zombie's claim there would end its owner's checkpoints.
        """
        await self._input.confirm_membership()
        return await self._input.committed(partition)

    async def release(self, partition: Partition) -> None:
        pass

    async def publish(self, answers: Answers) -> None:
        if answers:
            failpoints.reach("before_publish")
            await self._output.publish(answers)
            failpoints.reach("after_publish")

    async def commit(self, marks: Mapping[Partition, CommittedOffset], answers: Answers = NONE) -> set[Partition]:
        await self._input.commit_offsets(marks)
        return set()


class Transactor(Protocol):
    """A producer with a transactional id. `stream.kafka.producer.Publisher` is one."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def transact(self, answers: Answers, partition: Partition, mark: CommittedOffset, group: str) -> None: ...


class ExactlyOnce:
    """Commits answers and offset of each partition in a transaction of its own."""

    def __init__(self, group: str, input_log: InputLog, producer: Callable[[str], Transactor]) -> None:
        """Takes `producer`, which makes a producer with the given transactional id."""
        self._group = group
        self._input = input_log
        self._producer = producer
        self._producers: dict[Partition, Transactor] = {}
        self._stands: dict[Partition, CommittedOffset | None] = {}  # the committed offset, as far as we know

    async def start(self) -> None:
        """Does nothing: each partition gets its producer in `fence`."""

    async def close(self) -> None:
        for partition in list(self._producers):
            await self.release(partition)

    async def fence(self, partition: Partition) -> CommittedOffset | None:
        await self._input.confirm_membership()  # a zombie's producer would fence the owner's
        await self.release(partition)
        topic, number = partition
        producer = self._producer(f"{self._group}|{topic}|{number}")
        try:
            # This fences the old owner and returns when its transaction is settled: the committed offset is fixed from
            # here on.
            await producer.start()
        except BaseException:
            await _close(producer)
            raise
        self._producers[partition] = producer
        self._stands[partition] = await self._input.committed(partition)
        failpoints.reach("after_fence")
        return self._stands[partition]

    async def release(self, partition: Partition) -> None:
        producer = self._producers.pop(partition, None)
        if producer is not None:
            await _close(producer)

    async def publish(self, answers: Answers) -> None:
        """Does nothing: `commit` publishes the answers."""

    async def commit(self, marks: Mapping[Partition, CommittedOffset], answers: Answers = NONE) -> set[Partition]:
        work = [self._transact(partition, mark, answers.of({partition})) for partition, mark in marks.items()]
        outcomes = await asyncio.gather(*work, return_exceptions=True)  # all have ended, even if one raises
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return {partition for partition, committed in zip(marks, outcomes, strict=True) if not committed}

    async def _transact(self, partition: Partition, mark: CommittedOffset, answers: Answers) -> bool:
        """Returns whether the transaction is committed.

        If it is not, another producer has taken the partition's id, or the partition was released.
        """
        if partition not in self._producers:
            return False  # it was released meanwhile
        before, in_doubt = self._stands[partition], False
        began_s = time.monotonic()
        for attempt in count(1):
            try:
                if in_doubt:
                    # A new producer with our id commits or aborts the old transaction.
                    stands = await self.fence(partition)
                    if stands == mark:
                        return True
                    if stands != before:
                        return False  # it is neither our offset nor the one before: another worker committed
                    in_doubt = False
                await self._producers[partition].transact(answers, partition, mark, self._group)
            except (ProducerFenced, Rebalanced):  # another worker has the partition, or will get it
                return False
            except (KafkaError, OSError, *BY_STATE) as error:
                away = isinstance(error, OSError) or (isinstance(error, KafkaError) and error.retriable)
                if (attempt >= TRIES and not away) or time.monotonic() - began_s > PATIENCE_S:
                    raise
                log.warning("a transaction of %s failed (%r): asking what became of it", place(partition), error)
                in_doubt = True
                await asyncio.sleep(min(attempt * RETRY_S, LONGEST_S))
            else:
                self._stands[partition] = mark
                return True
        raise AssertionError("it is tried until it is known")


async def _close(producer: Transactor) -> None:
    """Closes a producer. One that failed may raise, which is ignored: it is not used again."""
    with suppress(KafkaError, OSError, TimeoutError, *BY_STATE):
        async with asyncio.timeout(CLOSE_S):
            await producer.close()
