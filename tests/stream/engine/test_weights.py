"""Which weights answer a ping is decided by its offset and its entity, and no forecast mixes two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from engine_rig import CHECKPOINT, CRASH, DUMP, WRITE, A, Rig, forecasts, ping, steady

from model.api import Predictor
from stream.engine.assignment import Networks, VersionChoice, places_of
from stream.engine.engine import Engine
from stream.versions.networks import ChosenWeights, Partition
from stream.versions.weights import NEVER, AnnouncedRule, PartitionRules
from stream.wire import Outgoing, Ping, Record, loads_forecast, loads_gapfill
from stream.wire.ids import forecast_id

Make = Callable[..., Predictor]


def choice(
    networks: Sequence[Predictor], *rules: AnnouncedRule, own: int = 0, sure_below: int = NEVER
) -> VersionChoice:
    """The first of the networks is the worker's own."""
    index = {"own": own} | {one.version: at for at, one in enumerate(networks)}
    partition = Partition(PartitionRules(rules), PartitionRules(rules), sure_below)
    return VersionChoice(None, ChosenWeights(networks, index, {A[1]: partition, 1: partition}))


def everybody(network: Predictor, first: int, ramp: int = 0, serial: int = 1) -> AnnouncedRule:
    return AnnouncedRule(serial, network.version, first, first + ramp, NEVER, 10_000)


def canary(network: Predictor, first: int, until: int, parts: int, serial: int = 1) -> AnnouncedRule:
    return AnnouncedRule(serial, network.version, first, NEVER, until, parts)


async def answered(engine: Engine, records: Sequence[Record], asked: VersionChoice, **more: Any) -> list[Outgoing]:
    return list(await engine.process(records, started_ms=20.0, fetched_ms=10.0, choice=asked, **more))


def numbers(answer: Outgoing) -> dict[str, Any]:
    """What a forecast says, without how its state was obtained."""
    found: dict[str, Any] = msgspec.json.decode(answer.value or b"")
    found.pop("cache", None)
    return found


async def alone(make: Callable[[], Predictor], pings: Sequence[Ping]) -> list[Outgoing]:
    """All answers of one version to all pings."""
    return await Rig(make).feed(*pings)


@pytest.mark.parametrize("together", [1, 7, 100])
@pytest.mark.parametrize("careful", [False, True])
async def test_a_version_begins_at_its_offset_and_says_what_it_would_have_said_from_the_first_ping(
    make_predictor: Make, together: int, careful: bool
) -> None:
    """The window is the entity's whole history here, so that a rebuilt state is the one of a version that was always
    there, to the bit. Two gaps, a late ping and a new session are on the way; batches end anywhere."""
    pings = [*steady("bus-1", 12), ping("bus-1", 420), ping("bus-1", 430), ping("bus-1", 425), ping("bus-1", 440)]
    pings += [ping("bus-1", 450), ping("bus-1", 800), ping("bus-1", 810), ping("bus-1", 820), ping("bus-1", 5_000)]
    pings += [*steady("bus-2", 6), ping("bus-1", 5_010)]
    befores, afters = await alone(lambda: make_predictor(1), pings), await alone(lambda: make_predictor(2), pings)
    for at in range(len(pings) + 1):
        old, new = make_predictor(1), make_predictor(2)
        rig = Rig(lambda old=old: old)  # type: ignore[misc]
        records, asked = [rig.record(one) for one in pings], choice([old, new], everybody(new, at))
        found = []
        for begin in range(0, len(records), together):
            found += await answered(rig.engine, records[begin : begin + together], asked, careful=careful)
        due = [(afters if one.src.offset >= at else befores)[place] for place, one in enumerate(befores)]
        assert [numbers(one) for one in found] == [numbers(one) for one in due], at
        for one in found:
            version = (new if one.src.offset >= at else old).version
            if one.topic.endswith("forecasts.v1"):
                said = loads_forecast(one.value or b"")
                assert said.model.version == version
                assert said.forecast_id == forecast_id(said.entity_id, said.anchor.ts, version)
            else:
                assert loads_gapfill(one.value or b"").model.version == version
        moved = [one["cache"] for one in forecasts(found) if one["src"]["offset"] == at and 0 < at < 12]
        assert moved == ["rebuilt"] * len(moved)


