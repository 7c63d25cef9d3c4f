"""Connects a reader with aiokafka's consumer: sets it up, finds partitions and where to begin, and ends it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.client.filter import Since
from stream.config.security import PLAIN_KAFKA, KafkaSecurity

AWAY: Final = (KafkaError, OSError, TimeoutError)  # Kafka is away, or partitions are moving
NEWS_S: Final = 30.0  # how soon new partitions are found while records come
STOP_S: Final = 5.0  # for leaving the group
IDLE_S: Final = 0.05  # between two fetches of a broker that answers at once where there is nothing, as the embedded one


@dataclass(frozen=True)
class TopicAddress:
    """The topic, and how to reach it."""

    bootstrap: str
    topic: str
    group: str | None = None
    security: KafkaSecurity = PLAIN_KAFKA


async def start_consumer(where: TopicAddress) -> AIOKafkaConsumer:
    """Returns a consumer of committed records that is started, without partitions. Raises KafkaError."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=where.bootstrap.split(","),
        **where.security.arguments(),
        client_id="pathcast-client",
        group_id=where.group,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="none",  # where a partition has no position, `Since` decides
        metadata_max_age_ms=int(1000 * NEWS_S),
    )
    try:
        await consumer.start()
    except BaseException:
        await stop(consumer)
        raise
    _rest_when_idle(consumer._fetcher)
    return consumer


def _rest_when_idle(fetcher: Any) -> None:
    ask = fetcher._proc_fetch_request

    async def fetch(assignment: Any, node: int, request: Any) -> bool:
        began_s = time.monotonic()
        brought: bool = await ask(assignment, node, request)
        if not brought and time.monotonic() - began_s < IDLE_S:
            with suppress(asyncio.CancelledError):  # as aiokafka does: the assignment is over, or the consumer closes
                await asyncio.sleep(IDLE_S)
        return brought

    fetcher._proc_fetch_request = fetch


async def find_partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """Returns the partitions of a topic, none if there is no such topic. No broker creates it for that question."""
    cluster = await consumer._client.fetch_all_metadata()  # aiokafka's `topics` does not tell the partitions
    return [TopicPartition(topic, number) for number in sorted(cluster.partitions_for_topic(topic) or ())]


async def find_starts(
    consumer: AIOKafkaConsumer, tps: Collection[TopicPartition], since: Since
) -> dict[TopicPartition, int]:
    """Returns the offsets at which partitions begin. Of a time, older records may follow: a broker looks up the first
    record that is as late, and producers may write any times."""
    if not tps:
        return {}
    begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    if since.time_ms is None:
        return dict(begins if since.beginning else ends)
    found = await consumer.offsets_for_times(dict.fromkeys(tps, max(0, since.time_ms)))
    unknown = [tp for tp in tps if found.get(tp) is None and begins[tp] < ends[tp]]
    # Either no record is so late, or this broker looks no times up. Then it knows none of time 0 either.
    first = await consumer.offsets_for_times(dict.fromkeys(unknown, 0)) if unknown else {}
    mute = {tp for tp in unknown if first.get(tp) is None}
    return {tp: begins[tp] if tp in mute else ends[tp] if found.get(tp) is None else found[tp].offset for tp in tps}


def position_of(consumer: AIOKafkaConsumer, tp: TopicPartition) -> int:
    """Returns the next offset that will be handed out, -1 if that is not known yet. aiokafka's own method would wait
    for it, also where it waits for us."""
    state = consumer._subscription.subscription.assignment.state_value(tp)
    return int(state.position) if state.has_valid_position else -1


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Leaves the group and ends the connections, if that takes no longer than STOP_S."""
    with suppress(*AWAY):
        async with asyncio.timeout(STOP_S):
            await consumer.stop()
