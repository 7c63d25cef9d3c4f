"""exactly_once when its transactions fail: what became of them is asked, never guessed.

The coordinator is one in memory: it keeps one producer per transactional id, and commits or loses what it is told to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
from aiokafka.errors import (
    IllegalOperation,
    KafkaConnectionError,
    KafkaError,
    ProducerFenced,
    TopicAuthorizationFailedError,
)
from delivery_rig import Kafka
from engine_rig import one_by_one

from stream.delivery import guarantees
from stream.delivery.guarantees import ExactlyOnce
from stream.kafka.log import CommittedOffset, Partition, Rebalanced
from stream.kafka.records.encoded_batches import Answers
from stream.wire import Outgoing, Record

P0, P1 = ("pings", 0), ("pings", 1)
Fate = Callable[["Coordinator", Partition, CommittedOffset, Answers], None]


class Coordinator(Kafka):
    """Kafka, as far as transactions go: the newest producer of an id, what is committed, and what is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.newest: dict[str, Producer] = {}
        self.marks: dict[Partition, CommittedOffset] = {}
        self.seen: list[bytes] = []
        self.fates: list[Fate] = []  # of the next transactions; then all succeed
        self.away = 0  # of the next producers cannot start
        self.generation_is_over = False
        self.held: dict[Partition, asyncio.Event] = {}  # their transactions wait

    def producer(self, transactional_id: str) -> Producer:
        return Producer(self, transactional_id)

    def commit(self, partition: Partition, mark: CommittedOffset, answers: Answers) -> None:
        self.marks[partition] = mark
        self.seen += [answer.value or b"" for answer in answers]

    async def confirm_membership(self) -> None:
        if self.generation_is_over:
            raise Rebalanced("the session expired")

    async def commit_offsets(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        raise AssertionError("an offset outside a transaction")

    async def committed(self, partition: Partition) -> CommittedOffset | None:
        return self.marks.get(partition)


class Producer:
    def __init__(self, coordinator: Coordinator, transactional_id: str) -> None:
        self._coordinator = coordinator
        self._id = transactional_id
        self.closed = False

    async def start(self) -> None:
        if self._coordinator.away:
            self._coordinator.away -= 1
            raise KafkaConnectionError("no broker answers")
        self._coordinator.newest[self._id] = self

    async def close(self) -> None:
        self.closed = True

    async def transact(self, answers: Answers, partition: Partition, mark: CommittedOffset, group: str) -> None:
        assert not self.closed
        if self._coordinator.newest[self._id] is not self:
            raise ProducerFenced
        if partition in self._coordinator.held:
            await self._coordinator.held[partition].wait()
        fates = self._coordinator.fates
        (fates.pop(0) if fates else committed)(self._coordinator, partition, mark, answers)


def committed(coordinator: Coordinator, partition: Partition, mark: CommittedOffset, answers: Answers) -> None:
    coordinator.commit(partition, mark, answers)


def committed_unheard(coordinator: Coordinator, partition: Partition, mark: CommittedOffset, answers: Answers) -> None:
    coordinator.commit(partition, mark, answers)
    raise KafkaError("the answer was lost")


def aborted(coordinator: Coordinator, partition: Partition, mark: CommittedOffset, answers: Answers) -> None:
    raise KafkaError("the request was lost")


def fenced_within_a_send(
    coordinator: Coordinator, partition: Partition, mark: CommittedOffset, answers: Answers
) -> None:
    raise IllegalOperation("Can't send messages while not in transaction")


def overtaken(coordinator: Coordinator, partition: Partition, mark: CommittedOffset, answers: Answers) -> None:
    coordinator.marks[partition] = CommittedOffset(mark.offset - 1, mark.epoch + 1)
    raise KafkaError("the request was lost")


def refused(coordinator: Coordinator, partition: Partition, mark: CommittedOffset, answers: Answers) -> None:
    raise TopicAuthorizationFailedError("forecasts")


def answer(partition: Partition, text: str) -> Outgoing:
    return Outgoing("forecasts", b"bus", text.encode(), (), Record(*partition, 7, 0, None, None, ()))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarantees, "RETRY_S", 0.0)


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