async def test_entities_follow_one_after_the_other_and_only_once(make_predictor: Make) -> None:
    old, new = make_predictor(1), make_predictor(2)
    rig = Rig(lambda: old)
    names = [f"bus-{n}" for n in range(40)]
    records = [rig.record(ping(name, 10 * round_)) for round_ in range(12) for name in names]
    asked = choice([old, new], everybody(new, 80, ramp=200))
    said = forecasts(
        await answered(rig.engine, records[:400], asked) + await answered(rig.engine, records[400:], asked)
    )
    starts = {name: 80 + int(place) * 200 // 2**32 for name, place in zip(names, places_of(names), strict=True)}
    for one in said:
        follows = one["src"]["offset"] >= starts[one["entity_id"]]
        assert one["model"]["version"] == (new if follows else old).version
    by_round = [sum(one["model"]["version"] == new.version for one in said[at : at + 40]) for at in range(0, 480, 40)]
    assert by_round[:2] == [0, 0]
    assert by_round == sorted(by_round)
    assert by_round[7:] == [40] * 5
    assert 0 < by_round[3] < 40
    assert rig.counts.moved == 40


async def test_a_canary_answers_its_part_of_the_fleet_and_ends(make_predictor: Make) -> None:
    old, new = make_predictor(1), make_predictor(2)
    rig = Rig(lambda: old)
    names = [f"bus-{n}" for n in range(200)]
    records = [rig.record(ping(name, 10 * round_)) for round_ in range(4) for name in names]
    said = forecasts(await answered(rig.engine, records, choice([old, new], canary(new, 200, 600, 1_000))))
    by_round = [
        {one["entity_id"] for one in said[at : at + 200] if one["model"]["version"] == new.version}
        for at in (0, 200, 400, 600)
    ]
    assert by_round[0] == by_round[3] == set()
    assert by_round[1] == by_round[2]
    assert 8 <= len(by_round[1]) <= 35, "10 % of 200"
    rig = Rig(lambda: old)
    other = forecasts(await answered(rig.engine, records, choice([old, new], canary(new, 0, 600, 1_000, serial=2))))
    assert {one["entity_id"] for one in other if one["model"]["version"] == new.version} != by_round[1]


async def test_a_state_is_stored_whole_for_the_version_that_it_is_of(make_predictor: Make) -> None:
    """So that whoever takes over loads it, instead of rebuilding it once more."""
    old, new = make_predictor(1), make_predictor(2)
    rig = Rig(lambda: old)
    pings = steady("bus-1", 20)
    rig.choice = choice([old, new], everybody(new, 10))
    await rig.feed(*pings[:9], CHECKPOINT, *pings[9:12], CHECKPOINT)
    after = Rig(lambda: make_predictor(2), rig.store)
    after.log = list(rig.log)
    (said,) = forecasts(await after.feed(pings[12]))
    assert (said["cache"], after.counts.rebuilt) == ("hit", 0)
    (due,) = forecasts(await rig.feed(pings[12]))
    assert said == due


async def test_copies_after_a_crash_are_the_same(make_predictor: Make) -> None:
    """Whatever was in Redis, and whichever version it was of: one entity moves before, one in, and one after the batch
    that comes again."""
    pings = [ping(f"bus-{n % 3}", 10 * (n // 3)) for n in range(60)]

    async def run(*crash_at: int) -> list[dict[str, Any]]:
        rig = Rig(lambda: make_predictor(1))
        said = {}
        for at, one in enumerate(pings):
            if at in crash_at:
                await rig.feed(CHECKPOINT, CRASH)
            old, new = make_predictor(1), make_predictor(2)
            rig.choice = rig.choice if at not in (0, *crash_at) else choice([old, new], everybody(new, 20, ramp=12))
            said[at] = numbers((await rig.batch(one))[-1])
        return list(said.values())

    undisturbed = await run()
    assert {one["model"]["version"] for one in undisturbed[25:28]} == {make_predictor(s).version for s in (1, 2)}
    for crash in range(18, 36):
        assert await run(crash) == undisturbed, crash


async def test_what_nobody_asks_any_more_is_let_go_with_the_entities_that_fell_silent(make_predictor: Make) -> None:
    old, new = make_predictor(1), make_predictor(2)
    rig = Rig(lambda: old)
    rig.choice = choice([old, new], everybody(new, 4))
    await rig.feed(
        ping("bus-1", 0), ping("bus-2", 0), ping("bus-1", 10), ping("bus-2", 10), CHECKPOINT, ping("bus-1", 20)
    )
    assert [one.version for one in rig.engine.networks] == [old.version, new.version]
    rig.choice = choice([new], everybody(new, 4), own=-1)
    await rig.feed(ping("bus-1", 30), CHECKPOINT, ping("bus-1", 40), ping("bus-1", 50))
    assert [one.version for one in rig.engine.networks] == [new.version]
    assert rig.engine.entities[A] == (1, 0), "bus-2 is in the store alone"
    (said,) = forecasts(await rig.feed(ping("bus-2", 60)))
    assert (said["cache"], said["model"]["version"], said["window"]["n"]) == ("rebuilt", new.version, 3)


async def test_who_is_being_written_leaves_memory_only_once_the_store_has_it(make_predictor: Make) -> None:
    """Its next ping was answered from what the store had of it before, and its track lacked the pings between for good.
    Found by a simulated world (seed 403)."""
    old, new = make_predictor(1), make_predictor(2)
    rig = Rig(lambda: old)
    rig.choice = choice([old, new], everybody(new, 5))
    await rig.feed(ping("bus-2", 0), CHECKPOINT, ping("bus-1", 10), ping("bus-2", 10), ping("bus-2", 20), DUMP)
    await rig.feed(ping("bus-1", 20))
    rig.choice = choice([new], everybody(new, 5), own=-1)
    await rig.feed(ping("bus-1", 30), ping("bus-1", 40))
    (said,) = forecasts(await rig.feed(ping("bus-2", 30), WRITE))
    assert said["window"]["n"] == 4
    await rig.feed(CHECKPOINT, CRASH)
    (said,) = forecasts(await rig.feed(ping("bus-2", 40)))
    assert said["window"]["n"] == 5


async def test_weights_of_another_size_are_no_match(make_predictor: Make) -> None:
    from model.config import ModelConfig

    old, new = make_predictor(1), Predictor.untrained(ModelConfig(name="wide", d=32, blocks=2, heads=2, window=8))
    rig = Rig(lambda: old)
    with pytest.raises(ValueError, match="32 hidden numbers cannot serve beside those with 16"):
        await answered(rig.engine, [rig.record(ping("bus-1", 0))], choice([old, new], everybody(new, 0)))


async def test_an_answer_says_that_other_weights_may_have_been_due(make_predictor: Make) -> None:
    old, new = make_predictor(1), make_predictor(2)
    rig = Rig(lambda: old)
    records = [rig.record(one) for one in steady("bus-1", 6)]
    said = forecasts(await answered(rig.engine, records, choice([old, new], everybody(new, 9), sure_below=4)))
    assert [one["model"].get("late") for one in said] == [None] * 4 + [True] * 2
    assert rig.counts.late_weights == 2


def test_turns_keep_the_order_of_each_entity() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        n = int(rng.integers(1, 30))
        entity, which = rng.integers(-1, 4, n), rng.integers(0, 3, n)
        turns = Networks([], which, np.zeros(n, np.bool_)).turns(entity)
        if turns is None:
            for one in range(4):
                assert len(set(which[entity == one].tolist())) <= 1
            continue
        assert sorted(np.concatenate(turns).tolist()) == list(range(n))
        for one in range(4):
            rows = [[row for row in turn.tolist() if entity[row] == one] for turn in turns]
            assert [row for some in rows for row in some] == np.flatnonzero(entity == one).tolist()
            assert all(len(set(which[some].tolist())) <= 1 for some in rows)


def test_places_are_spread_over_the_fleet() -> None:
    places = places_of([f"vehicle {n}" for n in range(10_000)])
    counts = np.histogram(places, 10, (0, 2**32))[0]
    assert counts.min() > 850
