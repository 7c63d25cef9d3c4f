"""A browser's way to the live feed: the token gives a ticket, and the ticket opens one stream, over real sockets."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from api_rig import SECRET, kind

from stream.api.http import application

BEARER = {"Authorization": f"Bearer {SECRET}"}


async def test_a_ticket_opens_one_stream_or_socket_and_nothing_else(serve: Any) -> None:
    async with serve(token=SECRET) as api:

        async def ticket() -> str:
            status, said = await api.post("/v1/tickets", None, headers=BEARER)
            assert (status, said["valid_s"]) == (200, 30.0)
            return str(said["ticket"])

        for headers in ({}, {"Authorization": "Bearer another"}):
            assert (await api.post("/v1/tickets", None, headers=headers))[0] == 401, "only who has the token gets one"
        one = await ticket()
        for path in ("/v1/entities", "/v1/entities/x/forecast", "/metrics"):
            assert (await api.get(f"{path}?ticket={one}"))[0] == 401
        assert (await api.post(f"/v1/tickets?ticket={one}", None))[0] == 401, "else a ticket would last for ever"
        async with api.client.get(f"{api.base}/v1/stream?ticket={one}&entity=bus-1") as said:
            assert (said.status, said.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
            assert await said.content.readline() == b"event: snapshot\n"
        for used in (one, "x" * 43, ""):
            status, problem = await api.get(f"/v1/stream?ticket={used}")
            assert (status, kind(problem), problem["expected"]) == (401, "no_token", "a new one of POST /v1/tickets")
            assert used not in str(problem) or not used
        async with api.client.ws_connect(f"{api.base}/v1/ws?ticket={await ticket()}") as socket:
            assert (await socket.receive_json(timeout=20))["type"] == "snapshot"
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await api.client.ws_connect(f"{api.base}/v1/ws?ticket={one}")


async def test_a_ticket_that_is_too_old_opens_nothing(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(token=SECRET) as api:
        _, said = await api.post("/v1/tickets", None, headers=BEARER)
        now_s = application.time.monotonic
        monkeypatch.setattr(application.time, "monotonic", lambda: now_s() + 31.0)
        assert (await api.get(f"/v1/stream?ticket={said['ticket']}"))[0] == 401


async def test_where_no_token_is_needed_a_page_may_be_the_same(serve: Any) -> None:
    async with serve() as api:
        _, said = await api.post("/v1/tickets", None)
        async with api.client.get(f"{api.base}/v1/stream?ticket={said['ticket']}") as stream:
            assert stream.status == 200
