"""The order of things: answers, then offsets, then states; and what happens when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, NotCoordinatorForGroupError
from delivery_rig import (
    P0,
    P1,
    SETTINGS,
    FlakyStore,
    Kafka,
    SlowStore,
    answer,
    answer_undisturbed,
    crash,
    feed,
    live_worker,
    mortal_worker,
    record,
    records,
    running,
    settle,
    until,
    worker,
)
from faulty import POISON_MPS, FaultyFold, FaultyForecast
from transactions_rig import Transactions, exactly_once

from model.api import Predictor
from stream.config.security import Refused
from stream.config.settings import Settings
from stream.delivery.delivery import Delivery
from stream.delivery.guarantees import AtLeastOnce
from stream.engine.engine import Engine
from stream.engine.entities import quarantine
from stream.kafka.log import CommittedOffset, Partition, Rebalanced
from stream.kafka.records.encoded_batches import NONE, Answers
from stream.store.base import Claim, MemoryStore
from stream.wire import Record, loads_forecast

THREES = Settings(max_wait_ms=0.0, checkpoint_ms=0.0, max_batch=3)


async def test_offsets_follow_answers_and_states_follow_offsets(kafka: Kafka, store: FlakyStore) -> None:
    async with live_worker(kafka, store) as delivery:
        for start in range(0, 30, 10):
            await answer(delivery, kafka, records(start, start + 10))
        await until(lambda: store.checkpoint(P0).next_offset == 30)
    assert kafka.events == ["published", "committed"] * 3
    assert kafka.answered == list(range(30))
    assert kafka.offsets == {P0: 30}


class SlowKafka(Kafka):
    """A broker that takes a batch only when it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.takes = asyncio.Event()

    async def publish(self, answers: Answers) -> None:
        self.events.append("publishing")
        await self.takes.wait()
        await super().publish(answers)


async def test_the_engine_is_at_the_next_batch_while_the_broker_takes_one_and_no_further(store: FlakyStore) -> None:
    kafka = SlowKafka()
    async with live_worker(kafka, store, settings=THREES) as delivery:
        await until(lambda: delivery.ownership.owned[P0].ready)
        retired = [await feed(delivery, kafka, records(start, start + 3)) for start in (0, 3)]
        await until(lambda: delivery.ownership.owned[P0].taken == 6)
        waiting = asyncio.create_task(feed(delivery, kafka, records(6, 9)))
        for _ in range(50):
            await asyncio.sleep(0)
        assert delivery.ownership.owned[P0].taken == 6, "the third batch waits for the first"
        assert (kafka.events, retired, kafka.offsets) == (["publishing"], [[], []], {P0: 0})
        assert store.checkpoint(P0).next_offset is None, "a checkpoint would be ahead of the commit"
        kafka.takes.set()
        await until(lambda: store.checkpoint(P0).next_offset == 9)
        await waiting
    assert kafka.events == ["publishing", "published", "committed"] * 3
    assert kafka.answered == list(range(9))


