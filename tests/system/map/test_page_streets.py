"""The page of the map draws the fleet's newest atlas as streets, and those that a new version adds draw themselves."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import bus_feed
import pytest
from map_browser import Opened
from map_scene import MapServer
from playwright.sync_api import Browser

from model.api import Atlas
from stream.demo import atlas
from stream.demo.run import Options, choose
from stream.wire import Topics

CITY = "/#map=11/30.27/-97.74"
WATCH = """() => {
    window.drawn = [];
    const look = () => {
        const state = pathcast.state();
        window.drawn.push([state.streets_version, state.streets_drawn]);
        requestAnimationFrame(look);
    };
    look();
}"""


class Fleet(NamedTuple):
    kafka: str
    topics: Topics
    base: str
    first: Atlas
    second: Atlas

    def announce(self, version: Atlas) -> None:
        """In a thread, as Playwright's event loop runs in this one."""
        with ThreadPoolExecutor() as pool:
            pool.submit(atlas.announce, self.kafka, self.topics, version).result()


@pytest.fixture(scope="module")
def fleet(browser: Browser, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A map of a fleet without vehicles, whose first version of an atlas is announced."""
    folder, topics = tmp_path_factory.mktemp("streets"), Topics.of(f"streets{uuid4().hex[:8]}")
    rows, before = choose(Options(60.0, None, None, 120.0, "small"))
    growth = atlas.of_history(before, folder, bundled=True)
    first = growth.written()
    growth.add(rows)
    second = growth.written()
    bus_feed.create_topics(kafka, topics, partitions=2)
    log = Path(tmp_path_factory.mktemp("log"))
    with MapServer(log, kafka, topics.prefix, source="forecasts", atlases=folder) as server:
        found = Fleet(kafka, topics, server.base, first, second)
        found.announce(first)
        yield found


def watched(opened: Opened, version: str) -> list[int]:
    """How many streets were drawn in each frame of a version, until all were."""
    opened.until("pathcast.state().streets_version === argument", version)
    opened.until("pathcast.state().streets_drawn === pathcast.state().streets")
    frames: list[Any] = opened.page.evaluate("window.drawn")
    return [drawn for found, drawn in frames if found == version]


def test_streets_draw_themselves_and_those_of_a_new_version_are_added(browser: Browser, fleet: Fleet) -> None:
    with Opened(browser, fleet.base, wait=False, path=CITY) as opened:
        opened.page.evaluate(WATCH)
        drawn = watched(opened, fleet.first.version)
        assert drawn == sorted(drawn), "nothing that was drawn goes"
        assert len(set(drawn)) >= 3, "they come one after the other"
        assert drawn[-1] > 2_000
        fleet.announce(fleet.second)
        added = watched(opened, fleet.second.version)
        assert added[0] > 0.8 * drawn[-1], "what the version before had is there at once"
        assert added == sorted(added)
        assert len(set(added)) >= 3
        assert opened.said == []


def test_with_less_motion_all_are_there_at_once(browser: Browser, fleet: Fleet) -> None:
    with Opened(browser, fleet.base, wait=False, path=CITY, reduced_motion="reduce") as opened:
        opened.page.evaluate(WATCH)
        opened.until("pathcast.state().streets_version !== null")
        frames: list[Any] = opened.page.evaluate("window.drawn")
        assert len({drawn for version, drawn in frames if version is not None}) == 1
