"""The ids beside the entities on the map, in a real browser."""

from __future__ import annotations

import itertools
import unicodedata
from typing import Any

import pytest
from map_browser import Opened
from map_scene import HOSTILE
from playwright.sync_api import Browser

# Ids and entities of one frame: of two, one could have gone on meanwhile.
APART_PX = """(() => {
    const { labels, drawn } = pathcast.state();
    return labels.map(({ id, left, top, right, bottom }) => {
        const { x, y } = drawn.find((one) => one.id === id);
        return Math.hypot(Math.max(left - x, 0, x - right), Math.max(top - y, 0, y - bottom));
    });
})()"""


@pytest.fixture
def opened(browser: Browser, scene: Any) -> Any:
    with Opened(browser, scene.server.base, color_scheme="dark") as found:
        found.until("pathcast.state().labels.length >= 5")
        yield found


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
    assert label["right"] - label["left"] <= 150
    assert opened.page.evaluate("[window.hacked, document.querySelectorAll('img[src=x]').length]") == [None, 0]
    assert opened.said == []
