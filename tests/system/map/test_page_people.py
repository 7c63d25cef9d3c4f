"""The page of the map for people with a keyboard, a screen reader, a narrow screen, or another taste in light."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from map_browser import NARROW, Opened
from playwright.sync_api import Browser

FOCUSED = """(() => {
    const one = document.activeElement;
    return one.id || one.getAttribute("aria-label") || one.className;
})()"""
ORDER = ["skip", "search", "fleet-toggle", "theme", "help-open"]
LATER = ["pause", "back", "forecasts", "ids", "streets", "all"]  # in live mode nothing has to be made live


def test_everything_is_reached_by_tab_in_the_order_of_the_page(opened: Opened) -> None:
    seen = []
    for _ in range(40):
        opened.page.keyboard.press("Tab")
        seen.append(opened.page.evaluate(FOCUSED))
        if seen[-1] == "all":
            break
        outline = opened.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"{seen[-1]} shows that it has the focus"
    assert seen[: len(ORDER)] == ORDER
    assert [one for one in seen if one in {*LATER, "live"}] == LATER
    assert any("Map of the fleet" in one for one in seen), seen


def test_the_keyboard_alone_chooses_follows_and_tells(opened: Opened) -> None:
    keys = opened.page.keyboard
    keys.press("n")
    opened.until("pathcast.state().chosen !== null")
    first = opened.state()["chosen"]
    keys.press("n")
    opened.until("pathcast.state().chosen !== argument", first)
    keys.press("b")
    opened.until("pathcast.state().chosen === argument", first)
    opened.until("document.querySelector('#spoken').textContent.includes(argument)", first)
    assert opened.page.get_attribute("#spoken", "aria-live") == "polite"
    keys.press("f")
    assert opened.page.get_attribute("#follow", "aria-pressed") == "true"
    keys.press("?")
    opened.page.wait_for_selector("#help[open]")
    assert len(opened.page.query_selector_all("#shortcuts tr")) >= 12
    keys.press("Escape")
    opened.page.wait_for_selector("#help", state="hidden")
    assert opened.state()["chosen"] == first, "the dialog took that key"
    keys.press("Escape")
    opened.until("pathcast.state().chosen === null")


def test_letters_that_are_typed_into_the_search_are_no_shortcuts(opened: Opened) -> None:
    before = opened.state()["theme"]
    opened.page.focus("#search")
    opened.page.keyboard.type("t nf?")
    assert opened.page.input_value("#search") == "t nf?"
    state = opened.state()
    assert (state["theme"], state["chosen"], state["mode"]) == (before, None, "live")


def test_single_key_shortcuts_can_be_switched_off(opened: Opened) -> None:
    opened.page.keyboard.press("?")
    opened.page.uncheck("#keys-on")
    opened.page.keyboard.press("Escape")
    before = opened.state()["theme"]
    opened.page.keyboard.press("t")
    assert opened.state()["theme"] == before
    opened.page.reload()
    opened.until("window.pathcast !== undefined")
    opened.page.keyboard.press("t")
    assert opened.state()["theme"] == before


def test_speeds_are_in_the_unit_that_was_chosen_and_times_have_their_zone(browser: Browser, scene: Any) -> None:
    speed = "document.querySelector('#entity-now [data-field=speed]')?.textContent.endsWith(argument)"
    with Opened(browser, scene.server.base, timezone_id="Asia/Kolkata") as opened:
        opened.page.keyboard.press("n")
        opened.until(speed, " km/h")
        opened.page.select_option("#speed-unit", "knots")
        opened.until(speed, " knots")
        opened.page.reload()
        opened.until("window.pathcast !== undefined && pathcast.state().drawn.length > 0")
        opened.page.keyboard.press("n")
        opened.until(speed, " knots")
        opened.until("/^\\d\\d:\\d\\d:\\d\\d GMT[+]5:30$/.test(document.querySelector('#time-label').textContent)")
        assert opened.page.get_attribute("#time-label", "title") in ("Asia/Kolkata", "Asia/Calcutta")
        opened.page.keyboard.press("Space")
        opened.until("document.querySelector('#past').textContent.includes('GMT+5:30')")


def test_every_control_has_a_name(opened: Opened) -> None:
    opened.page.keyboard.press("n")
    opened.until("pathcast.state().chosen !== null")
    nameless = opened.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas[tabindex]")]
            .filter((one) => !(one.textContent.trim() || one.ariaLabel || one.labels?.length || one.title))
            .map((one) => one.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_or_dark_as_the_system_says_until_the_switch_says_otherwise(
    browser: Browser, scene: Any, scheme: str
) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with Opened(browser, scene.server.base, color_scheme=scheme) as opened:
        assert opened.state()["theme"] == scheme
        before = opened.page.evaluate(ground)
        opened.page.click("#theme")
        assert opened.state()["theme"] != scheme
        assert opened.page.evaluate(ground) != before
        opened.page.reload()
        opened.until("window.pathcast !== undefined")
        assert opened.state()["theme"] != scheme, "it is kept"


def test_on_a_narrow_screen_nothing_is_cut_off_and_no_panel_covers_the_map(browser: Browser, scene: Any) -> None:
    with Opened(browser, scene.server.base, viewport=NARROW, has_touch=True, is_mobile=True) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        opened.page.keyboard.press("n")
        opened.until("pathcast.state().chosen !== null")
        opened.page.wait_for_selector("#entity-forecast table")
        boxes = {one: opened.page.locator(one).bounding_box() for one in ("header", "#map", "#entity", "footer")}
        tops = [(box["y"], box["y"] + box["height"]) for box in boxes.values() if box is not None]
        assert len(tops) == 4
        for (_, end), (begin, _) in pairwise(tops):
            assert end <= begin + 1, boxes
        assert tops[1][1] - tops[1][0] >= 150, "the map is large enough to see something"
        assert tops[-1][1] <= NARROW["height"] + 1
        for control in ("#search", "#pause", "#back", "#theme", "#follow", "#entity-close"):
            box = opened.page.locator(control).bounding_box()
            assert box is not None
            assert box["x"] >= 0, control
            assert box["x"] + box["width"] <= NARROW["width"], control


def test_where_one_panel_takes_the_place_of_another_the_map_fits_its_box(browser: Browser, scene: Any) -> None:
    """It was squashed: the panel of an entity opened empty, and the map took its size while it was."""
    fits = """(() => {
        const high = document.getElementById("map").clientHeight;
        return [...document.querySelectorAll("#map canvas:is(.maplibregl-canvas, .entities)")]
            .every((one) => Math.abs(one.height / devicePixelRatio - high) <= 1);
    })()"""
    with Opened(browser, scene.server.base, viewport=NARROW, has_touch=True, is_mobile=True) as opened:
        opened.page.keyboard.press("g")
        opened.page.wait_for_selector("#fleet-figures .figure")
        opened.until(fits)
        opened.page.keyboard.press("n")
        opened.page.wait_for_selector("#entity-forecast table")
        opened.until(fits)


def test_a_control_that_goes_hands_the_focus_on(opened: Opened) -> None:
    """Else a keyboard would begin at the top of the page again."""
    opened.page.keyboard.press("n")
    opened.until("pathcast.state().chosen !== null")
    opened.page.focus("#entity-close")
    opened.page.keyboard.press("Enter")
    opened.until("pathcast.state().chosen === null")
    assert "Map of the fleet" in opened.page.evaluate(FOCUSED)
    opened.page.keyboard.press("Space")
    opened.until("pathcast.state().mode === 'paused'")
    opened.page.focus("#live")
    opened.page.keyboard.press("Enter")
    opened.until("pathcast.state().mode === 'live'")
    assert opened.page.evaluate(FOCUSED) == "pause"


def test_on_a_narrow_screen_it_is_told_what_is_drawn_and_the_fleets_panel_is_reached(
    browser: Browser, scene: Any
) -> None:
    with Opened(browser, scene.server.base, viewport=NARROW, has_touch=True, is_mobile=True) as opened:
        opened.page.click("#help-open")
        told = opened.page.locator("#legend-again li")
        assert told.all_inner_texts() == opened.page.locator("footer .legend li").all_text_contents()
        assert told.first.is_visible()
        opened.page.click("#help-close")
        opened.page.keyboard.press("n")
        opened.until("pathcast.state().chosen !== null")
        assert not opened.page.is_visible("#fleet-figures")
        opened.page.click("#fleet-toggle")
        assert opened.page.is_visible("#fleet-figures")
        assert not opened.page.is_visible("#entity")


@pytest.mark.parametrize("wide", [360, 800, 1030, 1280])
def test_no_table_is_wider_than_its_panel(browser: Browser, scene: Any, wide: int) -> None:
    """Whatever the figures: a table of errors of ten million forecasts takes the fleet's own one's place, and fits."""
    with Opened(browser, scene.server.base, viewport={"width": wide, "height": 800}) as opened:
        opened.page.keyboard.press("n")
        opened.page.wait_for_selector("#entity-errors table")
        opened.until("pathcast.state().fleet?.errors.length > 0")
        cut_off = """[...document.querySelectorAll("aside .wide")]
            .filter((one) => one.offsetParent !== null && one.scrollWidth > one.clientWidth).map((one) => one.id)"""
        assert opened.page.evaluate(cut_off) == []
        errors = opened.page.evaluate(
            """async () => {
                const script = document.querySelector("script[type=module]").src;
                const { errorTable } = await import(new URL("panels/errors.js", script));
                const row = { h_s: 900, n: 9_999_999, mean_m: 9_999, damped_m: 9_999, skill: -0.99, in50: 1, in90: 1 };
                const box = document.querySelector("#entity-errors");
                box.replaceChildren(errorTable("Errors", [row]));
                return [box.innerText, box.scrollWidth - box.clientWidth];
            }"""
        )
        assert "9,999,999" in errors[0]
        assert errors[1] == 0
