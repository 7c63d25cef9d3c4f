"""The engine, from record bytes to answers, with a real model: order, crashes, damage, accounting."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.api import Predictor
from stream.engine import Engine
from stream.residents import Counts
from stream.settings import Settings
from stream.store import Fenced, MemoryStore, Partition, RedisStore, Store
from stream.wire import Outgoing, Ping, Record, dumps, forecast_id, loads_forecast, loads_gapfill

T0 = 1_700_000_000_000
A: Partition = ("pathcast.pings.v1", 0)
B: Partition = ("pathcast.pings.v1", 1)
SETTINGS = Settings()
CRASH = "crash"
CHECKPOINT = "checkpoint"
M_PER_DEG = 111_195.0


def ping(entity_id: str, seconds: float, north_m: float | None = None, **more: Any) -> Ping:
    """A ping `seconds` after T0; by default the entity goes north at 8 m/s, swaying east and west."""
    north_m = 8 * seconds if north_m is None else north_m
    lon = -97.0 + 40 * math.sin(seconds / 90) / M_PER_DEG
    return Ping(entity_id=entity_id, ts=T0 + round(seconds * 1000), lat=30.0 + north_m / M_PER_DEG, lon=lon, **more)


def steady(entity_id: str, count: int, start_s: float = 0.0) -> list[Ping]:
    return [ping(entity_id, start_s + 10 * n) for n in range(count)]


class Rig:
    """One partition's log, the engine on it, and what a worker does around them: commits, checkpoints, crashes."""

    def __init__(self, make: Callable[[], Predictor], store: Store | None = None, partition: Partition = A) -> None:
        self.make = make
        self.store = store or MemoryStore()
        self.partition = partition
        self.log: list[Record] = []
        self.out: list[Outgoing] = []
        self.engine = self.started()
        self.epoch = 0

    def started(self) -> Engine:
        return Engine(self.make(), self.store, SETTINGS, clock_ms=lambda: 30.0)

    def record(self, item: Ping | bytes, key: bytes | None = None) -> Record:
        value = item if isinstance(item, bytes) else dumps(item)
        key = item.entity_id.encode() if isinstance(item, Ping) else key
        made = Record(*self.partition, len(self.log), T0 + 10_000_000, key, value, (("trace", b"\x00\xff"),))
        self.log.append(made)
        return made

    async def batch(self, *items: Ping | bytes) -> list[Outgoing]:
        """All items in one batch; its answers."""
        records = [self.record(item) for item in items]
        answers = await self.engine.process(records, started_ms=20.0, fetched_ms=10.0)
        self.out += answers
        return answers

    async def feed(self, *items: Ping | bytes | str) -> list[Outgoing]:
        """Each item a batch of its own; CRASH and CHECKPOINT are items, too."""
        before = len(self.out)
        for item in items:
            if item == CRASH:
                await self.crash()
            elif item == CHECKPOINT:
                await self.checkpoint()
            else:
                assert not isinstance(item, str)
                await self.batch(item)
        return self.out[before:]

    async def checkpoint(self) -> None:
        if not self.epoch:
            self.epoch = (await self.store.claim(self.partition)).epoch
        await self.engine.checkpoint(self.partition, self.epoch, len(self.log))

    async def crash(self) -> None:
        """Lose everything in memory; take over as delivery does: claim, replay silently, go on."""
        self.engine = self.started()
        self.epoch, start = await self.store.claim(self.partition)
        answers = await self.engine.process(self.log[start or 0 :], started_ms=0, fetched_ms=0, silent=True)
        assert answers == []

    @property
    def counts(self) -> Counts:
        return self.engine.counts[self.partition]


@pytest.fixture
def rig(make_predictor: Callable[[], Predictor]) -> Rig:
    return Rig(make_predictor)


@pytest.fixture(params=["memory", "redis"])
async def stored_rig(request: pytest.FixtureRequest, make_predictor: Callable[[], Predictor]) -> AsyncIterator[Rig]:
    """A rig on either store."""
    store: Store = MemoryStore()
    if request.param == "redis":
        store = RedisStore(Settings(redis_url=request.getfixturevalue("redis_url")))
    yield Rig(make_predictor, store)
    await store.close()


def of(topic: str, answers: Iterable[Outgoing]) -> list[Any]:
    return [json.loads(answer.value or b"") for answer in answers if answer.topic == topic]


def forecasts(answers: Iterable[Outgoing]) -> list[Any]:
    return of(SETTINGS.topics.forecasts, answers)


