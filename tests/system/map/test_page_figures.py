"""The panels of the map's page have the server's numbers."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
from map_browser import Opened
from pathcast_process import COMMAND, environment, eventually, pathcast
from worker_process import Worker

FIGURES = (
    *("entities", "stale", "pings_s", "forecasts_s", "fills_s", "rejects_s", "lag", "p50_ms", "p99_ms"),
    "rebuilt_share",
)
CELLS = """(name) => [...document.querySelectorAll(`${name} tbody tr`)].map(
    (row) => [...row.children].map((cell) => cell.textContent))"""


@pytest.fixture
def opened(opened: Opened) -> Opened:
    """It has the fleet's figures."""
    opened.until("pathcast.state().fleet !== null")
    return opened


def text_of(value: float | None) -> str:
    return "" if value is None else f"{value:.15g}"


def test_the_fleets_figures_are_those_of_the_stream(opened: Opened, scene: Any) -> None:
    shown, said = opened.page.evaluate(
        """() => [Object.fromEntries([...document.querySelectorAll("#fleet-figures dd")]
            .map((dd) => [dd.dataset.field, dd.dataset.value])), pathcast.state().fleet]"""
    )
    assert list(shown) == list(FIGURES)
    assert {name: value if value == "" else float(value) for name, value in shown.items()} == {
        name: "" if said[name] is None else float(said[name]) for name in FIGURES
    }
    assert said["entities"] == len(scene.server.ask("/map/history", at=round(said["now_ms"]))["entities"])
    weights = {one["weights"] for one in scene.server.ask("/map/history", at=round(said["now_ms"]))["entities"]}
    titles = opened.page.evaluate("[...document.querySelectorAll('[data-versions=weights] li')].map((li) => li.title)")
    assert set(titles) == weights


def test_the_fleets_errors_are_those_of_the_stream(opened: Opened) -> None:
    opened.until("pathcast.state().fleet.errors.some((row) => row.n > 0)")
    rows, said = opened.page.evaluate(f"[({CELLS})('#fleet-errors'), pathcast.state().fleet.errors]")
    assert len(rows) == len(said) > 0
    for row, one in zip(rows, said, strict=True):
        assert row[0].endswith(f"n {one['n']:,}")
        assert row[1] == metres(one["mean_m"])
        assert row[2] == metres(one["damped_m"])
        assert row[-1] == percent(one["in90"])


def metres(value: float | None) -> str:
    """As the page says it: three digits or so."""
    if value is None:
        return "–"
    if value >= 10_000:
        return f"{rounded(value / 1000, 1):,} km"
    return f"{rounded(value, 1 if value < 10 else 0):,} m"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{rounded(value * 100, 0)} %"


def rounded(value: float, digits: int) -> float | int:
    """Halves away from zero, as Intl.NumberFormat does, and no `.0`."""
    found = int(value * 10**digits + 0.5) / 10**digits
    return int(found) if found == int(found) else found


