"""A worker's accounts while it works, over every way in which a record leaves it; and the alarm when one is lost.

Delivery, engine, model and store are the real ones; Kafka is a log in memory that waits, loses and refuses as told.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import delivery_rig
import pytest
from delivery_rig import DAY, P0, P1, SETTINGS, TOPIC, FlakyStore, running
from engine_rig import one_by_one
from faulty import POISON_MPS, FaultyFold
from msgspec.json import decode as loads
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families as parsed

from model.api import Predictor
from stream.config.settings import Settings
from stream.delivery import checkpointer
from stream.delivery.accounts import Account
from stream.delivery.delivery import Delivery
from stream.delivery.guarantees import AtLeastOnce
from stream.delivery.ownership import ownership
from stream.engine.engine import Engine
from stream.kafka.log import CommittedOffset, Partition, Rebalanced
from stream.kafka.records.encoded_batches import NONE, Answers
from stream.kafka.records.record_columns import Records
from stream.wire import Ping, Record, dumps
from stream.worker.monitor import broker_monitor
from stream.worker.monitor import monitor as watch_module
from stream.worker.monitor.health import Held, Reading
from stream.worker.monitor.monitor import Monitor

THREE_AT_A_TIME = Settings(max_wait_ms=0.0, checkpoint_ms=0.0, max_batch=3)
AWAY = 1 << 30  # as many calls as nobody makes


class Kafka(delivery_rig.Kafka):
    """Takes answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.takes = asyncio.Event()
        self.takes.set()

    async def publish(self, answers: Answers) -> None:
        await self.takes.wait()
        await super().publish(answers)