def gap_fills(answers: Iterable[Outgoing]) -> list[Any]:
    return of(SETTINGS.topics.gapfills, answers)


def letters(answers: Iterable[Outgoing]) -> list[Outgoing]:
    return [answer for answer in answers if answer.topic == SETTINGS.topics.dead_letters]


def code_of(letter: Outgoing) -> str:
    return dict(letter.headers)["__pathcast.errors.code"].decode()


def assert_close(one: Any, other: Any, path: str = "") -> None:
    """Equal up to what float32 sums in another order may move; latencies and offsets aside."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for name in one.keys() - {"latency_ms", "src"}:
            assert_close(one[name], other[name], f"{path}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_close(a, b, f"{path}[{place}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-3, abs=3e-7 if ".l" in path else 0.03), path
    else:
        assert one == other, path


def assert_same_answers(ones: Sequence[Outgoing], others: Sequence[Outgoing]) -> None:
    """The same answers per entity, in the same order: batches mix entities as they like."""

    def sorted_by_entity(answers: Sequence[Outgoing]) -> list[Outgoing]:
        return sorted(answers, key=lambda answer: (answer.key or b"", answer.topic))

    one, other = sorted_by_entity(ones), sorted_by_entity(others)
    assert [(a.topic, a.key, a.headers) for a in one] == [(a.topic, a.key, a.headers) for a in other]
    for a, b in zip(one, other, strict=True):
        if a.topic == SETTINGS.topics.dead_letters:
            assert a.value == b.value
        else:
            assert_close(json.loads(a.value or b""), json.loads(b.value or b""))


# -- one answer for each record --------------------------------------------------------------------------------------


async def test_a_ping_is_answered_with_its_forecast(rig: Rig) -> None:
    (answer,) = await rig.batch(ping("bus-1", 0))
    forecast = loads_forecast(answer.value or b"")
    assert (answer.topic, answer.key) == (SETTINGS.topics.forecasts, b"bus-1")
    assert dict(answer.headers)["ce_id"] == forecast.forecast_id.encode()
    version = rig.make().version
    assert forecast.forecast_id == forecast_id("bus-1", T0, version)
    assert (forecast.model.name, forecast.model.version) == ("tiny-1", version)
    assert (forecast.anchor.ts, forecast.anchor.lat, forecast.anchor.lon) == (T0, 30.0, -97.0)
    assert [horizon.h_s for horizon in forecast.horizons] == [60, 300, 900]
    assert (forecast.window.n, forecast.window.from_ts, forecast.window.to_ts) == (1, T0, T0)
    assert (forecast.status, forecast.cache) == ("warmup", "none")
    assert (forecast.src.topic, forecast.src.partition, forecast.src.offset) == (*A, 0)
    assert (forecast.latency_ms.ingest, forecast.latency_ms.queue, forecast.latency_ms.infer) == (0, 10, 10)


async def test_a_forecast_is_no_warmup_from_the_eighth_ping_on(rig: Rig) -> None:
    answers = forecasts(await rig.feed(*steady("bus-1", 10)))
    assert [answer["status"] for answer in answers] == ["warmup"] * 7 + ["ok"] * 3
    assert [answer["cache"] for answer in answers] == ["none"] + ["hit"] * 9


async def test_published_numbers_are_rounded(rig: Rig) -> None:
    answer = forecasts(await rig.feed(*steady("bus-1", 12)))[-1]

    def digits(number: float) -> int:
        return len(f"{number:.12f}".rstrip("0").partition(".")[2])

    places = [answer["anchor"], *answer["horizons"]]
    assert all(digits(place[name]) <= 7 for place in places for name in ("lat", "lon"))
    assert digits(answer["next"]["dt_s"]) <= 3
    assert digits(answer["next"]["d_east_m"]) <= 2
    assert answer["next"]["d_lat"] == pytest.approx(answer["next"]["d_north_m"] / M_PER_DEG, abs=2e-7)


async def test_a_rejected_record_comes_back_byte_identical_with_its_reason(rig: Rig) -> None:
    junk = b'{"entity_id": "bus-1",\xff\x00 not json'
    record = rig.record(junk, key=b"\x80key")
    (letter,) = await rig.engine.process([record], started_ms=0, fetched_ms=0)
    assert (letter.topic, letter.key, letter.value) == (SETTINGS.topics.dead_letters, b"\x80key", junk)
    assert letter.headers[0] == ("trace", b"\x00\xff")
    assert code_of(letter) == "invalid_utf8"
    assert dict(letter.headers)["__pathcast.errors.stage"] == b"clean"


async def test_a_quarantined_ping_is_a_dead_letter_of_the_track(rig: Rig) -> None:
    answers = await rig.batch(*steady("bus-1", 5), ping("bus-1", 50, 90_000), ping("bus-1", 60))
    (letter,) = letters(answers)
    assert (code_of(letter), dict(letter.headers)["__pathcast.errors.stage"]) == ("impossible_jump", b"track")
    assert answers.index(letter) == 5
    assert (rig.counts.rejects, rig.counts.quarantined, rig.counts.forecasts) == (1, 1, 6)


async def test_a_duplicate_is_counted_and_not_answered(rig: Rig) -> None:
    assert len(await rig.batch(*steady("bus-1", 3), ping("bus-1", 10))) == 3
    assert rig.counts.duplicates == 1


async def test_records_of_two_partitions_are_answered_in_one_batch(make_predictor: Callable[[], Predictor]) -> None:
    store = MemoryStore()
    one, two = Rig(make_predictor, store, A), Rig(make_predictor, store, B)
    mixed = [r for n in range(4) for r in (one.record(ping("x", 10 * n)), two.record(ping("x", 10 * n)))]
    answers = forecasts(await one.engine.process(mixed, started_ms=0, fetched_ms=0))
    assert [answer["window"]["n"] for answer in answers] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [(answer["src"]["partition"], answer["src"]["offset"]) for answer in answers] == [
        (p, n) for n in range(4) for p in (0, 1)
    ]
    assert (one.engine.counts[A].forecasts, one.engine.counts[B].forecasts) == (4, 4)


# -- sessions, late pings, gaps --------------------------------------------------------------------------------------


async def test_a_new_session_forgets_the_old_motion(rig: Rig, make_predictor: Callable[[], Predictor]) -> None:
    later = [ping("bus-1", 9_000 + 10 * n, 50 * n) for n in range(3)]
    answers = forecasts(await rig.feed(*steady("bus-1", 20), *later))
    fresh = forecasts(await Rig(make_predictor).feed(*later))
    assert_close(answers[-3:], fresh)
    assert rig.counts.restarts == 2


async def test_a_late_ping_is_answered_where_it_belongs_and_the_rest_go_on_as_if_it_had_come_in_time(
    rig: Rig, make_predictor: Callable[[], Predictor]
) -> None:
    pings = steady("bus-1", 20)
    shuffled = [*pings[:12], *pings[13:16], pings[12], *pings[16:]]
    ordered = {answer["anchor"]["ts"]: answer for answer in forecasts(await Rig(make_predictor).feed(*pings))}
    answers = forecasts(await rig.batch(*shuffled))
    late = answers[15]
    assert late["anchor"]["ts"] == pings[12].ts
    assert (late["status"], late["cache"], late["window"]["n"]) == ("stale", "rebuilt", 13)
    assert late["window"]["to_ts"] == pings[12].ts
    for answer in [late, *answers[16:]]:
        expected = ordered[answer["anchor"]["ts"]]
        assert_close(answer["next"], expected["next"])
        assert_close(answer["horizons"], expected["horizons"])
        assert answer["forecast_id"] == expected["forecast_id"]
    assert [answer["status"] for answer in answers[16:]] == ["ok"] * 4
    assert rig.counts.late == 1


async def test_a_gap_is_filled_at_once_and_revised_two_pings_later(rig: Rig) -> None:
    answers = await rig.feed(*steady("bus-1", 20), *steady("bus-1", 4, start_s=310))
    provisional, final = gap_fills(answers)
    assert [(fill["revision"], fill["status"]) for fill in (provisional, final)] == [(0, "provisional"), (1, "final")]
    assert provisional["gap_id"] == final["gap_id"]
    assert provisional["start"]["ts"] == T0 + 190_000
    assert provisional["end"]["ts"] == T0 + 310_000
    assert [point["ts"] - T0 for point in final["points"]] == [200_000 + 10_000 * n for n in range(11)]
    assert final["method"] == "model"
    assert final["reason"] == "silence"
    assert final["length_m"] >= 8 * 119
    assert final["max_sigma_m"] > 0
    where = [(answer.topic, loads_gapfill(answer.value or b"").revision) for answer in answers if gap_fills([answer])]
    assert len(where) == 2
    assert answers.index(next(a for a in answers if gap_fills([a]))) == 21, "right after the forecast of its ping"


async def test_a_late_ping_in_a_filled_gap_retracts_the_fill(rig: Rig) -> None:
    answers = await rig.feed(*steady("bus-1", 20), ping("bus-1", 310), ping("bus-1", 250), ping("bus-1", 320))
    provisional, retracted = gap_fills(answers)
    assert retracted["gap_id"] == provisional["gap_id"]
    assert (retracted["revision"], retracted["status"], retracted["reason"]) == (1, "retracted", "late")
    assert retracted["points"] == []


async def test_the_last_gap_of_a_session_becomes_final_with_the_state_of_that_session(rig: Rig) -> None:
    answers = await rig.feed(*steady("bus-1", 20), ping("bus-1", 310), ping("bus-1", 9_000, 0.0))
    provisional, final = gap_fills(answers)
    assert final["status"] == "final"
    assert_close(final["points"], provisional["points"])


async def test_a_model_that_is_not_finite_says_so(make_predictor: Callable[[], Predictor]) -> None:
    def broken() -> Predictor:
        predictor = make_predictor()
        with torch.no_grad():
            for weights in predictor._net.parameters():
                weights.fill_(float("nan"))
        return predictor

    answers = await Rig(broken).feed(*steady("bus-1", 20), *steady("bus-1", 1, start_s=310))
    said = forecasts(answers)
    assert {answer["status"] for answer in said} == {"fallback_cv"}
    assert "NaN" not in json.dumps(said)
    assert None not in [horizon["lat"] for answer in said for horizon in answer["horizons"]]
    assert gap_fills(answers)[0]["method"] != "model"


# -- the same input, the same answers --------------------------------------------------------------------------------

steps = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from([-400, -30, -10, -5, 0, 1, 10, 10, 10, 10, 20, 70, 200, 4_000]),
    st.sampled_from([None, None, None, None, 90_000.0]),
)


@st.composite
def journeys(draw: st.DrawFn) -> list[Ping | bytes]:
    """Three entities with everything that goes wrong, and junk in between."""
    now = dict.fromkeys("abc", 0.0)
    items: list[Ping | bytes] = []
    for entity_id, step_s, north_m in draw(st.lists(steps, min_size=1, max_size=50)):
        now[entity_id] += step_s
        items.append(ping(entity_id, now[entity_id], north_m))
        if draw(st.integers(0, 9)) == 0:
            items.append(draw(st.sampled_from([b"junk", b"", b'{"entity_id":"a"}'])))
    return items


def run_in_batches(make: Callable[[], Predictor], items: Sequence[Ping | bytes], sizes: Sequence[int]) -> Rig:
    async def all_of_them() -> Rig:
        rig, start, turn = Rig(make), 0, 0
        while start < len(items):
            size = sizes[turn % len(sizes)]
            await rig.batch(*items[start : start + size])
            start, turn = start + size, turn + 1
        return rig

    return asyncio.run(all_of_them())


@settings(max_examples=40)  # each runs the model some hundred times
@given(items=journeys(), sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4))
def test_how_the_input_is_cut_into_batches_changes_no_answer(
    make_predictor: Callable[[], Predictor], items: list[Ping | bytes], sizes: list[int]
) -> None:
    one_by_one = run_in_batches(make_predictor, items, [1])
    cut = run_in_batches(make_predictor, items, sizes)
    assert_same_answers(cut.out, one_by_one.out)
    assert vars(cut.counts) == vars(one_by_one.counts)


@settings(max_examples=40)  # each runs the model some hundred times
@given(items=journeys())
def test_every_record_has_exactly_one_outcome(
    make_predictor: Callable[[], Predictor], items: list[Ping | bytes]
) -> None:
    rig = run_in_batches(make_predictor, items, [7])
    counts = rig.counts
    assert counts.records_in == len(items) == counts.forecasts + counts.rejects + counts.duplicates + counts.folded
    assert counts.folded == 0
    assert len(forecasts(rig.out)) == counts.forecasts
    assert len(letters(rig.out)) == counts.rejects
    assert len(gap_fills(rig.out)) == counts.gap_fills
    assert sum(answer["status"] == "stale" for answer in forecasts(rig.out)) == counts.late
    answered = [answer.src.offset for answer in rig.out if answer.topic != SETTINGS.topics.gapfills]
    assert answered == sorted(set(answered)), "one answer each, in input order"


@settings(max_examples=40)  # each runs the model some hundred times
@given(items=journeys(), data=st.data())
def test_crashes_and_checkpoints_anywhere_change_no_answer(
    make_predictor: Callable[[], Predictor], items: list[Ping | bytes], data: st.DataObject
) -> None:
    events: list[Ping | bytes | str] = list(items)
    for _ in range(data.draw(st.integers(1, 4))):
        events.insert(data.draw(st.integers(0, len(events))), data.draw(st.sampled_from([CRASH, CHECKPOINT])))
    crashed, calm = Rig(make_predictor), Rig(make_predictor)
    asyncio.run(crashed.feed(*events))
    asyncio.run(calm.feed(*items))
    assert_same_answers(crashed.out, calm.out)


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


async def tampered(rig: Rig, change: Callable[[bytes], bytes]) -> None:
    """Checkpoint, change bus-1's stored record, crash, and take over."""
    await rig.checkpoint()
    (raw,) = await rig.store.get_many(A, ["bus-1"])
    assert raw is not None
    await rig.store.put_many(A, rig.epoch, None, {"bus-1": change(raw)})
    await rig.crash()


