"""The map's server, over real sockets: what it answers, who may ask, how much, and what a slow page gets."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import raw_client
from map_rig import SECRET, SERVER_ID, T0, Events, Served, fleet_of, forecast, gapfill, publish, served

from stream.api.live import sending as api_sending
from stream.api.map.access import COOKIE
from stream.api.map.sources.basemap import Basemap
from stream.wire import Branch, BranchPosition

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '"};alert(1);//',
    "a/b?c=d#e%2F",
    "\u202egnp.exe",
    "🚌" * 100,
    " {} ",
)
SCRIPT = "export const version = 1;" * 50
PATIENCE_S = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    page = tmp_path / "page"
    (page / "vendor").mkdir(parents=True)
    (page / "index.html").write_text('<!doctype html><title>a map</title><script src="static/vendor/maplibre.js">')
    (page / "vendor" / "maplibre.js").write_text(SCRIPT)
    (tmp_path / "secret.txt").write_text("not for pages")
    (page / "linked.txt").symlink_to(tmp_path / "secret.txt")
    (page / "outside").symlink_to(tmp_path)
    return page


@pytest.fixture
async def shown(folder: Path) -> AsyncIterator[Served]:
    async with served(fleet_of(), folder) as found:
        yield found


async def test_a_stream_is_a_snapshot_then_what_comes(shown: Served) -> None:
    publish(shown.fleet, forecast("a", T0), forecast("b", T0, 45.0))
    async with shown.client.get(f"{shown.base}/map/stream?bbox=-98,29,-96,31") as said, asyncio.timeout(PATIENCE_S):
        assert (said.status, said.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        events = Events(said)
        snapshot = await events.next("snapshot")
        assert [one["id"] for one in snapshot["entities"]] == ["a"]
        figures = await events.next("fleet")
        assert (figures["entities"], figures["versions"]["weights"]) == (2, {"w1": 2})
        assert figures["pings_s"] is None, "nobody knows"
        publish(shown.fleet, forecast("a", T0 + 1_000, 30.2))
        shown.fleet.fill(gapfill("a", T0 - 1_000, T0 + 1_000))
        delta = await events.next("delta")
        assert [(one["id"], one["lat"]) for one in delta["updates"]] == [("a", 30.2)]
        assert [one["final"] for one in delta["fills"]] == [False]
        shown.fleet.end("a")
        assert (await events.next("delta"))["gone"] == ["a"]


async def test_a_slow_page_loses_updates_and_nothing_is_kept_for_it(
    shown: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that reads nothing is not written to beyond what its socket takes, and is dropped in the end."""
    monkeypatch.setattr(api_sending, "SLOW_S", 1.0)
    publish(shown.fleet, *(forecast(f"e{n}", T0) for n in range(1_000)))
    writer = await raw_client.watch_without_reading(shown.base, shown.server, "/map/stream")
    most, step = 0, 0
    async with asyncio.timeout(PATIENCE_S):
        while b'streams_dropped_total{kind="events"} 1.0' not in shown.metrics():
            step += 1
            publish(shown.fleet, *(forecast(f"e{n}", T0 + step * 1000, 30 + step / 1e4) for n in range(1_000)))
            most = max(most, *(waiting(shown), 0))
            await asyncio.sleep(0.02)
    writer.close()
    assert 0 < most < 512 * 1024, f"{most} bytes waited for a page that reads nothing"
    assert len(shown.server.streams) == 0


def waiting(shown: Served) -> int:
    """Bytes that this process holds for its clients."""
    server = shown.server._listening._runner.server
    assert server is not None
    transports = [one.transport for one in server.connections]
    return sum(one.get_write_buffer_size() for one in transports if one is not None)


@pytest.mark.parametrize("name", HOSTILE)
async def test_any_id_comes_through_whole(shown: Served, name: str) -> None:
    publish(shown.fleet, forecast(name, T0))
    status, said = await shown.get(f"/map/entities/{quote(name, safe='')}")
    assert (status, said["entity"]["id"]) == (200, name)
    status, said = await shown.get("/map/search", params={"q": name})
    assert said == {"ids": [name]}
    async with shown.client.get(f"{shown.base}/map/stream", params={"entity": name}) as stream:
        async with asyncio.timeout(PATIENCE_S):
            snapshot = await Events(stream).next("snapshot")
    assert [one["id"] for one in snapshot["entities"]] == [name]


