"""The same input gives the same answers, through batches, crashes, checkpoints, damage and an absent store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from engine_rig import (
    CHECKPOINT,
    CRASH,
    DUMP,
    FAIL,
    SETTINGS,
    T0,
    WRITE,
    A,
    Rig,
    assert_close,
    assert_same_answers,
    flip,
    forecasts,
    gap_fills,
    journeys,
    letters,
    ping,
    steady,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from model.api import Predictor
from stream.config.settings import Settings
from stream.engine.engine import Engine
from stream.engine.entities import snapshot, stored_entity
from stream.store.base import READ_CHUNK, Fenced, Item, MemoryStore, Partition, Patch, Store
from stream.store.redis_store import RedisStore
from stream.tracks.fix import FIX_BYTES
from stream.wire import Ping


@pytest.fixture(params=["memory", "redis"])
async def stored_rig(request: pytest.FixtureRequest, make_predictor: Callable[[], Predictor]) -> AsyncIterator[Rig]:
    """A rig on either store."""
    store: Store = MemoryStore()
    if request.param == "redis":
        store = RedisStore(Settings(redis_url=request.getfixturevalue("redis_url")))
    yield Rig(make_predictor, store)
    await store.close()


# -- the same input, the same answers --------------------------------------------------------------------------------

JOURNEYS = journeys([[]] * 27 + [[b"junk"], [b""], [b'{"entity_id":"a"}']])


def run_in_batches(make: Callable[[], Predictor], items: Sequence[Ping | bytes], sizes: Sequence[int]) -> Rig:
    async def all_of_them() -> Rig:
        rig, start, outcome = Rig(make), 0, 0
        while start < len(items):
            size = sizes[outcome % len(sizes)]
            await rig.batch(*items[start : start + size])
            start, outcome = start + size, outcome + 1
        return rig

    return asyncio.run(all_of_them())


@settings(max_examples=40)  # each runs the model some hundred times
@given(items=JOURNEYS, sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4))
def test_how_the_input_is_cut_into_batches_changes_no_answer_and_every_record_has_one_outcome(
    make_predictor: Callable[[], Predictor], items: list[Ping | bytes], sizes: list[int]
) -> None:
    one_by_one = run_in_batches(make_predictor, items, [1])
    cut = run_in_batches(make_predictor, items, sizes)
    assert_same_answers(cut.out, one_by_one.out)
    counts = cut.counts
    assert vars(counts) == vars(one_by_one.counts)
    assert counts.records_in == len(items) == counts.forecasts + counts.rejects + counts.duplicates + counts.folded
    assert counts.folded == 0
    assert len(forecasts(cut.out)) == counts.forecasts
    assert len(letters(cut.out)) == counts.rejects
    assert len(gap_fills(cut.out)) == counts.gap_fills
    assert sum(answer["status"] == "stale" for answer in forecasts(cut.out)) == counts.late
    answered = [answer.src.offset for answer in cut.out if answer.topic != SETTINGS.topics.gapfills]
    assert answered == sorted(set(answered)), "one answer each, in input order"


@settings(max_examples=50)  # each runs the model some hundred times
@given(
    items=JOURNEYS,
    leg=st.sampled_from([1, 2, 3, snapshot.LEG]),
    resident=st.sampled_from([1, 2, 3, None]),
    data=st.data(),
)
def test_crashes_and_checkpoints_anywhere_also_those_that_are_made_while_pings_come_change_no_answer(
    make_predictor: Callable[[], Predictor],
    items: list[Ping | bytes],
    leg: int,
    resident: int | None,
    data: st.DataObject,
) -> None:
    """Entities change between the dump and the end of its write, and between two legs; some writes fail; and whoever is
    one too many leaves memory in the end, unless it has changed."""
    events: list[Ping | bytes | str] = list(items)
    for _ in range(data.draw(st.integers(1, 16))):
        what = data.draw(st.sampled_from([*[DUMP, WRITE] * 3, FAIL, *[CHECKPOINT, CRASH] * 2]))
        events.insert(data.draw(st.integers(0, len(events))), what)
    crashed, calm = Rig(make_predictor), Rig(make_predictor)
    crashed.max_resident = resident
    crashed.engine = crashed.started()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "LEG", leg)
        asyncio.run(crashed.feed(*events, CRASH, *steady("bus-1", 2, start_s=90_000)))
    asyncio.run(calm.feed(*items, *steady("bus-1", 2, start_s=90_000)))
    assert_same_answers(crashed.out, calm.out)


async def test_what_changes_while_a_checkpoint_is_written_is_in_the_next(rig: Rig) -> None:
    """Whose window was laid anew meanwhile, by a late ping, is written whole; the others as patches of what came."""
    await rig.feed(*steady("bus-1", 10), *steady("bus-2", 10), *steady("bus-3", 10), CHECKPOINT)
    await rig.feed(ping("bus-1", 100), ping("bus-2", 100), DUMP, ping("bus-1", 110), ping("bus-2", 95), WRITE)
    assert (await rig.store.peek(A)).next_offset == 32, "what the dump included, and no more"
    puts: list[Mapping[str, Item]] = []
    put_many = rig.store.put_many

    async def watched(partition: Partition, epoch: int, next_offset: int | None, items: Mapping[str, Item]) -> Any:
        puts.append(items)
        return await put_many(partition, epoch, next_offset, items)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rig.store, "put_many", watched)
        await rig.feed(CHECKPOINT)
    (items,) = puts
    assert {name: isinstance(item, Patch) for name, item in items.items()} == {"bus-1": True, "bus-2": False}
    assert isinstance(items["bus-1"], Patch)
    assert items["bus-1"].size <= stored_entity.HEAD.itemsize + FIX_BYTES, "the one fix that came after the dump"
    await rig.feed(CRASH)
    assert A not in rig.engine.counts, "nothing was left to replay"
    answers = forecasts(await rig.feed(*(ping(f"bus-{n}", 120) for n in (1, 2, 3))))
    assert [(answer["window"]["n"], answer["cache"]) for answer in answers] == [(13, "hit"), (13, "hit"), (11, "hit")]


async def test_a_crash_after_a_checkpoint_changes_no_answer_on_either_store(
    stored_rig: Rig, make_predictor: Callable[[], Predictor]
) -> None:
    """Longer than every ring and every window, with a gap that is pending across the crash."""
    pings = [*steady("bus-1", 100), *steady("bus-1", 30, start_s=1_300)]
    others = [ping(f"bus-{n % 7 + 2}", 10 * n) for n in range(130)]
    items = [item for pair in zip(pings, others, strict=True) for item in pair]
    calm = Rig(make_predictor)
    await calm.feed(*items)
    await stored_rig.feed(*items[:150], CHECKPOINT, *items[150:202], CHECKPOINT, *items[202:203], CRASH, *items[203:])
    assert_same_answers(stored_rig.out, calm.out)
    assert {fill["status"] for fill in gap_fills(calm.out)} == {"provisional", "final"}


# -- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        partial(flip, bit=-4),
        partial(flip, bit=-316),
        lambda raw: raw[:-1],
        lambda raw: raw[:-300],
        lambda raw: raw + b"x",
    ],
    ids=["last byte", "inner byte", "cut by one", "cut", "longer"],
)
async def test_a_damaged_state_is_rebuilt_from_the_window_and_the_forecast_says_so(
    stored_rig: Rig, make_predictor: Callable[[], Predictor], change: Callable[[bytes], bytes]
) -> None:
    pings = steady("bus-1", 120)
    expected = forecasts(await Rig(make_predictor).feed(*pings))
    await stored_rig.batch(*pings[:110])
    await stored_rig.tamper(change)
    answers = forecasts(await stored_rig.feed(*pings[110:]))
    assert [answer["cache"] for answer in answers] == ["rebuilt"] + ["hit"] * 9
    assert [answer["status"] for answer in answers] == ["ok"] * 10
    assert stored_rig.counts.rebuilt == 1
    for answer, calm in zip(answers, expected[110:], strict=True):
        assert_close({**answer, "cache": "hit"}, calm)


async def test_a_state_of_other_weights_is_rebuilt(rig: Rig, make_predictor: Callable[..., Predictor]) -> None:
    pings = steady("bus-1", 40)
    await rig.batch(*pings[:30])
    await rig.checkpoint()
    rig.make = lambda: make_predictor(2)
    await rig.crash()
    answers = forecasts(await rig.feed(*pings[30:]))
    fresh = forecasts(await Rig(rig.make).feed(*pings))[30:]
    assert [answer["cache"] for answer in answers] == ["rebuilt"] + ["hit"] * 9
    assert_close([{**answer, "cache": "hit"} for answer in answers], fresh)


async def test_one_damaged_state_among_many_spoils_no_other(rig: Rig) -> None:
    await rig.batch(*(ping(f"bus-{n % 9}", 10 * n) for n in range(90)))
    await rig.tamper(partial(flip, bit=-4))
    answers = forecasts(await rig.batch(*(ping(f"bus-{n % 9}", 10 * n) for n in range(90, 99))))
    assert [answer["cache"] for answer in answers] == ["hit", "rebuilt"] + ["hit"] * 7


@pytest.mark.parametrize(
    "change",
    [
        partial(flip, bit=4),
        partial(flip, bit=36),
        partial(flip, bit=484),
        lambda _: b"",
        lambda raw: raw[:30],
    ],
)
async def test_an_entity_with_a_damaged_track_starts_anew(rig: Rig, change: Callable[[bytes], bytes]) -> None:
    await rig.batch(*steady("bus-1", 20))
    await rig.tamper(change)
    answers = forecasts(await rig.feed(*steady("bus-1", 2, start_s=200)))
    assert [(answer["cache"], answer["window"]["n"]) for answer in answers] == [("none", 1), ("hit", 2)]
    assert rig.counts.damaged == 1


async def test_a_rebuilt_state_is_confessed_by_the_first_forecast_after_a_silent_replay(rig: Rig) -> None:
    await rig.batch(*steady("bus-1", 20))
    await rig.checkpoint()
    (raw,) = await rig.store.get_many(A, ["bus-1"])
    await rig.store.put_many(A, rig.epoch, None, {"bus-1": flip(raw or b"", -4)})
    await rig.feed(*steady("bus-1", 3, start_s=200))
    await rig.crash()
    answers = forecasts(await rig.feed(*steady("bus-1", 2, start_s=230)))
    assert [answer["cache"] for answer in answers] == ["rebuilt", "hit"]


async def test_a_stored_record_from_another_past_is_not_used(rig: Rig) -> None:
    """The topic was made anew: its offsets begin at 0 again, and every record would be taken for folded."""
    await rig.batch(*steady("bus-1", 20))
    await rig.checkpoint()
    rig.engine, rig.log = rig.started(), []
    answers = forecasts(await rig.feed(*steady("bus-1", 3, start_s=500)))
    assert [answer["window"]["n"] for answer in answers] == [1, 2, 3]


# -- around the engine -----------------------------------------------------------------------------------------------


async def test_records_that_come_again_are_not_folded_twice(rig: Rig) -> None:
    await rig.feed(*steady("bus-1", 10))
    assert not await rig.engine.process(rig.log, started_ms=0, fetched_ms=0)
    assert rig.counts.folded == 10
    assert forecasts(await rig.feed(ping("bus-1", 100)))[0]["window"]["n"] == 11


async def test_records_that_come_again_make_no_checkpoint_write_their_entity(rig: Rig) -> None:
    await rig.batch(*steady("bus-1", 10), ping("bus-2", 0))
    await rig.checkpoint()
    assert not await rig.engine.process(rig.log, started_ms=0, fetched_ms=0)
    await rig.batch(ping("bus-2", 10))
    leg = rig.engine.begin_checkpoint(rig.partition, rig.epoch, len(rig.log))
    await leg.dump(len(rig.log))
    assert leg._dumped is not None
    assert list(leg._dumped.items) == ["bus-2"]


class AwayStore(MemoryStore):
    """A store that can be away, as Redis can."""

    away = False
    reads_left = 1_000  # before it goes away

    async def get_many(self, partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]:
        self.reads_left -= 1
        if self.away or self.reads_left < 0:
            raise ConnectionError("away")
        return await super().get_many(partition, entity_ids)

    async def put_many(self, partition: Partition, epoch: int, next_offset: int | None, items: Any) -> list[str]:
        if self.away:
            raise ConnectionError("away")
        return await super().put_many(partition, epoch, next_offset, items)


async def test_nothing_is_folded_while_the_store_is_away_so_that_the_batch_can_be_tried_again(
    make_predictor: Callable[[], Predictor],
) -> None:
    store = AwayStore()
    rig = Rig(make_predictor, store)
    await rig.feed(*steady("bus-1", 3))
    records = [rig.record(ping("bus-1", 30)), rig.record(ping("bus-2", 30))]
    store.away = True
    with pytest.raises(ConnectionError):
        await rig.engine.process(records, started_ms=0, fetched_ms=0)
    store.away = False
    answers = forecasts(await rig.engine.process(records, started_ms=0, fetched_ms=0))
    assert [answer["window"]["n"] for answer in answers] == [4, 1]
    assert (rig.counts.records_in, rig.counts.folded) == (5, 0)


FLEET = [f"bus-{number}" for number in range(2 * READ_CHUNK + 50)]


async def a_fleet(make: Callable[[], Predictor], store: MemoryStore) -> Rig:
    """Many entities with windows and states, in memory and, some of them two fixes behind, in a checkpoint."""
    rig = Rig(make, store)
    for round_ in range(8):
        await rig.batch(*(ping(one, 10 * round_) for one in FLEET))
        if round_ in (5, 7):
            await rig.checkpoint()
    return rig


@pytest.mark.parametrize("reads", [1_000, 0, 1, 2])
async def test_many_strangers_are_who_they_were_even_if_the_store_goes_away_among_them(
    make_predictor: Callable[[], Predictor], reads: int
) -> None:
    store = AwayStore()
    calm, rig = await a_fleet(make_predictor, MemoryStore()), await a_fleet(make_predictor, store)
    await rig.feed(CRASH)
    batch = [ping(one, 80) for one in [*FLEET, *FLEET[:5]]]
    want = await calm.batch(*batch)
    store.reads_left = reads
    records = [rig.record(item) for item in batch]
    if reads < 3:
        with pytest.raises(ConnectionError):
            await rig.engine.process(records, started_ms=20.0, fetched_ms=10.0)
        assert rig.counts.records_in == 0
        store.reads_left = 1_000
    got = await rig.engine.process(records, started_ms=20.0, fetched_ms=10.0)
    assert_same_answers(got, want)
    assert (rig.counts.records_in, rig.counts.forecasts, rig.counts.rebuilt) == (len(batch), len(FLEET), 0)


async def test_strangers_are_read_while_others_are_admitted(make_predictor: Callable[[], Predictor]) -> None:
    seen = []

    class Told(MemoryStore):
        async def get_many(self, partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]:
            seen.append(f"read {len(entity_ids)}")
            await asyncio.sleep(0)
            seen.append("got")
            return await super().get_many(partition, entity_ids)

    async def run(work: Callable[[], Any], /) -> Any:
        seen.append("begin")
        await asyncio.sleep(0.01)
        seen.append("end")
        return work()

    rig = Rig(make_predictor, Told())
    rig.engine = Engine(make_predictor(), rig.store, SETTINGS, run=run)
    await rig.batch(*(ping(one, 0) for one in FLEET))
    first, second, third = (f"read {count}" for count in (READ_CHUNK, READ_CHUNK, 50))
    assert seen[:2] == [first, "got"]
    assert seen[2:] == [second, "begin", "got", "end", third, "begin", "got", "end", "begin", "end", "begin", "end"]


async def test_a_checkpoint_that_failed_is_written_by_the_next_one(make_predictor: Callable[[], Predictor]) -> None:
    store = AwayStore()
    rig = Rig(make_predictor, store)
    await rig.feed(*steady("bus-1", 10), CHECKPOINT, *steady("bus-1", 2, start_s=100))
    store.away = True
    with pytest.raises(ConnectionError):
        await rig.checkpoint()
    store.away = False
    await rig.feed(CHECKPOINT, CRASH)
    assert A not in rig.engine.counts, "nothing was left to replay"
    assert forecasts(await rig.feed(ping("bus-1", 120)))[0]["window"]["n"] == 13


def state_of(rig: Rig, entity_id: str) -> bytes:
    """The model's state as it is in memory."""
    entities = rig.engine._table
    slot = entities.shard(A).entities[entity_id]
    return entities._predictors.dumps(np.array([slot]))[0]