def flip(place: int) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        flipped = bytearray(raw)
        flipped[place] ^= 0x10
        return bytes(flipped)

    return change


@pytest.mark.parametrize(
    "change",
    [flip(-1), flip(-40), lambda raw: raw[:-1], lambda raw: raw[:-300], lambda raw: raw + b"x"],
    ids=["last bit", "inner bit", "cut by one", "cut", "longer"],
)
async def test_a_damaged_state_is_rebuilt_from_the_window_and_the_forecast_says_so(
    stored_rig: Rig, make_predictor: Callable[[], Predictor], change: Callable[[bytes], bytes]
) -> None:
    pings = steady("bus-1", 120)
    expected = forecasts(await Rig(make_predictor).feed(*pings))
    await stored_rig.batch(*pings[:110])
    await tampered(stored_rig, change)
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
    await tampered(rig, flip(-1))
    answers = forecasts(await rig.batch(*(ping(f"bus-{n % 9}", 10 * n) for n in range(90, 99))))
    assert [answer["cache"] for answer in answers] == ["hit", "rebuilt"] + ["hit"] * 7


@pytest.mark.parametrize("change", [flip(0), flip(4), flip(60), lambda _: b"", lambda raw: raw[:30]])
async def test_an_entity_with_a_damaged_track_starts_anew(rig: Rig, change: Callable[[bytes], bytes]) -> None:
    await rig.batch(*steady("bus-1", 20))
    await tampered(rig, change)
    answers = forecasts(await rig.feed(*steady("bus-1", 2, start_s=200)))
    assert [(answer["cache"], answer["window"]["n"]) for answer in answers] == [("none", 1), ("hit", 2)]
    assert rig.counts.damaged == 1


