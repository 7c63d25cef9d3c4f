"""Defines the thread in which Faust runs aiokafka's consumer and its heartbeats, with our fetch settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import aiokafka
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.kafka import fetcher
from stream.kafka.log import INPUT_ISOLATION
from stream.kafka.patches import patch_aiokafka

# How long the broker may hold a fetch that found less than FETCH_MIN_BYTES. aiokafka keeps one fetch per broker in
# flight, and a partition that was just drained waits for it. Faust's fixed 1500 ms would be the worst latency of a
# quiet partition, and its 1 byte would mean a poll per ping, where a poll costs as much as some thirty pings. So pings
# collect in the broker for 10 ms of the 50 ms budget, unless there are some hundred of them; an idle worker makes 100
# requests a second.
FETCH_MAX_WAIT_MS = 10
FETCH_MIN_BYTES = 32 * 1024


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread in which aiokafka's consumer and its heartbeats run."""

    logger = logging.getLogger("faust.transport.pathcast")  # Faust's lines stay under Faust's name

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        patch_aiokafka()
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # read when the consumer starts; Faust has no setting for
        consumer._fetch_min_bytes = FETCH_MIN_BYTES  # either
        consumer._key_deserializer = fetcher.COLUMNS
        consumer._isolation_level = INPUT_ISOLATION  # Faust has one, but only together with its own exactly_once
        return consumer

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
