"""The page of the map when its server is away, wants a token, has nothing to show, or a base map."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Thread
from typing import Any, NamedTuple
from uuid import uuid4

import bus_feed
import pytest
import small_pmtiles
from map_browser import Opened
from map_scene import MapServer
from PIL import Image
from playwright.sync_api import Browser

from stream.wire import Topics

SECRET = "0123456789abcdef"
SEA, LAND = (10, 14, 19), (18, 26, 34)  # in the dark theme (drawing/colours.js)


@pytest.fixture(scope="module")
def server(scene: Any) -> Iterator[MapServer]:
    """One of its own, which may be killed and started again. Its base map is one tile of land."""
    file = scene.folder / "world.pmtiles"
    file.write_bytes(small_pmtiles.world("earth"))
    with MapServer(scene.folder, scene.kafka, scene.prefix, basemap=file) as found:
        yield found


def test_it_survives_the_servers_restart(browser: Browser, server: MapServer) -> None:
    with Opened(browser, server.base) as opened:
        before = opened.state()["server"]
        server.kill()
        opened.page.wait_for_selector("#notice-away")
        assert opened.page.inner_text("#status") == "not connected"
        assert opened.state()["known"] > 0, "what was known stays in view"
        server.start()
        opened.until("pathcast.state().link === 'live' && pathcast.state().server !== argument", before)
        opened.page.wait_for_selector("#notice", state="hidden")
        newest = max(one["ts"] for one in opened.state()["drawn"])
        opened.until("pathcast.state().drawn.some((one) => one.ts > argument)", newest)


def test_without_the_token_it_asks_for_it_and_with_it_draws(browser: Browser, scene: Any) -> None:
    with MapServer(scene.folder, scene.kafka, scene.prefix, token=SECRET) as server:
        with Opened(browser, server.base, wait=False, path="/#map=3/30/-97") as opened:
            opened.page.wait_for_selector("#notice-denied")
            assert opened.state()["drawn"] == []
            opened.page.fill("#token", SECRET)
            opened.page.keyboard.press("Enter")
            opened.page.wait_for_url(lambda url: "token" not in url)
            opened.until("window.pathcast !== undefined && pathcast.state().drawn.length > 0")
            assert opened.state()["zoom"] == 3, "the link with which it was opened holds"
            assert opened.page.evaluate("document.cookie") == "", "scripts cannot read it"
        with Opened(browser, server.base, path=f"/?token={SECRET}") as opened:
            assert SECRET not in opened.page.url


def test_with_nothing_to_show_it_says_how_to_feed(browser: Browser, scene: Any) -> None:
    prefix = f"empty{uuid4().hex[:8]}"
    bus_feed.create_topics(scene.kafka, Topics.of(prefix), partitions=2)
    with MapServer(scene.folder, scene.kafka, prefix) as server, Opened(browser, server.base, wait=False) as opened:
        opened.page.wait_for_selector("#notice-empty")
        assert "pathcast feed" in opened.page.inner_text("#notice-empty")
        assert opened.said == []


def test_a_basemap_is_drawn_from_the_servers_own_file(browser: Browser, scene: Any, server: MapServer) -> None:
    """Its one tile makes land of the Atlantic, which is sea without it."""
    atlantic = "/#map=2/0/-25"
    with Opened(browser, scene.server.base, wait=False, path=atlantic, color_scheme="dark") as opened:
        assert middle_of_the_map(opened) == SEA
    with Opened(browser, server.base, wait=False, path=atlantic, color_scheme="dark") as opened:
        for _ in range(600):
            if (seen := middle_of_the_map(opened)) != SEA:
                break
            opened.page.wait_for_timeout(200)
        assert seen == LAND
        assert opened.other_hosts() == []
        assert opened.said == []


class Tiles(NamedTuple):
    """A server of tiles at a port of its own, and what it was asked for."""

    host: str
    asked: list[tuple[str, str | None, str | None]]  # path, Referer, Cookie

    @property
    def address(self) -> str:
        return f"http://{self.host}/{{z}}/{{x}}/{{y}}.png"


@contextmanager
def serving_tiles(*, cors: bool = True) -> Iterator[Tiles]:
    """Each tile is light green. Without CORS, browsers show none to a page of another address."""
    picture = BytesIO()
    Image.new("RGB", (256, 256), (140, 245, 160)).save(picture, "png")
    asked: list[tuple[str, str | None, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Referer"], self.headers["Cookie"]))
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            if cors:
                self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            self.wfile.write(picture.getvalue())

        def log_message(self, format: str, *arguments: object) -> None:
            """Is silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Tiles(f"127.0.0.1:{server.server_port}", asked)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_tiles_of_an_address_are_drawn_and_the_page_says_who_sees_where_one_looks(
    browser: Browser, scene: Any, scheme: str
) -> None:
    with serving_tiles() as tiles, serving_tiles() as other:
        basemap = f"{tiles.address}?key=k#© <b>Nobody</b> & us"
        with MapServer(scene.folder, scene.kafka, scene.prefix, token=SECRET, basemap=basemap) as server:
            path = f"/?token={SECRET}#map=2/0/-25"
            with Opened(browser, server.base, wait=False, path=path, color_scheme=scheme) as opened:
                opened.until("pathcast.state().link === 'live'")
                for _ in range(600):
                    red, green, blue = middle_of_the_map(opened)
                    if green > max(red, blue) + 10:
                        break
                    opened.page.wait_for_timeout(200)
                assert green > max(red, blue) + 10, f"{red, green, blue}: the tile is not drawn"
                assert (green < 128) == (scheme == "dark"), f"{red, green, blue}"
                line = f"Tiles come from {tiles.host}: it sees which area you look at."
                assert opened.page.inner_text("#tiles") == line
                assert "© <b>Nobody</b> & us" in opened.page.inner_text(".maplibregl-ctrl-attrib")
                assert {url.partition("//")[2].partition("/")[0] for url in opened.other_hosts()} == {tiles.host}
                assert tiles.asked
                assert {path.partition("?")[2] for path, _, _ in tiles.asked} == {"key=k"}
                assert {(referer, cookie) for _, referer, cookie in tiles.asked} == {(f"{server.base}/", None)}
                assert opened.said == []
                asks = "fetch(argument).then(() => 'answered', () => 'refused')"
                for url, due in ((f"http://{tiles.host}/", "answered"), (f"http://{other.host}/", "refused")):
                    assert opened.page.evaluate(f"(argument) => {asks}", url) == due
                assert other.asked == [], "the policy lets no other host in"