async def test_a_rebuilt_state_is_confessed_by_the_first_forecast_after_a_silent_replay(rig: Rig) -> None:
    await rig.batch(*steady("bus-1", 20))
    await rig.checkpoint()
    (raw,) = await rig.store.get_many(A, ["bus-1"])
    await rig.store.put_many(A, rig.epoch, None, {"bus-1": flip(-1)(raw or b"")})
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
    assert await rig.engine.process(rig.log, started_ms=0, fetched_ms=0) == []
    assert rig.counts.folded == 10
    assert forecasts(await rig.feed(ping("bus-1", 100)))[0]["window"]["n"] == 11


class AwayStore(MemoryStore):
    """A store that can be away, as Redis can."""

    away = False

    async def get_many(self, partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]:
        if self.away:
            raise ConnectionError("away")
        return await super().get_many(partition, entity_ids)

    async def put_many(self, partition: Partition, epoch: int, next_offset: int | None, items: Any) -> None:
        if self.away:
            raise ConnectionError("away")
        await super().put_many(partition, epoch, next_offset, items)


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


async def test_evicted_entities_come_back_from_the_store_as_they_were(make_predictor: Callable[[], Predictor]) -> None:
    items = [ping(f"bus-{n % 6}", 10 * n) for n in range(120)]
    calm, tight = Rig(make_predictor), Rig(make_predictor)
    tight.engine = Engine(make_predictor(), tight.store, SETTINGS, max_resident=2)
    await calm.feed(*items)
    for start in range(0, 120, 5):
        await tight.feed(*items[start : start + 5], CHECKPOINT)
    assert_same_answers(tight.out, calm.out)
