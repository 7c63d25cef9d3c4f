"""Server-sent events and WebSockets, over real sockets."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
import raw_client
from api_rig import SERVER_ID, Served, kind, publish
from engine_rig import T0, Rig, ping

from stream.api.live import sending


async def events_of(said: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    found = []
    async with asyncio.timeout(20):
        while len(found) < count:
            block = {}
            while line := (await said.content.readline()).decode().rstrip("\n"):
                name, _, value = line.partition(":")
                block[name] = value.removeprefix(" ")
            if "data" in block:
                found.append({"event": block["event"], "id": block["id"], **json.loads(block["data"])})
    return found


async def test_events_are_a_snapshot_then_what_comes_and_go_on_after_the_last_id(own_api: Served, rig: Rig) -> None:
    async with own_api.client.get(f"{own_api.base}/v1/stream?bbox=-98,29,-96,31") as said:
        assert (said.status, said.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        first = await events_of(said, 4)
        assert [one["event"] for one in first] == ["snapshot", "forecast", "forecast", "live"]
        assert {one["forecast"]["entity_id"] for one in first[1:3]} == {"bus-1", "bus-2"}
        publish(own_api.newest, await rig.feed(ping("bus-2", 40)))
        (news,) = await events_of(said, 1)
        assert (news["event"], news["forecast"]["anchor"]["ts"]) == ("forecast", T0 + 40_000)
    publish(own_api.newest, await rig.feed(ping("bus-1", 300)))
    for how in ({"headers": {"Last-Event-ID": news["id"]}}, {"params": {"last_event_id": news["id"]}}):
        async with own_api.client.get(f"{own_api.base}/v1/stream", **how) as said:
            again = await events_of(said, 2)
        assert [one["event"] for one in again] == ["forecast", "live"]
        assert again[0]["forecast"]["anchor"]["ts"] == T0 + 300_000


async def test_an_idle_stream_has_a_heartbeat(own_api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "HEARTBEAT_S", 0.05)
    async with own_api.client.get(f"{own_api.base}/v1/stream?entity=nobody") as said, asyncio.timeout(20):
        await events_of(said, 2)
        assert await said.content.readline() == b": nothing new\n"


async def test_a_socket_has_the_same_messages_and_watches_something_else_when_told_so(
    own_api: Served, rig: Rig
) -> None:
    async with own_api.client.ws_connect(f"{own_api.base}/v1/ws?entity=bus-1") as socket:
        first = [await socket.receive_json(timeout=20) for _ in range(3)]
        assert [one["type"] for one in first] == ["snapshot", "forecast", "live"]
        assert first[2]["id"].startswith(f"{SERVER_ID}-")
        await socket.send_str('{"type":"watch","entity":["bus-2"]}')
        again = [await socket.receive_json(timeout=20) for _ in range(3)]
        assert [one["type"] for one in again] == ["snapshot", "forecast", "live"]
        assert again[1]["forecast"]["entity_id"] == "bus-2"
        for bad in ("", "{}", '{"type":"watch","bbox":[1]}', '{"type":"watch","boxes":[]}', "é" * 100):
            await socket.send_str(bad)
            said = await socket.receive_json(timeout=20)
            assert (said["type"], kind(said["problem"])[:4]) == ("problem", "bad_")
        publish(own_api.newest, await rig.feed(ping("bus-2", 40)))
        assert (await socket.receive_json(timeout=20))["forecast"]["anchor"]["ts"] == T0 + 40_000
    async with own_api.client.ws_connect(f"{own_api.base}/v1/ws") as socket:
        await socket.send_bytes(b"x" * (sending.MAX_SAID_BYTES + 1))
        while not (said := await socket.receive(timeout=20)).type.name.startswith("CLOSE"):
            pass


async def test_a_client_that_takes_nothing_is_dropped(
    own_api: Served, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads nothing, while more is sent than the kernel's buffers hold."""
    monkeypatch.setattr(sending, "SLOW_S", 0.3)
    monkeypatch.setattr(sending, "GATHER_S", 0.0)
    writer = await raw_client.watch_without_reading(own_api.base, own_api.server, "/v1/stream")
    (answer,) = [one for one in await rig.feed(ping("bus-1", 300)) if one.topic.endswith("forecasts.v1")]
    async with asyncio.timeout(60):
        while b'streams_dropped_total{kind="events"} 1.0' not in own_api.metrics():
            for _ in range(200):
                publish(own_api.newest, [answer])
                await asyncio.sleep(0)
    assert not own_api.server.streams
    writer.close()


async def test_more_streams_than_the_limit_are_refused(serve: Any) -> None:
    async with (
        serve(most_streams=1) as api,
        api.client.get(f"{api.base}/v1/stream") as said,
    ):
        assert said.status == 200
        status, problem = await api.get("/v1/stream")
        assert (status, kind(problem)) == (503, "busy")


async def test_one_client_leaves_half_of_the_streams_to_others(serve: Any) -> None:
    """After a restart of the server, all streams of a client come back at once."""
    async with serve(most_streams=4, behind_proxy=True) as api, AsyncExitStack() as stack:

        async def opened(client: str) -> aiohttp.ClientResponse:
            headers = {"X-Forwarded-For": client}
            return await stack.enter_async_context(api.client.get(f"{api.base}/v1/stream", headers=headers))

        greedy = [await opened("10.0.0.1") for _ in range(3)]
        assert [one.status for one in greedy] == [200, 200, 503]
        assert "2 of yours are open" in await greedy[2].text()
        assert (await opened("10.0.0.2")).status == 200
        assert (await opened("10.0.0.3")).status == 200
        late = await opened("10.0.0.2")
        assert late.status == 503
        assert "4 streams are open" in await late.text()
        greedy[0].close()
        async with asyncio.timeout(60):
            while (await opened("10.0.0.1")).status != 200:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.01)