class SlowCommits(Kafka):
    """A broker that takes offsets only when it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.takes = asyncio.Event()
        self.takes.set()

    async def commit_offsets(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        await self.takes.wait()
        await super().commit_offsets(marks)


async def test_a_batch_is_published_while_the_offsets_before_it_are_on_their_way_and_no_further(
    store: FlakyStore,
) -> None:
    kafka = SlowCommits()
    async with live_worker(kafka, store, settings=THREES) as delivery:
        await until(lambda: delivery.ownership.owned[P0].ready)
        kafka.takes.clear()
        retired = [await feed(delivery, kafka, records(start, start + 3)) for start in (0, 3, 6)]
        await until(lambda: delivery.ownership.owned[P0].taken == 9)
        for _ in range(50):
            await asyncio.sleep(0)
        assert kafka.events == ["published"] * 2, "the third batch waits for the first one's offsets"
        assert (retired, kafka.offsets) == ([[], [], []], {P0: 0})
        assert store.checkpoint(P0).next_offset is None, "a checkpoint would be ahead of the commit"
        kafka.takes.set()
        await until(lambda: store.checkpoint(P0).next_offset == 9)
    assert sorted(kafka.events) == ["committed"] * 3 + ["published"] * 3
    assert kafka.answered == list(range(9))


class RefusedOnce(SlowCommits):
    """The rebalance is over when the next offsets come."""

    async def commit_offsets(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        try:
            await super().commit_offsets(marks)
        except Rebalanced:
            self.fail_commit = None
            raise


async def test_a_batch_behind_offsets_that_are_refused_is_not_committed(store: FlakyStore) -> None:
    """Its answers are out, as a zombie's may be; its offsets would hide that the first batch is unanswered."""
    kafka = RefusedOnce()
    async with live_worker(kafka, store, settings=THREES) as delivery:
        await until(lambda: delivery.ownership.owned[P0].ready)
        kafka.takes.clear()
        retired = [await feed(delivery, kafka, records(start, start + 3)) for start in (0, 3)]
        await until(lambda: kafka.events == ["published"] * 2)
        kafka.fail_commit = Rebalanced("somebody else has it")
        kafka.takes.set()
        await until(lambda: all(len(some) == 3 for some in retired))
        await asyncio.sleep(0.01)
    assert kafka.offsets == {P0: 0}
    assert store.checkpoint(P0).next_offset is None


async def test_what_was_folded_while_its_partition_was_lost_is_not_published(store: FlakyStore) -> None:
    kafka = SlowKafka()
    async with live_worker(kafka, store, settings=THREES) as delivery:
        await until(lambda: delivery.ownership.owned[P0].ready)
        kafka.fail_commit = Rebalanced("somebody else has it")
        retired = [await feed(delivery, kafka, records(start, start + 3)) for start in (0, 3)]
        await until(lambda: delivery.ownership.owned[P0].taken == 6)
        kafka.takes.set()
        await until(lambda: all(len(some) == 3 for some in retired))
    assert kafka.answered == [0, 1, 2], "the second batch is the next owner's to answer"
    assert kafka.offsets == {P0: 0}


@pytest.mark.parametrize("ends", [False, True], ids=["its partition was lost", "the worker ends"])
async def test_a_checkpoint_of_a_batch_that_is_not_committed_is_not_written(store: FlakyStore, ends: bool) -> None:
    """It waits for the batch in flight, whose commit fails. Written all the same, it were ahead of the log."""
    kafka = SlowKafka()
    delivery = worker(kafka, store, THREES)
    async with running(delivery, P0) as pump:
        await until(lambda: delivery.ownership.owned[P0].ready)
        kafka.takes.set()
        store.writes_to_fail = 1_000_000
        await answer(delivery, kafka, records(0, 3))
        kafka.takes.clear()
        lost = await feed(delivery, kafka, records(3, 6))
        await until(lambda: kafka.events[-1] == "publishing")
        store.writes_to_fail = 0
        await asyncio.sleep(0.05)  # longer than the retry takes to come due
        kafka.fail_commit = RuntimeError("not authorised") if ends else Rebalanced("somebody else has it")
        kafka.takes.set()
        await until(lambda: pump.done() if ends else len(lost) == 3)
        await asyncio.sleep(0.05)
    assert store.checkpoint(P0).next_offset is None
    assert kafka.offsets == {P0: 3}


async def test_the_engine_works_on_while_the_store_takes_a_checkpoint(kafka: Kafka) -> None:
    store = SlowStore()
    async with live_worker(kafka, store) as delivery:
        for start in range(0, 9, 3):
            await answer(delivery, kafka, records(start, start + 3))
        assert (store.asked, delivery.ownership.owned[P0].saved) == (1, 0), "one at a time, and not saved until it is"
        store.takes.set()
        await until(lambda: store.checkpoint(P0).next_offset == 9)
    assert kafka.answered == list(range(9))


