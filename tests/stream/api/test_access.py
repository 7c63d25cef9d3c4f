"""Who may ask, how much and from where, over real sockets."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
import raw_client
from api_rig import SECRET, Served

from stream.http import limits


async def test_the_token_guards_all_but_the_document_and_the_probes(serve: Any) -> None:
    async with serve(token=SECRET) as api:
        guarded = (
            "/v1/entities",
            "/v1/entities/x",
            "/v1/entities/x/forecast",
            "/v1/stream",
            "/v1/ws",
            "/metrics",
            "/x",
        )
        for path in guarded:
            for wrong in (None, "", f"Bearer {SECRET}x", f"Basic {SECRET}", SECRET, "Bearer é"):
                headers = {} if wrong is None else {"Authorization": wrong}
                async with api.client.get(api.base + path, headers=headers) as said:
                    assert (said.status, said.headers["WWW-Authenticate"]) == (401, "Bearer"), (path, wrong)
                    assert SECRET not in await said.text()
        for path in ("/openapi.json", "/healthz", "/readyz"):
            assert (await api.get(path))[0] == 200
        assert (await api.get("/v1/entities", headers={"Authorization": f"bearer {SECRET}"}))[0] == 200
        async with api.client.get(f"{api.base}/metrics", headers={"Authorization": f"Bearer {SECRET}"}) as said:
            text = await said.text()
        assert 'pathcast_serve_requests_total{operation="listEntities",status="401"} 6.0' in text
        assert 'pathcast_serve_seconds_count{operation="listEntities"} 7.0' in text


@pytest.mark.asyncio(loop_scope="session")
async def test_every_answer_has_the_security_headers_and_no_page_of_another_origin_may_read_it(
    api: Served,
) -> None:
    for path in ("/v1/entities", "/nowhere", "/openapi.json", "/v1/stream"):
        async with api.client.get(api.base + path, headers={"Origin": "https://evil.example"}) as said:
            assert said.headers["Server"] == "pathcast"
            assert said.headers["X-Content-Type-Options"] == "nosniff"
            assert said.headers["Cache-Control"] == "no-store"
            assert "default-src 'none'" in said.headers["Content-Security-Policy"]
            assert not [name for name in said.headers if name.lower().startswith("access-control")]
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with api.client.options(f"{api.base}/v1/eta", headers=preflight) as said:
        assert (said.status, said.headers["Allow"]) == (405, "POST")


async def test_an_allowed_origin_may_read_and_ask(serve: Any) -> None:
    ours = "https://maps.example"
    async with serve(token=SECRET, origins=(ours,)) as api:
        preflight = {"Origin": ours, "Access-Control-Request-Method": "POST"}
        async with api.client.options(f"{api.base}/v1/eta", headers=preflight) as said:
            assert (said.status, said.headers["Access-Control-Allow-Origin"]) == (204, ours)
            assert "Authorization" in said.headers["Access-Control-Allow-Headers"]
        for origin, allowed in ((ours, ours), ("https://evil.example", None)):
            async with api.client.get(f"{api.base}/v1/entities", headers={"Origin": origin}) as said:
                assert said.headers.get("Access-Control-Allow-Origin") == allowed
                assert said.headers["Vary"] == "Origin"


async def test_a_client_that_asks_too_much_is_told_when_to_come_back(serve: Any) -> None:
    how = {"rate_per_s": 0.01, "burst": 3, "behind_proxy": True}
    async with serve(**how) as api:
        one, other = {"X-Forwarded-For": "6.6.6.6, 10.0.0.1"}, {"X-Forwarded-For": "6.6.6.6, 10.0.0.2"}
        assert [(await api.get("/v1/entities", headers=one))[0] for _ in range(4)] == [200, 200, 200, 429]
        async with api.client.get(f"{api.base}/v1/entities", headers=one) as said:
            assert 0 < int(said.headers["Retry-After"]) <= 100
        assert (await api.get("/v1/entities", headers=other))[0] == 200, "what the proxy appended counts alone"
        assert (await api.get("/healthz", headers=one))[0] == 200


async def test_connections_that_say_nothing_are_closed(own_api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUIET_S", 0.0)
    reader, writer = await raw_client.connect(own_api.base)
    writer.write(b"GET /v1/ent")
    async with asyncio.timeout(20):
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


async def test_connections_beyond_the_limit_are_closed(serve: Any) -> None:
    async with serve(most_connections=4) as api:
        opened = [await raw_client.connect(api.base) for _ in range(10)]
        async with asyncio.timeout(20):
            while api.gate.connections.closed < 6:  # noqa: ASYNC110 - it counts, and tells nobody
                await asyncio.sleep(0.05)
        assert (await api.get("/healthz"))[0] == 200
        for _, writer in opened:
            writer.close()