def test_an_entitys_panel_has_what_the_server_knows_of_it(opened: Opened, scene: Any) -> None:
    tracked = [one for one in opened.state()["drawn"] if one["track"] > 3]
    bus = max(tracked, key=lambda one: one["ts"])["id"]  # the server is asked for that time, and keeps ten minutes
    opened.choose(bus)
    opened.page.wait_for_selector("#entity-errors table")
    opened.page.keyboard.press("Space")  # what comes later is not shown
    shown = opened.page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("#entity dd")]
            .map((dd) => [dd.dataset.field, dd.dataset.value]))"""
    )
    told = scene.server.ask("/map/history", at=int(float(shown["ts"])))["entities"]
    then = next(one for one in told if one["id"] == bus)
    assert int(shown["ts"]) == then["ts"]
    assert shown["place"] == f"{text_of(then['lat'])},{text_of(then['lon'])}"
    assert shown["status"] == then["status"]
    assert shown["cache"] == then["cache"]
    assert shown["weights"] == then["weights"]
    assert shown["latency"] == text_of(then["latency_ms"])
    lines = "document.querySelector('#entity-now [data-field=place]').clientHeight"
    for width in (1280, 1000, 360):
        opened.page.set_viewport_size({"width": width, "height": 800})
        assert opened.page.evaluate(lines) < 30, "latitude and longitude stay on one line"
    ahead = [row[0] for row in opened.page.evaluate(CELLS, "#entity-forecast")]
    assert ahead == [f"{one['h_s']:g} s" if one["h_s"] < 90 else f"{one['h_s'] / 60:g} min" for one in then["horizons"]]
    rows = opened.page.evaluate(CELLS, "#entity-errors")
    assert len(rows) == len(scene.server.entity(bus)["errors"])


def test_the_learning_curve_is_drawn_from_the_servers_points(opened: Opened, scene: Any) -> None:
    opened.until("document.querySelectorAll('#learning-horizon option').length > 0")
    horizons = {f"{one['h_s']:g}" for one in scene.server.ask("/map/learning")["points"]}
    options = opened.page.evaluate("[...document.querySelectorAll('#learning-horizon option')].map((one) => one.value)")
    assert set(options) <= horizons
    opened.until("document.querySelector('#learning svg').getAttribute('aria-label').includes('Mean error by time')")


def test_no_word_of_ours_alone_is_on_the_page(opened: Opened) -> None:
    """Once the panels said `damped`, `skill`, `in 50`, `states rebuilt` and `lag` to people who had read no manual."""
    opened.page.keyboard.press("n")
    opened.page.wait_for_selector("#entity-errors table")
    opened.until("pathcast.state().fleet.errors.length > 0")
    text = opened.page.evaluate("document.body.innerText")
    assert "straight on" in text
    assert re.findall(r"(?i)\bdamped\b|\bskill\b|\bin \d0\b|\brebuilt\b|\blag\b", text) == []


def test_who_is_expected_where_is_listed_with_the_times_of_the_server(opened: Opened, scene: Any) -> None:
    """`pathcast beside arrivals` computes them, and `pathcast arrivals set` asked for them."""
    opened.page.keyboard.press("v")
    opened.page.wait_for_selector("#arrivals-none")
    assert "pathcast beside arrivals" in opened.page.inner_text("#arrivals-none")
    servers = ("--bootstrap", scene.kafka, "--prefix", scene.prefix)
    bus = max(opened.state()["drawn"], key=lambda one: one["track"])["id"]
    place = ("--lat", "30.40", "--lon", "-97.72", "--id", "depot <9>", "--by", "2100-01-01T00:00")
    told = pathcast("arrivals", "set", bus, *place, *servers)
    assert told.returncode == 0, told.stderr
    log = scene.folder / "arrivals.log"
    with Worker(log, program=COMMAND, command=("beside", "arrivals", *servers), environment=environment()) as member:
        assert eventually(partial(_expects, scene.server, bus)), member.log()
        opened.until("document.querySelector('#arrivals-list .who') !== null")
        assert opened.page.inner_text("#arrivals-list .who") == bus
        assert not opened.page.is_visible("#arrivals-none")
        opened.page.keyboard.press("Space")
        (one,) = scene.server.ask("/map/arrivals")["entities"]
        (due,) = one["arrivals"]
        assert due["place"] == "depot <9>"
        assert due["early_ts"] < due["eta_ts"] < due["late_ts"]
        clock = """(at) => new Date(at).toLocaleTimeString("en-GB", { hour12: false })"""
        opened.until(
            "[...document.querySelectorAll('#arrivals-list td')].some((cell) => cell.textContent.startsWith(argument))",
            opened.page.evaluate(clock, due["eta_ts"])[:5],
        )
        assert "depot <9>" in opened.page.inner_text("#arrivals-list")
        opened.page.click("#arrivals-list .who")
        opened.until("pathcast.state().chosen === argument", bus)
        opened.page.wait_for_selector("#entity-arrivals table")
        assert member.stop() == 0, member.log()
    assert opened.said == []


def _expects(server: Any, bus: str) -> bool:
    return [one["id"] for one in server.ask("/map/arrivals")["entities"]] == [bus]
