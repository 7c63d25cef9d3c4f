"""The servers of a member: Kafka, as a member of the group, and Redis."""

from __future__ import annotations

from typing import Final

from aiokafka import AIOKafkaConsumer
from redis.exceptions import RedisError

from stream.atlas.counting.settings import RunSettings
from stream.config.security import shown
from stream.kafka import admin, fetcher
from stream.kafka.log import INPUT_ISOLATION
from stream.kafka.patches import patch_aiokafka
from stream.store.sums_store import SumsStore

SESSION_S: Final = 10.0  # how soon the group notices that a member is dead


def consumer_of(settings: RunSettings) -> AIOKafkaConsumer:
    """Returns the consumer of a member, which is not started."""
    patch_aiokafka()
    return AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap.split(","),
        **settings.kafka.arguments(),
        group_id=settings.group,
        enable_auto_commit=False,
        isolation_level=INPUT_ISOLATION,
        key_deserializer=fetcher.COLUMNS,
        auto_offset_reset="earliest",
        session_timeout_ms=int(SESSION_S * 1000),
        metadata_max_age_ms=10_000,  # how soon new partitions are found
    )


async def reach(store: SumsStore, settings: RunSettings) -> None:
    """Raises ConnectionError if Redis does not answer, Refused if it refuses."""
    try:
        await store.held((settings.topics.pings, 0))
    except (RedisError, OSError) as error:
        where = shown(settings.redis_url)
        raise ConnectionError(f"no Redis answers at {where} ({error}): is it up, is --redis right?") from error


def partitions_of(settings: RunSettings) -> int:
    """Returns how many partitions the pings have. Raises as `admin.connected` and `admin.partitions_of`."""
    with admin.connected(settings.bootstrap, settings.kafka) as client:
        return admin.partitions_of(client, settings.topics.pings)
