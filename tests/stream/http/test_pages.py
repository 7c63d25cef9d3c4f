"""The door of the metrics, over real sockets: who gets in, with what, and for how long."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from stream.config.http_access import Address
from stream.http import pages
from stream.http.pages import Answer, Page

SECRET = "0123456789abcdef"
ANYWHERE = Address("127.0.0.1", 0)


async def hello() -> Answer:
    return Answer(200, "text/plain; charset=utf-8", b"hello")


PAGES = {"/open": Page(hello, open=True), "/guarded": Page(hello, open=False)}


@asynccontextmanager
async def door(secret: str | None = SECRET) -> AsyncIterator[str]:
    async with pages.serving(ANYWHERE, secret, PAGES) as address:
        yield f"http://{address}"


async def ask(url: str, method: str = "GET", authorization: str | None = None, **more: str) -> tuple[int, str]:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with (
        aiohttp.ClientSession() as client,
        client.request(method, url, headers=headers, data=more or None) as said,
    ):
        assert "python" not in said.headers["Server"].lower(), "nobody need know what runs here"
        return said.status, await said.text()


async def test_a_guarded_page_is_for_those_who_show_the_token() -> None:
    async with door() as url:
        assert await ask(f"{url}/guarded", authorization=f"Bearer {SECRET}") == (200, "hello")
        assert await ask(f"{url}/guarded", authorization=f"bearer {SECRET}") == (200, "hello"), "RFC 9110: any case"
        for wrong in (
            None,
            "",
            "Bearer",
            f"Bearer {SECRET}x",
            f"Bearer {SECRET[:-1]}",
            SECRET,
            f"Basic {SECRET}",
            "Bearer é",
        ):
            status, text = await ask(f"{url}/guarded", authorization=wrong)
            assert (status, "hello" in text) == (401, False), wrong
        assert (await ask(f"{url}/open"))[0] == 200


async def test_without_a_token_every_page_is_open() -> None:
    async with door(None) as url:
        assert (await ask(f"{url}/guarded"))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", path, 404) for path in ("/", "/metrics/", "//open", "/OPEN", "/guarded/x")),
        *((method, "/open", 405) for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH")),
    ],
)
async def test_other_paths_are_not_there_and_other_methods_are_refused(method: str, path: str, status: int) -> None:
    async with door() as url:
        assert (await ask(url + path, method))[0] == status


async def test_head_is_get_without_its_body() -> None:
    async with door() as url:
        assert await ask(f"{url}/open", "HEAD") == (200, "")


async def test_a_body_is_refused_unread() -> None:
    async with door() as url:
        assert (await ask(f"{url}/open", a="b"))[0] == 413


async def raw(url: str, sent: bytes) -> bytes:
    """What comes back until the server closes; it must."""
    reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
    writer.write(sent)
    async with asyncio.timeout(30):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /open?" + b"x" * 5_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost: h\r\n" + b"X: x\r\n" * 1_000 + b"\r\n",
        b"\x16\x03\x01 this is TLS\r\n\r\n",
    ],
)
async def test_a_request_that_is_too_long_or_none_is_refused(sent: bytes) -> None:
    async with door() as url:
        said = await raw(url, sent)
        assert said.split(b" ")[1] == b"400"
        assert (await ask(f"{url}/open"))[0] == 200, "and the next one is served"


async def test_a_connection_is_one_request() -> None:
    async with door() as url:
        said = await raw(url, b"GET /open HTTP/1.1\r\nHost: h\r\n\r\n" * 5)
        assert said.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize("sent", [b"", b"GET /op", b"GET /open HTTP/1.1\r\nX: y\r\n"])
async def test_a_client_that_never_finishes_its_request_is_cut_off(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "CONNECTION_S", 0.2)
    async with door() as url:
        assert b"200" not in await raw(url, sent)


async def test_a_page_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang() -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(pages, "ANSWER_S", 0.1)
    async with pages.serving(ANYWHERE, None, {"/hangs": Page(hang, open=True)}) as address:
        assert (await ask(f"http://{address}/hangs"))[0] == 503


async def test_clients_that_say_nothing_keep_nobody_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pages, "MAX_CONNECTIONS", 3)
    async with door() as url:
        host, port = url.removeprefix("http://").split(":")
        idle = [await asyncio.open_connection(host, port) for _ in range(3)]
        assert b"200" in await raw(url, b"GET /open HTTP/1.1\r\nHost: h\r\n\r\n")
        async with asyncio.timeout(30):
            assert await idle[0][0].read() == b"", "the first of them was closed"
        for _, writer in idle:
            writer.close()
    gc.collect()  # a task whose error nobody has seen is told when it goes
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_taken_port_is_an_error_that_names_it() -> None:
    async with door() as url:
        address = Address.parse(url.removeprefix("http://"))
        with pytest.raises(OSError, match=f"cannot serve metrics at {address}"):
            async with pages.serving(address, None, PAGES):
                pass


async def test_an_open_network_without_a_token_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async with pages.serving(Address("0.0.0.0", 0), None, PAGES):
        pass
    assert "PATHCAST_METRICS_TOKEN is not set" in caplog.text
