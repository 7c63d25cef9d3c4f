"""How answers and offsets become durable: at least once, or exactly once. Knows the order of the two writes, and what
an error leaves unknown; knows nothing of states.

    at_least_once   answers flushed, then the offsets committed, and meanwhile the next batch's answers flushed: a
                    broker may take its time over a commit (Apache Kafka 4 gathers them for 5 ms). A crash in between,
                    or a zombie, publishes answers again with the same ids; consumers may drop them.
    exactly_once    answers and offset of a partition in one transaction, under an id that belongs to the partition:
                    a new owner's first act ends the old one's writing. Whether an old owner is still a member does
                    not matter then, and so offsets need not carry the group's generation (aiokafka cannot send it).
                    Who ends another must be a member, so it asks the group first (`stream.delivery.takeover` says why).
                    A `read_committed` reader sees each answer once.

One transactional id per input partition, not per worker: with an id per worker nothing would stop a zombie from writing
for a partition that went to a worker of another id. It costs a transaction per partition and batch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Final, Protocol

from aiokafka.errors import KafkaError, ProducerFenced

from stream.config import failpoints
from stream.delivery.partitions import InputLog, Output
from stream.kafka.encoded_batches import NONE, Answers
from stream.kafka.log import CommittedOffset, Partition, Rebalanced

log = logging.getLogger(__name__)

TRIES: Final = 5  # of one transaction that fails for no known reason, each by a new producer
# How long brokers may be away before the worker ends: as long as a send waits for them under at_least_once.
PATIENCE_S: Final = 120.0
RETRY_S: Final = 0.5  # after the first try; a little longer after each
LONGEST_S: Final = 5.0
CLOSE_S: Final = 5.0  # for a producer that failed, and may wait for a broker that it lost


class AtLeastOnce:
    """Answers flushed, then offsets."""

    def __init__(self, output: Output, input_log: InputLog) -> None:
        self._output = output
        self._input = input_log

    async def start(self) -> None:
        await self._output.start()

    async def close(self) -> None:
        await self._output.close()

    async def fence(self, partition: Partition) -> CommittedOffset | None:
        """Ends nobody: a zombie's answers have the ids of ours, and the group refuses its offsets. But who asks this is
        about to claim in Redis, and a zombie's claim there would end its owner's checkpoints."""
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
    """Answers and offset of each partition in one transaction of its own."""

    def __init__(self, group: str, input_log: InputLog, producer: Callable[[str], Transactor]) -> None:
        """`producer` makes one of that transactional id."""
        self._group = group
        self._input = input_log
        self._producer = producer
        self._producers: dict[Partition, Transactor] = {}
        self._stands: dict[Partition, CommittedOffset | None] = {}  # what is committed, as far as we know

    async def start(self) -> None:
        """Nothing: producers come with the partitions."""

    async def close(self) -> None:
        for partition in list(self._producers):
            await self.release(partition)

    async def fence(self, partition: Partition) -> CommittedOffset | None:
        await self._input.confirm_membership()  # a zombie's producer would end its owner's
        await self.release(partition)
        topic, number = partition
        producer = self._producer(f"{self._group}|{topic}|{number}")
        try:
            # Ends the old owner, and returns when its transaction is settled: what is committed stands still from here.
            await producer.start()
        except BaseException:
            await _closed(producer)
            raise
        self._producers[partition] = producer
        self._stands[partition] = await self._input.committed(partition)
        failpoints.reach("after_fence")
        return self._stands[partition]

    async def release(self, partition: Partition) -> None:
        producer = self._producers.pop(partition, None)
        if producer is not None:
            await _closed(producer)

    async def publish(self, answers: Answers) -> None:
        """Nothing: `commit` does it."""

    async def commit(self, marks: Mapping[Partition, CommittedOffset], answers: Answers = NONE) -> set[Partition]:
        work = [self._transact(partition, mark, answers.of({partition})) for partition, mark in marks.items()]
        outcomes = await asyncio.gather(*work, return_exceptions=True)  # all have ended, whatever one of them raises
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return {partition for partition, committed in zip(marks, outcomes, strict=True) if not committed}

    async def _transact(self, partition: Partition, mark: CommittedOffset, answers: Answers) -> bool:
        """Whether it is committed; if not, another producer has taken the partition's id."""
        if partition not in self._producers:
            return False  # released meanwhile
        before, in_doubt = self._stands[partition], False
        began_s = time.monotonic()
        for attempt in count(1):
            try:
                if in_doubt:
                    stands = await self.fence(partition)  # a new producer of our id ends what was begun, either way
                    if stands == mark:
                        return True
                    if stands != before:
                        return False  # neither ours nor what it was: somebody else is at work
                    in_doubt = False
                await self._producers[partition].transact(answers, partition, mark, self._group)
            except (ProducerFenced, Rebalanced):  # somebody has the partition now, or it is about to be given away
                return False
            except (KafkaError, OSError, AssertionError) as error:  # aiokafka asserts that its states follow each other
                away = isinstance(error, OSError) or (isinstance(error, KafkaError) and error.retriable)
                if (attempt >= TRIES and not away) or time.monotonic() - began_s > PATIENCE_S:
                    raise
                log.warning("a transaction of %s failed (%r): asking what became of it", partition, error)
                in_doubt = True
                await asyncio.sleep(min(attempt * RETRY_S, LONGEST_S))
            else:
                self._stands[partition] = mark
                return True
        raise AssertionError("it is tried until it is known")


async def _closed(producer: Transactor) -> None:
    """Close it; one that failed may not be able to, and is of no more use either way."""
    with suppress(KafkaError, OSError, TimeoutError, AssertionError):
        async with asyncio.timeout(CLOSE_S):
            await producer.close()