async def test_a_state_that_was_stored_some_pings_ago_is_caught_up_to_the_bit(rig: Rig, stored_rig: Rig) -> None:
    """A checkpoint after every few pings: few of them write the state, all of them the fixes that it lacks."""
    pings = steady("bus-1", 90)
    await rig.feed(*pings)
    for start in range(0, 90, 4):
        await stored_rig.feed(*pings[start : start + 4], CHECKPOINT)
        (raw,) = await stored_rig.store.get_many(A, ["bus-1"])
        kept = stored_entity.loads("bus-1", raw or b"")
        assert kept.behind <= stored_entity.STALE
        await stored_rig.feed(CRASH)
    (raw,) = await stored_rig.store.get_many(A, ["bus-1"])
    assert stored_entity.loads("bus-1", raw or b"").behind > 0, "or nothing was caught up"
    await stored_rig.feed(*steady("bus-1", 1, start_s=900))
    await rig.feed(*steady("bus-1", 1, start_s=900))
    assert state_of(stored_rig, "bus-1") == state_of(rig, "bus-1")
    assert stored_rig.counts.rebuilt == 0


async def test_a_state_that_does_not_stand_in_its_window_is_rebuilt(rig: Rig) -> None:
    """Of another checkpoint than its track, as a store that mixes two would hand it out."""
    await rig.feed(*steady("bus-1", 10), CHECKPOINT)
    (old,) = await rig.store.get_many(A, ["bus-1"])
    await rig.feed(*steady("bus-1", 20, start_s=100), CHECKPOINT)
    (new,) = await rig.store.get_many(A, ["bus-1"])
    state_at = stored_entity.HEAD.itemsize + rig.engine._table.tracks.ring.shape[1] * FIX_BYTES
    await rig.store.put_many(A, rig.epoch, None, {"bus-1": (new or b"")[:state_at] + (old or b"")[state_at:]})
    await rig.feed(CRASH)
    (answer,) = forecasts(await rig.feed(ping("bus-1", 300)))
    assert (answer["cache"], rig.counts.rebuilt) == ("rebuilt", 1)


