"""Sends records and knows when the broker has them. Knows aiokafka's producer; knows nothing of offsets or state."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from stream.wire import Outgoing

LINGER_MS = 2  # a batch is sent in one go, so that lingering longer gathers nothing more
BATCH_BYTES = 256 * 1024  # per partition: what one input batch of 512 makes, about 300 KB, in one or two requests
MAX_REQUEST_BYTES = 4 * 1024 * 1024
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
            max_request_size=MAX_REQUEST_BYTES,
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
        send = self._producer.send
        pending = [
            await send(record.topic, record.value, key=record.key, headers=list(record.headers)) for record in outgoing
        ]
        for outcome in await asyncio.gather(*pending, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
