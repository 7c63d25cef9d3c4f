"""A batch that raises: the entity at fault goes into quarantine, and nobody else notices. With a real model that raises
for certain pings, after it has folded what it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from engine_rig import CHECKPOINT, SETTINGS, A, Rig, assert_close, code_of, forecasts, gap_fills, letters, ping, steady
from faulty import FaultyFill, FaultyFold, FaultyForecast, Raised, Worker, poison
from hypothesis import given, settings
from hypothesis import strategies as st

from model.api import Predictor
from stream.config.settings import Settings
from stream.engine import engine as engine_module
from stream.engine.bisection import FEW
from stream.engine.engine import Engine
from stream.engine.entities import quarantine
from stream.store.base import MemoryStore
from stream.wire import Outgoing, Ping

Make = Callable[..., Predictor]
FAULTS = [FaultyFold, FaultyForecast, FaultyFill]


def worker(make: Make, kind: type[Predictor] = FaultyFold, **more: Any) -> Worker:
    return Worker(lambda: make(kind=kind), **more)


def of_others(answers: Sequence[Outgoing], *ill: str) -> list[Outgoing]:
    keys = {entity_id.encode() for entity_id in ill}
    return [answer for answer in answers if answer.key not in keys]


def assert_undisturbed(answers: Sequence[Outgoing], calm: Sequence[Outgoing]) -> None:
    """Equal to the bit, in the same order. Gap fills up to the last digit: all of a batch share one product."""
    assert [(a.topic, a.key, a.headers, a.src) for a in answers] == [(a.topic, a.key, a.headers, a.src) for a in calm]
    for one, other in zip(answers, calm, strict=True):
        if one.topic == SETTINGS.topics.gapfills:
            assert_close(gap_fills([one]), gap_fills([other]))
        else:
            assert one.value == other.value


def codes(answers: Sequence[Outgoing]) -> list[str]:
    return [code_of(letter) for letter in letters(answers)]


def counted(rig: Rig) -> bool:
    counts = rig.counts
    outcomes = counts.forecasts + counts.rejects + counts.duplicates + counts.folded
    return counts.records_in == outcomes == len(rig.log)


def fleet(ill: dict[int, Ping], rounds: int = 14) -> list[Ping | bytes]:
    """Five buses side by side with a silence before the last five rounds, junk, and bus-3's pings of `ill` rounds."""
    items: list[Ping | bytes] = []
    for n in range(rounds):
        second = 10 * n + (300 if n >= rounds - 5 else 0)
        items += [ill[n] if bus == 3 and n in ill else ping(f"bus-{bus}", second) for bus in range(1, 6)]
        items.append(b"junk")
    return items


# -- one at fault ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("size", [1, 6, 84])
async def test_all_others_get_the_answers_of_an_undisturbed_run(
    make_predictor: Make, kind: type[Predictor], size: int
) -> None:
    items = fleet({9: poison("bus-3", 390)})  # it ends the silence, and so a gap
    calm, rig = Rig(make_predictor), worker(make_predictor, kind)
    for start in range(0, len(items), size):
        await calm.batch(*items[start : start + size])
        await rig.batch(*items[start : start + size])
    assert_undisturbed(of_others(rig.out, "bus-3"), of_others(calm.out, "bus-3"))
    before = [answer for answer in calm.out if answer.src.offset < 6 * 9]
    assert_undisturbed([answer for answer in rig.out if answer.src.offset < 6 * 9], before)
    ill = [answer for answer in rig.out if answer.key == b"bus-3" and answer.src.offset >= 6 * 9]
    assert codes(ill) == ["step_failed"] + ["entity_quarantined"] * 4
    assert len(ill) == 5, "and no forecast, no gap fill"
    assert [answer.src.offset for answer in rig.out] == sorted(answer.src.offset for answer in rig.out)
    assert counted(rig)
    assert (rig.counts.step_failed, rig.counts.entity_quarantined) == (1, 4)


