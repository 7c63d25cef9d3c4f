"""The poller against a real HTTP server, with a Kafka that can be away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import feeds_rig
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from feeds_rig import SinkInMemory
from live_rig import gtfs_feed

from stream.adapters.live.formats import gtfs_realtime
from stream.adapters.live.parsed import Skip
from stream.ingest.feeds import polling
from stream.ingest.feeds.polling import Feed, Poller, parse_headers
from stream.ingest.source import Source

T0_S = 1_700_000_000


def snapshot(**times_s: int) -> bytes:
    return bytes(gtfs_feed(*({"id": who, "ts": ts} for who, ts in times_s.items()), header_s=T0_S).SerializeToString())


class Server:
    """A feed whose snapshot a test sets, and what was asked of it."""

    def __init__(self) -> None:
        self.body = snapshot()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.headers))
        if self.status != 200:
            return web.Response(status=self.status, headers=self.headers)
        if self.headers.get("ETag", "") == request.headers.get("If-None-Match"):
            return web.Response(status=304)
        return web.Response(body=self.body, headers=self.headers)


@asynccontextmanager
async def polled(
    headers: dict[str, str] | None = None, *, path: str = "/v.pb", every_s: float = 15.0
) -> AsyncIterator[tuple[Server, SinkInMemory, Poller]]:
    server, sink, app = Server(), SinkInMemory(), web.Application()
    app.router.add_get("/v.pb", server.answer)

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPFound("/v.pb")

    app.router.add_get("/moved", elsewhere)
    async with TestServer(app) as running, aiohttp.ClientSession(headers=headers) as session:
        feed = Feed(str(running.make_url(path)), every_s, gtfs_realtime.sightings, headers or {})
        yield server, sink, Poller(feed, session, sink, Source("gtfs-rt"))  # type: ignore[arg-type]


async def test_only_what_is_new_is_sent() -> None:
    async with polled() as (server, sink, poller):
        server.body = snapshot(a=T0_S, b=T0_S)
        assert await poller.once() == 15.0
        server.body = snapshot(a=T0_S, b=T0_S + 15)
        await poller.once()
        await poller.once()
    assert sink.seen == [("a", T0_S * 1000), ("b", T0_S * 1000), ("b", (T0_S + 15) * 1000)]
    assert sink.skips == [Skip("unchanged")] * 3


async def test_a_poll_asks_whether_the_last_answer_has_changed() -> None:
    async with polled() as (server, sink, poller):
        server.body = snapshot(a=T0_S)
        server.headers = {"ETag": '"one"', "Last-Modified": "Sun, 30 Nov 2025 08:00:00 GMT"}
        for _ in range(3):
            await poller.once()
    assert "If-None-Match" not in server.asked[0]
    for asked in server.asked[1:]:
        assert (asked["If-None-Match"], asked["If-Modified-Since"]) == ('"one"', server.headers["Last-Modified"])
    assert len(sink.pings) == 1


async def test_nothing_counts_as_seen_until_kafka_has_it() -> None:
    async with polled() as (server, sink, poller):
        server.body, server.headers = snapshot(a=T0_S, b=T0_S), {"ETag": '"one"'}
        sink.go_away()
        async with feeds_rig.running(poller.once()):
            await feeds_rig.until(lambda: sink.refused)
            assert len(poller.seen) == 0
        # the process was stopped, say; the next poll brings the same
        sink.come_back()
        await poller.once()
        assert "If-None-Match" not in server.asked[1], "the answer that Kafka does not have is asked for again"
    assert sink.seen == [("a", T0_S * 1000), ("b", T0_S * 1000)]


async def test_a_snapshot_that_kafka_did_not_take_is_sent_when_it_is_back() -> None:
    async with polled() as (server, sink, poller):
        server.body = snapshot(a=T0_S)
        sink.go_away()
        async with feeds_rig.running(poller.once()) as poll:
            await feeds_rig.until(lambda: sink.refused)
            sink.come_back()
            await poll
    assert len(sink.pings) == 1
    assert len(server.asked) == 1, "it was not polled meanwhile"


async def test_one_letter_for_a_vehicle_that_stays_bad() -> None:
    async with polled() as (server, sink, poller):
        server.body = snapshot(a=T0_S, old=7)
        for _ in range(4):
            await poller.once()
    ((found, raw),) = sink.letters
    assert found.code == "ts_too_old"
    assert gtfs_realtime.read(raw, T0_S * 1000)[0] == found


@pytest.mark.parametrize(
    ("status", "why"), [(500, "HTTP 500"), (403, "is a header with a key missing"), (404, "HTTP 404")]
)
async def test_a_server_that_refuses_is_away_and_asked_again_later(
    status: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with polled(every_s=1.0) as (server, sink, poller):
        server.status = status
        assert [await poller.once() for _ in range(7)] == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
        assert why in caplog.text
        server.status, server.body = 200, snapshot(a=T0_S)
        assert await poller.once() == 1.0
    assert len(sink.pings) == 1


async def test_a_server_may_ask_for_patience() -> None:
    async with polled() as (server, _, poller):
        server.status, server.headers = 429, {"Retry-After": "120"}
        assert await poller.once() == 120.0
        server.headers = {"Retry-After": "999999999"}
        assert await poller.once() == polling.MAX_RETRY_AFTER_S
        server.headers = {"Retry-After": "Sun, 30 Nov 2025 08:00:00 GMT"}
        assert await poller.once() == 15.0


async def test_a_server_that_is_not_there_is_away() -> None:
    async with aiohttp.ClientSession() as session:
        source = Source("gtfs-rt")
        feed = Feed("http://127.0.0.1:9/v.pb", 15.0, gtfs_realtime.sightings)
        assert await Poller(feed, session, SinkInMemory(), source).once() == 15.0  # type: ignore[arg-type]
        assert source.is_away


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "MAX_ANSWER_BYTES", 1_000)
    async with polled() as (server, sink, poller):
        server.body = b"x" * 100_000
        await poller.once()
    assert sink.letters == []


async def test_a_key_goes_to_the_feed_and_nowhere_else() -> None:
    """A redirect is not followed with a key."""
    key = {"X-Api-Key": "secret"}
    for headers, path, seen in ((key, "/v.pb", ["secret"]), (key, "/moved", []), (None, "/moved", [None])):
        async with polled(headers, path=path) as (server, _, poller):
            await poller.once()
            assert [asked.get("X-Api-Key") for asked in server.asked] == seen


async def test_no_secret_is_in_the_origin_or_the_log(caplog: pytest.LogCaptureFixture) -> None:
    feed = Feed("http://user:word@127.0.0.1:9/v.pb?key=hidden", 15.0, gtfs_realtime.sightings, {"K": "veiled"})
    assert feed.origin == "http://127.0.0.1:9/v.pb"
    async with aiohttp.ClientSession() as session:
        await Poller(feed, session, SinkInMemory(), Source("x")).once()  # type: ignore[arg-type]
    for secret in ("word", "hidden", "veiled"):
        assert secret not in caplog.text + repr(feed.origin)
    assert "veiled" not in repr(feed)


@pytest.mark.parametrize("url", ["", "example.org/v.pb", "ftp://example.org/v.pb", "http://", "/tmp/v.pb"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected a URL"):
        Feed(url, 15.0, gtfs_realtime.sightings)


def test_headers_are_parsed_and_a_wrong_one_is_not_shown() -> None:
    assert parse_headers(["X-Api-Key: a:b", "", " Accept : text/plain "]) == {
        "X-Api-Key": "a:b",
        "Accept": "text/plain",
    }
    for wrong in ("secret", "X Y: secret", ": secret", "X: secret\x00"):
        with pytest.raises(ValueError, match="NAME: VALUE") as raised:
            parse_headers([wrong])
        assert wrong == "secret" or "secret" not in str(raised.value)
