"""Prepares a worker before it joins its consumer group: logs its settings, waits for the servers, creates topics.

    say_settings -> reach (Redis, Kafka) -> provide (topics) -> await_coordinator -> the worker joins -> notice_silence

The metrics port and the weights are checked earlier, and topics are created last: a worker that cannot start must not
leave topics. Kernels are compiled after that, as nobody should wait a minute to read that a server is away.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from stream.config.security import RedisSecurity, redis_refusal, shown, unknown_host
from stream.config.settings import Settings
from stream.kafka import admin
from stream.kafka.admin import TopicInfo

log = logging.getLogger(__name__)

CHECK_S: Final = 8.0  # a broker or store that has not answered by then counts as unreachable
RETRY_S: Final = 1.0  # between two tries
COORDINATOR_PAUSE_S: Final = 0.2
COORDINATOR_TRIES: Final = 50  # ten seconds; a new broker needs one second
SILENCE_S: Final = 30.0  # without a ping: long enough for a fleet that reports twice a minute


class NewTopics(NamedTuple):
    """Holds what to do about topics that are absent. None leaves a number to the broker's configuration."""

    allowed: bool = True  # False: do not create any, but name them and stop
    partitions: int | None = None
    replication: int | None = None


# -- what is logged ---------------------------------------------------------------------------------------------------


def say_settings(settings: Settings) -> None:
    """Logs the process and version, the servers and topics that it uses, and its delivery guarantee."""
    log.info("pathcast %s, Python %s, process %d", version("pathcast"), platform.python_version(), os.getpid())
    log.info(
        "Kafka %s (%s), group %s, topics %s.*, delivery %s",
        *(settings.bootstrap, settings.kafka.protocol, settings.group, settings.prefix, settings.delivery),
    )
    log.info("Redis %s, weights %s", shown(settings.redis_url), settings.weights)
    if settings.map is not None:
        log.info("records that are no pings of ours are read by the map %s", settings.map)
    if settings.atlases is not None:
        log.info("atlases of %s, as %s announces them", settings.atlases, settings.topics.models)


