"""When a page is told what, by a clock of this test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from map_rig import T0, fleet_of, forecast, publish

from stream.api.map.streaming import sending
from stream.api.map.streaming.view import View

STEP_S = 0.01


class Told(sending.Page):
    """Notes what a page gets, and when."""

    def __init__(self, begins: Times) -> None:
        self.times = begins
        self.events: list[tuple[float, str, bytes]] = []
        self.comments = 0

    async def write(self, raw: bytes) -> None:
        self.comments += raw.startswith(b": ")

    async def event(self, name: str, pieces: Iterator[bytes]) -> bool:
        raw = b"".join(pieces)
        if raw:
            self.events.append((self.times.now_s, name, raw))
        return bool(raw)


class Times:
    """A clock that goes on while somebody sleeps, and moves an entity a hundred times a second meanwhile."""

    def __init__(self, until_s: float) -> None:
        self.now_s, self.until_s = 0.0, until_s
        self.fleet = fleet_of()
        self.moved = 0

    async def sleep(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s - 1e-9:
            self.now_s += STEP_S
            self.moved += 1
            publish(self.fleet, forecast("a", T0 + self.moved))
        if self.now_s >= self.until_s:
            raise asyncio.CancelledError


async def told_for(seconds: float) -> tuple[Times, Told]:
    times = Times(seconds)
    publish(times.fleet, forecast("a", T0))
    told = Told(times)
    view = View(times.fleet, None)
    with pytest.raises(asyncio.CancelledError):
        await sending.events(view, told, lambda: T0, lambda: b"{}", lambda: times.now_s, times.sleep)
    return times, told


async def test_an_entity_is_updated_five_times_a_second_at_most_and_the_newest_wins() -> None:
    times, told = await told_for(20.0)
    deltas = [(when_s, json.loads(raw)) for when_s, name, raw in told.events if name == "delta"]
    assert times.moved > 1_900
    for begin_s, _ in deltas:
        within = [one for when_s, one in deltas if begin_s <= when_s < begin_s + 1.0 - STEP_S]
        assert len(within) <= sending.UPDATES_PER_S
    for when_s, delta in deltas:
        (update,) = delta["updates"]
        assert update["ts"] == T0 + round(when_s / STEP_S), "the newest there was"


async def test_the_fleets_figures_come_once_a_second_and_a_comment_now_and_then() -> None:
    _, told = await told_for(31.0)
    names = [name for _, name, _ in told.events]
    assert names[0] == "snapshot"
    assert names.count("snapshot") == 1
    assert 25 <= names.count("fleet") <= 32, "a look comes every fifth of a second"
    assert told.comments == 3
