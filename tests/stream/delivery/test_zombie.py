"""A worker that has lost its partition and does not know it: it fences nobody, in Kafka or in Redis.

The group knows who is who by the generation. The fakes let a worker of an old generation do what a real broker lets it
do: it may commit no offset as a member, but it may start a producer, write in a transaction, and claim in Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from delivery_rig import P0, SETTINGS, FlakyStore, Kafka, Member, answer, feed, records, running, settle, until
from transactions_rig import Transactions, exactly_once

from model.api import Predictor
from stream.delivery.delivery import Delivery
from stream.delivery.guarantees import AtLeastOnce
from stream.delivery.partitions import InputLog
from stream.engine.engine import Engine

Start = Callable[[Transactions, FlakyStore, InputLog], Delivery]


def at_least_once(kafka: Kafka, store: FlakyStore, member: InputLog) -> Delivery:
    engine = Engine(Predictor.untrained(capacity=8), store, SETTINGS)
    return Delivery(SETTINGS, engine, store, AtLeastOnce(kafka, member), member)


both = pytest.mark.parametrize("start", [exactly_once, at_least_once])


def is_ready(delivery: Delivery) -> bool:
    return all(one.ready for one in delivery.status().partitions)


@both
async def test_a_zombie_never_fences_the_rightful_owner(start: Start) -> None:
    """Under exactly_once two such workers once fenced each other nine times each: the question whether the partition
    was theirs came after the fence, and in a transaction, which every worker may commit."""
    kafka, store = Transactions(), FlakyStore()
    zombie = start(kafka, store, Member(kafka))
    async with running(zombie, P0):
        await settle(zombie, kafka, store, records(0, 6))
        kafka.generation += 1
        owner = start(kafka, store, Member(kafka))
        async with running(owner, P0):
            await until(lambda: is_ready(owner))
            producers, epoch = list(kafka.made), store.checkpoint(P0).epoch
            for at in range(6, 60, 3):
                given_up = await feed(zombie, kafka, records(at, at + 3))
                answered = await feed(owner, kafka, records(at, at + 3))
                await until(lambda some=(given_up, answered): all(len(one) == 3 for one in some))
                await asyncio.sleep(0.01)  # for the pause of a zombie that was fenced
            assert (kafka.made, store.checkpoint(P0).epoch) == (producers, epoch)
            assert owner.accounts.fenced == 0
            assert not is_ready(zombie)
    wanted = list(range(60))
    assert (kafka.answered if start is exactly_once else sorted(set(kafka.answered))) == wanted


@both
async def test_an_assignment_that_is_applied_late_fences_nobody(start: Start) -> None:
    """A worker was stopped between the group's answer and its first look at it, for longer than its session."""
    kafka, store = Transactions(), FlakyStore()
    late = start(kafka, store, Member(kafka))
    kafka.generation += 1
    owner = start(kafka, store, Member(kafka))
    async with running(owner, P0):
        await answer(owner, kafka, records(0, 6))
        producers, epoch = list(kafka.made), store.checkpoint(P0).epoch
        async with running(late, P0):
            await until(lambda: late.ownership.owned[P0].gone)
            await answer(owner, kafka, records(6, 9))
        assert (kafka.made, store.checkpoint(P0).epoch) == (producers, epoch)
        assert owner.accounts.fenced == 0
    assert kafka.answered == list(range(9))


class Stopped(Member):
    """A worker that is stopped when the group has just confirmed it, and goes on when it is told."""

    def __init__(self, kafka: Kafka) -> None:
        super().__init__(kafka)
        self.is_stopped = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def confirm_membership(self) -> None:
        await super().confirm_membership()
        self.is_stopped.set()
        await self.goes_on.wait()


@both
async def test_who_is_stopped_between_proof_and_fence_fences_the_rightful_owner_once(start: Start) -> None:
    kafka, store = Transactions(), FlakyStore()
    member = Stopped(kafka)
    late = start(kafka, store, member)
    async with running(late, P0):
        await member.is_stopped.wait()
        kafka.generation += 1
        owner = start(kafka, store, Member(kafka))
        async with running(owner, P0):
            await settle(owner, kafka, store, records(0, 6))
            epoch = store.checkpoint(P0).epoch
            member.goes_on.set()
            await until(lambda: store.checkpoint(P0).epoch > epoch)
            for at in range(6, 60, 3):
                some = [await feed(worker, kafka, records(at, at + 3)) for worker in (late, owner)]
                await until(lambda some=some: all(len(one) == 3 for one in some))
                await asyncio.sleep(0.01)
            await until(lambda: late.ownership.owned[P0].gone)
            assert owner.accounts.fenced == 1
    assert (kafka.answered if start is exactly_once else sorted(set(kafka.answered))) == list(range(60))


class FencedAgain(FlakyStore):
    """Its claims are overtaken, and meanwhile the group moves on."""

    def __init__(self, kafka: Kafka) -> None:
        super().__init__()
        self._kafka = kafka

    async def forget(self, partition: tuple[str, int], epoch: int) -> None:
        await self.claim(partition)
        self._kafka.generation += 1
        await super().forget(partition, epoch)  # raises Fenced


@both
async def test_who_is_fenced_while_it_takes_over_asks_the_group_before_it_tries_again(start: Start) -> None:
    kafka = Transactions()
    store = FencedAgain(kafka)
    kafka.logs[P0] = records(0, 6)
    kafka.offsets[P0] = 3
    await store.put_many(P0, (await store.claim(P0)).epoch, 6, {})  # ahead of the committed offset: to be forgotten
    delivery = start(kafka, store, Member(kafka))
    async with running(delivery, P0):
        await until(lambda: delivery.ownership.owned[P0].gone)
    assert store.checkpoint(P0).epoch == 3, "its own claim, and that of whoever fenced it"
    assert len(kafka.made) == (start is exactly_once)