async def notice_silence(
    topic: str,
    pings: Callable[[], int],
    is_assigned: Callable[[], bool],
    *,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Logs one warning if no ping has come SILENCE_S after the group gave this worker partitions.

    `pings` returns how many have come so far. Returns when a ping has come or the warning is logged.
    """
    quiet_s = 0.0
    while not pings():
        if quiet_s >= SILENCE_S:
            log.warning(
                "no pings on %s for %.0f s: does anybody send them, and is --prefix right? "
                "(pathcast feed FILE publishes a recording)",
                *(topic, SILENCE_S),
            )
            return
        await pause(1.0)
        quiet_s = quiet_s + 1.0 if is_assigned() else 0.0


# -- servers ----------------------------------------------------------------------------------------------------------


async def reach(settings: Settings, wait_s: float) -> None:
    """Waits until Redis and Kafka answer, at most `wait_s` seconds for both.

    Raises ConnectionError, in one line that names the address, if one does not answer by then. Raises Refused at once
    if a server answers and denies access, because waiting does not help then.
    """
    deadline_s = time.monotonic() + wait_s
    redis, kafka = f"Redis at {shown(settings.redis_url)}", f"Kafka at {settings.bootstrap}"
    await _answered(redis, lambda: check_redis(settings.redis_url, settings.redis), deadline_s)
    await _answered(kafka, lambda: check_kafka(settings), deadline_s)


async def _answered(server: str, check: Callable[[], None], deadline_s: float) -> None:
    began_s, waiting = time.monotonic(), False
    while True:
        try:
            await asyncio.to_thread(check)
            break
        except ConnectionError as error:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise
            if not waiting:
                log.info("waiting up to %.0f s for %s: %s", left_s, server, error)
                waiting = True
            await asyncio.sleep(min(RETRY_S, left_s))
    if waiting:
        log.info("%s answers after %.0f s", server, time.monotonic() - began_s)


def check_kafka(settings: Settings) -> None:
    """Raises ConnectionError if no broker answers within CHECK_S, Refused if one answers and denies access."""
    with admin.connected(settings.bootstrap, settings.kafka, timeout_s=CHECK_S):
        pass


async def await_coordinator(settings: Settings) -> None:
    """Waits until the group has a coordinator, for COORDINATOR_TRIES pauses at most.

    A broker that never had a group creates the topic for groups when it is first asked. The consumer would wait for it,
    too, but would log an error. All other errors are left to the consumer, which reports them.
    """
    client = AIOKafkaClient(bootstrap_servers=settings.bootstrap.split(","), **settings.kafka.arguments())
    with suppress(KafkaError):
        try:
            await client.bootstrap()
            for _ in range(COORDINATOR_TRIES):
                if await _has_coordinator(client, settings.group):
                    return
                await asyncio.sleep(COORDINATOR_PAUSE_S)
        finally:
            await client.close()


async def _has_coordinator(client: Any, group: str) -> bool:
    try:
        await client.coordinator_lookup(CoordinationType.GROUP, group)
    except GroupCoordinatorNotAvailableError:
        return False
    return True


def check_redis(url: str, security: RedisSecurity) -> None:
    """Raises ConnectionError if no Redis answers within CHECK_S, Refused if one answers and denies access."""
    from redis import Redis, RedisError

    from stream.store.redis_client import warn_of_eviction

    access = security.arguments(url)
    try:
        with Redis.from_url(url, socket_connect_timeout=CHECK_S, socket_timeout=CHECK_S, **access) as client:
            client.ping()
            warn_of_eviction(client, url)
    except (RedisError, OSError, ValueError) as error:
        raise redis_refusal(url, error) or ConnectionError(_no_redis(url, error)) from error


def _no_redis(url: str, error: Exception) -> str:
    with suppress(ValueError):
        host = urlsplit(url).hostname
        if host and unknown_host(f"[{host}]" if ":" in host else host):
            return (
                f"unknown host {host} in {shown(url)}: is --redis (PATHCAST_REDIS) right, and does this machine know "
                "Redis by that name?"
            )
    return f"no Redis answers at {shown(url)} ({error}): is it running, and is --redis (PATHCAST_REDIS) right?"


# -- topics -----------------------------------------------------------------------------------------------------------


def provide(settings: Settings, new: NewTopics) -> None:
    """Creates the worker's absent topics, and logs in one line what was created.

    If none may be created, raises ValueError, which names the absent topics.
    """
    with admin.connected(settings.bootstrap, settings.kafka, timeout_s=CHECK_S) as client:
        if not new.allowed:
            names = [*settings.topics, *([settings.topics.models] if settings.asks_versions else [])]
            if missing := admin.absent(client, names):
                raise ValueError(
                    f"there is no topic {', '.join(missing)} at {settings.bootstrap}, and --no-create forbids to "
                    "create any: is --prefix (PATHCAST_PREFIX) right? (pathcast dev topics --create creates them)"
                )
            return
        given = {"partitions": new.partitions, "replication": new.replication}
        created = admin.create(client, settings.topics, **given)
        if settings.asks_versions:
            created += admin.create_models(client, settings.topics, replication=new.replication)
        if created:
            log.info("created %s", _described(created, [name for name, number in given.items() if number is None]))


def _described(created: Sequence[TopicInfo], by_default: Sequence[str]) -> str:
    """Returns a text of the topics with their numbers, and which of these numbers the broker chose."""
    alike: dict[tuple[int | None, int | None], list[str]] = {}
    for topic in created:
        alike.setdefault((topic.partitions, topic.replication), []).append(topic.name)
    listed = (
        f"{', '.join(names)} (partitions: {partitions}, replication: {replication})"
        for (partitions, replication), names in alike.items()
    )
    options = " and ".join(f"--{name}" for name in by_default)
    return "; ".join(listed) + (f"; without {options} the broker's defaults count" if options else "")
