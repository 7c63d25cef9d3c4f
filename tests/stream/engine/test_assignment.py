"""Which atlas a ping asks is decided by its offset, and moves its forecast and no state."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from atlas_rig import Stated, forked, version_of
from engine_rig import A, B, Rig, forecasts, gap_fills, ping, steady
from faulty import FaultyFold, poison

from model.api import Atlas
from stream.engine.assignment import VersionChoice
from stream.wire import Outgoing, Ping, Record, dumps, loads_forecast, loads_gapfill
from stream.wire.ids import EVENT_ID, forecast_id

NORTH = Atlas.of(version_of(one for name in "abc" for one in steady(name, 250)))  # a way on is known 18 min later
EMPTY = Atlas.of(version_of([]))
LATE = ping("bus-1", 395)


async def answered(rig: Rig, pings: list[Ping], choice: Stated | None, **more: Any) -> list[Outgoing]:
    records = [rig.record(one) for one in pings]
    answers = await rig.engine.process(records, started_ms=20.0, fetched_ms=10.0, choice=VersionChoice(choice), **more)
    return [one for one in answers if one.topic.endswith("forecasts.v1")]


@pytest.mark.parametrize("careful", [False, True])
async def test_a_version_begins_at_its_offset_in_the_midst_of_a_batch(
    rig: Rig, make_predictor: Any, careful: bool
) -> None:
    """The late ping and the one after it are steps of their own."""
    pings = [*steady("bus-1", 50), LATE, ping("bus-1", 500), *steady("bus-2", 3)]
    choice = Stated([20, 30, 45], [NORTH, EMPTY, NORTH], late_from=52)
    guided = await answered(rig, pings, choice, careful=careful)
    plain = await answered(Rig(make_predictor), pings, None, careful=careful)
    for offset, (one, other) in enumerate(zip(guided, plain, strict=True)):
        found, without = loads_forecast(one.value or b""), loads_forecast(other.value or b"")
        due = NORTH.version if 20 <= offset < 30 or offset >= 45 else EMPTY.version if offset >= 30 else None
        assert found.atlas is not None
        assert (found.atlas.version, found.atlas.late) == (due, offset >= 52)
        assert found.forecast_id == forecast_id(found.entity_id, found.anchor.ts, found.model.version, due)
        assert dict(one.headers)[EVENT_ID] == found.forecast_id.encode()
        ours, theirs = json.loads(one.value or b""), json.loads(dumps(found))
        assert (ours, list(ours), list(ours["atlas"])) == (theirs, list(theirs), list(theirs["atlas"])), "and its order"
        bare = msgspec.structs.replace(found, atlas=None, forecast_id=without.forecast_id)
        if found.atlas.pings:
            assert due == NORTH.version
            assert found.horizons != without.horizons
        else:
            assert bare == without, "without a version, or with one that has seen nothing here, it is the model's alone"
    asked = [one.atlas.pings for one in map(loads_forecast, (one.value or b"" for one in guided)) if one.atlas]
    assert all(0 < pings <= 6 for pings in asked[21:30]), "each of them, and at most two passages of each of three"
    assert asked[50] > 0, "the late ping's, too"
    assert rig.counts.late_atlas == 3
    assert rig.counts.late == 1


async def test_a_partition_asks_for_itself(rig: Rig) -> None:
    class OfB(Stated):
        def of(self, number: int, offsets: Any) -> Any:
            which, late = super().of(number, offsets)
            return (which, late) if number == B[1] else (np.full(len(offsets), -1), late)

    records = [
        Record(*partition, offset, 0, b"bus-1", dumps(one))
        for offset, one in enumerate(steady("bus-1", 10))
        for partition in (A, B)
    ]
    choice = OfB([4], [NORTH])
    found = forecasts(await rig.engine.process(records, started_ms=20.0, fetched_ms=10.0, choice=VersionChoice(choice)))
    assert {(one["src"]["partition"], one["src"]["offset"]) for one in found if one["atlas"]["version"]} == {
        (B[1], offset) for offset in range(4, 10)
    }


async def test_where_passages_part_a_forecast_has_branches(rig: Rig) -> None:
    """Two of four entities turn east when the ping's entity is 300 s under way. Behind that, it goes north as two."""
    version, pings = Atlas.of(forked()), steady("bus-1", 60)
    found = [one.value or b"" for one in await answered(rig, pings, Stated([0], [version]))]
    assert json.loads(found[20]).keys() - json.loads(found[-1]).keys() == {"branches"}
    assert list(json.loads(found[20])) == list(json.loads(dumps(loads_forecast(found[20])))), "and in their order"
    branches = loads_forecast(found[20]).branches
    assert branches is not None
    assert [branch.share for branch in branches] == pytest.approx([0.5, 0.5], abs=0.2)
    ahead = {branch.positions[-1].lon > branch.positions[0].lon + 0.01: branch.positions for branch in branches}
    for is_east, positions in ahead.items():
        assert [place.h_s for place in positions] == [60.0, 300.0, 900.0]
        gone_m = 8 * (200 + 900)
        due = ping("bus-1", 200 + 900, 2_400 if is_east else gone_m)
        assert positions[-1].lat == pytest.approx(due.lat, abs=0.001)
        assert positions[-1].lon == pytest.approx(due.lon + is_east * (gone_m - 2_400) / 111_195, abs=0.001)
    assert ahead.keys() == {True, False}


