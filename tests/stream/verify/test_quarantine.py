"""What `pathcast verify` says of entities that were in quarantine: nothing, where a worker did what it should."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from engine_rig import CHECKPOINT, SETTINGS, Rig, code_of, letters, ping, steady
from faulty import FaultyFold, Worker, poison
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from verify_rig import sound_verdict, verdict, with_forecast, wrong

from model.api import Predictor
from stream.engine import engine as engine_module
from stream.verify.report import Report
from stream.wire import Outgoing, Ping

Make = Callable[..., Predictor]


def at(rig: Rig, offset: int) -> int:
    """The place of the one answer to this record."""
    (place,) = (place for place, answer in enumerate(rig.out) if answer.src.offset == offset)
    return place


def without(rig: Rig, offset: int) -> list[Outgoing]:
    return [answer for answer in rig.out if answer.src.offset != offset]


def coded(letter: Outgoing, code: bytes) -> Outgoing:
    return letter._replace(headers=tuple((n, code if n.endswith(".code") else v) for n, v in letter.headers))


@pytest.fixture
def other(make_predictor: Make) -> Callable[[], Predictor]:
    """Of the same weights, and without the fault."""
    return lambda: make_predictor()


@pytest.fixture
async def ill(make_predictor: Make) -> Worker:
    """bus-1 fails at 6; 8 and 10 are refused; bus-2 goes on at 7, 9 and 11; a checkpoint at the end."""
    rig = Worker(lambda: make_predictor(kind=FaultyFold))
    pairs = [(ping("bus-1", 10 * n), ping("bus-2", 10 * n)) for n in range(6)]
    pairs[3] = (poison("bus-1", 30), pairs[3][1])
    await rig.feed(*(item for pair in pairs for item in pair), CHECKPOINT)
    assert [letter.src.offset for letter in letters(rig.out)] == [6, 8, 10]
    return rig


@pytest.mark.parametrize("fails_here_too", [True, False])
async def test_a_quarantine_is_in_order_whether_or_not_the_step_fails_here(
    ill: Worker, other: Callable[[], Predictor], fails_here_too: bool
) -> None:
    report = await sound_verdict(ill, store=ill.store, make=None if fails_here_too else other, once=True)
    total = report.total
    assert (total.records, total.forecasts, total.dead_letters, total.quarantined) == (12, 9, 3, 3)
    assert (total.states, total.states_skipped, total.unjudged) == (1, 1, 0)


async def test_a_refusal_without_a_failure_before_is_unexpected(ill: Worker) -> None:
    report = await verdict(ill, [*without(ill, 6), coded(ill.out[at(ill, 6)], b"entity_quarantined")])
    assert wrong(report) == {"unexpected": 3}
    assert {example.offset for example in report.examples} == {6, 8, 10}


async def test_a_missing_letter_of_a_quarantine_is_lost(ill: Worker) -> None:
    assert wrong(await verdict(ill, without(ill, 8))) == {"lost": 1}


async def test_its_letter_must_be_as_it_came(ill: Worker) -> None:
    place = at(ill, 8)
    for change in ({"value": b"else"}, {"key": b"bus-2"}, {"headers": ill.out[place].headers[1:]}):
        changed = [*ill.out[:place], ill.out[place]._replace(**change), *ill.out[place + 1 :]]
        assert wrong(await verdict(ill, changed)) == {"different": 1}


async def test_a_forecast_beside_the_letter_is_a_copy_and_an_error_only_under_exactly_once(ill: Worker) -> None:
    """A step that failed once and not again: its first owner died before it could commit."""
    earlier = ill.out[at(ill, 4)]
    forecast = with_forecast(earlier, lambda f: replace(f, src=replace(f.src, offset=6)))
    report = await sound_verdict(ill, [*ill.out, forecast])
    assert report.total.again == 1
    assert wrong(await verdict(ill, [*ill.out, forecast], once=True)) == {"duplicated": 1}


async def test_a_failure_of_what_is_no_ping_is_unexpected(ill: Worker) -> None:
    await ill.feed(b"junk")
    junk = ill.out[-1]
    assert wrong(await verdict(ill, [*ill.out[:-1], coded(junk, b"step_failed")])) == {"unexpected": 1}


async def test_after_a_quarantine_an_entity_is_judged_again_once_its_window_is_full(
    ill: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = ill.make().history + 8
    monkeypatch.setattr(engine_module, "program_version", lambda: "another")
    await ill.restart()  # which lets it out
    await ill.feed(*steady("bus-1", full + 2, start_s=60), CHECKPOINT)
    report = await sound_verdict(ill, store=ill.store)
    assert (report.total.unjudged, report.total.states_skipped) == (full - 1, 0)
    first, last = 12, len(ill.log) - 1
    assert wrong(await verdict(ill, without(ill, first))) == {"lost": 1}, "an outcome is due at once"
    spoilt = with_forecast(ill.out[-1], lambda f: replace(f, window=replace(f.window, n=3)))
    assert wrong(await verdict(ill, [*without(ill, last), spoilt])) == {"different": 1}


async def test_a_fix_that_comes_before_any_checkpoint_goes_on_as_if_nothing_had_been(make_predictor: Make) -> None:
    """The next worker's silent replay folds what the one before had refused."""
    rig = Worker(lambda: make_predictor(kind=FaultyFold))
    await rig.feed(*steady("bus-1", 5), poison("bus-1", 50), *steady("bus-1", 3, start_s=60))
    await rig.restart(lambda: make_predictor())
    await rig.feed(*steady("bus-1", 10, start_s=90), CHECKPOINT)
    report = await sound_verdict(rig, store=rig.store)
    assert (report.total.quarantined, report.total.unjudged) == (4, 10)