@pytest.mark.parametrize("fails", [False, True])
async def test_a_handover_waits_for_what_the_store_takes_and_writes_the_rest(kafka: Kafka, fails: bool) -> None:
    store = SlowStore()
    async with live_worker(kafka, store) as delivery:
        retired = [await feed(delivery, kafka, records(start, start + 3)) for start in (0, 3)]
        await until(lambda: all(len(some) == 3 for some in retired) and store.asked == 1)
        await delivery.ownership.drain()
        handover = asyncio.create_task(delivery.ownership.revoke([P0]))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not handover.done()
        store.writes_to_fail = int(fails)
        store.takes.set()
        await handover
    assert store.checkpoint(P0).next_offset == (None if fails else 6), "what cannot be saved, the next owner replays"
    async with live_worker(kafka, store) as again:
        await answer(again, kafka, records(6, 9))
    assert kafka.answered == list(range(9))
    assert kafka.windows(6, 7, 8) == [3, 3, 3]


async def test_a_handover_writes_what_was_answered_since_the_last_checkpoint(kafka: Kafka, store: FlakyStore) -> None:
    async with live_worker(kafka, store, settings=Settings(max_wait_ms=0.0, checkpoint_ms=1e9)) as delivery:
        await settle(delivery, kafka, store, records(0, 3))  # the first checkpoint is due at once
        await answer(delivery, kafka, records(3, 6))
        assert store.checkpoint(P0).next_offset == 3
        await delivery.ownership.drain()
        await delivery.ownership.revoke([P0])
        assert store.checkpoint(P0).next_offset == 6


async def test_what_the_store_takes_after_its_partition_was_taken_over_anew_is_nobodys(kafka: Kafka) -> None:
    """The write of before is fenced by our own claim: no reason to claim once more."""
    store = SlowStore()
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, records(0, 3))
        await until(lambda: store.asked == 1)
        async with delivery._busy:
            delivery.ownership._restart_takeover(delivery.ownership.owned[P0])
        await until(lambda: delivery.ownership.owned[P0].ready)
        epoch = delivery.ownership.owned[P0].epoch
        store.takes.set()
        await settle(delivery, kafka, store, records(3, 6))
        assert delivery.ownership.owned[P0].epoch == epoch
        assert delivery.accounts.fenced == 0
    assert kafka.answered == list(range(6))


async def test_a_checkpoint_that_is_refused_while_offsets_are_on_their_way_moves_none_back(caplog: Any) -> None:
    """We ask what is committed before we claim anew: asked too early, the answer would be committed once more."""
    kafka, store = SlowCommits(), SlowStore()
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, records(0, 3))
        await until(lambda: store.asked == 1)
        kafka.takes.clear()
        retired = await feed(delivery, kafka, records(3, 6))
        await until(lambda: kafka.events.count("published") == 2)
        await store.claim(P0)  # a zombie's
        store.takes.set()
        await asyncio.sleep(0.05)
        kafka.takes.set()
        await until(lambda: len(retired) == 3 and "refused" in caplog.text and delivery.ownership.owned[P0].ready)
        assert kafka.offsets == {P0: 6}
        await answer(delivery, kafka, records(6, 9))
    assert kafka.answered == list(range(9))
    assert kafka.windows(6, 7, 8) == [3, 3, 3]


async def test_a_handover_waits_for_the_batch_that_the_broker_takes(store: FlakyStore) -> None:
    kafka = SlowKafka()
    async with live_worker(kafka, store, settings=Settings(max_wait_ms=0.0, checkpoint_ms=1e9)) as delivery:
        await feed(delivery, kafka, records(0, 3))
        await until(lambda: kafka.events == ["publishing"])
        handover = asyncio.create_task(delivery.ownership.drain())
        for _ in range(50):
            await asyncio.sleep(0)
        assert not handover.done()
        kafka.takes.set()
        await handover
        await delivery.ownership.revoke([P0])
    assert kafka.offsets == {P0: 3}
    assert store.checkpoint(P0).next_offset == 3


async def test_a_handover_closes_the_producer_of_its_partition_and_of_no_other(store: FlakyStore) -> None:
    """One that stays open keeps its sockets and tasks, and one more comes with every rebalance."""
    kafka = Transactions()
    delivery = exactly_once(kafka, store)
    async with running(delivery, P0, P1):
        await until(lambda: all(one.ready for one in delivery.status().partitions))
        first, second = kafka.newest[f"group|{P0[0]}|0"], kafka.newest[f"group|{P1[0]}|1"]
        await delivery.ownership.drain()
        await delivery.ownership.revoke([P0])
        assert (first.closed, second.closed) == (True, False)


