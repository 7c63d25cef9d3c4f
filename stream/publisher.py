"""Sends records and knows when the broker has them. Knows aiokafka's producer; knows nothing of offsets or state."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer

from stream.wire import MAX_DEAD_LETTER_BYTES, Outgoing

LINGER_MS = 2  # a batch is sent in one go, so that lingering longer gathers nothing more
BATCH_BYTES = 256 * 1024  # per partition: what one input batch of 512 makes, about 300 KB, in one or two requests
# How long a send may wait for a broker that is away before it fails, and the worker with it. A restart would wait for
# the same broker, so this only bounds how long a stuck connection can hide.
REQUEST_TIMEOUT_MS = 120_000


class Publisher:
    """An idempotent producer with acks from all in-sync replicas.

    Not compressed: aiokafka offers only gzip without further packages, and gzip at 30 MB/s and core would cost more
    than the model does.
    """

    def __init__(self, bootstrap: str) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap.split(","),
            acks="all",
            enable_idempotence=True,  # a retry after a lost answer neither doubles nor reorders
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_DEAD_LETTER_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )

    async def start(self) -> None:
        await self._producer.start()

    async def close(self) -> None:
        await self._producer.stop()

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Send all; return when the broker has acknowledged every one.

        Raises:
            KafkaError: at least one was not acknowledged; which of the others were is unknown.
        """
        pending = [await self._send(record) for record in outgoing]
        for outcome in await asyncio.gather(*pending, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _send(self, record: Outgoing) -> asyncio.Future[Any]:
        """Hand one record to the producer; the future is its acknowledgement."""
        if record.key is None and record.value is None:
            return await self._send_bare(record)
        sent: asyncio.Future[Any] = await self._producer.send(
            record.topic, record.value, key=record.key, headers=list(record.headers)
        )
        return sent

    async def _send_bare(self, record: Outgoing) -> asyncio.Future[Any]:
        """A dead letter of neither key nor value, which aiokafka's `send` refuses and Kafka does not."""
        batch = self._producer.create_batch()
        batch.append(key=None, value=None, timestamp=None, headers=list(record.headers))
        partitions = sorted(await self._producer.partitions_for(record.topic))
        partition = partitions[record.src.partition % len(partitions)]
        sent: asyncio.Future[Any] = await self._producer.send_batch(batch, record.topic, partition=partition)
        return sent
