"""An input log that gets shorter, is made anew, or loses records to retention, under a worker and before it starts."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest
from aiokafka.errors import LeaderNotAvailableError
from delivery_rig import (
    DAY,
    P0,
    P1,
    TOPIC,
    FlakyStore,
    Kafka,
    answer,
    feed,
    live_worker,
    mortal_worker,
    record,
    records,
    settle,
    until,
)

from stream.delivery.delivery import Delivery
from stream.delivery.ownership import continuity as continuity_module
from stream.kafka.log import Log, Partition
from stream.store.base import Claim
from stream.wire import Ping, Record, dumps, loads_forecast


def later(start: int, stop: int) -> list[Record]:
    """Pings of other entities, of another day, at offsets that may have been used."""
    found = []
    for offset in range(start, stop):
        entity, ts = f"tram{offset % 3}", DAY + 86_400_000 + offset * 10_000
        ping = Ping(entity_id=entity, ts=ts, lat=31.0 + offset * 1e-4, lon=-97.0)
        found.append(Record(TOPIC, 0, offset, ts, entity.encode(), dumps(ping)))
    return found


async def joined_again(delivery: Delivery, kafka: Kafka, *partitions: Partition) -> None:
    """What the consumer and its group do when they are asked: drain, and begin again where the group has committed."""
    await until(lambda: kafka.rejoins > 0)
    kafka.rejoins = 0
    await delivery.ownership.drain()
    await delivery.ownership.revoke(partitions)
    delivery.ownership.assign(partitions)
    await until(lambda: all(one.ready for one in delivery.status().partitions))


def entities(kafka: Kafka, name: str) -> Counter[tuple[str, int]]:
    found = (loads_forecast(one.value or b"") for one in kafka.published if one.src.partition == 0)
    return Counter((one.entity_id, one.src.offset) for one in found if one.entity_id.startswith(name))


async def test_records_that_come_once_more_are_skipped_and_move_no_committed_offset_back(
    kafka: Kafka, store: FlakyStore
) -> None:
    """It was committed where the re-read ended: a crash after that published 20 forecasts a second time."""
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, records(0, 30))
        await answer(delivery, kafka, records(0, 10))
        assert kafka.offsets[P0] == delivery.status().partitions[0].next_offset == 30
        await answer(delivery, kafka, records(30, 33))
    assert kafka.answered == list(range(33))
    assert kafka.offsets[P0] == 33
    account = delivery.accounts.accounts[P0]
    assert (account.answered_before, account.log_shortened, account.retention_lost) == (10, 0, 0)
    assert account.count_unaccounted(0) == 0


@pytest.mark.parametrize("refilled", [25, 30, 40], ids=["shorter", "as long", "longer"])
async def test_new_records_at_offsets_that_were_answered_are_answered_where_the_log_was_cut(
    kafka: Kafka, store: FlakyStore, refilled: int, caplog: pytest.LogCaptureFixture
) -> None:
    """They were taken for the old ones and skipped. As soon as the log is as long as before, only its leader's epoch
    tells; the consumer goes on behind the records that nobody ever read."""
    async with live_worker(kafka, store, P0, P1) as delivery:
        await settle(delivery, kafka, store, records(0, 30))
        await answer(delivery, kafka, records(0, 5, partition=1))
        kafka.elect(P0, end=20)
        new = later(20, refilled)
        kafka.logs[P0] += new
        brought = new[10:] or records(0, 20)  # the consumer's position is in the log, or it begins at the log's start
        with caplog.at_level(logging.ERROR):
            await feed(delivery, kafka, brought)
            await answer(delivery, kafka, [record(5, partition=1)])
            await joined_again(delivery, kafka, P0, P1)
        await answer(delivery, kafka, new)
        await answer(delivery, kafka, [record(6, partition=1)])
    assert entities(kafka, "tram") == Counter({(f"tram{one.offset % 3}", one.offset): 1 for one in new})
    assert entities(kafka, "bus") == Counter({(f"bus{offset % 3}", offset): 1 for offset in range(30)})
    assert kafka.offsets == {P0: refilled, P1: 7}
    assert kafka.histories[P0].cut == 20
    assert [line.getMessage() for line in caplog.records if line.levelno == logging.ERROR] == [
        f"{TOPIC}/0: the log was shortened to 20, and all below 30 was answered: records from 20 on are new"
    ]
    accounts = delivery.accounts.accounts
    assert (accounts[P0].log_shortened, accounts[P1].log_shortened) == (1, 0)
    assert accounts[P0].count_unaccounted(0) == accounts[P1].count_unaccounted(0) == 0


@pytest.mark.parametrize("checkpoint", [30, 15], ids=["behind the cut", "before it"])
async def test_states_after_a_cut_know_the_log_that_there_is_and_nothing_of_the_one_that_was(
    kafka: Kafka, store: FlakyStore, checkpoint: int
) -> None:
    """A checkpoint before the cut may have states from behind it: it is written in parts, and the worker may have died
    between two."""
    async with live_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(0, 30))
        store._claims[P0] = Claim(store.checkpoint(P0).epoch, checkpoint)
        kafka.elect(P0, end=20)
        again = [record(offset, entity="bus0") for offset in range(20, 24)]
        kafka.logs[P0] += again
        await feed(delivery, kafka, records(0, 20))
        await joined_again(delivery, kafka, P0)
        await answer(delivery, kafka, again)
    window = loads_forecast(kafka.published[-1].value or b"").window
    assert window.n == 7 + 4, "7 of the first 20 pings are of this entity; 10 of the first 30 were"


async def test_a_cut_of_records_that_were_fetched_and_not_answered_lets_the_consumer_begin_again(
    kafka: Kafka, store: FlakyStore
) -> None:
    """Nothing that was answered is gone, so that no takeover noticed the cut: the fetched records waited together with
    those of the new leader, which do not follow them, and came again after each takeover. The partition stood still
    until its worker was started again. A world of the simulation found it."""
    async with live_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(0, 20))
        async with delivery._busy:  # so that both polls wait, and come in one batch
            await feed(delivery, kafka, records(20, 30))
            kafka.elect(P0, end=24)
            new = later(24, 40)
            kafka.logs[P0] += new
            await feed(delivery, kafka, new[6:])
        await joined_again(delivery, kafka, P0)
        await answer(delivery, kafka, [*records(20, 24), *new])
    assert entities(kafka, "tram") == Counter({(f"tram{one.offset % 3}", one.offset): 1 for one in new})
    assert kafka.offsets[P0] == 40


async def test_a_cut_of_records_that_wait_for_a_takeover_is_noticed_though_the_log_is_as_long_again(
    kafka: Kafka, store: FlakyStore
) -> None:
    """The consumer has passed over what lies there now, which was never answered, and until the next record came nobody
    noticed. A world of the simulation found it (seed 7020)."""
    async with mortal_worker(kafka, store) as first:
        await settle(first, kafka, store, records(0, 20))
    store.hung["claim", P0] = asyncio.Event()
    new = later(24, 30)
    async with live_worker(kafka, store) as delivery:
        await feed(delivery, kafka, records(20, 30))
        kafka.elect(P0, end=24)
        kafka.logs[P0] += new
        store.hung["claim", P0].set()
        await joined_again(delivery, kafka, P0)
        await answer(delivery, kafka, [*records(20, 24), *new])
    assert entities(kafka, "tram") == Counter({(f"tram{one.offset % 3}", one.offset): 1 for one in new})
    assert max(entities(kafka, "bus"), key=lambda one: one[1])[1] == 23, "nothing that is gone was answered"


async def test_a_log_that_was_cut_while_nobody_worked_is_answered_from_the_cut_on(
    kafka: Kafka, store: FlakyStore
) -> None:
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, records(0, 30))
    kafka.elect(P0, end=20)
    kafka.logs[P0] += later(20, 50)
    async with live_worker(kafka, store) as delivery:
        await joined_again(delivery, kafka, P0)
        assert kafka.offsets[P0] == 20
        await answer(delivery, kafka, later(20, 50))
    assert len(entities(kafka, "tram")) == 30
    assert delivery.accounts.accounts[P0].log_shortened == 1


@pytest.mark.parametrize("count", [20, 60])
async def test_a_topic_that_is_made_anew_under_a_worker_is_answered_from_its_first_record_on(
    kafka: Kafka, store: FlakyStore, count: int
) -> None:
    """Nothing was answered until the new log had passed the old one, and then only what came behind that."""
    async with live_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(0, 30))
        store._claims[P0] = Claim(store.checkpoint(P0).epoch, None)  # so that only the worker knows that it was there
        kafka.make_anew(P0, "second")
        new = later(0, count)
        kafka.logs[P0] += new
        kafka.leaders[P0] = {0: 0, 1: 0}  # else the consumer has read on in it before it could be told apart
        await feed(delivery, kafka, new[30:] or new)
        await joined_again(delivery, kafka, P0)
        await answer(delivery, kafka, new)
    assert len(entities(kafka, "tram")) == count
    assert max(entities(kafka, "tram").values()) == 1
    assert kafka.offsets[P0] == count
    assert kafka.histories[P0] == (kafka.topic_id, 1, 0, 0)


async def test_a_topic_that_was_made_anew_while_nobody_worked_is_answered_from_its_first_record_on(
    kafka: Kafka, store: FlakyStore
) -> None:
    """A worker may have committed its last offsets after the brokers forgot those of the topic that was deleted."""
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, records(0, 30))
    mark = await kafka.committed(P0)
    assert mark is not None
    kafka.make_anew(P0, "second")
    kafka.keep(P0, mark)
    kafka.logs[P0] += later(0, 50)
    async with live_worker(kafka, store) as delivery:
        await joined_again(delivery, kafka, P0)
        await answer(delivery, kafka, later(0, 50))
    assert len(entities(kafka, "tram")) == 50


async def test_a_topic_that_is_made_anew_while_its_worker_stands_still_is_answered_from_its_beginning(
    kafka: Kafka, store: FlakyStore
) -> None:
    """Its first leader has the epoch of the one before, and its log is longer than what was answered: nothing but the
    silence shows that the next record may be of another log. A world of the simulation found it (seed 219)."""
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, records(0, 30))
        delivery.ownership.owned[P0].heard_ms = -1000 * continuity_module.SILENT_S - 1
        kafka.make_anew(P0, "second")
        kafka.logs[P0] += later(0, 40)
        await feed(delivery, kafka, later(30, 40))
        await joined_again(delivery, kafka, P0)
        await answer(delivery, kafka, later(0, 40))
    assert entities(kafka, "tram") == {(f"tram{offset % 3}", offset): 1 for offset in range(40)}


@pytest.mark.parametrize("count", [3, 40], ids=["shorter", "longer"])
async def test_a_topic_that_is_made_anew_while_its_first_takeover_waits_is_answered_from_its_beginning(
    kafka: Kafka, store: FlakyStore, count: int
) -> None:
    """Nothing was committed, so that the takeover took the new topic for the one that its records were fetched of: they
    were answered, and the first ones of the new topic never were. A world of the simulation found it (seed 1423)."""
    store.hung["claim", P0] = asyncio.Event()
    async with live_worker(kafka, store) as delivery:
        await feed(delivery, kafka, records(0, 5))
        kafka.make_anew(P0, "second")
        kafka.logs[P0] += later(0, count)
        delivery.ownership.owned[P0].began_ms = 0.0
        store.hung["claim", P0].set()
        await until(lambda: kafka.rejoins > 0 or bool(kafka.answered))
        assert not kafka.answered, "records of a topic that is gone"
        await joined_again(delivery, kafka, P0)
        await answer(delivery, kafka, later(0, count))
    assert entities(kafka, "tram") == {(f"tram{offset % 3}", offset): 1 for offset in range(count)}
    assert not entities(kafka, "bus")
    assert kafka.offsets[P0] == count


async def test_the_first_records_of_a_takeover_that_waited_long_are_answered_once(
    kafka: Kafka, store: FlakyStore
) -> None:
    """They are compared with the log, which has them."""
    store.hung["claim", P0] = asyncio.Event()
    async with live_worker(kafka, store) as delivery:
        await feed(delivery, kafka, records(0, 5))
        delivery.ownership.owned[P0].began_ms = 0.0
        store.hung["claim", P0].set()
        await answer(delivery, kafka, records(5, 10))
    assert kafka.answered == list(range(10))
    assert kafka.rejoins == 0


async def test_what_retention_deletes_unanswered_is_counted_and_said(
    kafka: Kafka, store: FlakyStore, caplog: pytest.LogCaptureFixture
) -> None:
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, records(0, 10))
        kafka.logs[P0] += records(10, 40)
        kafka.begins[P0] = 25
        await answer(delivery, kafka, records(25, 40))
        assert delivery.accounts.accounts[P0].retention_lost == 15
    kafka.logs[P0] += records(40, 60)
    kafka.begins[P0] = 50
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, records(50, 60))
    assert delivery.accounts.accounts[P0].retention_lost == 10
    assert kafka.histories[P0].lost == 25
    assert sum("retention deleted" in line.getMessage() for line in caplog.records) == 2


async def test_offsets_without_records_are_no_loss(kafka: Kafka, store: FlakyStore) -> None:
    """Markers of transactions and compaction leave such."""
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, records(0, 10))
        kafka.logs[P0] += records(10, 12)
        await answer(delivery, kafka, records(12, 20))
    assert delivery.accounts.accounts[P0].retention_lost == 0
    assert kafka.offsets[P0] == 20


@pytest.mark.parametrize("answered", [0, 10], ids=["nothing-answered", "some-answered"])
async def test_records_at_offsets_that_nobody_was_shown_before_are_read_where_the_log_was_cut(
    kafka: Kafka, store: FlakyStore, answered: int
) -> None:
    """The consumer is behind transactions that were aborted; an election loses them, and others write there. A world of
    the simulation found it (seed 2607)."""
    async with live_worker(kafka, store) as delivery:
        if answered:
            await answer(delivery, kafka, records(0, answered))
        kafka.logs.setdefault(P0, []).extend(records(answered, answered + 3))  # stand for those that were aborted
        kafka.elect(P0, end=answered)
        kafka.logs[P0] += later(answered, answered + 6)
        await feed(delivery, kafka, later(answered + 3, answered + 6))
        await joined_again(delivery, kafka, P0)
        await answer(delivery, kafka, later(answered, answered + 6))
    assert kafka.answered == [*range(answered + 6)]
    assert kafka.offsets[P0] == answered + 6


class Asked(Kafka):
    """Counts the questions, and may answer none."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.refuse = 0

    async def describe_log(self, partition: Partition, leader_epoch: int) -> Log:
        self.asked += 1
        if self.refuse:
            self.refuse -= 1
            raise LeaderNotAvailableError(partition)
        return await super().describe_log(partition, leader_epoch)

    async def first_offset(self, partition: Partition) -> int:
        self.asked += 1
        return await super().first_offset(partition)


