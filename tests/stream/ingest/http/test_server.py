"""The HTTP server over real sockets, with a sink in memory whose Kafka can be away."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import raw_client
from feeds_rig import PATIENCE_S, SinkInMemory
from live_rig import FIXTURES
from yarl import URL

from stream.config.http_access import Address
from stream.config.security import Refused
from stream.ingest.http import server
from stream.ingest.http.guards import guards_of
from stream.ingest.http.server import Limits, listening, serve
from stream.ingest.http.webhooks import webhooks_of
from stream.ingest.publishing.sink import Unavailable

LOOPBACK = Address("127.0.0.1", 0)
TOKEN = "0123456789abcdef"
FLESPI = (FIXTURES / "flespi.json").read_bytes()
NO_LIMITS = Limits()
JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def door(
    map_: str = "flespi", environment: Mapping[str, str] | None = None, limits: Limits = NO_LIMITS
) -> AsyncIterator[tuple[str, SinkInMemory]]:
    """The URL of the webhook of a map, and what it writes to."""
    webhooks, kept = webhooks_of([map_]), SinkInMemory()
    async with listening(LOOPBACK, webhooks, guards_of(webhooks, environment or {}), limits, kept) as handler:  # type: ignore[arg-type]
        yield f"http://{handler.address}/webhook/{map_}", kept


async def post(url: str, body: bytes = FLESPI, **headers: str) -> tuple[int, str, Mapping[str, str]]:
    given = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with aiohttp.ClientSession() as client, client.post(url, data=body, headers=given) as said:
        assert "python" not in said.headers["Server"].lower(), "nobody need know what runs here"
        return said.status, await said.text(), said.headers


async def test_what_kafka_has_is_answered_200_with_what_became_of_it() -> None:
    async with door() as (url, sink):
        status, text, headers = await post(url)
        told = json.loads(text)
        assert (status, told["pings"], told["rejects"], told["skips"]) == (200, 1, 1, {"no_position": 1})
        assert told["reasons"][0]["code"] == "null_island"
        assert headers["Content-Type"].startswith("application/json")
        assert (sink.origins, sink.adapters) == ({"http:/webhook/flespi"}, {"flespi"})


async def test_a_message_without_a_ping_is_answered_200_as_it_is_kept() -> None:
    async with door() as (url, sink):
        status, text, _ = await post(url, b"no JSON")
        assert (status, json.loads(text)["reasons"][0]["code"]) == (200, "invalid_json")
        assert (len(sink.letters), sink.pings, sink.skips) == (1, [], [])


async def test_a_strict_sender_gets_422_and_nothing_is_kept() -> None:
    async with door() as (url, sink):
        status, text, _ = await post(url, b'[{"ident": "a"}, 5]', Prefer="handling=strict")
        assert (status, json.loads(text)["rejects"], sink.came.is_set()) == (422, 1, False)
        assert (await post(url, Prefer="handling=strict"))[0] == 200, "one of three is a ping"


async def test_while_kafka_is_away_a_sender_is_told_to_come_again_and_not_why() -> None:
    async with door() as (url, sink):
        sink.fails = Unavailable("Kafka at secret-host:9092 takes no records")
        status, text, headers = await post(url)
        assert (status, headers["Retry-After"], "secret" in text, sink.pings) == (503, "5", False, [])
        sink.fails = None
        assert (await post(url))[0] == 200


async def test_a_broker_that_denies_access_ends_the_process() -> None:
    webhooks, sink = webhooks_of(["flespi"]), SinkInMemory()
    sink.fails = Refused("may not write")
    async with listening(LOOPBACK, webhooks, guards_of(webhooks, {}), Limits(), sink) as handler:  # type: ignore[arg-type]
        assert (await post(f"http://{handler.address}/webhook/flespi"))[0] == 503
        with pytest.raises(Refused):
            await asyncio.wait_for(handler.refused, PATIENCE_S)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/webhook/motive", JSON, 404),
        ("POST", "/", JSON, 404),
        ("GET", "/webhook/flespi", JSON, 405),
        ("PUT", "/webhook/flespi", JSON, 405),
        ("POST", "/webhook/flespi", {"Content-Type": "text/csv"}, 415),
        ("POST", "/webhook/flespi", {**JSON, "Content-Encoding": "gzip"}, 415),
        ("POST", "/webhook/flespi", {"Content-Type": "application/vnd.flespi+json"}, 200),
        ("POST", "/webhook/flespi", {"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
async def test_only_json_is_taken_by_post(method: str, path: str, headers: dict[str, str], status: int) -> None:
    async with door() as (url, sink), aiohttp.ClientSession() as client:
        async with client.request(method, url.replace("/webhook/flespi", path), data=FLESPI, headers=headers) as said:
            assert said.status == status, await said.text()
        assert bool(sink.pings) == (status == 200)


async def test_pings_of_ours_come_as_json_or_as_lines_and_lines_are_for_them_alone() -> None:
    ping = {"entity_id": "a", "ts": 1_700_000_000_000, "lat": 1.0, "lon": 2.0}
    lines = "\n".join(json.dumps(one) for one in (ping, {**ping, "lat": 91}, {**ping, "ts": "2023-11-14T22:13:30Z"}))
    async with door("pathcast") as (url, sink):
        status, text, _ = await post(url, lines.encode(), Content_Type="application/x-ndjson")
        told = json.loads(text)
        assert (status, told["pings"], told["rejects"]) == (200, 2, 1)
        assert told["reasons"][0]["code"] == "lat_out_of_range"
        assert sink.seen == [("a", 1_700_000_000_000), ("a", 1_700_000_010_000)]
        assert [(one.code, whole) for one, whole in sink.letters] == [("lat_out_of_range", lines.encode())]
        assert (await post(url, json.dumps([ping] * 3).encode()))[0] == 200
        assert len(sink.pings) == 5
        assert (await post(url, b"x", Content_Type="text/csv"))[0] == 415
    async with door() as (url, _):
        assert (await post(url, Content_Type="application/x-ndjson"))[0] == 415


@pytest.mark.parametrize(("method", "status"), [("GET", 405), ("POST", 400)])
async def test_traccar_that_sends_the_position_in_the_query_is_told_what_to_set(method: str, status: int) -> None:
    """By default it forwards so (`forward.type` url), and so do trackers that speak OsmAnd's protocol."""
    query = {"id": "123456", "lat": "30.2", "lon": "-97.7", "timestamp": "1700000000", "speed": "3.5"}
    async with door("traccar") as (url, sink), aiohttp.ClientSession() as client:
        async with client.request(method, url, params=query) as said:
            told = json.loads(await said.text())
            assert (said.status, said.content_type) == (status, "application/problem+json")
        assert "set forward.type to json" in told["detail"]
        assert "OsmAnd" in told["detail"]
        assert not sink.came.is_set()