async def test_an_entity_has_its_track_and_what_became_of_former_forecasts(shown: Served) -> None:
    for second in range(0, 200, 10):
        ahead = ((60.0, 30.0 + (second + 60) / 1e4, -97.0),)
        publish(shown.fleet, forecast("a", T0 + second * 1000, 30.0 + second / 1e4, to=ahead))
    shown.fleet.fill(gapfill("a", T0, T0 + 100_000))
    _, said = await shown.get("/map/entities/a")
    assert len(said["entity"]["track"]) == 20
    assert said["former"], "some have ended"
    for one in said["former"]:
        assert one["error_m"] == pytest.approx(0.0, abs=0.02), "it went as forecast"
        assert one["lat"] == pytest.approx(one["true_lat"], abs=1e-6)
    (row,) = said["errors"]
    compared = [one for one in said["former"] if one["damped_m"] is not None]
    assert (row["h_s"], row["n"], row["in90"]) == (60.0, len(compared), 1.0)
    assert len(said["fills"]) == 1
    status, problem = await shown.get("/map/entities/nobody")
    assert (status, problem["type"]) == (404, "urn:pathcast:problem:unknown_entity")


async def test_branches_are_told_now_and_not_of_the_past(shown: Served) -> None:
    """Those of which some place is known."""
    branch = Branch(0.62, (BranchPosition(60.0, 30.01, -97.0), BranchPosition(300.0, 30.05, -97.0)))
    told = [{"share": 0.62, "positions": [[60.0, 30.01, -97.0], [300.0, 30.05, -97.0]]}]
    for second in (0, 60):
        publish(shown.fleet, forecast("a", T0 + second * 1000, atlas="f" * 16, branches=(branch, Branch(0.38, ()))))
    _, said = await shown.get("/map/entities/a")
    assert (said["entity"]["branches"], said["entity"]["passages"]) == (told, 3)
    for at, ts in ((T0 + 30_000, T0), (T0 + 60_000, T0 + 60_000), (T0 + 90_000, T0 + 60_000)):
        _, said = await shown.get("/map/history", params={"at": at})
        (then,) = said["entities"]
        assert then["ts"] == ts
        assert not {"branches", "passages"} & set(then), "that they parted is not kept, nor that they did not"


async def test_places_are_told_in_the_order_of_their_times(shown: Served) -> None:
    """A worker with `--horizons 900,60,300` publishes them in that order, and the page draws lines through them."""
    hs = (900.0, 60.0, 300.0)
    branch = Branch(1.0, tuple(BranchPosition(h_s, 30.0 + h_s / 1e5, -97.0) for h_s in hs))
    to = [(h_s, 30.0 + h_s / 1e5, -97.0) for h_s in hs]
    publish(shown.fleet, forecast("a", T0, to=to, atlas="f" * 16, branches=(branch,)))
    _, said = await shown.get("/map/entities/a")
    assert said["entity"]["branches"] == [{"share": 1.0, "positions": [list(one) for one in sorted(to)]}]
    assert [one["h_s"] for one in said["entity"]["horizons"]] == sorted(hs)


async def test_a_fleet_is_shown_as_it_was(shown: Served) -> None:
    for second in range(0, 100, 10):
        ts = T0 + second * 1000
        publish(shown.fleet, *(forecast(name, ts, 30.0 + second / 1e4) for name in "ab"), now_ms=ts)
    then = T0 + 45_000
    _, said = await shown.get("/map/history", params={"at": then, "bbox": "-98,29,-96,31"})
    assert (said["now_ms"], {one["id"] for one in said["entities"]}) == (then, {"a", "b"})
    for one in said["entities"]:
        assert one["ts"] <= then
        assert one["track"][-1] == [T0 + 40_000, 30.004, -97.0]
        assert [ts for ts, *_ in one["ahead"]] == [T0 + ms for ms in range(50_000, 100_000, 10_000)], (
            "it went on to these"
        )
    status, problem = await shown.get("/map/history", params={"at": T0 - 3_600_000})
    assert (status, problem["type"]) == (400, "urn:pathcast:problem:bad_parameter")
    _, said = await shown.get("/map/history", params={"at": T0 + 10**12})
    assert {one["track"][-1][0] for one in said["entities"]} == {T0 + 90_000}, "the future has not come"
    assert [one["ahead"] for one in said["entities"]] == [[], []]


