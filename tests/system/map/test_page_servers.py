"""The page of the map when its server is away, wants a token, or has nothing to show."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any
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
SEA, LAND = (10, 14, 19), (16, 22, 29)  # in the dark theme (drawing/colours.js)


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


def middle_of_the_map(opened: Opened) -> tuple[int, ...]:
    """The colour there, as people see it."""
    box = opened.page.locator("#map").bounding_box()
    assert box is not None
    picture = Image.open(BytesIO(opened.page.screenshot())).convert("RGB")
    found = picture.getpixel((round(box["x"] + box["width"] / 2), round(box["y"] + box["height"] / 2)))
    assert isinstance(found, tuple)
    return found
