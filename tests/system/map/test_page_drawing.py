"""How the page of the map draws, in a real browser: the ids beside the entities, entities that cover each other,
regions that are wider than the map, the fleet's newest atlas as streets, and a crowd."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import bus_feed
import pytest
from map_browser import Opened
from map_crowd import driving
from map_parting import Parting, parting
from map_scene import MapServer
from playwright.sync_api import Browser
from shared_stack import HOSTILE

from model.api import Atlas
from stream.adapters.files import RecordedRow
from stream.demo import atlas
from stream.demo.run import DemoOptions, choose
from stream.wire import Topics

# Ids and entities of one frame: of two, one could have gone on meanwhile.
APART_PX = """(() => {
    const { labels, drawn } = pathcast.state();
    return labels.map(({ id, left, top, right, bottom }) => {
        const { x, y } = drawn.find((one) => one.id === id);
        return Math.hypot(Math.max(left - x, 0, x - right), Math.max(top - y, 0, y - bottom));
    });
})()"""
# The colour in the middle of some entities that are all at one place.
DRAWN = """async ({ movers, chosen }) => {
    const page = document.querySelector("script[type=module]").src;
    const { Sprites } = await import(new URL("drawing/sprites.js", page));
    const { Layer } = await import(new URL("drawing/layer.js", page));
    const { COLOURS } = await import(new URL("drawing/colours.js", page));
    const layer = new Layer(document.createElement("div"), "probe");
    const placed = movers.map(({ id, stale, heading }) =>
        [{ id, heading, moving: heading !== null, entity: { stale } }, 20, 20]);
    new Sprites({ ...COLOURS.dark, accent: "#ff0000", stale: "#00ff00", edge: "#0000ff" }, 1, 1)
        .copy(layer, { width: 40, height: 40 }, placed, chosen);
    return [...layer.context.getImageData(20, 20, 1, 1).data];
}"""
RED, BLUE = [255, 0, 0, 255], [0, 0, 255, 255]
CITY = "/#map=11/30.27/-97.74"
WATCH_STREETS = """() => {
    window.drawn = [];
    const look = () => {
        const state = pathcast.state();
        window.drawn.push([state.streets_version, state.streets_drawn]);
        requestAnimationFrame(look);
    };
    look();
}"""
ASKED = "performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/passages')).length"
CROWD = 5_000
EVERY_S = 2.0
WATCHED_MS = 15_000
WATCH_FRAMES = """(watchedMs) => new Promise((resolve) => {
    const frames = [];
    const look = (at) => {
        frames.push(at);
        if (at - frames[0] < watchedMs) requestAnimationFrame(look);
        else resolve(frames);
    };
    requestAnimationFrame(look);
})"""


@pytest.fixture
def opened(opened: Opened) -> Opened:
    """It shows some ids."""
    opened.until("pathcast.state().labels.length >= 5")
    return opened


def overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    return a["left"] < b["right"] and b["left"] < a["right"] and a["top"] < b["bottom"] and b["top"] < a["bottom"]


def test_entities_have_their_ids_beside_them_and_none_covers_another(opened: Opened) -> None:
    for _ in range(5):
        labels = opened.state()["labels"]
        assert not any(overlap(a, b) for a, b in itertools.combinations(labels, 2))
        assert max(opened.page.evaluate(APART_PX)) < 20, "it is clear whose id it is"
        opened.page.wait_for_timeout(300)
    opened.page.keyboard.press("Space")
    opened.page.wait_for_timeout(300)
    one = opened.state()["labels"][0]
    middle = (one["left"] + one["right"]) / 2, (one["top"] + one["bottom"]) / 2
    *_, opacity = opened.colour_at("labels", *middle, 5)
    assert opacity == 255


def test_the_chosen_one_has_its_id_where_the_others_have_none(opened: Opened) -> None:
    opened.page.keyboard.press("i")
    assert opened.page.is_checked("#ids") is False
    opened.until("pathcast.state().labels.length === 0")
    opened.page.keyboard.press("n")
    opened.until("pathcast.state().labels.map((one) => one.id).join() === pathcast.state().chosen")
    opened.page.check("#ids")
    opened.until("pathcast.state().labels.length >= 5")


def test_an_id_that_is_clicked_on_is_chosen(opened: Opened) -> None:
    opened.page.keyboard.press("Space")
    opened.page.wait_for_timeout(300)
    state = opened.state()
    for one in state["labels"]:
        x, y = one["right"] - 3, one["bottom"] - 3
        if all(abs(other["x"] - x) > 20 or abs(other["y"] - y) > 20 for other in state["drawn"]):
            break
    else:
        pytest.fail("no id is away from all arrows")
    box = opened.page.locator("#map").bounding_box()
    assert box is not None
    opened.page.mouse.click(box["x"] + x, box["y"] + y)
    opened.until("pathcast.state().chosen === argument", one["id"])


def test_a_hostile_id_is_a_short_text_beside_its_entity(opened: Opened) -> None:
    opened.choose(HOSTILE)
    opened.until("pathcast.state().labels.some((one) => one.id === argument)", HOSTILE)
    (label,) = [one for one in opened.state()["labels"] if one["id"] == HOSTILE]
    assert len(label["text"]) <= 16
    assert not any(unicodedata.category(sign).startswith("C") for sign in label["text"])
    assert round(label["right"] - label["left"], 6) <= 150
    assert opened.page.evaluate("[window.hacked, document.querySelectorAll('img[src=x]').length]") == [None, 0]
    assert opened.said == []


def colour(opened: Opened, *movers: tuple[str, bool], chosen: str | None = None) -> Any:
    told = [{"id": name, "stale": stale, "heading": None} for name, stale in movers]
    return opened.page.evaluate(DRAWN, {"movers": told, "chosen": chosen})


def test_a_stale_entity_is_hollow_and_below_those_that_move(opened: Opened) -> None:
    assert colour(opened, ("a", False)) == RED
    assert colour(opened, ("b", True)) == BLUE, "that of its edge: there is no colour in it"
    assert colour(opened, ("a", False), ("b", True)) == RED, "whoever comes last"


def test_the_chosen_entity_is_on_top(opened: Opened) -> None:
    assert colour(opened, ("b", True), ("a", False), chosen="b") == BLUE


def test_a_region_that_is_wider_than_the_map_does_not_tint_all_of_it(opened: Opened) -> None:
    parts = opened.page.evaluate(
        """async () => {
            const page = document.querySelector("script[type=module]").src;
            const { opacity } = await import(new URL("drawing/forecasts.js", page));
            return [10, 200, 400, 4000].map((px) => opacity({ width: 800, height: 400 }, px));
        }"""
    )
    assert parts == [1, 1, 0.5, 0.05]


class Fleet(NamedTuple):
    kafka: str
    topics: Topics
    base: str
    first: Atlas
    second: Atlas
    rows: Sequence[RecordedRow]

    def send(self, *forecasts: bus_feed.Raw) -> None:
        bus_feed.send(self.kafka, self.topics.forecasts, iter(forecasts))

    def announce(self, version: Atlas) -> None:
        atlas.announce(self.kafka, self.topics, version)


@pytest.fixture(scope="module")
def fleet(browser: Browser, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A map of a fleet without vehicles, whose first version of an atlas is announced."""
    folder, topics = tmp_path_factory.mktemp("streets"), Topics.of(f"streets{uuid4().hex[:8]}")
    rows, before, _ = choose(DemoOptions(60.0, None, None, 120.0, "small"))
    growth = atlas.of_history(before, folder, "small", bundled=True)
    first = growth.write()
    growth.add(rows)
    second = growth.write()
    bus_feed.create_topics(kafka, topics, partitions=2)
    log = Path(tmp_path_factory.mktemp("log"))
    with MapServer(log, kafka, topics.prefix, source="forecasts", atlases=folder) as server:
        found = Fleet(kafka, topics, server.base, first, second, rows)
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
        opened.page.evaluate(WATCH_STREETS)
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
        opened.page.evaluate(WATCH_STREETS)
        opened.until("pathcast.state().streets_version !== null")
        frames: list[Any] = opened.page.evaluate("window.drawn")
        assert len({drawn for version, drawn in frames if version is not None}) == 1