async def test_a_checkpoint_writes_only_what_changed_since_the_last(rig: Rig) -> None:
    await rig.feed(ping("bus-1", 0), ping("bus-2", 0), CHECKPOINT)
    await rig.store.put_many(A, rig.epoch, None, {"bus-1": b"mark", "bus-2": b"mark"})
    await rig.feed(ping("bus-2", 10), CHECKPOINT)
    untouched, changed = await rig.store.get_many(A, ["bus-1", "bus-2"])
    assert untouched == b"mark"
    assert changed != b"mark"


async def test_a_suspect_is_remembered_across_crashes(rig: Rig) -> None:
    await rig.feed(*steady("bus-1", 5), CHECKPOINT, ping("bus-1", 50, 90_000), CHECKPOINT, CRASH)
    await rig.feed(ping("bus-1", 60, 90_080), CHECKPOINT, CRASH)
    (moved,) = forecasts(await rig.feed(ping("bus-1", 70, 90_160)))
    assert moved["window"]["n"] == 1


# Pings on time, one 50 minutes ahead of its record, more on time, one 23 hours ahead, and more on time.
AHEAD: list[tuple[Ping, int]] = [
    *((one, one.ts + 400) for one in steady("bus-1", 20)),
    (ping("bus-1", 3_200), T0 + 200_000),
    *((one, one.ts + 400) for one in steady("bus-1", 12, start_s=200)),
    (ping("bus-1", 82_800), T0 + 320_000),
    *((one, one.ts + 400) for one in steady("bus-1", 5, start_s=320)),
]