class Consumer:
    """It has fetched all of both partitions' logs, and its brokers answer each second, until they are told not to."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.stamps: dict[Partition, int | None] = {P0: 0, P1: 0}

    def log_end(self, partition: Partition) -> int | None:
        return 100

    def fetch_stamps(self) -> dict[Partition, int | None]:
        return self.stamps

    async def ask_leader(self, partition: Partition) -> None:
        raise ConnectionError("a leader at secret.example is away")

    async def ask_any_broker(self) -> None:
        raise ConnectionError("all brokers at secret.example are away")


class Leaky(Engine):
    """Loses the first answer of its second batch."""

    batches = 0

    async def process(self, records: Sequence[Record], **clocks: float | bool) -> Answers:
        answers = await super().process(records, **clocks)
        self.batches += 1
        return one_by_one(list(answers)[1:]) if self.batches == 2 else answers


class Fragile(Engine):
    """Fails in its second batch, after it has folded it."""

    batches = 0

    async def process(self, records: Sequence[Record], *, silent: bool = False, **clocks: float) -> Answers:
        answers = await super().process(records, silent=silent, **clocks)
        self.batches += not silent
        if self.batches == 2 and not silent:
            raise ZeroDivisionError("half-way")
        return answers


class Fencing(AtLeastOnce):
    """Refuses its second batch, as one does whose transactional id another worker has taken."""

    batches = 0

    async def publish(self, answers: Answers) -> None:
        """Nothing: answers and offsets are one."""

    async def commit(self, marks: Mapping[Partition, CommittedOffset], answers: Answers = NONE) -> set[Partition]:
        self.batches += bool(answers)
        if self.batches == 2 and answers:
            return set(marks)
        await super().publish(answers)
        return await super().commit(marks, answers)


class Worker:
    """A Delivery that runs, and its Watch."""

    def __init__(
        self,
        settings: Settings = SETTINGS,
        engine: type[Engine] = Engine,
        guarantee: type[AtLeastOnce] = AtLeastOnce,
        predictor: type[Predictor] = Predictor,
    ) -> None:
        self.kafka, self.store = Kafka(), FlakyStore()
        made = engine(predictor.untrained(capacity=8), self.store, settings)
        self.delivery = Delivery(settings, made, self.store, guarantee(self.kafka, self.kafka), self.kafka)
        self.consumer = Consumer()
        self.watch = Monitor(self.delivery, made, self.consumer, clock=lambda: self.consumer.now_s)
        self.retired = 0

    async def put(self, some: Sequence[Record]) -> None:
        partition = some[0].topic, some[0].partition
        log = self.kafka.logs.setdefault(partition, [])
        log.extend(some[len(log) - some[0].offset :])

        def retire() -> None:
            self.retired += len(some)

        await self.delivery.put({partition: Records.of(some)}, 0.0, retire)

    async def pile_up(self) -> asyncio.Task[None]:
        """As the broker takes no answers, six records are at work and six wait, whose poll is returned."""
        await self.until(lambda: self.held().ready)
        self.kafka.takes.clear()
        for start in (0, 3):
            await self.put(records(start, start + 3))
        waiting = asyncio.create_task(self.put(records(6, 12)))
        await self.until(lambda: (self.held().at_work, self.held().waiting) == (6, 6))
        return waiting

    def reach_redis(self, reached: bool) -> None:
        self.store.reads_to_fail = self.store.writes_to_fail = 0 if reached else AWAY

    async def until(self, true: Callable[[], bool], *, right: bool = True) -> None:
        """With a look at the accounts at every step of the way: they add up at any time, if they are `right`."""
        async with asyncio.timeout(30):
            while not true():
                assert not right or set(self.watch.read().unaccounted.values()) <= {0}
                await asyncio.sleep(0)

    async def until_settled(self, partition: Partition = P0) -> Account:
        await self.until(lambda: self.held(partition).in_flight == 0)
        return self.account(partition)

    def account(self, partition: Partition = P0) -> Account:
        return self.watch.read().accounts[partition[1]]

    def held(self, partition: Partition = P0) -> Held:
        return self.watch.read().held[partition[1]]

    def after(self, seconds: int, *answered: Partition) -> None:
        """Looks that are a second apart; the fetches of `answered` are answered before each."""
        for _ in range(seconds):
            self.consumer.now_s += 1.0
            self.consumer.stamps.update(dict.fromkeys(answered, int(self.consumer.now_s)))
            self.watch.check()

    async def page(self, path: str) -> tuple[int, str]:
        answer = await self.watch.pages()[path].answer()
        return answer.status, answer.body.decode()

    async def scraped(self, name: str) -> dict[str, float]:
        """By partition; by nothing if it is not of one."""
        _, text = await self.page("/metrics")
        samples = [sample for family in parsed(text) for sample in family.samples if sample.name == f"pathcast_{name}"]
        return {sample.labels.get("partition", ""): sample.value for sample in samples}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointer, "RETRY_S", (0.001,))
    monkeypatch.setattr(ownership, "FENCED_PAUSE_S", 0.001)


def record(offset: int, *, at: int | None = None, partition: int = 0, value: bytes | None = None) -> Record:
    """A ping of one bus, a step further every ten seconds; `at` is its place on the way, its offset if not told."""
    at = offset if at is None else at
    ping = Ping(entity_id="bus", ts=DAY + at * 10_000, lat=30.0 + at * 1e-4, lon=-97.0)
    return Record(TOPIC, partition, offset, DAY, b"bus", dumps(ping) if value is None else value)


def records(start: int, stop: int, *, partition: int = 0) -> list[Record]:
    return [record(offset, partition=partition) for offset in range(start, stop)]


FAR = dumps(Ping(entity_id="bus", ts=DAY + 75_000, lat=31.0, lon=-97.0))  # 100 km in 5 s
MIXED = [
    *records(0, 5),
    record(5, at=6),
    record(6, at=5),  # late
    record(7, at=6),  # a duplicate
    record(8, value=b"not JSON"),
    record(9, at=7),
    record(10, value=FAR),
    record(11, at=8),
]


async def test_every_kind_of_record_is_in_its_place_and_they_add_up() -> None:
    worker = Worker()
    async with running(worker.delivery, P0):
        await worker.put(MIXED)
        account = await worker.until_settled()
        assert account == Account(taken=12, forecasts=8, late=1, rejects=1, quarantined=1, duplicates=1)
        assert await worker.scraped("unaccounted_records") == {"0": 0}
        await worker.put(MIXED[6:])  # as a consumer does that was thrown back
        account = await worker.until_settled()
    assert account.answered_before == 6
    assert worker.retired == account.taken == 18


async def test_records_are_in_flight_until_they_are_committed() -> None:
    worker = Worker(THREE_AT_A_TIME)
    async with running(worker.delivery, P0):
        waiting = await worker.pile_up()
        assert worker.account() == Account(taken=12), "nothing has become of any"
        assert worker.watch.read().batch_s == 0, "it is the broker that is waited for, not the engine"
        worker.kafka.takes.set()
        account = await worker.until_settled()
        await waiting
    assert account == Account(taken=12, forecasts=12)


async def test_what_a_rebalance_takes_away_unanswered_is_handed_back() -> None:
    worker = Worker(THREE_AT_A_TIME)
    async with running(worker.delivery, P0, P1):
        await worker.put(records(0, 3))
        await worker.put(records(0, 3, partition=1))
        await worker.until(lambda: worker.retired == 6)
        worker.kafka.fail_commit = Rebalanced("somebody else has it")
        for start in (3, 6):
            await worker.put(records(start, start + 3))
        await worker.until(lambda: worker.retired == 12)
        assert worker.account(P0) == Account(taken=9, forecasts=3, handed_back=6)
        assert worker.account(P1) == Account(taken=3, forecasts=3)
        await worker.put(records(9, 12))
        assert worker.account(P0).taken == 9, "what comes for a partition that is gone is not taken"


async def test_what_waits_at_a_drain_is_handed_back_and_counted_after_its_partition_has_gone() -> None:
    worker = Worker(Settings(max_wait_ms=1e9, checkpoint_ms=0.0))
    async with running(worker.delivery, P0):
        await worker.put(records(0, 3))
        await worker.delivery.ownership.drain()
        await worker.delivery.ownership.revoke([P0])
        assert worker.account() == Account(taken=3, handed_back=3)
        assert worker.watch.read().held == {}
        assert await worker.scraped("unaccounted_records") == {"0": 0}


async def test_what_a_worker_that_fails_had_in_flight_is_handed_back_and_no_alarm() -> None:
    worker = Worker(THREE_AT_A_TIME)
    async with running(worker.delivery, P0):
        waiting = await worker.pile_up()
    worker.delivery.abandon()
    await waiting
    assert worker.account() == Account(taken=12, handed_back=12)
    assert worker.watch.read().unaccounted == {0: 0}


@pytest.mark.parametrize("parts", [{"engine": Fragile}, {"guarantee": Fencing}])
async def test_a_batch_that_has_to_be_tried_again_is_counted_once(parts: dict[str, Any]) -> None:
    worker = Worker(Settings(max_wait_ms=0.0, checkpoint_ms=0.0, max_batch=len(MIXED)), **parts)
    async with running(worker.delivery, P0):
        await worker.put(MIXED)
        await worker.until_settled()
        again = [one._replace(offset=one.offset + len(MIXED)) for one in MIXED]  # all of them duplicates, or worse
        for start in (0, 6):
            await worker.put(again[start : start + 6])
        account = await worker.until_settled()
        reading = worker.watch.read()
    assert account == Account(taken=24, forecasts=8, late=1, rejects=2, quarantined=2, duplicates=11)
    assert reading.batches_failed + reading.fenced == 1


@pytest.mark.parametrize("parts", [{"engine": Fragile}, {"guarantee": Fencing}])
async def test_rejects_and_dropped_fields_are_counted_once_however_often_their_batch_is_tried(
    parts: dict[str, Any],
) -> None:
    unknown = [
        record(n, value=(one.value or b"")[:-1] + b',"speed_mps":-1,"sats":"7"}') for n, one in enumerate(records(0, 6))
    ]
    worker = Worker(Settings(max_wait_ms=0.0, checkpoint_ms=0.0, max_batch=len(unknown)), **parts)
    async with running(worker.delivery, P0):
        await worker.put(unknown)
        await worker.until_settled()
        await worker.put(
            [record(6, value=b"not JSON"), record(7, value=(record(7).value or b"")[:-1] + b',"hdop":-1}')]
        )
        await worker.put([record(8, value=b"")])
        await worker.until_settled()
        reading = worker.watch.read()
        _, text = await worker.page("/metrics")
    assert reading.batches_failed + reading.fenced == 1
    assert reading.rejects == {"invalid_json": 1, "empty": 1}
    assert reading.fields_dropped == {"speed_mps": 6, "sats": 6, "hdop": 1}
    assert 'pathcast_rejects_total{code="invalid_json"} 1.0' in text
    assert 'pathcast_fields_dropped_total{field="hdop"} 1.0' in text


async def test_pings_of_an_entity_in_quarantine_are_rejects_and_what_the_failed_attempt_counted_is_not() -> None:
    worker = Worker(predictor=FaultyFold)
    ill = replace(loads(MIXED[0].value or b"", type=Ping), ts=DAY + 35_000, speed_mps=POISON_MPS)
    async with running(worker.delivery, P0):
        await worker.put([*records(0, 3), record(3, at=2), record(4, value=dumps(ill)), *records(5, 8)])
        account = await worker.until_settled()
        assert account == Account(taken=8, forecasts=3, duplicates=1, rejects=4)
        assert worker.held().in_quarantine == 1
        assert await worker.scraped("steps_failed_total") == {"0": 1}
        assert await worker.scraped("shut_out_total") == {"0": 3}


async def test_a_batch_that_waits_for_redis_is_handed_back_by_a_drain() -> None:
    worker = Worker()
    async with running(worker.delivery, P0):
        await worker.until(lambda: worker.held().ready)
        worker.reach_redis(False)
        await worker.put(records(0, 3))
        await worker.until(lambda: worker.watch.read().store_away)
        assert worker.held().at_work == 3
        await worker.delivery.ownership.drain()
        await worker.delivery.ownership.revoke([P0])
        assert worker.account() == Account(taken=3, handed_back=3)
        assert worker.retired == 3


async def test_a_lost_answer_is_an_alarm_said_once_and_scraped_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(engine=Leaky)
    async with running(worker.delivery, P0):
        for start in (0, 3, 6):
            await worker.put(records(start, start + 3))
            await worker.until(lambda: worker.held().in_flight == 0, right=False)
            worker.watch.check()
            worker.watch.check()
        assert await worker.scraped("unaccounted_records") == {"0": 1}
    assert len(worker.kafka.published) == 8
    errors = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.ERROR]
    assert errors == ["partition 0 does not add up: 1 records are lost; please report it"]


async def test_an_alarm_is_said_again_when_it_changes_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker()
    async with running(worker.delivery, P0):
        await worker.put(records(0, 3))
        await worker.until_settled()
        for lost in (1, 3, 0):
            worker.delivery.accounts.accounts[P0].taken = 3 + lost  # a bug that we have not
            worker.watch.check()
            worker.watch.check()
    said = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.ERROR]
    assert [line.split(":")[-1].split(";")[0] for line in said[:2]] == [" 1 records are lost", " 3 records are lost"]
    assert said[2:] == ["partition 0 adds up again, which it should not either"]


async def test_the_accounts_are_looked_at_by_themselves_whatever_goes_wrong_on_the_way(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "CHECK_S", 0.001)
    worker = Worker()
    async with running(worker.delivery, P0):
        await worker.until(lambda: worker.held().ready)
        read, readings = worker.watch.read, 0

        def once_broken() -> Reading:
            nonlocal readings
            readings += 1
            if readings == 1:
                raise ZeroDivisionError("somebody else's bug")
            return read()

        monkeypatch.setattr(worker.watch, "read", once_broken)
        worker.delivery.accounts.accounts[P0].taken += 2
        watching = asyncio.create_task(worker.watch.run())
        async with asyncio.timeout(30):
            while "2 records are lost" not in caplog.text:  # noqa: ASYNC110 - nobody tells of a line in the log
                await asyncio.sleep(0.001)
        assert not watching.done()
        watching.cancel()
    assert "somebody else's bug" in caplog.text


async def test_a_reading_is_of_its_moment_however_long_its_rendering_takes() -> None:
    worker = Worker()
    async with running(worker.delivery, P0):
        await worker.put(records(0, 3))
        await worker.until_settled()
        before = worker.watch.read()
        await worker.put(records(3, 9))
        await worker.until_settled()
    assert before.accounts[0] == Account(taken=3, forecasts=3)
    assert before.counts[0].forecasts == 3


async def test_a_worker_is_ready_when_its_partitions_are_and_while_redis_takes_its_checkpoints() -> None:
    worker = Worker()

    async def why() -> list[str]:
        status, body = await worker.page("/readyz")
        said = json.loads(body)
        assert (status, said["ok"]) == ((200, True) if not said["reasons"] else (503, False))
        assert "secret.example" not in body, "this page is open to all"
        assert (await worker.page("/healthz"))[0] == 200
        return said["reasons"]

    assert await why() == ["the group has not given out its partitions yet"]
    async with running(worker.delivery, P0, P1):
        assert await why() == ["taking over: partitions 0, 1"]
        await worker.until(lambda: worker.held(P0).ready and worker.held(P1).ready)
        assert await why() == []
        await worker.put(records(0, 3))
        await worker.until(lambda: worker.retired == 3 and worker.held().behind == 0)
        worker.reach_redis(False)
        await worker.put(records(3, 7))  # of an entity in memory, so that they can be answered all the same
        await worker.until(lambda: worker.retired == 7 and worker.watch.read().checkpoints_failed > 2)
        assert await why() == ["Redis is away: checkpoints are 4 records behind"]
        worker.reach_redis(True)
        await worker.until(lambda: worker.held().behind == 0)
        assert await why() == []
        await worker.delivery.ownership.drain()
        assert await why() == ["draining: partitions are about to go"]


async def test_lag_is_what_lies_between_the_next_record_and_the_end_of_the_log() -> None:
    worker = Worker()
    async with running(worker.delivery, P0):
        await worker.put(records(0, 30))
        await worker.until_settled()
        assert await worker.scraped("lag_records") == {"0": 70}
        await worker.put(records(30, 100))
        await worker.until_settled()
        assert await worker.scraped("lag_records") == {"0": 0}
        await worker.put(records(100, 101))
        await worker.until_settled()
        assert await worker.scraped("lag_records") == {}, "a log that ends before what is answered is no lag of 0"


async def test_of_a_partition_that_is_not_taken_over_yet_no_lag_is_known() -> None:
    """It begins at offset 0, and would be said to lag by all of the log."""
    worker = Worker()
    async with running(worker.delivery, P0):
        assert not worker.held().ready
        assert await worker.scraped("lag_records") == {}


async def test_kafka_away_is_a_reason_with_seconds_and_a_metric_and_the_lag_is_not_said_to_be_0(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """65 s without a broker were a ready worker with a lag of 0."""
    worker = Worker()
    async with running(worker.delivery, P0, P1):
        await worker.until(lambda: worker.held(P0).ready and worker.held(P1).ready)
        worker.after(5, P0, P1)
        assert await worker.page("/readyz") == (200, '{"ok":true,"reasons":[]}\n')
        assert await worker.scraped("kafka_away") == {"": 0}
        assert await worker.scraped("lag_records") == {"0": 100, "1": 100}
        worker.after(8)
        assert await worker.scraped("fetch_age_seconds") == {"0": 8, "1": 8}, "how old the lag is"
        worker.after(57)
        status, body = await worker.page("/readyz")
        reason = "Kafka is away: the leaders of partitions 0, 1 have not answered for 65 s"
        assert (status, json.loads(body)["reasons"]) == (503, [reason])
        assert (await worker.page("/healthz"))[0] == 200, "a new process would find no broker either"
        assert await worker.scraped("kafka_away") == {"": 1}
        assert await worker.scraped("fetch_age_seconds") == {"0": 65, "1": 65}
        assert await worker.scraped("lag_records") == {}
        worker.after(1, P0, P1)
        assert await worker.page("/readyz") == (200, '{"ok":true,"reasons":[]}\n')
        assert await worker.scraped("kafka_away") == {"": 0}
        assert await worker.scraped("lag_records") == {"0": 100, "1": 100}
    assert [line for line in caplog.messages if "Kafka" in line] == [
        "Kafka is away: the leaders of partitions 0, 1 have not answered for 11 s; pings wait until it answers",
        "Kafka is back after 66 s",
    ]


async def test_one_leader_that_is_away_hides_the_lag_of_its_partition_alone() -> None:
    worker = Worker()
    async with running(worker.delivery, P0, P1):
        await worker.until(lambda: worker.held(P0).ready and worker.held(P1).ready)
        worker.after(30, P1)
        assert await worker.scraped("lag_records") == {"1": 100}
        assert await worker.scraped("kafka_away") == {"": 1}
        assert "the leaders of partitions 0 have not answered for 30 s" in (await worker.page("/readyz"))[1]


async def test_a_worker_without_partitions_says_that_no_broker_answers() -> None:
    worker = Worker()
    worker.consumer.stamps.clear()
    async with running(worker.delivery):
        worker.after(10)
        assert (await worker.page("/readyz"))[0] == 200
        worker.after(1)
        status, body = await worker.page("/readyz")
        assert (status, json.loads(body)["reasons"]) == (503, ["Kafka is away: no broker has answered for 11 s"])
        assert await worker.scraped("kafka_away") == {"": 1}


async def test_the_watch_asks_the_leader_of_a_partition_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be paused: then its leader's answer is what tells that Kafka is there."""
    monkeypatch.setattr(broker_monitor, "PAUSE_S", 0.001)
    worker = Worker()
    asked = asyncio.Event()

    async def answer(partition: Partition) -> None:
        asked.set()

    monkeypatch.setattr(worker.consumer, "ask_leader", answer)
    async with running(worker.delivery, P0, P1):
        watching = asyncio.create_task(worker.watch.run())
        for _ in range(10):
            worker.after(5)
            asked.clear()
            async with asyncio.timeout(30):
                await asked.wait()
        assert await worker.scraped("kafka_away") == {"": 0}
        watching.cancel()
