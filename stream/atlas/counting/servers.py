"""The servers of a member: Kafka, as a member of the group, and Redis."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer
from redis.exceptions import RedisError

from stream.atlas.counting.settings import RunSettings
from stream.config.security import shown
from stream.kafka.group_consumer import group_consumer
from stream.store.days_store import DaysStore


def consumer_of(settings: RunSettings) -> AIOKafkaConsumer:
    """Returns the consumer of a member, which is not started."""
    return group_consumer(settings.bootstrap, settings.kafka, settings.group)


async def reach(store: DaysStore, settings: RunSettings) -> None:
    """Raises ConnectionError if Redis does not answer, Refused if it refuses."""
    try:
        await store.held((settings.topics.pings, 0))
    except (RedisError, OSError) as error:
        where = shown(settings.redis_url)
        raise ConnectionError(f"no Redis answers at {where} ({error}): is it up, is --redis right?") from error