def test_tiles_that_do_not_come_are_told(browser: Browser, scene: Any) -> None:
    with (
        serving_tiles(cors=False) as tiles,
        MapServer(scene.folder, scene.kafka, scene.prefix, basemap=tiles.address) as server,
        Opened(browser, server.base) as opened,
    ):
        opened.until("document.querySelector('#tiles').textContent.startsWith('Tiles do not come from 127.')")


def test_lakes_are_water(browser: Browser, scene: Any) -> None:
    """The land of the world map had none: Lake Superior was as dry as Lake Victoria."""
    for place, due in (("47.7/-87.7", SEA), ("-1/33", SEA), ("46.5/26", LAND), ("44/-86.9", SEA)):
        path = f"/#map=5/{place}"
        with Opened(browser, scene.server.base, wait=False, path=path, color_scheme="dark") as opened:
            for _ in range(100):
                if (seen := middle_of_the_map(opened)) == due:
                    break
                opened.page.wait_for_timeout(200)
            assert seen == due, place


def middle_of_the_map(opened: Opened) -> tuple[int, ...]:
    """The colour there, as people see it."""
    box = opened.page.locator("#map").bounding_box()
    assert box is not None
    picture = Image.open(BytesIO(opened.page.screenshot())).convert("RGB")
    found = picture.getpixel((round(box["x"] + box["width"] / 2), round(box["y"] + box["height"] / 2)))
    assert isinstance(found, tuple)
    return found