async def test_a_duplicate_of_what_another_worker_refused_owes_nothing(make_predictor: Make) -> None:
    """The next worker, of another model, lets it out and takes the refused pings in silence; here they stay refused."""
    rig = Worker(lambda: make_predictor(kind=FaultyFold))
    await rig.feed(poison("bus-1", 0), CHECKPOINT, ping("bus-1", 10), ping("bus-1", 20), ping("bus-2", 20))
    await rig.restart(lambda: make_predictor(seed=2, kind=FaultyFold))
    await rig.feed(ping("bus-1", 10), ping("bus-1", 20), CHECKPOINT)
    assert [answer.src.offset for answer in rig.out] == [0, 1, 2, 3], "the last two are duplicates"
    for start in (0, 2):
        report = await sound_verdict(rig, store=rig.store, start=start)
        assert report.total.unjudged == 2


@pytest.mark.parametrize("seconds", [20, 40, 21])
async def test_a_missing_answer_behind_a_quarantine_is_lost_however_late_its_ping(
    make_predictor: Make, seconds: int
) -> None:
    """Even behind one whose clock is a day ahead, or beside one of another entity at the same time."""
    rig = Worker(lambda: make_predictor(kind=FaultyFold))
    others = ping("bus-1", 80_000), ping("bus-1", 30), ping("bus-2", seconds)
    await rig.feed(poison("bus-1", 0), CHECKPOINT, *others, ping("bus-1", seconds))
    assert wrong(await verdict(rig, without(rig, 4))) == {"lost": 1}


async def test_what_fails_only_here_is_not_judged_but_must_have_an_outcome(make_predictor: Make) -> None:
    rig = Rig(lambda: make_predictor())
    await rig.feed(*steady("bus-1", 5), poison("bus-1", 50), *steady("bus-1", 3, start_s=60), ping("bus-2", 0))
    await rig.checkpoint()
    faulty = lambda: make_predictor(kind=FaultyFold)  # noqa: E731 - a factory, as the fixtures are
    report = await sound_verdict(rig, store=rig.store, make=faulty)
    assert (report.total.unjudged, report.total.states, report.total.states_skipped) == (4, 1, 1)
    assert wrong(await verdict(rig, without(rig, 5), make=faulty)) == {"lost": 1}
    assert wrong(await verdict(rig, without(rig, 7), make=faulty)) == {"lost": 1}


async def test_a_stored_quarantine_that_no_letter_tells_of_is_different(ill: Worker, make_predictor: Make) -> None:
    calm = Rig(lambda: make_predictor(), ill.store)
    for record in ill.log:
        calm.log.append(record)
        calm.out += await calm.engine.process([record], started_ms=0, fetched_ms=0)
    report = await verdict(calm, store=ill.store)
    assert wrong(report) == {"states_different": 1}
    assert "in quarantine since offset 6" in report.examples[0].reason


@settings(max_examples=15)  # each runs the model some hundred times
@given(
    moves=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([-30, 0, 10, 10, 200, 4_000]), st.integers(0, 9)),
        min_size=1,
        max_size=40,
    ),
    data=st.data(),
)
def test_faults_crashes_and_fixes_change_no_verdict(
    make_predictor: Make, moves: Sequence[tuple[str, int, int]], data: st.DataObject
) -> None:
    now = dict.fromkeys("abc", 0.0)
    rig = Worker(lambda: make_predictor(kind=FaultyFold))

    async def run() -> Report:
        for entity_id, step_s, luck in moves:
            now[entity_id] += step_s
            item: Ping = (poison if luck == 0 else ping)(entity_id, now[entity_id])
            await rig.feed(item)
            if luck == 1:
                await rig.checkpoint()
            if luck == 2:
                seed = data.draw(st.integers(1, 2))
                await rig.restart(lambda seed=seed: make_predictor(seed=seed, kind=FaultyFold))
        await rig.checkpoint()
        return await verdict(rig, store=rig.store, piece=data.draw(st.integers(1, 50)))

    report = asyncio.run(run())
    assert report.ok, report.examples
    faults = [letter for letter in letters(rig.out) if code_of(letter) in ("step_failed", "entity_quarantined")]
    assert report.total.quarantined == len(faults)
    assert SETTINGS.topics.dead_letters not in {answer.topic for answer in rig.out} or report.total.dead_letters
