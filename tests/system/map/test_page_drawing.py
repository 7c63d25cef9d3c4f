"""How the page draws entities that cover each other, and regions that are wider than the map: its own modules, run in
a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from map_browser import Opened
from playwright.sync_api import Browser

# One place, and who is there; the second is stale. Which colour their middle has, and the edge of an arrow.
DRAWN = """async ({ movers, chosen }) => {
    const { Sprites } = await import("/static/drawing/sprites.js");
    const { Layer } = await import("/static/drawing/layer.js");
    const { COLOURS } = await import("/static/drawing/colours.js");
    const layer = new Layer(document.createElement("div"), "probe");
    const placed = movers.map(({ id, stale, heading }) =>
        [{ id, heading, moving: heading !== null, entity: { stale } }, 20, 20]);
    new Sprites({ ...COLOURS.dark, accent: "#ff0000", stale: "#00ff00", edge: "#0000ff" }, 1, 1)
        .copy(layer, { width: 40, height: 40 }, placed, chosen);
    return [...layer.context.getImageData(20, 20, 1, 1).data];
}"""
RED, BLUE = [255, 0, 0, 255], [0, 0, 255, 255]


@pytest.fixture(scope="module")
def opened(browser: Browser, scene: Any) -> Any:
    with Opened(browser, scene.server.base, wait=False) as found:
        yield found


def middle(opened: Opened, *movers: tuple[str, bool], chosen: str | None = None) -> Any:
    told = [{"id": name, "stale": stale, "heading": None} for name, stale in movers]
    return opened.page.evaluate(DRAWN, {"movers": told, "chosen": chosen})


def test_a_stale_entity_is_hollow_and_below_those_that_move(opened: Opened) -> None:
    assert middle(opened, ("a", False)) == RED
    assert middle(opened, ("b", True)) == BLUE, "that of its edge: there is no colour in it"
    assert middle(opened, ("a", False), ("b", True)) == RED, "whoever comes last"


def test_the_chosen_entity_is_on_top(opened: Opened) -> None:
    assert middle(opened, ("b", True), ("a", False), chosen="b") == BLUE


def test_a_region_that_is_wider_than_the_map_does_not_tint_all_of_it(opened: Opened) -> None:
    parts = opened.page.evaluate(
        """async () => {
            const { opacity } = await import("/static/drawing/forecasts.js");
            return [10, 200, 400, 4000].map((px) => opacity({ width: 800, height: 400 }, px));
        }"""
    )
    assert parts == [1, 1, 0.5, 0.05]