async def test_a_body_that_comes_too_slowly_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_S", 0.2)
    async with door() as (url, sink):
        reader, writer = await raw_client.connect(url)
        writer.write(b"POST /webhook/flespi HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        async with asyncio.timeout(PATIENCE_S):
            assert b" 408 " in (await reader.readline())
        writer.close()
        assert not sink.came.is_set()


async def test_a_body_that_is_too_large_is_refused_with_and_without_its_length() -> None:
    async with door(limits=Limits(body_bytes=1_000)) as (url, sink):
        assert (await post(url, b"x" * 1_001))[0] == 413
        assert (await post(url, b" " * 1_000))[0] == 200

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(1_000):
                yield b"x" * 1_000

        async with aiohttp.ClientSession() as client:
            try:
                async with client.post(url, data=parts(), headers=JSON) as said:
                    assert said.status == 413
            except aiohttp.ClientError:
                pass  # it was still sending when the connection ended, which is right, too
        assert len(sink.letters) == 1


async def test_a_webhook_with_a_token_is_closed_to_others_before_they_have_sent_a_body() -> None:
    async with door(environment={"PATHCAST_INGEST_TOKEN": TOKEN}) as (url, sink):
        assert (await post(url))[0] == 401
        assert (await post(url, Authorization=f"Bearer {TOKEN[:-1]}"))[0] == 401
        assert not sink.pings
        assert (await post(url, Authorization=f"Bearer {TOKEN}"))[0] == 200
        assert sink.pings


async def test_a_signature_is_checked_over_the_body() -> None:
    body, secret = (FIXTURES / "motive.json").read_bytes(), "d9d36bea41c44ae49d1bfc4a48ba2abe"
    digest = hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()
    async with door("motive", environment={"PATHCAST_INGEST_HMAC_MOTIVE": secret}) as (url, sink):
        assert (await post(url, body))[0] == 401
        assert (await post(url, body + b" ", X_KT_Webhook_Signature=digest))[0] == 401
        assert not sink.pings
        assert (await post(url, body, X_KT_Webhook_Signature=digest))[0] == 200
        assert (len(sink.pings), sink.letters) == (1, [])


async def test_more_messages_a_second_than_allowed_are_answered_429(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 5.0
    clock = SimpleNamespace(monotonic=lambda: now_s, time_ns=time.time_ns)
    monkeypatch.setattr(server, "time", clock)  # a slow machine sends few a second
    async with door(limits=Limits(per_s=3)) as (url, _):
        statuses = [(await post(url))[0] for _ in range(5)]
        now_s += 0.5
        statuses += [(await post(url))[0] for _ in range(2)]
    assert statuses == [200] * 3 + [429] * 2 + [200, 429]


async def test_a_new_connection_takes_the_place_of_the_one_that_is_idle_for_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "IDLE_S", 10 * PATIENCE_S)  # after which it would be closed anyway
    async with door(limits=Limits(connections=2)) as (url, _):
        idle = [await raw_client.connect(url) for _ in range(2)]
        assert (await post(url))[0] == 200, "who sends nothing keeps nobody out"
        assert await asyncio.wait_for(idle[0][0].read(), PATIENCE_S) == b"", "the first of them was closed"
        for _, writer in idle:
            writer.close()


async def test_as_many_come_at_once_as_may_stay_and_no_refusal_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Several that the loop accepted in one turn all closed the same idle one, and each logged a traceback."""
    async with door(limits=Limits(connections=3)) as (url, _):
        several = await asyncio.gather(*(raw_client.connect(url) for _ in range(12)))
        ends = [asyncio.create_task(reader.read()) for reader, _ in several]
        done: set[asyncio.Task[bytes]] = set()
        async with asyncio.timeout(PATIENCE_S):
            while len(done) < 9:
                done = {one for one in ends if one.done()}
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        assert sum(not one.done() for one in ends) == 3
        for _, writer in several:
            writer.close()
        await asyncio.gather(*ends, return_exceptions=True)
    gc.collect()  # a task whose error nobody has seen is told when it goes
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_bodies_that_come_slowly_keep_out_nobody_who_sends_a_signature() -> None:
    """Whose signature is wrong shows when the body is whole, and these never are."""
    body, secret = (FIXTURES / "motive.json").read_bytes(), "d9d36bea41c44ae49d1bfc4a48ba2abe"
    digest = hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()
    head = b"POST /webhook/motive HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n"
    environment = {"PATHCAST_INGEST_HMAC_MOTIVE": secret}
    async with door("motive", environment, Limits(connections=4)) as (url, sink):
        slow = [await raw_client.connect(url) for _ in range(4)]
        for _, writer in slow:
            writer.write(head + b"X-KT-Webhook-Signature: 00\r\n\r\n{")
            await writer.drain()
        await asyncio.sleep(0.2)
        assert (await post(url, body, X_KT_Webhook_Signature=digest))[0] == 200
        assert sink.pings
        for _, writer in slow:
            writer.close()


async def test_a_client_that_goes_within_its_body_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    async with door() as (url, _):
        _, writer = await raw_client.connect(url)
        writer.write(b"POST /webhook/flespi HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 1000\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.transport.abort()
        await asyncio.sleep(0.2)
        assert (await post(url))[0] == 200
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_requests_in_flight_are_answered_when_it_ends() -> None:
    async with door() as (url, sink):
        sink.go_on.clear()
        waiting = asyncio.create_task(post(url))
        await asyncio.wait_for(sink.came.wait(), PATIENCE_S)
        asyncio.get_running_loop().call_later(0.2, sink.go_on.set)
    assert (await waiting)[0] == 200
    assert sink.pings


async def test_an_address_in_use_is_told_in_one_line() -> None:
    async with door() as (url, sink):
        taken = Address("127.0.0.1", URL(url).port or 0)
        with pytest.raises(OSError, match=f"cannot listen at {taken}"):
            await serve(taken, {}, {}, Limits(), sink)  # type: ignore[arg-type]


async def test_two_maps_of_one_name_are_refused(tmp_path: Path) -> None:
    copy = tmp_path / "mine.json"
    fields: dict[str, Any] = {"entity_id": "a", "ts": "b", "lat": "c", "lon": "d"}
    copy.write_text(json.dumps({"name": "flespi", "fields": fields}))
    with pytest.raises(ValueError, match="two maps have the name 'flespi'"):
        webhooks_of(["flespi", str(copy)])