class Unsaid(Kafka):
    """A group that does not say what is committed, as often as it is told."""

    def __init__(self, error: BaseException, times: int) -> None:
        super().__init__()
        self.left = times
        self._error = error

    async def committed(self, partition: Partition) -> CommittedOffset | None:
        if self.left:
            self.left -= 1
            raise self._error
        return await super().committed(partition)


async def test_an_error_of_kafka_that_no_waiting_cures_ends_the_worker_that_takes_over(store: FlakyStore) -> None:
    kafka = Unsaid(GroupAuthorizationFailedError("group"), 1_000)
    async with running(worker(kafka, store), P0) as pump:
        with pytest.raises(GroupAuthorizationFailedError):
            await asyncio.wait_for(pump, 30)
    assert kafka.left == 999, "it was asked again"


async def test_a_takeover_that_somebody_else_cancelled_ends_the_worker(store: FlakyStore) -> None:
    """Else its partition would stand still, and nobody would hear of it."""
    async with running(worker(Unsaid(asyncio.CancelledError(), 1), store), P0) as pump:
        with pytest.raises(RuntimeError, match=r"takeover .* was cancelled"):
            await asyncio.wait_for(pump, 30)


async def test_an_error_of_kafka_that_waiting_cures_is_waited_for(store: FlakyStore) -> None:
    kafka = Unsaid(NotCoordinatorForGroupError("group"), 3)
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, records(0, 3))
    assert kafka.left == 0


async def test_a_failed_send_ends_the_worker_and_commits_nothing(kafka: Kafka, store: FlakyStore) -> None:
    delivery = worker(kafka, store)
    async with running(delivery, P0) as pump:
        await settle(delivery, kafka, store, records(0, 3))
        kafka.fail_publish = RuntimeError("the broker refused a record")
        second = await feed(delivery, kafka, records(3, 6))
        with pytest.raises(RuntimeError, match="refused"):
            await pump
        await asyncio.sleep(0.05)  # for what is being written
    assert second == []
    assert kafka.offsets == {P0: 3}
    assert store.checkpoint(P0).next_offset == 3


async def test_a_commit_that_fails_for_good_ends_the_worker(kafka: Kafka, store: FlakyStore) -> None:
    kafka.fail_commit = RuntimeError("not authorised")
    delivery = worker(kafka, store)
    async with running(delivery, P0) as pump:
        retired = await feed(delivery, kafka, records(0, 3))
        with pytest.raises(RuntimeError, match="not authorised"):
            await pump
    assert retired == []
    assert store.checkpoint(P0).next_offset is None


async def test_what_a_crash_left_uncommitted_is_answered_by_the_next_owner_alike(
    kafka: Kafka, store: FlakyStore
) -> None:
    """Published, not committed, crashed: the same ids come again, and the same numbers."""
    delivery = worker(kafka, store)
    async with running(delivery, P0) as pump:
        await answer(delivery, kafka, records(0, 12))
        kafka.fail_commit = RuntimeError("crash")
        await feed(delivery, kafka, records(12, 20))
        with pytest.raises(RuntimeError, match="crash"):
            await pump
        await crash(delivery, pump)
    kafka.fail_commit = None
    async with live_worker(kafka, store) as again:
        await answer(again, kafka, records(12, 20))
    assert kafka.answered == [*range(12), *range(12, 20), *range(12, 20)]
    said = [loads_forecast(one.value or b"") for one in kafka.published if one.topic == SETTINGS.topics.forecasts]
    for first, second in zip(said[12:20], said[20:28], strict=True):
        assert first.forecast_id == second.forecast_id
        assert first.horizons == second.horizons
        assert second.cache == "hit", "the states came from the checkpoint and the replay"


