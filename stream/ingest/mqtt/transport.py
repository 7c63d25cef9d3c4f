"""Takes messages from the broker to the sink, and acknowledges each once Kafka has it.

While Kafka is away nothing is acknowledged. The broker then sends no more than `in_flight` messages, and keeps the
others in our session, as many as it is configured to (Mosquitto: max_queued_messages, 1,000 by default).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

from paho.mqtt.client import topic_matches_sub

from stream.adapters.live.parsed import Parsed, Skip
from stream.ingest.mqtt.connection import SHARED, Connection, Message
from stream.ingest.mqtt.settings import MqttSettings
from stream.ingest.publishing.sink import Sink, Unavailable
from stream.ingest.source import Source

log: Final = logging.getLogger(__name__)

MOST: Final = 2_000  # messages that are read at a time: some 20 ms of work
DROPPED: Final = "dropped_qos_0"  # counts messages for which there was no room
OTHER_TOPIC: Final = "other_topic"  # of a session whose filters were others


async def run(settings: MqttSettings, sink: Sink, source: Source) -> None:
    """Runs until it is cancelled. Raises ConnectionError if no broker answers at the start, and Refused."""
    connection = await Connection.opened(settings, source)
    filters = [_unshared(one) for one in settings.filters]
    dropped = 0
    try:
        while True:
            messages = await connection.some(MOST)
            await _deliver(connection, sink, [(one, _parsed(settings, filters, one)) for one in messages])
            if connection.dropped > dropped:
                log.warning(
                    "%d messages of QoS 0 were dropped: too many waited for Kafka", connection.dropped - dropped
                )
                sink.taken_of().skips[DROPPED] += connection.dropped - dropped
                dropped = connection.dropped
    finally:
        await connection.close()


async def _deliver(connection: Connection, sink: Sink, messages: Sequence[tuple[Message, list[Parsed]]]) -> None:
    """Returns when all are acknowledged, however long Kafka is away."""
    while messages:
        taken = (sink.take(parsed, one.payload, f"mqtt:{one.topic}") for one, parsed in messages)
        left = []
        for pair, outcome in zip(messages, await asyncio.gather(*taken, return_exceptions=True), strict=True):
            if outcome is None:
                connection.acknowledge(pair[0])
            elif isinstance(outcome, Unavailable):
                left.append(pair)
            else:
                raise outcome
        messages = left
        if messages:
            await sink.wait_until_available()


def _parsed(settings: MqttSettings, filters: Sequence[str], message: Message) -> list[Parsed]:
    if not any(topic_matches_sub(one, message.topic) for one in filters):
        return [Skip(OTHER_TOPIC)]
    return settings.read(message.payload, time.time_ns() // 1_000_000, message.topic)


def _unshared(topic_filter: str) -> str:
    """Returns the filter of a shared subscription, `$share/GROUP/FILTER`."""
    return topic_filter.split("/", 2)[-1] if topic_filter.startswith(SHARED) else topic_filter