async def send(rig: Rig, sent: Sequence[tuple[Ping, int]]) -> None:
    """One batch of records with timestamps of their own."""
    records = []
    for item, rig.stamp_ms in sent:
        records.append(rig.record(item))
    rig.out += await rig.engine.process(records, started_ms=20.0, fetched_ms=10.0)


@pytest.mark.parametrize("size", [1, 2, 7, len(AHEAD)])
@pytest.mark.parametrize("dying", [False, True])
async def test_pings_from_the_future_silence_an_entity_for_two_pings_however_they_are_cut_and_whatever_dies(
    make_predictor: Callable[[], Predictor], size: int, dying: bool
) -> None:
    rig, calm = Rig(make_predictor), Rig(make_predictor)
    for one in AHEAD:
        await send(calm, [one])
    for at in range(0, len(AHEAD), size):
        await send(rig, AHEAD[at : at + size])
        if dying:
            await rig.feed(*(CHECKPOINT, CRASH) if at % 3 else (CRASH,))
    assert_same_answers(rig.out, calm.out)
    assert [answer.src.offset for answer in letters(rig.out)] == [21, 22, 34, 35]
    assert [answer["window"]["n"] for answer in forecasts(rig.out)[-4:]] == [1, 1, 2, 3]
    fills = [(fill["end"]["ts"], fill["status"]) for fill in gap_fills(rig.out)]
    assert fills == [(T0 + 3_200_000, "provisional"), (T0 + 3_200_000, "retracted")]


async def test_a_checkpoint_never_runs_ahead_of_the_commit(rig: Rig) -> None:
    await rig.feed(*steady("bus-1", 10))
    epoch, _ = await rig.store.claim(A)
    with pytest.raises(ValueError, match="commit first"):
        await rig.engine.checkpoint(A, epoch, 9)
    assert (await rig.store.claim(A)).next_offset is None


async def test_an_owner_that_was_replaced_is_fenced(stored_rig: Rig) -> None:
    await stored_rig.feed(*steady("bus-1", 10), CHECKPOINT, *steady("bus-1", 2, start_s=100))
    await stored_rig.store.claim(A)
    with pytest.raises(Fenced):
        await stored_rig.checkpoint()
    assert (await stored_rig.store.claim(A)).next_offset == 10


async def test_dropped_partitions_give_their_slots_back(make_predictor: Callable[[], Predictor]) -> None:
    predictor = make_predictor()
    rig = Rig(lambda: predictor)
    for round_ in range(20):
        await rig.batch(*(ping(f"bus-{round_}-{n}", round_) for n in range(4)))
        rig.engine.drop(A)
    assert predictor.acquire(4).max() < 8, "the pool never held more than one round's entities and the next one's"