@pytest.fixture(scope="module")
def bus(fleet: Fleet) -> Parting:
    """A made-up bus where passages part, which the maps of the fleet know."""
    found = parting("parting", fleet.first, fleet.rows)
    fleet.send(*found.records())
    return found


def drawn_of(opened: Opened) -> Any:
    return opened.state()["chosen_drawn"]


def asked(opened: Opened) -> list[str]:
    return [url.split("/map/")[1] for url in opened.asked if url.endswith("/passages")]


def test_the_chosen_one_has_branches_and_passages_and_no_regions(browser: Browser, fleet: Fleet, bus: Parting) -> None:
    """Another entity has the same, and nobody chooses it: nothing is asked of it."""
    fleet.send(*bus._replace(entity_id="other").records())
    with Opened(browser, fleet.base, path=CITY, color_scheme="dark") as opened:
        opened.until("pathcast.state().streets_version !== null && pathcast.state().known === 2")
        assert (drawn_of(opened), asked(opened)) == ({"regions": 0, "passages": 0, "branches": 0}, [])
        opened.choose("parting")
        opened.until("pathcast.state().chosen_drawn.passages > 0")
        assert drawn_of(opened) == {"regions": 0, "passages": len(bus.lines), "branches": 2}
        opened.page.wait_for_timeout(3_000)  # the map glides there
        for branch in bus.branches:
            place = opened.pixel(branch.positions[1].lat, branch.positions[1].lon)
            red, _, blue, opacity = opened.colour_at("chosen", *place, 1)
            assert (red, blue, opacity) == (255, 0, 255), "the line goes through the places of the record"
        assert opened.page.inner_text("[data-table=branches] tbody").split("\n")[0].startswith("62 %")
        assert "3 passages" in opened.page.inner_text("[data-table=branches] caption")
        assert asked(opened) == ["entities/parting/passages"]
        fleet.send(bus.later(1))
        opened.until("pathcast.state().drawn.some((one) => one.ts === argument)", bus.ts_ms + 1_000)
        opened.until(f"{ASKED} === 2")
        assert asked(opened) == ["entities/parting/passages"] * 2, "it has another ping"
        fleet.send(bus._replace(branches=()).later(2))
        opened.until("pathcast.state().chosen_drawn.branches === 0")
        told = "3 passages came the same way; they do not part into a few ways."
        opened.until("document.querySelector('#entity-branches').textContent === argument", told)
        opened.until(f"{ASKED} === 3")
        fleet.send(bus.later(3, is_compared=False))
        opened.until("pathcast.state().chosen_drawn.regions > 0")
        assert drawn_of(opened) == {"regions": 6, "passages": 0, "branches": 0}
        assert len(asked(opened)) == 3
        assert opened.said == []