async def test_no_state_depends_on_an_atlas(rig: Rig, make_predictor: Any) -> None:
    pings, other = [*steady("bus-1", 50), LATE, ping("bus-1", 500)], Rig(make_predictor)
    await answered(rig, pings, Stated([0], [NORTH]))
    await answered(other, pings, None)
    for one in (rig, other):
        await one.checkpoint()
    assert await rig.store.get_many(A, ["bus-1"]) == await other.store.get_many(A, ["bus-1"])
    later = [ping("bus-1", 510)]
    (one,), (two,) = await answered(rig, later, None), await answered(other, later, None)
    assert one.value == two.value


async def test_an_entity_that_raises_costs_the_others_no_atlas(make_predictor: Any) -> None:
    """Each half is tried, and a made-up entity, of which no topic has a ping."""
    rig = Rig(lambda: make_predictor(kind=FaultyFold))
    pings = [*steady("bus-1", 12), *steady("bus-2", 12), poison("bus-1", 120)]
    answers = await answered(rig, pings, Stated([5], [NORTH]), careful=True)
    found = [loads_forecast(one.value or b"") for one in answers]
    assert {one.src.offset: one.atlas.version for one in found if one.atlas} == {
        offset: NORTH.version if offset >= 5 else None for offset in range(24)
    }
    assert rig.counts.step_failed == 1


async def test_what_is_folded_in_silence_asks_nothing(rig: Rig) -> None:
    records = [rig.record(one) for one in steady("bus-1", 5)]

    class Nobody(Stated):
        def of(self, number: int, offsets: Any) -> Any:
            raise AssertionError("it was asked")

    choice = VersionChoice(Nobody([], []))
    assert not await rig.engine.process(records, started_ms=20.0, fetched_ms=10.0, silent=True, choice=choice)


async def test_a_gap_fill_asks_the_atlas_of_the_ping_that_it_answers(rig: Rig, make_predictor: Any) -> None:
    """A gap that a ping closes, one that is final two pings later, and one that a new session makes final."""
    away = [ping("bus-1", 1_100), ping("bus-1", 5_100)]
    pings, other = [*steady("bus-1", 30), *steady("bus-1", 5, 700), *away], Rig(make_predictor)
    plain = gap_fills(await other.batch(*pings))
    rig.choice = VersionChoice(Stated([0, 31, 34, 36], [NORTH, EMPTY, NORTH, None], late_from=35))
    answers = await rig.batch(*pings)
    fills = [one for one in answers if one.topic.endswith("gapfills.v1")]
    assert [one.src.offset for one in fills] == [30, 32, 35, 36]
    asked = [loads_forecast(one.value or b"").atlas for one in answers if one.topic.endswith("forecasts.v1")]
    found = [loads_gapfill(one.value or b"") for one in fills]
    named = [(one.atlas.version, one.atlas.late) for one in found if one.atlas]
    assert named == [(NORTH.version, False), (EMPTY.version, False), (NORTH.version, True), (None, True)]
    assert named == [(one.version, one.late) for one in map(asked.__getitem__, (30, 32, 35, 36)) if one], "as forecasts"
    assert [one.atlas.pings > 0 for one in found if one.atlas] == [True, False, True, False]
    for one, without in zip(fills, plain, strict=True):
        ours = json.loads(one.value or b"")
        assert (list(ours), "atlas" in without) == (list(json.loads(dumps(loads_gapfill(one.value or b"")))), False)
        if ours.pop("atlas")["pings"]:
            assert ours["gap_id"] == without["gap_id"]
            for name in ("lat", "cov_m2"):
                assert [point[name] for point in ours["points"]] != [point[name] for point in without["points"]]
        else:
            assert ours == without, "to the last digit"


async def test_a_retracted_gap_fill_names_no_atlas(rig: Rig) -> None:
    rig.choice = VersionChoice(Stated([0], [NORTH]))
    fills = gap_fills(await rig.batch(*steady("bus-1", 30), ping("bus-1", 700), ping("bus-1", 500)))
    assert [(one["status"], "atlas" in one) for one in fills] == [("provisional", True), ("retracted", False)]
