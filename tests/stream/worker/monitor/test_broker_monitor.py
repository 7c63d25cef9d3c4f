"""How long Kafka has not answered, by a consumer whose stamps and leaders do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from stream.kafka.records.record_columns import Partition
from stream.worker.monitor import broker_monitor
from stream.worker.monitor.broker_monitor import ASK_S, AWAY_S, STEP_S, BrokerMonitor, Silence

P0, P1 = ("pings", 0), ("pings", 1)


class Kafka:
    """Its fetches are answered by `fetch`, and questions as it is told. Somebody must move the clock."""

    def __init__(self, *partitions: Partition) -> None:
        self.stamps: dict[Partition, int | None] | None = dict.fromkeys(partitions)
        self.living: set[Partition] = set()  # partitions whose leaders answer questions
        self.hangs = False  # questions are neither answered nor refused
        self.any_lives = False
        self.asked: list[Partition | None] = []
        self.now_s = 100.0
        self.watch = BrokerMonitor(self, lambda: self.now_s)

    def fetch_stamps(self) -> dict[Partition, int | None] | None:
        return self.stamps

    async def ask_leader(self, partition: Partition) -> None:
        self.asked.append(partition)
        await self._answer(partition in self.living)

    async def ask_any_broker(self) -> None:
        self.asked.append(None)
        await self._answer(self.any_lives)

    async def _answer(self, lives: bool) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if not lives:
            raise ConnectionError("nobody there")

    def fetch(self, *partitions: Partition) -> None:
        for partition in partitions:
            assert self.stamps is not None
            self.stamps[partition] = int(self.now_s * 1000)

    def after(self, seconds: float, *answered: Partition) -> Silence:
        """The last of looks that are a second apart; the fetches of `answered` are answered before each."""
        silence = self.watch.look()
        for _ in range(int(seconds)):
            self.now_s += 1.0
            self.fetch(*answered)
            silence = self.watch.look()
        return silence

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.watch.run())
        yield
        assert not task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(30):
            while len(self.asked) < times:  # noqa: ASYNC110 - nobody tells of a question
                await asyncio.sleep(0.001)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of questions with hardly a pause between them."""
    monkeypatch.setattr(broker_monitor, "PAUSE_S", 0.001)


def test_a_partition_whose_fetches_are_answered_is_not_away_however_empty_the_answers() -> None:
    silence = Kafka(P0, P1).after(60, P0, P1)
    assert not silence.away
    assert silence.fetch_ages_s == silence.leaders_s == {P0: 0.0, P1: 0.0}


def test_kafka_is_away_after_ten_seconds_without_an_answer_and_back_with_the_first() -> None:
    kafka = Kafka(P0)
    kafka.after(5, P0)
    assert not kafka.after(AWAY_S).away
    silence = kafka.after(1)
    assert silence.away
    assert silence.longest_s == silence.fetch_ages_s[P0] == AWAY_S + 1
    assert not kafka.after(1, P0).away


def test_one_leader_that_is_away_is_told_apart_from_the_others() -> None:
    silence = Kafka(P0, P1).after(30, P1)
    assert silence.away
    assert silence.away_partitions == [P0]
    assert silence.leaders_s == {P0: 30.0, P1: 0.0}


def test_a_partition_that_has_never_been_answered_is_away_after_as_long() -> None:
    kafka = Kafka(P0)
    assert not kafka.after(AWAY_S).away
    assert kafka.after(1).away


def test_a_rebalance_that_gives_the_same_partition_anew_is_no_answer() -> None:
    kafka = Kafka(P0)
    kafka.after(5, P0)
    kafka.after(6)
    kafka.stamps = {P0: None}  # as aiokafka has it in a new assignment
    assert kafka.after(5).away


def test_a_partition_that_comes_later_begins_with_no_silence_and_one_that_goes_takes_its_own_along() -> None:
    kafka = Kafka(P0)
    kafka.after(30)
    kafka.stamps = {P1: None}
    silence = kafka.after(3)
    assert silence.leaders_s == {P1: 3.0}
    assert not silence.away


def test_a_clock_of_the_stamps_that_jumps_back_changes_nothing() -> None:
    """They are wall clock times, which an operator may set; only that they differ counts."""
    kafka = Kafka(P0)
    assert kafka.stamps is not None
    kafka.after(5, P0)
    kafka.stamps[P0] = 5
    assert kafka.after(0).leaders_s == {P0: 0.0}


def test_a_process_that_was_stopped_did_not_listen_meanwhile() -> None:
    kafka = Kafka(P0)
    kafka.after(5, P0)
    kafka.now_s += 3600.0
    assert kafka.watch.look().leaders_s == {P0: STEP_S}


def test_before_the_consumer_has_started_nothing_is_asked_and_nobody_away() -> None:
    kafka = Kafka()
    kafka.stamps = None
    assert not kafka.after(60).away


@pytest.mark.usefixtures("quick")
async def test_a_partition_that_nobody_fetches_is_not_away_while_its_leader_answers_questions() -> None:
    """It is paused, or there is no room for more records. Its fetches are as old as they are."""
    kafka = Kafka(P0, P1)
    kafka.living = {P0}
    kafka.after(5, P0, P1)
    async with kafka.asking():
        for _ in range(20):
            kafka.after(ASK_S, P1)
            await asyncio.sleep(0.01)
            kafka.asked.clear()
            kafka.after(1, P1)
            await kafka.until_asked(1)
            assert set(kafka.asked) == {P0}, "who is heard of is not asked"
        silence = kafka.after(1, P1)
    assert not silence.away
    assert silence.fetch_ages_s[P0] > 50


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("hangs", [False, True])
async def test_a_leader_that_answers_neither_fetches_nor_questions_is_away(
    hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_monitor, "ANSWER_S", 0.01)
    kafka = Kafka(P0, P1)
    kafka.hangs, kafka.living = hangs, {P1}
    async with kafka.asking():
        kafka.after(AWAY_S)
        await kafka.until_asked(5)
        silence = kafka.after(1, P1)
    assert silence.away_partitions == [P0]


@pytest.mark.usefixtures("quick")
async def test_a_worker_without_partitions_asks_any_broker() -> None:
    kafka = Kafka()
    kafka.any_lives = True
    kafka.after(1)
    async with kafka.asking():
        for _ in range(10):
            kafka.asked.clear()
            await kafka.until_asked(2)
            assert not kafka.after(5).away
        kafka.any_lives = False
        kafka.asked.clear()
        await kafka.until_asked(2)
        silence = kafka.after(AWAY_S + 1)
        assert silence.away
        assert not silence.away_partitions
        kafka.any_lives = True
        kafka.asked.clear()
        await kafka.until_asked(2)
        assert not kafka.after(0).away
    assert set(kafka.asked) == {None}
