"""What the API computes from a stored state is what a worker published of it, to the bit."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import pytest
from api_rig import InMemory, newest_of, publish, questions_of, running
from atlas_rig import Stated, forked, version_of
from engine_rig import CHECKPOINT, SETTINGS, T0, A, Rig, forecasts, ping, steady
from yarl import URL

from model.api import FIX, Atlas, Predictor
from stream.api.answers.atlases import RequestedAtlas
from stream.api.answers.forecasts import StateQuestion, forecast_states
from stream.api.answers.networks import Networks
from stream.api.answers.questions import Question
from stream.api.answers.rendering import render
from stream.engine.asks import Choice
from stream.engine.entities import stored_entity
from stream.wire import ModelRef

HORIZONS = SETTINGS.horizons_s
NORTH = Atlas.of(version_of(one for name in "abc" for one in steady(name, 150)))
FORKED = Atlas.of(forked())


async def stored(rig: Rig, entity_id: str) -> stored_entity.Stored:
    (raw,) = await rig.store.get_many(A, [entity_id])
    assert raw is not None
    return stored_entity.loads(entity_id, raw)


def bare(published: Any) -> Any:
    """What a published forecast and an answer have in common."""
    return {name: value for name, value in published.items() if name not in ("latency_ms", "src", "state")}


async def test_an_answer_has_the_numbers_of_the_forecast_that_was_published_of_its_state(rig: Rig, serve: Any) -> None:
    """Checkpoints leave the stored states up to eight fixes behind their windows: the answer folds them in. The rows of
    one batch ask for different numbers of horizons."""
    seen = set()
    newest = newest_of()
    async with serve(newest) as api:
        for turn in range(12):
            moments = [ping(name, 10 * turn + n, speed_mps=8.0) for n, name in enumerate(("bus-1", "bus-2", "é/ü"))]
            told = await rig.feed(*moments, CHECKPOINT)
            publish(newest, told)
            published = {one["entity_id"]: one for one in forecasts(told)}
            for entity_id, horizons in (("bus-1", HORIZONS), ("bus-2", HORIZONS), ("é/ü", (1.0, *HORIZONS, 3_600.0))):
                asked = "&".join(f"horizon_s={one:g}" for one in horizons)
                path = URL(f"{api.base}/v1/entities/{quote(entity_id, safe='')}/forecast?{asked}", encoded=True)
                async with api.client.get(path) as response:
                    said = await response.json(content_type=None)
                assert response.status == 200, said
                due = published[entity_id]
                assert said["state"]["behind_s"] == 0
                assert said["state"]["next_offset"] == due["src"]["offset"] + 1
                if len(horizons) > len(HORIZONS):
                    assert said["horizons"][1:-1] == due["horizons"]
                    said["horizons"] = said["horizons"][1:-1]
                assert bare(said) == {**bare(due), "cache": "hit"}
                seen.add((await stored(rig, entity_id)).behind)
    assert seen == set(range(stored_entity.STALE + 1)), "each lag of a stored state was met"


async def test_who_else_is_asked_and_how_many_horizons_others_have_changes_no_bit(
    rig: Rig, make_predictor: Any
) -> None:
    rng = np.random.default_rng(5)
    for name in "abcdefgh":
        await rig.feed(*steady(name, int(rng.integers(1, 30))), CHECKPOINT)
    network = make_predictor()
    asked = [StateQuestion(await stored(rig, name), HORIZONS[: 1 + n % 3]) for n, name in enumerate("abcdefgh")]
    together = forecast_states(network, asked)
    assert [forecast_states(network, [one])[0] for one in asked] == together
    assert forecast_states(network, asked[::-1]) == together[::-1]
    whole = forecast_states(network, [one._replace(horizons_s=HORIZONS) for one in asked])
    for one, other in zip(together, whole, strict=True):
        assert one.forecast is not None
        assert other.forecast is not None
        assert one.forecast.horizons == other.forecast.horizons[: len(one.forecast.horizons)]


@pytest.mark.parametrize("version", [NORTH, FORKED])
async def test_an_atlas_moves_an_answer_as_it_moved_what_was_published(rig: Rig, serve: Any, version: Atlas) -> None:
    """And where passages part, it has the same branches."""
    rig.choice = Choice(Stated([0, 20], [None, version]))
    await rig.feed(*steady("bus-1", 30), CHECKPOINT)
    due = forecasts(rig.out)[-1]
    assert due["atlas"]["pings"] > 0, "else it would prove nothing"
    assert len(due.get("branches", [])) == (2 if version is FORKED else 0)

    class OneVersion:
        def of(self, number: int, offset: int) -> tuple[RequestedAtlas, bool]:
            assert (number, offset) == (0, 29), "the ping that the forecast answers"
            return RequestedAtlas(version.version, version), False

    async with serve(newest_of(rig.out), asks={"atlases": OneVersion()}) as api:
        _, said = await api.get("/v1/entities/bus-1/forecast")
    assert bare(said) == {**bare(due), "cache": "hit"}


async def test_a_state_of_weights_in_the_registry_is_answered_by_them(rig: Rig, make_predictor: Any) -> None:
    """They are loaded when they are first asked, and others are not kept waiting for that."""
    await rig.feed(*steady("old", 20), CHECKPOINT)
    other = make_predictor(2)
    started, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def load(version: str) -> Predictor:
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
        if version != rig.engine.model.version:
            raise ValueError("it is not there")
        return make_predictor()  # type: ignore[no-any-return]

    theirs = Rig(lambda: other, rig.store, ("pathcast.pings.v1", 1))
    await theirs.feed(*steady("new", 20), CHECKPOINT)
    asker = questions_of(InMemory(rig.store), other, networks=Networks(make_predictor(2), load), partitions=2)
    async with running(asker):
        old = asyncio.create_task(asker.ask(Question("old", HORIZONS)))
        await started.wait()
        new = await asker.ask(Question("new", HORIZONS))
        assert not old.done()
        go_on.set()
        found = await old
    assert (new.network.version, new.state_forecast.cache) == (other.version, "hit")
    assert (found.network.version, found.state_forecast.cache) == (rig.engine.model.version, "hit")


async def test_a_state_of_weights_that_cannot_be_had_is_rebuilt_from_its_window(rig: Rig, make_predictor: Any) -> None:
    await rig.feed(*steady("bus-1", 20), CHECKPOINT)
    ours = make_predictor(2)
    asker = questions_of(InMemory(rig.store), ours)
    async with running(asker):
        found = await asker.ask(Question("bus-1", HORIZONS))
    twin = Rig(lambda: make_predictor(2))
    due = forecasts(await twin.feed(*steady("bus-1", 20)))[-1]
    assert (found.state_forecast.cache, found.network.version) == ("rebuilt", ours.version)
    assert found.state_forecast.forecast is not None
    assert json.loads(msgspec.json.encode(found.state_forecast.forecast.horizons)) == due["horizons"]
    assert ModelRef(ours.name, ours.version) == ModelRef(**due["model"])


async def test_a_damaged_state_is_rebuilt_and_a_damaged_record_is_refused(rig: Rig, serve: Any) -> None:
    await rig.feed(*steady("bus-1", 20), *steady("bus-2", 20), CHECKPOINT)
    records = rig.store._records[A]  # type: ignore[union-attr]
    records["bus-1"] = records["bus-1"][:-1] + bytes([records["bus-1"][-1] ^ 1])
    records["bus-2"] = records["bus-2"][:100] + b"\xff" + records["bus-2"][101:]
    async with serve() as api:
        status, said = await api.get("/v1/entities/bus-1/forecast")
        assert (status, said["cache"], said["horizons"]) == (200, "rebuilt", forecasts(rig.out)[19]["horizons"])
        status, said = await api.get("/v1/entities/bus-2/forecast")
        assert (status, said["type"]) == (409, "urn:pathcast:problem:unusable_state")


async def test_seconds_from_now_count_from_the_last_ping_what_has_passed_since(rig: Rig, make_predictor: Any) -> None:
    await rig.feed(*steady("bus-1", 20), CHECKPOINT)
    asker = questions_of(InMemory(rig.store), make_predictor(), now_ms=T0 + 190_000 + 45_500)
    async with running(asker):
        now = await asker.ask(Question("bus-1", (60.0,), since_now=True))
        plain = await asker.ask(Question("bus-1", (105.5,)))
    assert now.state_forecast == plain.state_forecast


def test_a_number_that_is_not_finite_is_an_error(make_predictor: Any) -> None:
    network = make_predictor()
    slots = network.acquire(1)
    network.rebuild(slots, [np.zeros(1, FIX)])
    said = network.forecast(slots, (60.0,))
    broken = said._replace(lat=said.lat * np.nan)
    with pytest.raises(ValueError, match="NaN"):
        render(broken, 0, network.last(slots)[0], (60.0,), 1)