async def test_its_dead_letters_are_as_they_came_and_say_why(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    failed, refused = letters(await rig.batch(*steady("bus-1", 3), poison("bus-1", 30), ping("bus-1", 40)))
    for letter, offset in ((failed, 3), (refused, 4)):
        record, headers = rig.log[offset], dict(letter.headers)
        assert (letter.key, letter.value, letter.headers[0]) == (record.key, record.value, record.headers[0])
        context = {name: headers[f"__pathcast.errors.{name}"] for name in ("stage", "retryable", "offset")}
        assert context == {"stage": b"engine", "retryable": b"true", "offset": str(offset).encode()}
    assert dict(failed.headers)["__pathcast.errors.message"] == b"Raised: no step from 66.6 m/s"
    assert dict(refused.headers)["__pathcast.errors.message"] == b"since offset 3: Raised: no step from 66.6 m/s"


async def test_a_late_ping_can_be_at_fault(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    answers = await rig.batch(*steady("bus-1", 10), ping("bus-2", 90), poison("bus-1", 55), ping("bus-1", 100))
    assert codes(answers) == ["step_failed", "entity_quarantined"]
    assert rig.counts.forecasts == 11


async def test_the_slot_is_given_back(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    for n in range(FEW):
        await rig.batch(*steady(f"bus-{n}", 2), poison(f"bus-{n}", 20))
        await rig.batch(ping("good", 10 * n))
    predictor = rig.engine._stepper._predictors
    assert predictor.acquire(4).max() < 8, "the pool never held more than a few at a time"


async def test_a_batch_that_raises_only_when_it_is_whole_is_the_fault_of_none(make_predictor: Make) -> None:
    class Narrow(Predictor):
        def answer(self, slots: Any, fixes: Any, counts: Any, horizons_s: Any, guide: Any = None) -> Any:
            said = super().answer(slots, fixes, counts, horizons_s, guide)
            if len(slots) > 3:
                raise Raised("too many at once")
            return said

    items = fleet({})
    calm, rig = Rig(make_predictor), worker(make_predictor, Narrow)
    await calm.batch(*items)
    await rig.batch(*items)
    assert_undisturbed(rig.out, calm.out)
    assert vars(rig.counts) == vars(calm.counts)


async def test_records_that_come_again_get_no_second_letter(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    await rig.batch(*steady("bus-1", 3), poison("bus-1", 30), ping("bus-1", 40))
    assert not await rig.engine.process(rig.log, started_ms=0, fetched_ms=0)
    assert rig.counts.folded == 5


async def test_who_is_in_quarantine_already_is_refused_beside_one_that_fails(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    await rig.feed(ping("bus-1", 0), poison("bus-1", 10), CHECKPOINT)
    answers = await rig.batch(ping("bus-1", 20), ping("bus-2", 0), poison("bus-2", 10))
    assert codes(answers) == ["entity_quarantined", "step_failed"]
    assert [answer.src.offset for answer in answers] == [2, 3, 4]
    assert rig.counts.folded == 0


async def test_a_rebuilt_state_is_confessed_although_another_entity_fails(make_predictor: Make) -> None:
    """The first attempt at the batch has forecast it already, when the gap fill of the other raises."""
    rig = worker(make_predictor, FaultyFill)
    await rig.feed(*steady("bus-1", 9), *steady("bus-2", 9), CHECKPOINT)
    damaged = (await stored(rig))[:-1]
    await rig.store.put_many(A, rig.epoch, None, {"bus-1": damaged})
    await rig.feed(ping("bus-2", 90))
    answers = await rig.batch(ping("bus-1", 90), poison("bus-2", 400))
    assert [answer["cache"] for answer in forecasts(answers)] == ["rebuilt"]
    rig.engine = rig.started()
    await rig.feed(ping("bus-1", 100))
    await rig.take_over(len(rig.log))
    answers = await rig.engine.process(
        [rig.record(ping("bus-1", 110)), *map(rig.record, steady("bus-3", 9)), rig.record(poison("bus-3", 400))],
        started_ms=0,
        fetched_ms=0,
        careful=True,
    )
    assert codes(answers) == ["step_failed"]
    assert forecasts(answers)[0]["cache"] == "rebuilt"


# -- several ---------------------------------------------------------------------------------------------------------


async def test_several_at_fault_are_found_in_one_batch(make_predictor: Make) -> None:
    ill = ["bus-2", "bus-5", "bus-11"]
    items: list[Ping | bytes] = [ping(f"bus-{n % 12}", 10 * (n // 12)) for n in range(60)]
    for place, bus in ((26, ill[0]), (41, ill[1]), (11, ill[2])):
        second = 10 * (place // 12)
        items[place] = poison(bus, second)
    calm, rig = Rig(make_predictor), worker(make_predictor)
    await calm.batch(*items)
    answers = await rig.batch(*items)
    assert_undisturbed(of_others(answers, *ill), of_others(calm.out, *ill))
    failed = [letter.src.offset for letter in letters(answers) if code_of(letter) == "step_failed"]
    assert failed == [11, 26, 41]
    assert counted(rig)


@settings(max_examples=15)  # each runs the model some hundred times
@given(
    moves=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([-30, 0, 10, 10, 10, 200, 4_000]), st.integers(0, 11)),
        min_size=1,
        max_size=60,
    ),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    kind=st.sampled_from(FAULTS),
    crash_at=st.integers(0, 60),
)
def test_each_record_has_exactly_one_outcome_whoever_is_at_fault(
    make_predictor: Make,
    moves: list[tuple[int, int, int]],
    sizes: list[int],
    kind: type[Predictor],
    crash_at: int,
) -> None:
    now = dict.fromkeys(range(6), 0.0)
    items: list[Ping | bytes] = []
    for bus, step_s, luck in moves:
        now[bus] += step_s
        items.append((poison if luck == 0 else ping)(f"bus-{bus}", now[bus]) if luck < 11 else b"junk")

    async def run(rig: Rig) -> Rig:
        start, outcome = 0, 0
        while start < len(items):
            size = sizes[outcome % len(sizes)]
            await rig.batch(*items[start : start + size])
            if isinstance(rig, Worker) and start <= crash_at < start + size:
                await rig.checkpoint()
                await rig.restart()
            start, outcome = start + size, outcome + 1
        return rig

    rig = worker(make_predictor, kind)
    rig.prompt = kind is not FaultyFold  # a silent replay finds again only what fails in folding
    asyncio.run(run(rig))
    calm = asyncio.run(run(Rig(make_predictor)))
    answered = [answer.src.offset for answer in rig.out if answer.topic != SETTINGS.topics.gapfills]
    assert answered == sorted(set(answered)), "one answer at most, in input order"
    ill: dict[bytes | None, int] = {}
    for letter in letters(rig.out):
        if code_of(letter) == "step_failed":
            assert ill.setdefault(letter.key, letter.src.offset) == letter.src.offset, "an entity fails once"
        if code_of(letter) == "entity_quarantined":
            assert ill[letter.key] < letter.src.offset

    def well(answers: Sequence[Outgoing]) -> list[Outgoing]:
        return [answer for answer in answers if answer.src.offset < ill.get(answer.key, len(items))]

    assert_undisturbed(well(rig.out), well(calm.out))
    refused = {record.offset for record in rig.log if record.offset >= ill.get(record.key, len(items))}
    assert refused == {letter.src.offset for letter in letters(rig.out) if code_of(letter) in quarantine.FAULTS}


# -- nobody's fault --------------------------------------------------------------------------------------------------


async def test_a_model_that_raises_for_everyone_stops_the_worker(make_predictor: Make) -> None:
    class Broken(Predictor):
        broken = False

        def answer(self, slots: Any, fixes: Any, counts: Any, horizons_s: Any, guide: Any = None) -> Any:
            said = super().answer(slots, fixes, counts, horizons_s, guide)
            if self.broken:
                raise Raised("broken")
            return said

    predictor = make_predictor(kind=Broken)
    rig = Rig(lambda: predictor)
    await rig.batch(ping("bus-1", 0), ping("bus-2", 0))
    predictor.broken = True
    for records in (1, 2):
        with pytest.raises(Raised) as raised:
            await rig.engine.process(
                [rig.record(ping(f"bus-{n}", 10)) for n in range(records)], started_ms=0, fetched_ms=0, careful=True
            )
        assert "the plainest entity raises, too" in raised.value.__notes__[0]


async def test_what_a_step_raises_never_looks_like_a_store_that_is_away(make_predictor: Make) -> None:
    """Delivery would wait for the store, and fold the same records into the same states again."""

    class Unplugged(Predictor):
        def answer(self, slots: Any, fixes: Any, counts: Any, horizons_s: Any, guide: Any = None) -> Any:
            if len(slots) > 1:
                raise ConnectionError("a kernel's cache is on a disk that went away")
            return super().answer(slots, fixes, counts, horizons_s, guide)

    rig = Rig(lambda: make_predictor(kind=Unplugged))
    records = [rig.record(ping("bus-1", 0)), rig.record(ping("bus-2", 0))]
    with pytest.raises(RuntimeError, match="a step raised ConnectionError"):
        await rig.engine.process(records, started_ms=0, fetched_ms=0)


async def test_too_many_at_fault_stop_the_worker(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    await rig.batch(*(poison(f"bus-{n}", 0) for n in range(FEW)))
    assert (rig.counts.step_failed, len(letters(rig.out))) == (FEW, FEW)
    with pytest.raises(Raised) as raised:
        await rig.batch(poison("one more", 0))
    assert "would be too many" in raised.value.__notes__[0]


async def test_in_a_large_fleet_more_may_be_at_fault(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    await rig.batch(*(ping(f"good-{n}", 0) for n in range(100)))
    await rig.batch(*(poison(f"bus-{n}", 0) for n in range(FEW + 2)))
    assert rig.counts.step_failed == FEW + 2


async def test_a_process_out_of_memory_blames_nobody(make_predictor: Make) -> None:
    class Full(Predictor):
        def answer(self, slots: Any, fixes: Any, counts: Any, horizons_s: Any, guide: Any = None) -> Any:
            if len(slots) > 1:  # as the batches of a careful engine shrink, it would find room
                raise MemoryError
            return super().answer(slots, fixes, counts, horizons_s, guide)

    rig = worker(make_predictor, Full)
    records = [rig.record(ping("bus-1", 0)), rig.record(ping("bus-2", 0))]
    with pytest.raises(MemoryError):
        await rig.engine.process(records, started_ms=0, fetched_ms=0, careful=True)


# -- in the store ----------------------------------------------------------------------------------------------------


async def stored(rig: Rig, entity_id: str = "bus-1") -> bytes:
    (raw,) = await rig.store.get_many(A, [entity_id])
    assert raw is not None
    return raw


async def test_a_quarantine_outlives_the_worker(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    await rig.feed(*steady("bus-1", 3), *steady("bus-2", 3), CHECKPOINT, poison("bus-1", 30), CHECKPOINT)
    found = quarantine.loads("bus-1", await stored(rig))
    assert (found.offset, found.versions.model) == (6, rig.make().version)
    for _ in range(2):  # and the next worker's checkpoint leaves it as it is
        await rig.restart()
        answers = await rig.feed(ping("bus-1", 40), ping("bus-2", 40), CHECKPOINT)
        assert codes(answers) == ["entity_quarantined"]
        assert len(forecasts(answers)) == 1 or rig.counts.duplicates
    assert quarantine.loads("bus-1", await stored(rig)) == found


async def test_a_quarantine_that_is_in_no_checkpoint_is_found_again_by_the_silent_replay(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    await rig.feed(*steady("bus-1", 3), CHECKPOINT, ping("bus-2", 0), poison("bus-1", 30), ping("bus-1", 40))
    await rig.restart()
    assert rig.counts.replayed == 3
    answers = await rig.feed(ping("bus-1", 50), ping("bus-2", 50))
    assert (codes(answers), len(forecasts(answers))) == (["entity_quarantined"], 1)
    assert forecasts(answers)[0]["window"]["n"] == 2


async def test_a_silent_replay_that_is_not_careful_raises(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    await rig.feed(*steady("bus-1", 3), CHECKPOINT, poison("bus-1", 30))
    with pytest.raises(Raised):
        await rig.crash()


async def test_another_model_may_be_the_fix(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    await rig.feed(*steady("bus-1", 3), poison("bus-1", 30), ping("bus-1", 40), CHECKPOINT)
    await rig.restart(lambda: make_predictor(seed=2, kind=FaultyFold))
    answers = forecasts(await rig.feed(ping("bus-1", 50), CHECKPOINT))
    assert [(answer["window"]["n"], answer["cache"]) for answer in answers] == [(1, "none")], "it starts anew"
    await rig.restart()
    answers = forecasts(await rig.feed(ping("bus-1", 60)))
    assert [(answer["window"]["n"], answer["cache"]) for answer in answers] == [(2, "hit")]


async def test_another_program_may_be_the_fix_and_may_fail_again(
    make_predictor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = worker(make_predictor)
    await rig.feed(*steady("bus-1", 3), poison("bus-1", 30), CHECKPOINT)
    monkeypatch.setattr(engine_module, "program_version", lambda: "another")
    await rig.restart()
    answers = await rig.feed(ping("bus-1", 40), poison("bus-1", 50), ping("bus-1", 60), CHECKPOINT)
    assert len(forecasts(answers)) == 1
    assert codes(answers) == ["step_failed", "entity_quarantined"]
    found = quarantine.loads("bus-1", await stored(rig))
    assert (found.offset, found.versions.program) == (5, "another")


async def test_a_quarantine_expires_as_states_do(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    await rig.feed(*steady("bus-1", 3), poison("bus-1", 30), CHECKPOINT)
    ttl_ms = 1000 * SETTINGS.state_ttl_s
    for late_ms, expected in ((ttl_ms, "entity_quarantined"), (ttl_ms + 1, None)):
        record = rig.record(ping("bus-1", 40))
        record = record._replace(timestamp_ms=record.timestamp_ms + late_ms)
        (answer,) = await rig.engine.process([record], started_ms=0, fetched_ms=0)
        assert answer.topic == (SETTINGS.topics.dead_letters if expected else SETTINGS.topics.forecasts)
        assert expected is None or code_of(answer) == expected
        assert expected or forecasts([answer])[0]["window"]["n"] == 1


async def test_a_fault_while_it_is_let_out_puts_it_in_again(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    await rig.feed(*steady("bus-1", 3), poison("bus-1", 30), CHECKPOINT)
    await rig.restart(lambda: make_predictor(seed=2, kind=FaultyFold))
    answers = await rig.batch(poison("bus-1", 40), ping("bus-2", 40), ping("bus-1", 50))
    assert codes(answers) == ["step_failed", "entity_quarantined"]
    assert len(forecasts(answers)) == 1


async def test_a_stored_quarantine_from_another_past_is_not_used(make_predictor: Make) -> None:
    """The group was moved back, or the topic made anew: the record at fault may never come."""
    rig = worker(make_predictor)
    await rig.feed(*steady("bus-1", 3), poison("bus-1", 30), CHECKPOINT)
    rig.engine, rig.log = rig.started(), []
    answers = forecasts(await rig.feed(*steady("bus-1", 3, start_s=500)))
    assert [answer["window"]["n"] for answer in answers] == [1, 2, 3]
    assert rig.counts.damaged == 1


async def test_a_damaged_quarantine_is_none(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    await rig.feed(*steady("bus-1", 3), poison("bus-1", 30), CHECKPOINT)
    await rig.store.put_many(A, rig.epoch, None, {"bus-1": (await stored(rig))[:-1]})
    await rig.restart()
    assert forecasts(await rig.feed(ping("bus-1", 50)))[0]["window"]["n"] == 1
    assert rig.counts.damaged == 1


async def test_a_checkpoint_with_a_quarantine_never_runs_ahead_of_the_commit(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    await rig.feed(*steady("bus-1", 3), poison("bus-1", 30))
    epoch, _ = await rig.store.claim(A)
    with pytest.raises(ValueError, match="would include offset 3 of 'bus-1': commit first"):
        await rig.engine.checkpoint(A, epoch, 3)


async def test_a_quarantine_is_not_evicted(make_predictor: Make) -> None:
    rig = worker(make_predictor)
    rig.engine = Engine(make_predictor(kind=FaultyFold), rig.store, Settings(max_entities=2), clock_ms=lambda: 30.0)
    await rig.feed(poison("bus-1", 0), *(ping(f"bus-{n}", 0) for n in range(2, 9)), CHECKPOINT)
    assert isinstance(rig.store, MemoryStore)
    del rig.store._records[A]["bus-1"]
    assert codes(await rig.feed(ping("bus-1", 10))) == ["entity_quarantined"]