async def test_a_takeover_replays_without_a_word_what_no_checkpoint_has(kafka: Kafka, store: FlakyStore) -> None:
    async with mortal_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(0, 12))
        store.writes_to_fail = 1_000_000
        await answer(delivery, kafka, records(12, 20))
    store.writes_to_fail = 0
    assert (store.checkpoint(P0).next_offset, kafka.offsets[P0]) == (12, 20)
    async with live_worker(kafka, store) as again:
        await answer(again, kafka, records(20, 23))
    assert kafka.answered == list(range(23))
    last = kafka.forecasts()[22]
    assert last.window.n == 23 // 3 + (22 % 3 < 23 % 3), "every ping is in the window once"
    assert last.cache == "hit"


async def test_records_that_are_already_committed_are_not_answered_again(kafka: Kafka, store: FlakyStore) -> None:
    kafka.logs[P0] = records(0, 5)
    kafka.offsets[P0] = 5
    async with live_worker(kafka, store) as delivery:
        await answer(delivery, kafka, records(2, 8))
    assert kafka.answered == [5, 6, 7]


async def test_a_rebalance_at_the_commit_forgets_the_states_and_goes_on(kafka: Kafka, store: FlakyStore) -> None:
    delivery = worker(kafka, store)
    async with running(delivery, P0, P1) as pump:
        await settle(delivery, kafka, store, records(0, 3))
        kafka.fail_commit = Rebalanced("another member has it")
        await answer(delivery, kafka, records(3, 6))
        kafka.fail_commit = None
        refused = await feed(delivery, kafka, records(6, 9))
        assert len(refused) == 3, "the partition is not ours any more"
        await answer(delivery, kafka, records(0, 3, partition=1))
        assert not pump.done()
        assert store.checkpoint(P0).next_offset == 3, "a checkpoint ahead of the commit would skip records"
        delivery.ownership.assign([P0])
        await answer(delivery, kafka, records(3, 9))
    assert kafka.offsets[P0] == 9
    assert set(kafka.answered) == set(range(9))


class Refusing(MemoryStore):
    """A store that answers, and says no: by one of its methods."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.asked = 0

        async def refuse(*_: object, **__: object) -> None:
            self.asked += 1
            raise Refused("NOPERM")

        setattr(self, method, refuse)


@pytest.mark.parametrize("method", ["claim", "get_many", "put_many"])
async def test_a_store_that_says_no_ends_the_worker_and_is_not_waited_for(kafka: Kafka, method: str) -> None:
    store = Refusing(method)
    delivery = worker(kafka, store)
    async with running(delivery, P0) as pump:
        await feed(delivery, kafka, records(0, 3))
        with pytest.raises(Refused, match="NOPERM"):
            await asyncio.wait_for(pump, 30)
    assert store.asked == 1


async def test_a_fenced_owner_that_the_group_still_trusts_claims_again(kafka: Kafka, store: FlakyStore) -> None:
    """A claim that was under way when its owner lost the partition arrives late, and fences the rightful owner."""
    async with live_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(0, 6))
        late = await store.claim(P0)
        await answer(delivery, kafka, records(6, 12))
        await until(lambda: store.checkpoint(P0) == Claim(late.epoch + 1, 12))
        await answer(delivery, kafka, records(12, 15))
    assert kafka.answered == list(range(15))
    assert kafka.windows(14) == [5]


async def test_a_redis_that_lost_everything_is_filled_again_from_the_log(kafka: Kafka, store: FlakyStore) -> None:
    async with live_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(0, 12))
        store._claims.clear()
        store._records.clear()
        await settle(delivery, kafka, store, records(12, 18))
        assert len(await store.get_many(P0, ["bus0", "bus1", "bus2"])) == 3
        await answer(delivery, kafka, records(18, 21))
    assert kafka.windows(20) == [7]
    assert None not in await store.get_many(P0, ["bus0", "bus1", "bus2"])


async def test_a_redis_that_lost_its_epochs_does_not_hand_them_out_again(kafka: Kafka, store: FlakyStore) -> None:
    """A zombie with a small epoch would pass for the owner of a small epoch."""
    epochs = []
    for number in range(3):
        delivery = worker(kafka, FlakyStore() if number == 2 else store)
        async with running(delivery, P0) as pump:
            await until(lambda delivery=delivery: delivery.status().partitions[0].ready)
            epochs.append(delivery.status().partitions[0].epoch)
            await crash(delivery, pump)
    assert epochs == [1, 2, 3], "nothing was ever answered, and Kafka knows them all the same"


class FencingKafka(AtLeastOnce):
    """Under exactly_once, once: another producer takes the partition's id."""

    def __init__(self, kafka: Kafka) -> None:
        super().__init__(kafka, kafka)
        self.fence_next = False

    async def publish(self, answers: Answers) -> None:
        """Nothing: answers and offsets are one."""

    async def commit(self, marks: Mapping[Partition, CommittedOffset], answers: Answers = NONE) -> set[Partition]:
        if answers and self.fence_next:
            self.fence_next = False
            await asyncio.sleep(0.01)  # while the engine is at the next batch
            return await super().commit({P1: marks[P1]} if P1 in marks else {}) | {P0}
        await super().publish(answers)
        return await super().commit(marks, answers)


