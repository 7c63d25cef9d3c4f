"""What a real coordinator answers when a worker asks whether its assignment still holds (`stream.kafka.membership`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import bus_feed
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.consumer.group_coordinator import GroupCoordinator

from stream.kafka.log import Rebalanced
from stream.kafka.membership import confirm
from stream.wire import Topics

pytestmark = pytest.mark.promise("a worker takes partitions over only while the group confirms it")

SESSION_MS = 6_000  # the shortest that brokers allow
PATIENCE_S = 120.0


class Slow(ConsumerRebalanceListener):
    """Gives its partitions back only when it is told, as a worker that has still to write a checkpoint does."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def on_partitions_revoked(self, revoked: object) -> None:
        if revoked:
            self.is_asked.set()
            await self.may_go_on.wait()

    async def on_partitions_assigned(self, assigned: object) -> None: ...


@pytest.fixture
def topic(apache_kafka: str, topic_prefix: str) -> str:
    topics = Topics.of(topic_prefix)
    bus_feed.create_topics(apache_kafka, topics, partitions=2)
    return topics.pings


@asynccontextmanager
async def member(
    kafka: str, topic: str, listener: ConsumerRebalanceListener | None = None
) -> AsyncIterator[GroupCoordinator]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka,
        group_id=f"group-{topic}",
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=500,
        enable_auto_commit=False,
    )
    consumer.subscribe([topic], listener=listener)
    await consumer.start()
    try:
        yield consumer._coordinator
    finally:
        await consumer.stop()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - aiokafka has no event for it
            await asyncio.sleep(0.05)


def owned(coordinator: GroupCoordinator) -> set[int]:
    return {tp.partition for tp in coordinator._subscription.assigned_partitions()}


async def test_a_member_is_confirmed_and_its_last_generation_is_not(kafka: str, topic: str) -> None:
    async with member(kafka, topic) as one:
        await until(lambda: owned(one) == {0, 1})
        first = one.generation
        await confirm(one, first)
        async with member(kafka, topic) as other:
            await until(lambda: len(owned(one)) == len(owned(other)) == 1)
            await confirm(one, one.generation)
            await confirm(other, other.generation)
            with pytest.raises(Rebalanced, match=f"generation {first} .* is over"):
                await confirm(one, first)


async def test_who_is_about_to_give_its_partitions_back_is_not_confirmed(kafka: str, topic: str) -> None:
    slow = Slow()
    async with member(kafka, topic, slow) as one:
        await until(lambda: owned(one) == {0, 1})
        generation = one.generation
        async with asyncio.TaskGroup() as group:
            enter = group.create_task(_stay(kafka, topic, leave := asyncio.Event()))
            async with asyncio.timeout(PATIENCE_S):
                await slow.is_asked.wait()
            assert one.generation == generation, "aiokafka has not joined anew yet"
            with pytest.raises(Rebalanced, match="RebalanceInProgress"):
                await confirm(one, generation)
            slow.may_go_on.set()
            leave.set()
            await enter


async def _stay(kafka: str, topic: str, leave: asyncio.Event) -> None:
    async with member(kafka, topic) as other:
        await until(lambda: bool(owned(other)))
        await leave.wait()


async def test_a_zombie_that_has_heard_nothing_is_not_confirmed(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_is_sent() -> bool:
        return True

    async with member(kafka, topic) as zombie:
        await until(lambda: owned(zombie) == {0, 1})
        generation = zombie.generation
        monkeypatch.setattr(zombie, "_do_heartbeat", none_is_sent)  # as of a process that is stopped
        async with member(kafka, topic) as owner:
            await until(lambda: owned(owner) == {0, 1})
            assert (zombie.generation, owned(zombie)) == (generation, {0, 1}), "the zombie believes that it owns both"
            with pytest.raises(Rebalanced, match="UnknownMemberId"):
                await confirm(zombie, generation)
            await confirm(owner, owner.generation)