def test_without_an_atlas_the_chosen_one_has_its_regions(
    browser: Browser, fleet: Fleet, bus: Parting, tmp_path: Path
) -> None:
    fleet.send(*bus._replace(entity_id="one way", branches=()).records())
    with (
        MapServer(tmp_path, fleet.kafka, fleet.topics.prefix, source="forecasts") as server,
        Opened(browser, server.base) as opened,
    ):
        opened.choose("one way")
        opened.until("pathcast.state().chosen_drawn.regions > 0")
        assert drawn_of(opened) == {"regions": 6, "passages": 0, "branches": 0}
        assert asked(opened) == []
        assert opened.said == []


def test_five_thousand_entities_move(browser: Browser, scene: Any, say: Callable[[str], None]) -> None:
    """It reports how many frames a second are drawn, without a graphics card, and asserts nothing about it: a busy
    machine draws fewer. stream/api/map/README.md has the number, with its date."""
    prefix = f"crowd{uuid4().hex[:8]}"
    topics = Topics.of(prefix)
    bus_feed.create_topics(scene.kafka, topics, partitions=2)
    with (
        MapServer(scene.folder, scene.kafka, prefix, source="forecasts") as server,
        driving(scene.kafka, topics, CROWD, EVERY_S),
        Opened(browser, server.base) as opened,
    ):
        opened.until("pathcast.state().known === argument", CROWD)
        opened.until("pathcast.state().drawn.length > 0.9 * argument", CROWD)
        before = {one["id"]: one["ts"] for one in opened.state()["drawn"]}
        at = opened.page.evaluate(WATCH_FRAMES, WATCHED_MS)
        after = {one["id"]: one["ts"] for one in opened.state()["drawn"]}
        gaps = sorted(later - earlier for earlier, later in itertools.pairwise(at))
        frames_s = 1000 * len(gaps) / (at[-1] - at[0])
        middle, p99 = gaps[len(gaps) // 2], gaps[len(gaps) * 99 // 100]
        say(f"map: {len(after)} entities, {frames_s:.1f} frames/s; between frames {middle:.0f} ms, p99 {p99:.0f} ms")
        moved = sum(after[one] > ts for one, ts in before.items() if one in after)
        assert moved > 0.9 * len(before), "they were updated while they were watched"
        assert opened.state()["labels"] == [], "a crowd has no room for ids"
        opened.choose("car-7")
        opened.until("pathcast.state().labels.some((one) => one.id === 'car-7')")
        assert opened.said == []
