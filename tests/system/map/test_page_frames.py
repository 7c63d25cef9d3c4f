"""How many frames a second the page draws of 5,000 entities that move, in Chromium without a graphics card. It reports
the number and asserts nothing about it: a busy machine draws fewer. stream/map/README.md has one, with its date."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any
from uuid import uuid4

import bus_feed
from map_browser import Opened
from map_crowd import driving
from map_scene import MapServer
from playwright.sync_api import Browser

from stream.wire import Topics

ENTITIES = 5_000
EVERY_S = 2.0
WATCHED_MS = 15_000
WATCH = """(watchedMs) => new Promise((resolve) => {
    const frames = [];
    const look = (at) => {
        frames.push(at);
        if (at - frames[0] < watchedMs) requestAnimationFrame(look);
        else resolve(frames);
    };
    requestAnimationFrame(look);
})"""


def test_five_thousand_entities_move(browser: Browser, scene: Any, say: Callable[[str], None]) -> None:
    prefix = f"crowd{uuid4().hex[:8]}"
    topics = Topics.of(prefix)
    bus_feed.create_topics(scene.kafka, topics, partitions=2)
    with (
        MapServer(scene.folder, scene.kafka, prefix, source="forecasts") as server,
        driving(scene.kafka, topics, ENTITIES, EVERY_S),
        Opened(browser, server.base) as opened,
    ):
        opened.until("pathcast.state().known === argument", ENTITIES)
        opened.until("pathcast.state().drawn.length > 0.9 * argument", ENTITIES)
        before = {one["id"]: one["ts"] for one in opened.state()["drawn"]}
        at = opened.page.evaluate(WATCH, WATCHED_MS)
        after = {one["id"]: one["ts"] for one in opened.state()["drawn"]}
        gaps = sorted(later - earlier for earlier, later in pairwise(at))
        frames_s = 1000 * len(gaps) / (at[-1] - at[0])
        middle, p99 = gaps[len(gaps) // 2], gaps[len(gaps) * 99 // 100]
        say(f"map: {len(after)} entities, {frames_s:.1f} frames/s; between frames {middle:.0f} ms, p99 {p99:.0f} ms")
        moved = sum(after[one] > ts for one, ts in before.items() if one in after)
        assert moved > 0.9 * len(before), "they were updated while they were watched"
        assert opened.state()["labels"] == [], "a crowd has no room for ids"
        opened.choose("car-7")
        opened.until("pathcast.state().labels.some((one) => one.id === 'car-7')")
        assert opened.said == []