async def owner(coordinator: Coordinator, *partitions: Partition) -> ExactlyOnce:
    guarantee = ExactlyOnce("group", coordinator, coordinator.producer)
    for partition in partitions:
        await guarantee.fence(partition)
    return guarantee


async def test_each_partition_has_a_transaction_of_its_own(coordinator: Coordinator) -> None:
    guarantee = await owner(coordinator, P0, P1)
    marks = {P0: CommittedOffset(5, 1), P1: CommittedOffset(9, 1)}
    assert await guarantee.commit(marks, one_by_one([answer(P0, "a"), answer(P1, "b"), answer(P0, "c")])) == set()
    assert coordinator.marks == marks
    assert coordinator.seen == [b"a", b"c", b"b"]
    assert coordinator.newest.keys() == {"group|pings|0", "group|pings|1"}


@pytest.mark.parametrize("fate", [committed_unheard, aborted, fenced_within_a_send])
async def test_what_became_of_a_transaction_is_asked_and_nothing_is_sent_twice(
    fate: Fate, coordinator: Coordinator
) -> None:
    guarantee = await owner(coordinator, P0)
    first = coordinator.newest["group|pings|0"]
    coordinator.fates = [committed, fate]
    assert await guarantee.commit({P0: CommittedOffset(5, 1)}, one_by_one([answer(P0, "a")])) == set()
    assert await guarantee.commit({P0: CommittedOffset(6, 1)}, one_by_one([answer(P0, "b")])) == set()
    assert (coordinator.marks, coordinator.seen) == ({P0: CommittedOffset(6, 1)}, [b"a", b"b"])
    assert first.closed, "a producer whose transaction failed is of no more use"


@pytest.mark.parametrize("fate", [committed_unheard, aborted])
async def test_brokers_that_are_away_for_longer_than_a_few_tries_end_nothing(
    fate: Fate, coordinator: Coordinator
) -> None:
    guarantee = await owner(coordinator, P0)
    coordinator.fates, coordinator.away = [fate], 2 * guarantees.TRIES
    assert await guarantee.commit({P0: CommittedOffset(5, 1)}, one_by_one([answer(P0, "a")])) == set()
    assert (coordinator.marks, coordinator.seen) == ({P0: CommittedOffset(5, 1)}, [b"a"])


async def test_an_old_owner_is_told_of_its_partition_and_keeps_the_others(coordinator: Coordinator) -> None:
    old = await owner(coordinator, P0, P1)
    await owner(coordinator, P0)
    assert await old.commit(
        {P0: CommittedOffset(5, 1), P1: CommittedOffset(5, 1)}, one_by_one([answer(P0, "a"), answer(P1, "b")])
    ) == {P0}
    assert (coordinator.marks, coordinator.seen) == ({P1: CommittedOffset(5, 1)}, [b"b"])


async def test_one_who_was_overtaken_while_it_did_not_know_sends_nothing_again(coordinator: Coordinator) -> None:
    guarantee = await owner(coordinator, P0)
    coordinator.fates = [overtaken]
    assert await guarantee.commit({P0: CommittedOffset(5, 1)}, one_by_one([answer(P0, "a")])) == {P0}
    assert coordinator.seen == []


@pytest.mark.parametrize("fate", [committed_unheard, aborted])
async def test_one_who_is_no_member_any_more_fences_nobody_to_learn_what_became_of_a_transaction(
    fate: Fate, coordinator: Coordinator
) -> None:
    """A worker was cut off from the brokers for longer than its session, in the middle of a transaction."""
    old = await owner(coordinator, P0)

    def cut_off(coordinator: Coordinator, partition: Partition, mark: CommittedOffset, answers: Answers) -> None:
        coordinator.generation_is_over = True
        coordinator.newest["group|pings|0"] = new
        fate(coordinator, partition, mark, answers)

    new = coordinator.producer("group|pings|0")
    coordinator.fates = [cut_off]
    assert await old.commit({P0: CommittedOffset(5, 1)}, one_by_one([answer(P0, "a")])) == {P0}
    assert coordinator.newest == {"group|pings|0": new}


