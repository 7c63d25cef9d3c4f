"""Sends answers to Kafka, in transactions or without, and waits until the broker has acknowledged them.

An answer goes to the partition with the number of its input's partition. So topics that have as many partitions as the
input are partitioned like it, whatever partitioner the feeder used: an entity's answers are in one partition, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import OffsetAndMetadata

from stream.config import failpoints
from stream.config.security import PLAIN_KAFKA, KafkaSecurity, check_access
from stream.config.settings import Compression
from stream.kafka.log import CommittedOffset, Partition
from stream.kafka.patches import patch_aiokafka
from stream.kafka.records.encoded_batches import BATCH_BYTES, Answers
from stream.wire import MAX_DEAD_LETTER_BYTES, Outgoing

# How long a send may wait for a broker that does not answer before it fails, and the worker with it. A restart would
# wait for the same broker, so this only limits how long a stuck connection can go unnoticed.
REQUEST_TIMEOUT_MS = 120_000
# How long a start may take. aiokafka looks for the coordinator, and asks it for the producer's id, again and again
# without an end and without a word. A new producer has new connections, and its owner logs that the last one failed.
START_S = 60.0
_CODECS = {
    Compression.NONE: 0,
    Compression.SNAPPY: DefaultRecordBatch.CODEC_SNAPPY,
    Compression.ZSTD: DefaultRecordBatch.CODEC_ZSTD,
}


def retrieve_end(producer: AIOKafkaProducer) -> None:
    """Retrieves how the transaction that has begun ends. aiokafka sets an error in this future, too, and asyncio would
    complain that nobody retrieved it."""
    producer._txn_manager.wait_for_transaction_end().add_done_callback(asyncio.Future.exception)


class Publisher:
    """An idempotent producer with acks from all in-sync replicas.

    An encoded batch is sent as it is; the other records are put into the producer's batches here. Both are sent with
    `send_batch`: aiokafka's `send` makes a future per record and hashes each key, which took five times as long.

    A batch is compressed when it is sent: it is full at BATCH_BYTES of uncompressed records.
    """

    def __init__(
        self,
        bootstrap: str,
        transactional_id: str | None = None,
        *,
        security: KafkaSecurity = PLAIN_KAFKA,
        compression: Compression = Compression.NONE,
    ) -> None:
        """With a `transactional_id`, `start` fences every other producer of that id, and ends its transaction."""
        self._bootstrap = bootstrap
        self._security = security
        self._kind = {"compression": _CODECS[compression], "transactional": transactional_id is not None}
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap.split(","),
            **security.arguments(),
            acks="all",
            transactional_id=transactional_id,
            enable_idempotence=True,  # a retry after a lost answer neither doubles nor reorders
            compression_type=None if compression is Compression.NONE else compression.value,
            linger_ms=0,  # records that are sent together are in one batch already
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_DEAD_LETTER_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )

    async def start(self) -> None:
        """Connects. Raises Refused if a broker denies access, KafkaError for all else. After either, it must be
        closed."""
        patch_aiokafka()
        try:
            async with asyncio.timeout(START_S):
                await self._producer.start()
        except TimeoutError as error:
            raise RequestTimedOutError(f"no producer's id after {START_S:g} s") from error
        except KafkaConnectionError:  # aiokafka raises it whatever the brokers answered
            await asyncio.to_thread(check_access, self._bootstrap, self._security)
            raise
        except KafkaError as error:
            # aiokafka 0.14 packs whatever its look for the coordinator meets into a KafkaError that is never retriable,
            # even a connection that broke: whoever takes a partition over would end instead of trying again.
            if isinstance(cause := error.__cause__, KafkaError) and cause.retriable:
                error.__cause__ = None  # else each would be the reason of the other
                raise cause from None
            raise

    async def close(self) -> None:
        await self._producer.stop()

    async def transact(self, answers: Answers, partition: Partition, committed: CommittedOffset, group: str) -> None:
        """Publishes the answers and commits the group's offset of `partition`, in one transaction. Raises as
        `transact_all`."""
        mark = OffsetAndMetadata(committed.offset, committed.metadata)
        await self.transact_all(answers, {partition: mark}, group)

    async def transact_all(self, answers: Answers, marks: Mapping[Partition, OffsetAndMetadata], group: str) -> None:
        """Publishes the answers and commits the group's offsets of several partitions, in one transaction.

        Raises:
            ProducerFenced: another producer has taken our id, or the coordinator has ended our transaction for its age.
            KafkaError: it is unknown whether the transaction is committed; this producer cannot be used any more.
        """
        await self._producer.begin_transaction()
        retrieve_end(self._producer)
        failpoints.reach("before_publish")
        await self.publish(answers)
        failpoints.reach("after_publish")
        offsets = {TopicPartition(*partition): mark for partition, mark in marks.items()}
        await self._producer.send_offsets_to_transaction(offsets, group)
        failpoints.reach("before_end")
        await self._producer.commit_transaction()

    async def publish(self, answers: Answers) -> None:
        """Sends all answers and returns when the broker has acknowledged every one.

        Raises:
            KafkaError: at least one was not acknowledged; it is unknown which of the others were.
        """
        acknowledged: list[asyncio.Future[Any]] = []
        try:
            for topic, number, batch in self._batches(answers):
                partition = number % len(await self._producer.partitions_for(topic))
                # This waits until the previous batch is being sent; it need not have arrived.
                acknowledged.append(await self._producer.send_batch(batch, topic, partition=partition))
        finally:  # nothing is in flight any more when this returns, also after an error
            outcomes = await asyncio.gather(*acknowledged, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _batches(self, answers: Answers) -> Iterator[tuple[str, int, BatchBuilder]]:
        """Yields batches, each with its topic and the number of the partition that it answers."""
        for encoded in answers.pages:
            yield encoded.topic, encoded.source[1], encoded.batch(**self._kind)
        parts: dict[tuple[str, int], list[Outgoing]] = {}
        for _, one in answers.others:
            parts.setdefault((one.topic, one.src.partition), []).append(one)
        for (topic, number), records in parts.items():
            batch = self._producer.create_batch()
            for record in records:
                what = {"key": record.key, "value": record.value, "headers": list(record.headers)}
                # None means that the batch is full; an empty batch accepts any record, however large.
                while batch.append(timestamp=None, **what) is None:
                    yield topic, number, batch
                    batch = self._producer.create_batch()
            yield topic, number, batch
