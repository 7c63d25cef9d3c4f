"""What `pathcast verify` says of forecasts of several weights: of the right ones, of others, and of a wrong answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from engine_rig import CHECKPOINT, CRASH, A, Rig, ping, steady
from msgspec.structs import replace
from verify_rig import moved_north, sound_verdict, verdict, with_forecast, wrong

from model.api import Predictor
from stream.engine.assignment import VersionChoice, places_of
from stream.verify.report import Report
from stream.verify.weights import AnnouncedWeights
from stream.versions.networks import ChosenWeights, Partition
from stream.versions.weights import NEVER, WeightsLedger
from stream.wire import Forecast, WeightsRecord, dumps, loads_forecast
from stream.wire.ids import forecast_id

Make = Callable[..., Predictor]
BEGINS, RAMP, CANARY, UNTIL = 30, 20, 10, 25
NAMES = ("bus-1", "bus-2", "bus-3")
PINGS = [ping(name, 10 * at) for at in range(20) for name in NAMES]
PINGS += [*(ping(name, 500) for name in NAMES), ping("bus-1", 495), *steady("bus-1", 3, start_s=600)]


def records(make: Make) -> list[WeightsRecord]:
    more: dict[str, Any] = {
        "kind": "weights",
        "name": "x",
        "topic": A[0],
        "reason": "",
        "issued_ts": 0,
        "state": "serving",
    }
    canary = {"role": "canary", "parts": 5_000, "first": {A[1]: CANARY}, "until": {A[1]: UNTIL}, "ramp": {}}
    everybody = {"role": "all", "parts": 10_000, "first": {A[1]: BEGINS}, "ramp": {A[1]: RAMP}}
    return [
        WeightsRecord(serial=1, version=make(2).version, **canary, **more),
        WeightsRecord(serial=2, version=make(3).version, **everybody, **more),
    ]


def announced(make: Make) -> AnnouncedWeights:
    found = AnnouncedWeights(A[0], make(1).version)
    for one in records(make):
        found.add(one.key, dumps(one))
    return found


def choice(make: Make) -> VersionChoice:
    ledger = WeightsLedger(A[0])
    for one in records(make):
        ledger.add(one.key, dumps(one))
    networks = [make(seed) for seed in (1, 2, 3)]
    index = {"own": 0} | {one.version: at for at, one in enumerate(networks)}
    rules = ledger.rules(A[1])
    return VersionChoice(None, ChosenWeights(networks, index, {A[1]: Partition(rules, rules, NEVER)}))


@pytest.fixture
async def history(make_predictor: Make) -> Rig:
    rig = Rig(make_predictor)
    rig.choice = choice(make_predictor)
    await rig.feed(*PINGS[:14], CHECKPOINT, *PINGS[14:37], CRASH)
    rig.choice = choice(make_predictor)
    await rig.feed(*PINGS[37:])
    versions = [loads_forecast(one.value or b"").model.version for one in rig.out if one.topic.endswith("forecasts.v1")]
    assert len(set(versions)) == 3, "the canary has somebody, and nobody has all"
    return rig


async def judged(rig: Rig, make: Make, **more: Any) -> Report:
    return await verdict(rig, networks=[make(2), make(3)], weights=announced(make), **more)


async def test_of_forecasts_that_were_made_with_what_was_due_there_is_nothing_to_say(
    history: Rig, make_predictor: Make
) -> None:
    for once in (False, True):
        report = await judged(history, make_predictor, once=once, store=history.store)
        assert wrong(report) == {}, report.examples
        assert (report.total.other_model, report.total.late_weights) == (0, 0)
        assert report.total.states > 0


async def test_without_the_registry_their_numbers_are_not_compared(history: Rig) -> None:
    report = await sound_verdict(history)
    assert report.total.other_model > 20


def renamed(make: Make, seed: int, **more: Any) -> Callable[[Forecast], Forecast]:
    def change(one: Forecast) -> Forecast:
        model = replace(one.model, version=make(seed).version, **more)
        return replace(one, model=model, forecast_id=forecast_id(one.entity_id, one.anchor.ts, model.version))

    return change


@pytest.mark.parametrize(
    ("at", "seed", "late", "right"),
    [
        (55, 1, False, False),  # the worker's own, though 3 serves all
        (55, 1, True, True),
        (55, 2, False, False),
        (5, 3, False, False),  # before it serves
        (5, 3, True, False),  # nobody is late for what does not serve yet
    ],
)
async def test_a_forecast_that_names_other_weights_is_found(
    history: Rig, make_predictor: Make, at: int, seed: int, late: bool, right: bool
) -> None:
    """Their numbers are too alike here to tell them apart: a state that was rebuilt has a tolerance."""
    made = enumerate(history.out)
    forecasts = [place for place, one in made if one.src.offset == at and one.topic.endswith("forecasts.v1")]
    out = list(history.out)
    out[forecasts[0]] = with_forecast(out[forecasts[0]], renamed(make_predictor, seed, late=late))
    report = await judged(history, make_predictor, published=out)
    assert wrong(report) == ({} if right else {"wrong_weights": 1}), report.examples


async def test_wrong_numbers_of_the_right_weights_are_found(history: Rig, make_predictor: Make) -> None:
    out = list(history.out)
    last = max(place for place, one in enumerate(out) if one.topic.endswith("forecasts.v1") and one.src.offset < 58)
    out[last] = with_forecast(out[last], moved_north(3000.0))
    assert wrong(await judged(history, make_predictor, published=out)) == {"different": 1}


async def test_an_entity_that_followed_too_early_is_found(history: Rig, make_predictor: Make) -> None:
    """Its place among all is what counts: the same offset is right for an entity before it."""
    found = announced(make_predictor)
    *_, last = (one for one in history.out if one.topic.endswith("forecasts.v1"))
    new = loads_forecast(last.value or b"").model
    assert new.version == make_predictor(3).version
    for name, place in zip(NAMES, places_of(NAMES), strict=True):
        start = BEGINS + (int(place) * RAMP >> 32)
        assert found.wrong(A[1], start, name, new) is None
        assert found.wrong(A[1], start - 1, name, new) is not None


async def test_copies_of_two_weights_are_each_judged_by_their_own(history: Rig, make_predictor: Make) -> None:
    """One worker waited in vain, and said so; the one that came after it had what was due."""
    late = Rig(make_predictor)
    network = make_predictor(1)
    late.choice = VersionChoice(None, ChosenWeights([network], {"own": 0}, choice_partitions(make_predictor)))
    await late.feed(*PINGS)
    copies = [
        with_forecast(one, lambda each: replace(each, model=replace(each.model, late=True)))
        for one in late.out
        if one.topic.endswith("forecasts.v1") and one.src.offset in (55, 56)
    ]
    report = await judged(history, make_predictor, published=[*history.out, *copies])
    assert wrong(report) == {}, report.examples
    assert (report.total.again, report.total.late_weights, report.total.other_model) == (2, 2, 0)


def choice_partitions(make: Make) -> Any:
    rules = choice(make).weights.partitions[A[1]].due  # type: ignore[union-attr]
    return {A[1]: Partition(rules, rules.without({make(2).version, make(3).version}), NEVER)}