async def test_what_a_fence_kept_from_being_committed_is_answered_in_order(kafka: Kafka, store: FlakyStore) -> None:
    """Two batches are on their way when the first is refused; taken back in the wrong order the second would move the
    offset past the first."""
    guarantee = FencingKafka(kafka)
    delivery = Delivery(THREES, Engine(Predictor.untrained(capacity=8), store, THREES), store, guarantee, kafka)
    async with running(delivery, P0):
        await until(lambda: delivery.ownership.owned[P0].ready)
        retired = [await feed(delivery, kafka, records(0, 3))]
        await until(lambda: kafka.offsets.get(P0) == 3)
        guarantee.fence_next = True
        retired += [await feed(delivery, kafka, records(start, start + 3)) for start in (3, 6, 9)]
        await until(lambda: kafka.offsets.get(P0) == 12)
        await until(lambda: all(len(some) == 3 for some in retired))
        assert not guarantee.fence_next
        assert delivery.status().partitions[0].at_work == delivery.status().partitions[0].waiting == 0
    assert kafka.answered == list(range(12))


class FailingEngine(Engine):
    """Fails half-way through a batch, as often as it is told: states have moved, and answers are lost."""

    failures = 0

    async def process(self, records: Sequence[Record], *, silent: bool = False, **more: Any) -> Answers:
        if self.failures and not silent:
            self.failures -= 1
            await super().process(records[: len(records) // 2], **more)
            raise FloatingPointError("half-way")
        return await super().process(records, silent=silent, **more)


@pytest.mark.parametrize("failures", [1, 2])
async def test_a_batch_that_failed_is_tried_once_more_from_sound_states(
    failures: int, kafka: Kafka, store: FlakyStore
) -> None:
    engine = FailingEngine(Predictor.untrained(capacity=8), store, SETTINGS)
    delivery = Delivery(SETTINGS, engine, store, AtLeastOnce(kafka, kafka), kafka)
    async with running(delivery, P0) as pump:
        await feed(delivery, kafka, records(0, 6))
        await until(lambda: kafka.offsets.get(P0) == 6)
        engine.failures = failures
        await feed(delivery, kafka, records(6, 12))
        if failures == 2:
            with pytest.raises(FloatingPointError):
                await pump
        else:
            await until(lambda: kafka.offsets.get(P0) == 12)
    answered = range(6 if failures == 2 else 12)
    assert kafka.answered == list(answered)
    calm, _ = await answer_undisturbed(records(0, 12))
    assert kafka.numbers(answered) == calm.numbers(answered)


async def test_a_ping_that_raises_costs_its_entity_and_nobody_else_whoever_meets_it(
    kafka: Kafka, store: FlakyStore
) -> None:
    """Each worker dies before it has checkpointed anything, so that the next meets that ping in its silent replay."""
    some = records(0, 18)
    some[4] = record(4, entity="bus1", speed_mps=POISON_MPS)
    for stop in (6, 12, 18):
        store.writes_to_fail = 1_000_000
        engine = Engine(FaultyFold.untrained(capacity=8), store, SETTINGS)
        delivery = Delivery(SETTINGS, engine, store, AtLeastOnce(kafka, kafka), kafka)
        async with running(delivery, P0) as pump:
            await feed(delivery, kafka, some[stop - 6 : stop])
            await until(lambda stop=stop: kafka.offsets.get(P0) == stop)
            await crash(delivery, pump)
    codes = {one.src.offset: dict(one.headers).get("__pathcast.errors.code") for one in kafka.published}
    assert {offset: code for offset, code in codes.items() if code is not None} == {
        4: b"step_failed",
        **dict.fromkeys((7, 10, 13, 16), b"entity_quarantined"),
    }
    well = [offset for offset in range(18) if offset % 3 != 1 or offset < 4]
    assert kafka.answered == well
    calm, _ = await answer_undisturbed(some)
    assert kafka.numbers(well) == calm.numbers(well)


async def test_a_quarantine_is_checkpointed_at_once(kafka: Kafka, store: FlakyStore) -> None:
    """A silent replay forecasts nothing, so that it would not find it again."""
    settings = Settings(max_wait_ms=0.0, checkpoint_ms=3_600_000.0)
    engine = Engine(FaultyForecast.untrained(capacity=8), store, settings)
    delivery = Delivery(settings, engine, store, AtLeastOnce(kafka, kafka), kafka)
    some = records(0, 12)
    some[7] = record(7, entity="bus1", speed_mps=POISON_MPS)
    async with running(delivery, P0):
        await feed(delivery, kafka, some[:6])
        await until(lambda: store.checkpoint(P0).next_offset == 6)  # the first is due at once
        await settle(delivery, kafka, store, some[6:])
    (raw,) = await store.get_many(P0, ["bus1"])
    assert quarantine.loads("bus1", raw or b"").offset == 7


async def test_offsets_that_were_moved_back_are_answered_again_from_new_states(kafka: Kafka, store: FlakyStore) -> None:
    async with mortal_worker(kafka, store) as delivery:
        await settle(delivery, kafka, store, records(0, 12))
    kafka.offsets[P0] = 6  # kafka-consumer-groups --reset-offsets
    async with live_worker(kafka, store) as again:
        await answer(again, kafka, records(6, 12))
    assert kafka.answered == [*range(12), *range(6, 12)]


async def test_a_drain_finishes_the_batch_in_flight_and_forgets_what_waits(kafka: Kafka, store: FlakyStore) -> None:
    settings = Settings(max_batch=2, max_wait_ms=0.0, checkpoint_ms=1e9)
    async with live_worker(kafka, store, settings=settings) as delivery:
        first = await feed(delivery, kafka, records(0, 2))
        await until(lambda: kafka.events == ["published", "committed"] and len(first) == 2)
        put = asyncio.create_task(feed(delivery, kafka, records(2, 6)))
        await asyncio.sleep(0)
        await delivery.ownership.drain()
        assert len(await put) == 4, "retired, answered or not: nothing may hold the rebalance up"
        assert len(await feed(delivery, kafka, records(6, 8))) == 2
        await delivery.ownership.revoke([P0])
        assert store.checkpoint(P0).next_offset == kafka.offsets[P0]
        assert kafka.answered == list(range(kafka.offsets[P0]))


async def test_polls_wait_outside_while_two_batches_wait_inside(kafka: Kafka, store: FlakyStore) -> None:
    delivery = worker(kafka, store, Settings(max_batch=4, max_wait_ms=0.0))
    delivery.ownership.assign([P0])  # and no pump yet
    await until(lambda: delivery.ownership.owned[P0].ready)
    first = await feed(delivery, kafka, records(0, 4))
    second = asyncio.create_task(feed(delivery, kafka, records(4, 8)))
    await asyncio.sleep(0.01)
    assert not second.done()
    pump = asyncio.create_task(delivery.run())
    await until(lambda: len(first) == 4 and second.done() and len(second.result()) == 4)
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)
    assert kafka.answered == list(range(8))
