"""Questions about entities, over real sockets: what each operation answers, and how it refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from api_rig import NOW_MS, InMemory, Nobody, Served, kind, newest_of, publish
from engine_rig import CHECKPOINT, T0, A, B, Rig, forecasts, ping, steady
from yarl import URL

from stream.api import messages as m
from stream.api.answers import states
from stream.engine.entities import quarantine

PATIENCE_S = 120.0


async def test_an_answer_says_how_old_its_state_is_and_how_far_behind(own_api: Served, rig: Rig) -> None:
    publish(own_api.newest, await rig.feed(ping("bus-1", 360)))
    status, said = await own_api.get("/v1/entities/bus-1/forecast?horizon_s=60")
    assert status == 200
    state = said["state"]
    assert (state["behind_s"], state["age_s"]) == (70.0, (NOW_MS - T0 - 290_000) / 1000)
    assert said["anchor"]["ts"] == T0 + 290_000
    _, quiet = await own_api.get("/v1/entities/quiet/forecast?horizon_s=60")
    assert "behind_s" not in quiet["state"], "nothing was heard of it"
    msgspec.convert(said, m.EntityForecast)


async def test_the_newest_forecast_is_told_as_it_was_published(own_api: Served, rig: Rig) -> None:
    status, said = await own_api.get("/v1/entities/bus-1")
    assert (status, said["forecast"]) == (200, [one for one in forecasts(rig.out) if one["entity_id"] == "bus-1"][-1])
    status, said = await own_api.get("/v1/entities/quiet")
    assert (status, kind(said)) == (404, "unknown_entity")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/entities/nobody/forecast", 404, "unknown_entity"),
        ("/v1/entities/bus-1/forecast?horizon_s=0", 400, "bad_parameter"),
        ("/v1/entities/bus-1/forecast?horizon_s=-5", 400, "bad_parameter"),
        ("/v1/entities/bus-1/forecast?horizon_s=86401", 400, "bad_parameter"),
        ("/v1/entities/bus-1/forecast?horizon_s=nan", 400, "bad_parameter"),
        ("/v1/entities/bus-1/forecast?horizon_s=inf", 400, "bad_parameter"),
        ("/v1/entities/bus-1/forecast?horizon_s=1e400", 400, "bad_parameter"),
        ("/v1/entities/bus-1/forecast?horizon_s=1_0", 400, "bad_parameter"),
        ("/v1/entities/bus-1/forecast?horizon_s=", 400, "bad_parameter"),
        ("/v1/entities/bus-1/forecast?" + "&".join(["horizon_s=1"] * 17), 400, "bad_parameter"),
        ("/v1/entities/bus-1/forecast?horizons=60", 400, "bad_parameter"),
        ("/v1/entities/bus-1/forecast?from=then", 400, "bad_parameter"),
        ("/v1/entities/bus-1/forecast?from=now&from=now", 400, "bad_parameter"),
        ("/v1/entities/" + "x" * 129 + "/forecast", 400, "bad_parameter"),
        ("/v1/entities/a%0Ab/forecast", 400, "bad_parameter"),
        ("/v1/entities/%FF/forecast", 404, "unknown_entity"),
        ("/v1/entities?bbox=1,2,3", 400, "bad_parameter"),
        ("/v1/entities?bbox=1,2,3,x", 400, "bad_parameter"),
        ("/v1/entities?bbox=0,10,1,5", 400, "bad_parameter"),
        ("/v1/entities?bbox=0,0,181,5", 400, "bad_parameter"),
        ("/v1/entities?limit=0", 400, "bad_parameter"),
        ("/v1/entities?limit=1.5", 400, "bad_parameter"),
        ("/v1/entities?cursor=zz", 400, "bad_parameter"),
        ("/v1/stream?entity=" + "&entity=".join("e" * 51), 400, "bad_parameter"),
        ("/v1/ws", 426, "no_websocket"),
        ("/v1/entitles", 404, "not_found"),
        ("/v1/entities/bus-1/forecast/", 404, "not_found"),
        ("/", 404, "not_found"),
    ],
)  # fmt: skip
@pytest.mark.asyncio(loop_scope="session")
async def test_a_refusal_says_what_came_and_what_was_expected(api: Served, path: str, status: int, code: str) -> None:
    async with api.client.get(URL(api.base + path, encoded=True)) as said:
        assert said.status == status
        assert said.content_type == "application/problem+json"
        problem = await said.json(content_type=None)
    assert kind(problem) == code
    if code == "bad_parameter":
        assert problem.get("expected") or "unknown" in problem["detail"], problem


async def test_an_entity_that_was_silent_for_long_is_gone_unless_it_was_heard_of(rig: Rig, serve: Any) -> None:
    """A recording that is played again has pings of long ago, whose forecasts come now."""
    await rig.feed(*steady("bus-1", 30), CHECKPOINT)
    for newest, due in ((newest_of(), 410), (newest_of(rig.out), 200)):
        async with serve(newest, asks={"stale_ms": 60_000}) as api:
            status, said = await api.get("/v1/entities/bus-1/forecast")
            assert status == due
            if due == 410:
                assert (kind(said), said["expected"]) == ("stale_entity", "a ping within 60 s (--stale-after)")


async def test_an_entity_in_quarantine_is_told_so(own_api: Served, rig: Rig) -> None:
    given_up = quarantine.begun(7, T0, quarantine.Versions("program", "model"), ValueError("its fault"))
    rig.store._records[A]["bus-1"] = quarantine.dumps("bus-1", given_up)  # type: ignore[union-attr]
    status, said = await own_api.get("/v1/entities/bus-1/forecast")
    assert (status, kind(said)) == (409, "unusable_state")
    assert "quarantine" in said["detail"]


async def test_an_entity_whose_sender_has_another_partitioner_is_found(make_predictor: Any, serve: Any) -> None:
    for partition in (A, B):
        rig = Rig(make_predictor, partition=partition)
        await rig.feed(*steady("bus-1", 10), CHECKPOINT)
        async with serve(reader=InMemory(rig.store), asks={"partitions": 2}) as api:
            status, said = await api.get("/v1/entities/bus-1/forecast")
            assert (status, said["state"]["partition"]) == (200, partition[1])


async def test_one_that_is_absent_is_not_looked_for_again_and_again(
    rig: Rig, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "ABSENT_S", PATIENCE_S)  # a busy machine answers few within two seconds
    await rig.feed(*steady("bus-1", 10), CHECKPOINT)
    reader = InMemory(rig.store)
    async with serve(reader=reader) as api:
        for _ in range(20):
            assert (await api.get("/v1/entities/nobody/forecast"))[0] == 404
        assert reader.calls == 1


async def test_redis_away_is_a_503_and_what_is_in_memory_is_answered(rig: Rig, serve: Any) -> None:
    await rig.feed(*steady("bus-1", 10))
    async with serve(newest_of(rig.out), reader=Nobody(rig.store), why=["Redis is away"]) as api:
        status, said = await api.get("/v1/entities/bus-1/forecast")
        assert (status, kind(said)) == (503, "store_away")
        assert (await api.get("/v1/entities/bus-1"))[0] == 200
        assert await api.get("/readyz") == (503, {"ok": False, "reasons": ["Redis is away"]})
        assert await api.get("/healthz") == (200, {"ok": True, "reasons": []})


async def test_many_questions_at_once_are_answered_in_few_batches(own_api: Served) -> None:
    asked = [own_api.get(f"/v1/entities/bus-{1 + n % 2}/forecast?horizon_s={1 + n}") for n in range(60)]
    found = await asyncio.gather(*asked)
    assert [(status, said["horizons"][0]["h_s"]) for status, said in found] == [(200, 1.0 + n) for n in range(60)]
    assert own_api.questions.batches < 30


# -- who is where ----------------------------------------------------------------------------------------------------


async def test_pages_have_each_entity_once(rig: Rig, serve: Any) -> None:
    newest = newest_of(await rig.batch(*(ping(f"e{n}", 0, north_m=1_000.0 * n) for n in range(25))))
    async with serve(newest) as api:
        found, cursor, pages = [], "", 0
        while True:
            _, said = await api.get(f"/v1/entities?limit=10{cursor}")
            found += [one["entity_id"] for one in said["entities"]]
            pages += 1
            if "next" not in said:
                break
            cursor = f"&cursor={said['next']}"
        assert (sorted(found), pages) == (sorted(f"e{n}" for n in range(25)), 3)
        _, said = await api.get("/v1/entities?bbox=-98,30.0,-96,30.04")
        assert sorted(one["entity_id"] for one in said["entities"]) == [f"e{n}" for n in range(5)]
        assert (await api.get("/v1/entities?bbox=10,-5,20,5"))[1] == {"entities": []}
