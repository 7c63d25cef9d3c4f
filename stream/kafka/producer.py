"""Sends records and knows when the broker has them. Knows aiokafka's producer; knows nothing of groups or state.

A record goes to the partition that its input came from, so that topics of as many partitions as the input are
partitioned alike, whatever partitioner the feeder used: an entity's answers lie in one partition, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import OffsetAndMetadata

from stream.config import failpoints
from stream.config.security import PLAIN_KAFKA, KafkaSecurity, check_access
from stream.config.settings import Compression
from stream.kafka.encoded_batches import BATCH_BYTES, Answers
from stream.kafka.log import CommittedOffset, Partition
from stream.kafka.patches import patch_aiokafka
from stream.wire import MAX_DEAD_LETTER_BYTES, Outgoing

# How long a send may wait for a broker that is away before it fails, and the worker with it. A restart would wait for
# the same broker, so this only bounds how long a stuck connection can hide.
REQUEST_TIMEOUT_MS = 120_000
_CODECS = {
    Compression.NONE: 0,
    Compression.SNAPPY: DefaultRecordBatch.CODEC_SNAPPY,
    Compression.ZSTD: DefaultRecordBatch.CODEC_ZSTD,
}


class Publisher:
    """An idempotent producer with acks from all in-sync replicas.

    A page is a batch as it is; the other records are put into the producer's batches here. Both are sent by the batch:
    its `send` makes a future per record and hashes each key, which took five times as long as that.

    A batch is compressed when it is sent: it is full at BATCH_BYTES of records, however small it becomes.
    """

    def __init__(
        self,
        bootstrap: str,
        transactional_id: str | None = None,
        *,
        security: KafkaSecurity = PLAIN_KAFKA,
        compression: Compression = Compression.NONE,
    ) -> None:
        """With a `transactional_id`, `start` ends every other producer of that id, and settles its transaction."""
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
            linger_ms=0,  # what is to be sent together is in one batch already
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_DEAD_LETTER_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )

    async def start(self) -> None:
        """Raises Refused if a broker will not have us, KafkaError for all else."""
        patch_aiokafka()
        try:
            await self._producer.start()
        except KafkaConnectionError:  # which is all that aiokafka says, whatever the brokers said
            await asyncio.to_thread(check_access, self._bootstrap, self._security)
            raise

    async def close(self) -> None:
        await self._producer.stop()

    async def transact(self, answers: Answers, partition: Partition, mark: CommittedOffset, group: str) -> None:
        """The answers, and the group's offset of `partition`, in one transaction.

        Raises:
            ProducerFenced: another producer has taken our id, or the coordinator has ended our transaction for its age.
            KafkaError: whether it is committed is unknown; this producer is of no more use.
        """
        await self._producer.begin_transaction()
        # aiokafka tells an error here, too, and asyncio would complain that nobody has looked at it.
        self._producer._txn_manager.wait_for_transaction_end().add_done_callback(asyncio.Future.exception)
        failpoints.reach("before_publish")
        await self.publish(answers)
        failpoints.reach("after_publish")
        offsets = {TopicPartition(*partition): OffsetAndMetadata(mark.offset, mark.metadata)}
        await self._producer.send_offsets_to_transaction(offsets, group)
        failpoints.reach("before_end")
        await self._producer.commit_transaction()

    async def publish(self, answers: Answers) -> None:
        """Send all; return when the broker has acknowledged every one.

        Raises:
            KafkaError: at least one was not acknowledged; which of the others were is unknown.
        """
        acknowledged: list[asyncio.Future[Any]] = []
        try:
            for topic, number, batch in self._batches(answers):
                partition = number % len(await self._producer.partitions_for(topic))
                # Waits until the batch before it is on its way; it need not have arrived.
                acknowledged.append(await self._producer.send_batch(batch, topic, partition=partition))
        finally:  # nothing is in flight any more when this returns, whatever it says
            outcomes = await asyncio.gather(*acknowledged, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _batches(self, answers: Answers) -> Iterator[tuple[str, int, BatchBuilder]]:
        """With the topic of each, and the number of the partition that it answers."""
        for page in answers.pages:
            yield page.topic, page.source[1], page.batch(**self._kind)
        parts: dict[tuple[str, int], list[Outgoing]] = {}
        for _, one in answers.others:
            parts.setdefault((one.topic, one.src.partition), []).append(one)
        for (topic, number), records in parts.items():
            batch = self._producer.create_batch()
            for record in records:
                what = {"key": record.key, "value": record.value, "headers": list(record.headers)}
                # None says that the batch is full; an empty one takes any record, however large.
                while batch.append(timestamp=None, **what) is None:
                    yield topic, number, batch
                    batch = self._producer.create_batch()
            yield topic, number, batch
