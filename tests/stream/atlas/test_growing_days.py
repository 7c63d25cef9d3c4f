"""Days that grow beyond what may be in memory: they stay the same, and can still be told to forget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from model.atlas.days import DAY_MS, Day, days_of
from model.atlas.passages import Passages, draws, entity_ids
from model.atlas.questions import QUESTION, Questions
from model.atlas.version import dumps
from model.atlas.ways import PASSAGE
from stream.atlas.building import Rules, choose_publishable
from stream.atlas.growing_days import GrowingDays

FIRST = 20_000
FLEET = entity_ids([f"v{n}" for n in range(12)])
RULES = Rules(min_entities=1)


def piece(rng: np.random.Generator) -> list[tuple[int, Day]]:
    """Pings of three days, passages and questions."""
    many = 200
    ids, ts_ms = rng.choice(FLEET, many), FIRST * DAY_MS + rng.integers(0, 3 * DAY_MS, many)
    rows, asked = np.zeros(many, PASSAGE), np.zeros(many // 10, QUESTION)
    rows["id"], rows["ts_ms"], rows["known"], rows["draw"] = ids, ts_ms, 1, draws(ids, ts_ms)
    rows["bucket"] = rng.integers(0, 40, many) << 4
    asked["id"], asked["draw"], asked["known"], asked["size"] = ids[::10], rows["draw"][::10], 1, 2
    asked["fixes"]["ts_ms"][:, 1] = ts_ms[::10]
    return list(days_of(ids, ts_ms, Passages(rows), Questions(asked)))


def grown(most: int, times: int = 30, told: Callable[[GrowingDays], Any] = lambda days: None) -> GrowingDays:
    rng, days = np.random.default_rng(1), GrowingDays(most)
    for _ in range(times):
        days.add(piece(rng))
        told(days)
    return days


def assert_same(one: GrowingDays, other: GrowingDays) -> None:
    assert list(one) == list(other) == [FIRST, FIRST + 1, FIRST + 2]
    for day in other:
        assert one.day(day).dumps() == other.day(day).dumps()
        assert one.whose(day).dumps() == other.whose(day).dumps()
    assert dumps(*choose_publishable(one, RULES)) == dumps(*choose_publishable(other, RULES))


@pytest.mark.parametrize("most", [1, 150, 700])
def test_days_do_not_depend_on_how_much_may_be_in_memory(most: int) -> None:
    held: list[int] = []
    few = grown(most, told=lambda days: held.append(days.passages))
    assert max(held) <= most
    assert_same(few, grown(10**9))


@pytest.mark.parametrize("most", [150, 10**9])
def test_what_an_entity_did_is_left_out_also_of_the_file_and_what_it_does_later_is_not(most: int) -> None:
    rng, days, others = np.random.default_rng(1), GrowingDays(most), GrowingDays()
    for number in range(30):
        if number == 20:
            days.forget(FLEET[3:5])
        more = piece(rng)
        days.add(more)
        others.add([(day, one.without(FLEET[3:5])) for day, one in more] if number < 20 else more)
    assert_same(days, others)
    never = Day.total(days.day(day) for day in days).without(FLEET[3:5])
    assert len(never.passages) < sum(len(days.day(day).passages) for day in days)


def test_days_of_others_are_added_as_they_are() -> None:
    """As of partitions: what one has forgotten, another may have seen since."""
    rng, whole, parts = np.random.default_rng(2), GrowingDays(), [GrowingDays(100), GrowingDays(100)]
    for number in range(20):
        more = piece(rng)
        whole.add(more)
        parts[number % 2].add(more)
    joined = GrowingDays(50)
    for part in parts:
        joined.add_all(part)
    assert_same(joined, whole)
