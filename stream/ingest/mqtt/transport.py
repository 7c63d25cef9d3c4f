"""Takes messages from the broker to the sink, and acknowledges each once Kafka has it.

While Kafka is away nothing is acknowledged. The broker then sends no more than `in_flight` messages, and keeps the
others in our session, as many as it is configured to (Mosquitto: max_queued_messages, 1,000 by default).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from paho.mqtt.client import topic_matches_sub

from stream.adapters.live.parsed import Parsed, Skip
from stream.ingest.mqtt.connection import SHARED, Connection
from stream.ingest.mqtt.connection import Message as MqttMessage
from stream.ingest.mqtt.settings import MqttSettings
from stream.ingest.publishing.delivering import Message, deliver
from stream.ingest.publishing.sink import Sink
from stream.ingest.source import Source

log: Final = logging.getLogger(__name__)

MOST: Final = 2_000  # messages that are read at a time: some 20 ms of work
DROPPED: Final = "dropped_qos_0"  # counts messages for which there was no room
OTHER_TOPIC: Final = "other_topic"  # of a session whose filters were others


async def run(settings: MqttSettings, sink: Sink, source: Source) -> None:
    """Runs until it is cancelled. Raises ConnectionError if no broker answers at the start, and Refused."""
    connection = await Connection.open(settings, source)
    filters = [_filter_of(one) for one in settings.filters]
    dropped = 0
    try:
        while True:
            messages = await connection.take(MOST)
            await deliver(sink, [_read_message(connection, settings, filters, one) for one in messages])
            if connection.dropped > dropped:
                log.warning(
                    "%d messages of QoS 0 were dropped: too many waited for Kafka", connection.dropped - dropped
                )
                sink.counts_of().skips[DROPPED] += connection.dropped - dropped
                dropped = connection.dropped
    finally:
        await connection.close()


def _read_message(connection: Connection, settings: MqttSettings, filters: Sequence[str], came: MqttMessage) -> Message:
    parsed: list[Parsed] = [Skip(OTHER_TOPIC)]
    if any(topic_matches_sub(one, came.topic) for one in filters):
        parsed = settings.read(came.payload, time.time_ns() // 1_000_000, came.topic)
    return Message(parsed, came.payload, f"mqtt:{came.topic}", partial(connection.acknowledge, came))


def _filter_of(topic_filter: str) -> str:
    """Returns the filter of a shared subscription, `$share/GROUP/FILTER`."""
    return topic_filter.split("/", 2)[-1] if topic_filter.startswith(SHARED) else topic_filter