async def test_nobody_is_asked_while_records_follow_and_once_when_another_broker_leads(store: FlakyStore) -> None:
    kafka = Asked()
    async with live_worker(kafka, store) as delivery:
        for start in range(0, 30, 10):
            await answer(delivery, kafka, records(start, start + 10))
        assert kafka.asked == 1, "by the takeover"
        kafka.elect(P0)
        for start in range(30, 60, 10):
            await answer(delivery, kafka, records(start, start + 10))
        assert kafka.asked == 2
    assert kafka.answered == list(range(60))


async def test_while_no_broker_can_tell_a_takeover_waits_for_it_and_other_partitions_do_not(store: FlakyStore) -> None:
    kafka = Asked()
    async with live_worker(kafka, store, P0, P1) as delivery:
        await answer(delivery, kafka, records(0, 30))
        kafka.elect(P0)
        kafka.refuse = 10**9
        late = await feed(delivery, kafka, records(30, 40))
        await answer(delivery, kafka, records(0, 10, partition=1))
        assert not late
        kafka.refuse = 0
        await until(lambda: len(late) == 10)
    assert Counter(kafka.answered) == Counter([*range(40), *range(10)])


async def test_a_broker_that_gives_no_answer_at_all_holds_a_batch_up_for_a_bounded_time(
    store: FlakyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuity_module, "ASK_S", 0.05)

    class Silent(Kafka):
        silent = False

        async def describe_log(self, partition: Partition, leader_epoch: int) -> Log:
            if self.silent:
                self.silent = False
                await until(lambda: False)
            return await super().describe_log(partition, leader_epoch)

    kafka = Silent()
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, records(0, 30))
        kafka.elect(P0)
        kafka.silent = True
        await answer(delivery, kafka, records(30, 40))
    assert kafka.answered == list(range(40))
