"""What one page is told, by a page that keeps what it is told: it has what counts, and nothing is kept for it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from map_rig import T0, fleet_of, forecast, gapfill, publish

from stream.api.live import newest
from stream.api.live.newest import Box
from stream.api.map.fleet import fills
from stream.api.map.fleet.fleet import Fleet
from stream.api.map.streaming import view
from stream.api.map.streaming.view import View

BOX = Box(-98.0, 29.0, -96.0, 31.0)


class Screen:
    """A page, as it understands what it is told."""

    def __init__(self, seen: View) -> None:
        self._view = seen
        self.entities: dict[str, Any] = {}
        self.fills: list[Any] = []
        self.updates = 0
        self.more = 0
        self.snapshot()

    def snapshot(self, now_ms: int = T0) -> None:
        said = json.loads(b"".join(self._view.snapshot(now_ms)))
        self.entities = {one["id"]: one for one in said["entities"]}
        self.fills += said["fills"]
        self.more = said["more"]

    def look(self, now_ms: int = T0) -> int:
        """Takes what is new; how many updates that were."""
        if self._view.is_lost:
            self.snapshot(now_ms)
        raw = b"".join(self._view.delta(now_ms))
        if not raw:
            return 0
        said = json.loads(raw)
        for one in said["gone"]:
            assert self.entities.pop(one, None) is not None, "it is told of what it has"
        for one in said["updates"]:
            assert "track" not in one
            self.entities[one["id"]] = one
        self.fills += said["fills"]
        self.more = said["more"]
        self.updates += len(said["updates"])
        return len(said["updates"])


def test_a_snapshot_has_tracks_and_the_box_alone() -> None:
    fleet = fleet_of(forecast("in", T0), forecast("in", T0 + 5_000, 30.1), forecast("out", T0, 40.0))
    screen = Screen(View(fleet, BOX))
    assert list(screen.entities) == ["in"]
    assert screen.entities["in"]["track"] == [[T0, 30.0, -97.0], [T0 + 5_000, 30.1, -97.0]]


def test_however_often_it_moved_an_entity_is_in_one_update() -> None:
    fleet = fleet_of(forecast("a", T0))
    screen = Screen(View(fleet, BOX))
    assert screen.look() == 0, "nothing is new"
    for second in range(1, 51):
        publish(fleet, forecast("a", T0 + second * 1000, 30 + second / 1000))
    assert screen.look() == 1
    assert screen.entities["a"]["lat"] == 30.05
    assert screen.look() == 0


def test_who_leaves_the_box_is_gone_but_the_one_that_is_followed() -> None:
    fleet = fleet_of(forecast("a", T0), forecast("b", T0))
    one, other = Screen(View(fleet, BOX)), Screen(View(fleet, BOX, "a"))
    publish(fleet, forecast("a", T0 + 1000, 45.0), forecast("b", T0 + 1000, 45.0))
    one.look()
    other.look()
    assert set(one.entities) == set()
    assert set(other.entities) == {"a"}
    publish(fleet, forecast("a", T0 + 2000, 46.0))
    assert other.look() == 1
    assert other.entities["a"]["lat"] == 46.0
    assert set(Screen(View(fleet, BOX, "a")).entities) == {"a"}, "a snapshot has it, too"


def test_a_tombstone_ends_an_entity_and_its_row_may_be_another_ones_at_once() -> None:
    fleet = fleet_of(forecast("a", T0), forecast("b", T0))
    row = fleet.newest.row("a")
    screen = Screen(View(fleet, BOX))
    fleet.end("a")
    publish(fleet, forecast("c", T0, 30.5))
    assert fleet.newest.row("c") == row
    screen.look()
    assert set(screen.entities) == {"b", "c"}
    assert fleet.get("a") is None


def test_a_silent_one_becomes_stale_by_its_fleets_time_and_then_goes() -> None:
    fleet = fleet_of(stale_ms=60_000, expire_ms=300_000)
    publish(fleet, forecast("silent", T0), forecast("b", T0), now_ms=T0)
    screen = Screen(View(fleet, BOX))
    for second in range(10, 100, 10):
        publish(fleet, *(forecast(name, T0 + second * 1000) for name in "bc"), now_ms=T0 + second * 1000)
    fleet.tick(T0 + 90_000)
    screen.look(fleet.now_ms(T0 + 90_000))
    assert {name: one["stale"] for name, one in screen.entities.items()} == {"silent": True, "b": False, "c": False}
    fleet.tick(T0 + 350_000)
    screen.look(fleet.now_ms(T0 + 350_000))
    assert "silent" not in screen.entities
    publish(fleet, forecast("b", T0 + 349_000), now_ms=T0 + 349_000)
    fleet.tick(T0 + 350_000)
    screen.look(fleet.now_ms(T0 + 350_000))
    assert screen.entities["b"]["stale"] is False, "it has come back"


def test_no_more_than_the_most_are_told_and_the_rest_is_counted() -> None:
    fleet = fleet_of(*(forecast(f"e{n}", T0) for n in range(12)))
    screen = Screen(View(fleet, BOX, most=5))
    assert (len(screen.entities), screen.more) == (5, 7)
    publish(fleet, *(forecast(f"e{n}", T0 + 1000, 30.1) for n in range(12)))
    screen.look()
    assert (len(screen.entities), screen.more, screen.updates) == (5, 7, 5)


def test_a_fill_is_told_once_and_a_retracted_one_without_points() -> None:
    fleet = fleet_of(forecast("a", T0), forecast("out", T0, 50.0))
    fleet.fill(gapfill("a", T0 - 100_000, T0))
    screen = Screen(View(fleet, BOX))
    assert [(one["id"], one["final"], len(one["points"])) for one in screen.fills] == [("a", False, 3)]
    fleet.fill(gapfill("a", T0 - 100_000, T0))  # a copy
    fleet.fill(gapfill("out", T0 - 100_000, T0))
    screen.look()
    assert len(screen.fills) == 1
    fleet.fill(gapfill("a", T0 - 100_000, T0, revision=1, status="retracted"))
    screen.look()
    assert screen.fills[-1]["points"] == []
    assert fleet.fills.of("a", T0) == []


def test_what_is_told_of_fills_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = fleet_of(forecast("a", T0))
    screen = Screen(View(fleet, BOX))
    for n in range(fills.MOST_NEWS + 10):
        fleet.fill(gapfill("a", T0 + n, T0 + n + 10))
    screen.look()
    assert len(screen.fills) == fills.MOST_NEWS
    assert len(fleet.fills.of("a", T0)) == fills.MOST


def test_a_page_that_slept_for_too_long_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest, "MAX_GONE", 3)
    fleet = fleet_of(*(forecast(f"e{n}", T0) for n in range(10)))
    seen = View(fleet, BOX)
    screen = Screen(seen)
    for n in range(8):
        fleet.end(f"e{n}")
    assert seen.is_lost
    screen.look()
    assert set(screen.entities) == {"e8", "e9"}
    assert len(fleet._by_id) == 2


def test_a_piece_is_small_whatever_is_told() -> None:
    fleet = fleet_of(*(forecast(f"e{n}", T0) for n in range(500)))
    pieces = list(View(fleet, BOX).snapshot(T0))
    assert max(map(len, pieces)) < 2 * view.PIECE_BYTES
    assert len(pieces) > 4


def truth(fleet: Fleet, box: Box) -> dict[str, tuple[int, float]]:
    found = {}
    for row in range(fleet.newest.rows):
        entity_id, ts, lat, _ = fleet.newest.position(row)
        if entity_id and fleet.newest.inside(box)[row]:
            found[entity_id] = ts, lat
    return found


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_pages_of_any_pace_have_what_is_there(seed: int) -> None:
    rng = random.Random(seed)
    fleet = fleet_of(most=40)
    screens = [Screen(View(fleet, BOX)) for _ in range(3)]
    for step in range(1_500):
        name = f"e{rng.randrange(60)}"
        if rng.random() < 0.1:
            fleet.end(name)
        else:
            publish(fleet, forecast(name, T0 + step * 1000, rng.choice((30.0, 30.5, 45.0))), now_ms=T0 + step * 1000)
        if rng.random() < 0.02:
            fleet.tick(T0 + step * 1000)
        for pace, screen in zip((1.0, 0.2, 0.01), screens, strict=True):
            if rng.random() < pace:
                screen.look(fleet.now_ms(T0 + step * 1000))
    for screen in screens:
        screen.look(fleet.now_ms(T0 + 1_500_000))
        assert {name: (one["ts"], one["lat"]) for name, one in screen.entities.items()} == truth(fleet, BOX)
    assert len(fleet._by_id) == len(fleet) <= 40
