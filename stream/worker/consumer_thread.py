"""Defines the thread in which Faust runs aiokafka's consumer and its heartbeats, with our fetch settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import aiokafka
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.kafka import fetcher, pacing
from stream.kafka.patches import patch_aiokafka
from stream.kafka.reading import INPUT_ISOLATION

# How long the broker may hold a fetch that found nothing; it answers as soon as it has a record (`stream.kafka.pacing`
# gathers them). aiokafka keeps one fetch per broker in flight, and a partition that was drained after it was sent waits
# for it, so that Faust's fixed 1500 ms would be that partition's worst latency.
FETCH_MAX_WAIT_MS = 100


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread in which aiokafka's consumer and its heartbeats run."""

    logger = logging.getLogger("faust.transport.pathcast")  # Faust's lines stay under Faust's name

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        patch_aiokafka()
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # read when the consumer starts; Faust has no setting for it
        consumer._key_deserializer = fetcher.COLUMNS
        consumer._isolation_level = INPUT_ISOLATION  # Faust has one, but only together with its own exactly_once
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        pacing.Pace(self._ensure_consumer()._fetcher)

    async def getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109 - upstream's name
        """Polls in the consumer's thread. Faust's own goes through its queue of methods, whose workers wake four times
        for each."""
        consumer = self._ensure_consumer()
        most = consumer._max_poll_records
        work = self._fetch_records(consumer, active_partitions, timeout=timeout, max_records=most)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.thread_loop))

    async def seek_to_committed(self) -> Mapping[TP, int]:
        committed: Mapping[TP, int] = await self.call_thread(self._rewind)
        return committed

    async def _rewind(self) -> Mapping[TP, int]:
        """Seeks each partition to its committed offset, or to the start if it has none. aiokafka does not move the
        latter: they would stay after records that were polled in a rebalance and dropped, to be read again."""
        consumer = self._ensure_consumer()
        committed: Mapping[TP, int] = await consumer.seek_to_committed()
        for tp, offset in committed.items():
            if not offset and tp in consumer.assignment():
                consumer.seek(tp, 0)  # if the log begins later, aiokafka goes to its start, by auto_offset_reset
        return committed
