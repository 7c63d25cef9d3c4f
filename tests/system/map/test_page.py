"""The page of `pathcast map` in a real browser, beside a real worker and Kafka: it draws what the server says."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import quote

import pytest
from map_browser import Opened
from playwright.sync_api import Browser
from shared_stack import HOSTILE

AMBER = (255, 176, 0)  # of entities, in the dark theme (drawing/colours.js)

TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def some_bus(opened: Opened) -> str:
    """One that moves: with a track of some pings, and not the hostile one."""
    drawn = [one for one in opened.state()["drawn"] if one["track"] > 3 and not one["stale"] and one["id"] != HOSTILE]
    return str(max(drawn, key=lambda one: one["ts"])["id"])


@pytest.mark.promise("the live map draws each entity where the server says it is, and asks no other host")
def test_it_loads_without_an_error_and_asks_no_other_host(opened: Opened) -> None:
    opened.until("pathcast.state().fleet !== null")
    opened.choose(some_bus(opened))
    opened.until("document.querySelectorAll('#entity [data-table=errors] tbody tr').length > 0")
    assert opened.said == []
    assert opened.other_hosts() == []
    assert any("/map/stream" in url for url in opened.asked), "the requests were seen"


@pytest.mark.promise("the live map draws each entity where the server says it is, and asks no other host")
def test_it_draws_each_entity_where_the_server_says_it_is(opened: Opened, scene: Any) -> None:
    state = opened.state()
    assert len(state["drawn"]) >= 10
    for one in state["drawn"]:
        ts = [point[0] for point in scene.server.entity(one["id"])["entity"]["track"]]
        assert one["ts"] in ts, "a ping of this entity"
    bus = next(one for one in state["drawn"] if not one["stale"] and 30 < one["x"] < 500 and 30 < one["y"] < 500)
    opened.page.keyboard.press("Space")
    still = next(one for one in opened.state()["drawn"] if one["id"] == bus["id"])
    opened.page.wait_for_timeout(200)
    red, green, _, opacity = opened.colour_at("entities", still["x"], still["y"])
    assert (red, opacity) == (255, 255)
    assert green >= AMBER[1]
    assert opened.colour_at("entities", *empty_place(opened.state()["drawn"])) == [0, 0, 0, 0]


def empty_place(drawn: list[dict[str, Any]]) -> tuple[float, float]:
    places = ((x, y) for x in range(40, 600, 20) for y in range(40, 500, 20))
    return next((x, y) for x, y in places if all(math.hypot(one["x"] - x, one["y"] - y) > 60 for one in drawn))


def test_an_entity_glides_between_two_pings(opened: Opened) -> None:
    """Watched in every frame: there are frames with another place and the same ping."""
    opened.page.evaluate(
        """() => {
            window.seen = {};
            const look = () => {
                for (const one of pathcast.state().drawn) {
                    const places = (window.seen[`${one.id} ${one.ts}`] ??= new Set());
                    places.add(`${one.x.toFixed(2)} ${one.y.toFixed(2)}`);
                }
                requestAnimationFrame(look);
            };
            look();
        }"""
    )
    opened.until("Object.values(window.seen).some((places) => places.size >= 5)")


def test_with_less_motion_an_entity_does_not_glide(browser: Browser, scene: Any) -> None:
    with Opened(browser, scene.server.base, reduced_motion="reduce") as opened:
        opened.page.mouse.move(640, 400)
        opened.page.keyboard.press("f")
        opened.choose(some_bus(opened))  # the map is not fitted any more, and goes there at once
        opened.page.evaluate(
            """() => {
                window.seen = {};
                window.later = new Set();
                const look = () => {
                    for (const one of pathcast.state().drawn) {
                        const key = `${one.id} ${one.ts} ${pathcast.state().center}`;
                        const places = (window.seen[key] ??= new Set());
                        places.add(`${one.x.toFixed(2)} ${one.y.toFixed(2)}`);
                        if (window.first === undefined) window.later.add(one.id + one.ts);
                    }
                    window.first = true;
                    requestAnimationFrame(look);
                };
                look();
            }"""
        )
        opened.until("Object.keys(window.seen).length > window.later.size + 10")
        assert opened.page.evaluate("Math.max(...Object.values(window.seen).map((places) => places.size))") == 1


def test_it_follows_an_entity(opened: Opened) -> None:
    bus = some_bus(opened)
    opened.choose(bus)
    opened.page.keyboard.press("f")
    assert opened.state()["following"] is True
    near = """(() => {
        const state = pathcast.state();
        const one = state.drawn.find((drawn) => drawn.id === argument);
        const map = document.querySelector("#map");
        return one !== undefined
            && Math.hypot(one.x - map.clientWidth / 2, one.y - map.clientHeight / 2) < 0.2 * map.clientHeight;
    })()"""
    opened.until(near, bus)
    opened.page.focus("#map canvas.maplibregl-canvas")
    for _ in range(4):
        opened.page.keyboard.press("ArrowRight")
    opened.until(f"!({near})", bus)  # moved away, and so it is as good as if the bus had gone
    opened.until(near, bus)


def test_paused_it_stands_still_and_live_it_has_the_newest_again(opened: Opened, scene: Any) -> None:
    opened.page.keyboard.press("Space")
    opened.until("pathcast.state().mode === 'paused'")
    opened.page.evaluate(TWO_FRAMES)  # what is drawn is of the frame before the key
    paused = opened.state()
    opened.until("pathcast.state().fleet.now_ms > argument + 20000", paused["at_ms"])
    later = opened.state()
    assert later["drawn"] == paused["drawn"]
    assert later["at_ms"] == paused["at_ms"]
    opened.page.keyboard.press("Space")
    newest = max(one["ts"] for one in paused["drawn"])
    opened.until("pathcast.state().drawn.some((one) => one.ts > argument)", newest)
    assert opened.state()["mode"] == "live"


def test_scrubbed_back_it_shows_what_the_server_says_was_then(opened: Opened, scene: Any) -> None:
    opened.until("pathcast.state().at_ms !== null")
    opened.page.focus("#back")
    opened.page.keyboard.press("Home")
    for _ in range(4):  # and back some minutes: of the earliest time the server forgets while this looks
        opened.page.keyboard.press("PageUp")
    opened.until("pathcast.state().mode === 'past' && pathcast.state().drawn.length > 0")
    opened.until("!document.querySelector('#past').hidden")
    opened.until("pathcast.state().told_ms === pathcast.state().at_ms")
    opened.page.evaluate(TWO_FRAMES)
    at_ms = opened.state()["at_ms"]
    then = {one["id"]: one["ts"] for one in scene.server.ask("/map/history", at=round(at_ms))["entities"]}
    drawn = {one["id"]: one["ts"] for one in opened.state()["drawn"]}
    assert drawn
    assert drawn.items() <= then.items()
    opened.page.keyboard.press("l")
    opened.until("pathcast.state().mode === 'live' && document.querySelector('#past').hidden")


def test_the_search_finds_an_entity_and_shows_it(opened: Opened) -> None:
    bus = some_bus(opened)
    opened.page.keyboard.press("/")
    opened.page.keyboard.type(bus)
    opened.page.wait_for_selector("#found [role=option][data-index]")
    assert opened.page.get_attribute("#search", "aria-expanded") == "true"
    assert opened.page.get_attribute("#search", "aria-activedescendant") == "found-0"
    opened.page.keyboard.press("Enter")
    opened.until("pathcast.state().chosen === argument", bus)
    assert opened.page.inner_text("#entity-name") == bus
    opened.page.fill("#search", "no such bus")
    opened.page.wait_for_selector("#found .none")


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_who_was_searched_for_is_in_the_middle_of_what_its_panel_leaves_of_the_map(
    browser: Browser, scene: Any, width: int, height: int
) -> None:
    with Opened(browser, scene.server.base, viewport={"width": width, "height": height}) as opened:
        bus = some_bus(opened)
        opened.choose(bus)
        opened.page.wait_for_timeout(2_000)  # it has glided there
        x, y = opened.page.evaluate(
            """(bus) => {
                const { x, y } = pathcast.state().drawn.find((one) => one.id === bus);
                const { clientWidth, clientHeight } = document.querySelector("#map");
                return [x - clientWidth / 2, y - clientHeight / 2];
            }""",
            bus,
        )
        assert max(abs(x), abs(y)) < 60, "it drives on meanwhile, but not as far as half a panel"


def test_a_click_on_an_entity_chooses_it(opened: Opened) -> None:
    opened.page.keyboard.press("Space")
    drawn = [one for one in opened.state()["drawn"] if one["x"] > 120 and one["y"] > 120]
    places = {one["id"]: (one["x"], one["y"]) for one in drawn}
    alone = next(
        one for one in drawn if sum(math.dist(places[one["id"]], place) < 40 for place in places.values()) == 1
    )
    box = opened.page.locator("#map").bounding_box()
    assert box is not None
    opened.page.mouse.click(box["x"] + alone["x"], box["y"] + alone["y"])
    opened.until("pathcast.state().chosen === argument", alone["id"])


def test_a_link_leads_to_its_place_and_its_entity(browser: Browser, scene: Any) -> None:
    """When the page is opened with it, and when it is pasted into an open one. The entity was once lost: the page wrote
    into the address what it showed before it had read who was chosen there."""
    shown = "pathcast.state().chosen === argument"
    with Opened(browser, scene.server.base, path=f"/#map=10/30.3/-97.7&entity={quote(HOSTILE, safe='')}") as opened:
        opened.until(shown, HOSTILE)
        bus = some_bus(opened)
        state = opened.state()
        assert (state["zoom"], state["center"]) == (10, [pytest.approx(30.3), pytest.approx(-97.7)])
        opened.page.evaluate("(link) => { window.location.hash = link; }", f"map=12/30.2/-97.8&entity={bus}")
        opened.until(shown, bus)
        state = opened.state()
        assert (state["zoom"], state["center"]) == (12, [pytest.approx(30.2), pytest.approx(-97.8)])
        opened.page.evaluate("document.querySelector('.skip').click()")
        opened.until("window.location.hash.startsWith('#map=')")
        assert opened.state()["chosen"] == bus, "the link to the search is none to a place"
        opened.page.evaluate("window.location.hash = 'map=11/30.3/-97.7'")
        opened.until(shown, None)
        opened.until("window.location.hash.startsWith('#map=11.00/')")
        opened.page.go_back()
        opened.until(shown, bus)
        assert opened.said == []
    with Opened(browser, scene.server.base, path=f"/#entity={bus}") as opened:
        opened.until("pathcast.state().chosen === argument && pathcast.state().zoom >= 12", bus)


@pytest.mark.promise("the map is for those who have its token, and shows hostile ids as text")
def test_a_hostile_id_is_shown_as_text(opened: Opened) -> None:
    opened.until("pathcast.state().drawn.length > 0")
    opened.choose(HOSTILE)
    opened.until("document.querySelector('#spoken').textContent.includes('In 1 minute')")
    assert opened.page.text_content("#entity-name bdi") == HOSTILE
    assert HOSTILE in (opened.page.text_content("#spoken") or "")
    opened.page.fill("#search", HOSTILE[:10])
    opened.page.wait_for_selector("#found [role=option] bdi")
    assert opened.page.text_content("#found [role=option] bdi") == HOSTILE
    assert opened.page.evaluate("[window.hacked, document.querySelectorAll('img[src=x]').length]") == [None, 0]
    assert opened.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert opened.said == []


def test_scrubbing_glides_along_the_pings_instead_of_jumping(opened: Opened) -> None:
    """Watched in every frame: on the way from one time to another, an entity is at places between, while the server has
    answered for two times alone."""
    opened.until("pathcast.state().at_ms !== null")
    for _ in range(6):
        opened.page.keyboard.press("[")
    opened.until("pathcast.state().past_ms !== null && pathcast.state().past_ms === pathcast.state().at_ms")
    opened.until("pathcast.state().drawn.length > 0")
    before = [url for url in opened.asked if "/map/history" in url]
    opened.page.evaluate(
        """() => {
            window.seen = {};
            const look = () => {
                for (const one of pathcast.state().drawn) {
                    (window.seen[one.id] ??= new Set()).add(`${one.x.toFixed(1)} ${one.y.toFixed(1)}`);
                }
                requestAnimationFrame(look);
            };
            look();
        }"""
    )
    for _ in range(6):
        opened.page.keyboard.press("]")
    opened.until("Object.values(window.seen).some((places) => places.size >= 5)")
    opened.until("pathcast.state().past_ms === pathcast.state().at_ms")
    asked = len([url for url in opened.asked if "/map/history" in url]) - len(before)
    most = opened.page.evaluate("Math.max(...Object.values(window.seen).map((places) => places.size))")
    assert asked < most, "it glides by itself, and not from answer to answer"


def test_the_time_bar_goes_on_while_it_has_the_focus(opened: Opened) -> None:
    """The next key on it is counted from the time that is shown, which is ever longer ago."""
    opened.until("pathcast.state().at_ms !== null")
    opened.page.focus("#back")
    opened.page.keyboard.press("ArrowLeft")
    opened.until("pathcast.state().mode === 'past'")
    first, at_ms = float(opened.page.input_value("#back")), opened.state()["at_ms"]
    opened.until("Number(document.querySelector('#back').value) < argument", first - 5)
    opened.page.keyboard.press("ArrowLeft")
    opened.until("pathcast.state().at_ms !== argument", at_ms)
    assert opened.state()["at_ms"] - at_ms < 0


def test_of_the_past_no_forecast_is_shown_that_came_true_later(opened: Opened) -> None:
    opened.until("pathcast.state().at_ms !== null")
    opened.choose(some_bus(opened))
    opened.until("pathcast.state().former > 0")
    opened.page.focus("#back")
    opened.page.keyboard.press("Home")
    opened.until("pathcast.state().mode === 'past'")
    then, at_ms = opened.state()["former"], opened.state()["at_ms"]
    opened.until("document.querySelectorAll('#entity-former tbody tr').length <= argument", then)
    opened.page.keyboard.press("l")
    opened.until("pathcast.state().former > argument", then)
    assert opened.state()["at_ms"] > at_ms