@pytest.mark.parametrize(
    "path",
    [
        "/map/stream?bbox=1,2,3",
        "/map/stream?bbox=0,50,10,40",
        "/map/stream?bbox=-200,0,10,10",
        "/map/stream?bbox=nan,0,1,1",
        "/map/stream?entity=%00",
        "/map/search",
        "/map/search?q=",
        "/map/atlas?cells=0",
        "/map/atlas?cells=1e9",
        "/map/history",
        "/map/history?at=soon",
        "/map/entities/a/passages?at=1",
        "/map/config?x=1",
    ],
)
async def test_what_cannot_be_used_is_told(shown: Served, path: str) -> None:
    async with shown.client.get(shown.base + path) as said:
        assert (said.status, said.content_type) == (400, "application/problem+json")
        problem = json.loads(await said.read())
    assert problem["type"] == "urn:pathcast:problem:bad_parameter"
    assert problem["detail"]


async def script_url(shown: Served) -> str:
    """As the page names it."""
    async with shown.client.get(f"{shown.base}/") as said:
        (path,) = re.findall(r'src="(.+?)"', await said.text())
    return f"{shown.base}/{path}"


async def test_files_are_those_of_the_page_alone(shown: Served) -> None:
    async with shown.client.get(f"{shown.base}/") as said:
        assert "a map" in await said.text()
        assert said.headers["Cache-Control"] == "no-store"
        policy = said.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    url = await script_url(shown)
    async with shown.client.get(url) as said:
        assert (said.status, await said.text()) == (200, SCRIPT)
        assert said.content_type == "text/javascript"
    within = url.removeprefix(shown.base).removesuffix("vendor/maplibre.js")
    outside = (
        "../secret.txt",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "../../secret.txt",
        "%2fetc/passwd",
        "/etc/passwd",
    )
    linked = ("linked.txt", "outside/secret.txt", "outside/page/index.html")
    for path in (*outside, *linked, "vendor", "nothing.js", "vendor/../index.html"):
        reader, writer = await raw_client.connect(shown.base)
        writer.write(f"GET {within}{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        raw = await reader.read()
        writer.close()
        assert b" 404 " in raw.split(b"\r\n")[0], path
        assert b"not for pages" not in raw


async def test_a_browser_keeps_the_files_for_good_until_one_of_them_changes(folder: Path) -> None:
    async with served(fleet_of(), folder) as shown:
        url = await script_url(shown)
        async with shown.client.get(url) as said:
            assert said.headers["Cache-Control"] == "private, max-age=31536000, immutable"
            tag = said.headers["ETag"]
        async with shown.client.get(url, headers={"If-None-Match": tag}) as said:
            assert (said.status, await said.read()) == (304, b"")
            assert (said.headers["ETag"], said.headers["Vary"]) == (tag, "Accept-Encoding")
    path = url.removeprefix(shown.base)
    (folder / "style.css").write_text("body { color: red }")
    async with served(fleet_of(), folder) as shown:
        async with shown.client.get(shown.base + path) as said:
            assert (said.status, said.headers["Cache-Control"]) == (404, "no-store"), "it is not mixed with other files"
        assert (await script_url(shown)).removeprefix(shown.base) != path


@pytest.mark.parametrize(
    ("accepted", "is_gzipped"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1.0, GZIP;q=0.8", True),
        ("*", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("", False),
    ],
)
async def test_files_are_compressed_for_who_takes_that(shown: Served, accepted: str, is_gzipped: bool) -> None:
    url = await script_url(shown)
    async with shown.client.get(url, headers={"Accept-Encoding": accepted}, auto_decompress=False) as said:
        body = await said.read()
    assert said.headers.get("Content-Encoding") == ("gzip" if is_gzipped else None)
    assert (gzip.decompress(body) if is_gzipped else body).decode() == SCRIPT
    assert (len(body) < len(SCRIPT), said.headers["Vary"]) == (is_gzipped, "Accept-Encoding")
    other = {"Accept-Encoding": "identity" if is_gzipped else "gzip", "If-None-Match": said.headers["ETag"]}
    async with shown.client.get(url, headers=other) as said:
        assert said.status == 200, "it is another representation"


async def test_a_base_map_comes_in_parts(folder: Path, tmp_path: Path) -> None:
    tiles = tmp_path / "tiles.pmtiles"
    tiles.write_bytes(bytes(range(256)) * 40)
    async with served(fleet_of(), folder, basemap=Basemap(file=tiles)) as shown:
        url = f"{shown.base}/basemap.pmtiles"
        async with shown.client.get(url, headers={"Range": "bytes=256-259"}) as said:
            assert (said.status, said.headers["Content-Range"]) == (206, "bytes 256-259/10240")
            assert said.headers["Cache-Control"] == "private, no-cache"
            assert await said.read() == bytes([0, 1, 2, 3])
        async with shown.client.get(url, headers={"Range": "bytes=99999-"}) as said:
            assert said.status == 416
        assert (await shown.get("/map/config"))[1]["basemap"] is True


async def test_without_a_base_map_that_is_told(shown: Served) -> None:
    assert (await shown.get("/basemap.pmtiles"))[0] == 404
    config = (await shown.get("/map/config"))[1]
    assert config["tiles"] is None
    assert (config["basemap"], config["server_id"], config["max_updates_per_s"]) == (False, SERVER_ID, 5)
    assert (await shown.get("/map/atlas"))[1] == {"version": None, "flows": [], "max_count": 0}


async def test_a_token_is_needed_and_a_page_gets_it_as_a_cookie(folder: Path) -> None:
    async with served(fleet_of(), folder, token=SECRET) as shown:
        publish(shown.fleet, forecast("a", T0))
        of_fleet = (
            "/map/stream",
            "/map/entities/a",
            "/map/entities/a/passages",
            "/map/search?q=a",
            "/map/learning",
            "/map/arrivals",
        )
        for path in ("/map/config", *of_fleet, "/metrics"):
            assert (await shown.get(path))[0] == 401, path
        script = (await script_url(shown)).removeprefix(shown.base)
        for path in ("/", script, "/healthz", "/readyz"):
            async with shown.client.get(shown.base + path) as said:
                assert said.status == 200, path
                assert "a map" in await said.text() or path != "/"
        assert (await shown.get("/?token=wrong"))[0] == 401
        async with shown.client.get(f"{shown.base}/?token={SECRET}", allow_redirects=False) as said:
            assert (said.status, said.headers["Location"]) == (303, "./")
            cookie = said.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert (await shown.get("/map/config"))[0] == 200, "the client has the cookie"
        shown.client.cookie_jar.clear()
        assert (await shown.get("/map/config"))[0] == 401
        for other in ("", "wrong", SECRET[:-1]):
            assert (await shown.get("/map/config", headers={"Cookie": f"{COOKIE}={other}"}))[0] == 401, other
        assert (await shown.get("/map/config", headers={"Cookie": f"{COOKIE}={SECRET}"}))[0] == 200
        headers = {"Authorization": f"Bearer {SECRET}"}
        assert (await shown.get("/map/config", headers=headers))[0] == 200, "programs send it"


async def test_guesses_and_questions_are_limited(folder: Path) -> None:
    async with served(fleet_of(), folder, token=SECRET, rate_per_s=0.001, burst=5) as shown:
        guesses = [(await shown.get(f"/?token=wrong{n}"))[0] for n in range(8)]
        assert guesses == [401] * 5 + [429] * 3
        async with shown.client.get(f"{shown.base}/?token={SECRET}") as said:
            assert said.status == 429, "not the right one either"
        async with shown.client.get(await script_url(shown)) as said:
            assert said.status == 200, "a page has many files, which say nothing"


async def test_streams_are_bounded(folder: Path) -> None:
    async with (
        served(fleet_of(), folder, most_streams=1) as shown,
        shown.client.get(f"{shown.base}/map/stream") as said,
    ):
        await asyncio.wait_for(Events(said).next("snapshot"), PATIENCE_S)
        status, problem = await shown.get("/map/stream")
        assert (status, problem["type"]) == (503, "urn:pathcast:problem:busy")


async def test_metrics_have_names_of_their_own(shown: Served) -> None:
    await shown.get("/map/config")
    async with shown.client.get(f"{shown.base}/metrics") as said:
        text = await said.text()
    assert 'pathcast_map_requests_total{operation="config",status="200"} 1.0' in text
    assert "pathcast_serve_" not in text


def test_the_contract_with_the_page_names_what_is_told() -> None:
    fleet = fleet_of(forecast("a", T0, atlas="f" * 16))
    told: dict[str, Any] = fleet.summary(T0)
    names = (
        "now_ms entities stale pings_s forecasts_s fills_s rejects_s lag p50_ms p99_ms versions rebuilt_share errors"
    )
    assert set(told) == set(names.split())
    assert told["versions"] == {"weights": {"w1": 1}, "atlas": {"f" * 16: 1}}
    assert told["p50_ms"] == 6.0