def overtaken_at_our_offset(
    coordinator: Coordinator, partition: Partition, mark: CommittedOffset, answers: Answers
) -> None:
    coordinator.marks[partition] = CommittedOffset(mark.offset, mark.epoch + 1)
    raise KafkaError("the request was lost")


async def test_the_same_offset_of_another_epoch_is_not_ours(coordinator: Coordinator) -> None:
    """Another worker has answered the same records: taken for ours, we would go on beside it."""
    guarantee = await owner(coordinator, P0)
    coordinator.fates = [overtaken_at_our_offset]
    assert await guarantee.commit({P0: CommittedOffset(5, 1)}, one_by_one([answer(P0, "a")])) == {P0}


async def test_brokers_that_stay_away_end_the_worker_at_last(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarantees, "PATIENCE_S", 0.05)
    guarantee = await owner(coordinator, P0)
    coordinator.fates, coordinator.away = [aborted], 10**9
    with pytest.raises(KafkaConnectionError):
        await asyncio.wait_for(guarantee.commit({P0: CommittedOffset(5, 1)}, one_by_one([answer(P0, "a")])), 60)


async def test_a_producer_that_cannot_be_closed_holds_nothing_up(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(self: Producer) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(guarantees, "CLOSE_S", 0.01)
    guarantee = await owner(coordinator, P0)
    monkeypatch.setattr(Producer, "close", hang)
    await asyncio.wait_for(guarantee.fence(P0), 60)
    assert await guarantee.commit({P0: CommittedOffset(5, 1)}, one_by_one([answer(P0, "a")])) == set()


async def test_a_producer_that_cannot_start_is_closed(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Producer] = []
    producer = coordinator.producer

    def watched(transactional_id: str) -> Producer:
        made.append(producer(transactional_id))
        return made[-1]

    coordinator.away = 1
    with pytest.raises(KafkaConnectionError):
        await ExactlyOnce("group", coordinator, watched).fence(P0)
    assert [one.closed for one in made] == [True], "or its tasks and sockets stay"


async def test_what_asking_again_does_not_cure_is_raised(coordinator: Coordinator) -> None:
    guarantee = await owner(coordinator, P0)
    coordinator.fates = [refused] * 100
    with pytest.raises(TopicAuthorizationFailedError):
        await guarantee.commit({P0: CommittedOffset(5, 1)}, one_by_one([answer(P0, "a")]))
    assert (coordinator.marks, coordinator.seen) == ({}, [])


async def test_a_commit_that_fails_has_nothing_in_flight_any_more(coordinator: Coordinator) -> None:
    """Whoever is told of a failure ends the worker. A transaction that is still in flight then commits offsets behind
    its back."""
    guarantee = await owner(coordinator, P0, P1)
    coordinator.fates = [refused] * guarantees.TRIES
    coordinator.held[P1] = asyncio.Event()
    commit = asyncio.create_task(guarantee.commit({P0: CommittedOffset(5, 1), P1: CommittedOffset(5, 1)}))
    for _ in range(200):
        await asyncio.sleep(0)
    assert not coordinator.fates, "the first transaction was refused as often as it is tried"
    assert not commit.done(), "the other transaction has not ended"
    coordinator.held[P1].set()
    with pytest.raises(TopicAuthorizationFailedError):
        await commit
    assert coordinator.marks == {P1: CommittedOffset(5, 1)}


async def test_what_is_released_is_closed_and_commits_nothing(coordinator: Coordinator) -> None:
    guarantee = await owner(coordinator, P0)
    await guarantee.release(P0)
    assert coordinator.newest["group|pings|0"].closed
    assert await guarantee.commit({P0: CommittedOffset(5, 1)}) == {P0}
    assert coordinator.marks == {}


async def test_a_worker_that_ends_closes_the_producers_of_all_its_partitions(coordinator: Coordinator) -> None:
    guarantee = await owner(coordinator, P0, P1)
    await guarantee.close()
    assert [one.closed for one in coordinator.newest.values()] == [True, True]
