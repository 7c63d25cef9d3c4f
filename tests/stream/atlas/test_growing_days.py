"""Days that grow beyond what may be in memory: what is published of them stays, and memory does not grow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from model.atlas import published as rules
from model.atlas.days import Day
from model.atlas.outcomes import HORIZONS_S
from model.atlas.published import Published
from model.atlas.sums import Sums, rows_of
from model.atlas.version import dumps
from stream.atlas import growing_days, run_file
from stream.atlas.building import Rules, published_of
from stream.atlas.growing_days import GrowingDays
from stream.atlas.run_file import RunFile

H = len(HORIZONS_S)
COLUMNS = ("row", "n", "off_cm", "off_cm2")
ROW_BYTES = 8 + 4 * H + 16 * H + 8 * H
KEYS = 600  # that come at a time, each for three buckets
DAYS = 3


def some(rng: np.random.Generator) -> Sums:
    """Sums of keys that are nearly all others than those before."""
    level, tile = rng.integers(0, 6, KEYS), rng.integers(0, 2**36, KEYS)
    row = np.unique(rows_of((level << 60 | tile << 20)[:, None], rng.permuted(np.arange(16))[:3]))
    off = rng.integers(-300_000, 300_000, (len(row), H, 2))
    return Sums(row, rng.integers(1, 4, (len(row), H), np.int32), off, (off**2).sum(-1))


def grown(times: int, most_rows: int, told: Callable[[GrowingDays], Any] = lambda days: None) -> GrowingDays:
    rng, days = np.random.default_rng(1), GrowingDays(most_rows)
    for number in range(times):
        ids, ts_ms = np.array([number % 7], np.uint64), np.array([number + 1])
        days.add([(20_000 + number % DAYS, Day.of_pings(ids, ts_ms).plus(Day.of_sums(some(rng))))])
        told(days)
    return days


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (growing_days, run_file):
        monkeypatch.setattr(module, "BLOCK_ROWS", 100)
    monkeypatch.setattr(rules, "_SLICE", 500)
    monkeypatch.setattr(rules, "_ROOM", 300)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("max_cells", [100, 10_000, 10**9])
def test_what_is_published_does_not_depend_on_how_much_may_be_in_memory(max_cells: int) -> None:
    """Thirty times 1,800 rows with at most 1,500 in memory: runs of a day are merged in the file, too."""
    few, all_ = grown(30, 1_500), grown(30, 10**9)
    assert list(few) == list(all_)
    for day in all_:
        assert all(
            getattr(few[day].sums, name).tobytes() == getattr(all_[day].sums, name).tobytes() for name in COLUMNS
        )
        assert (few[day].ids.tolist(), few[day].pings) == (all_[day].ids.tolist(), all_[day].pings)
    one, other = (published_of(days, Rules(max_cells=max_cells)) for days in (few, all_))
    assert dumps(*one) == dumps(*other)
    assert len(one[0]) == min(
        max_cells, len(np.unique(np.concatenate([rules.keys_of(all_[day].sums.row) for day in all_])))
    )


def test_no_more_rows_are_in_memory_than_may_be() -> None:
    held: list[int] = []
    grown(30, 5_000, lambda days: held.append(days.rows))
    assert 2_500 < max(held) <= 5_000


def peak_bytes(times: int, max_cells: int) -> tuple[int, int, Published]:
    """Returns how much memory it takes to count and to publish: each the most at once, by what Python allocates."""
    tracemalloc.start()
    try:
        days = grown(times, 3_000)
        counting = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        found, _ = published_of(days, Rules(max_cells=max_cells))
        return counting, tracemalloc.get_traced_memory()[1], found
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_memory_does_not_grow_with_what_is_counted() -> None:
    """So many rows are counted that a quarter of the larger number alone would be more than either may take."""
    grown(2, 3_000)  # what is imported and compiled once
    few, many = peak_bytes(25, 200), peak_bytes(60, 200)
    assert len(few[2]) == len(many[2]) == 200
    for before, after in zip(few[:2], many[:2], strict=True):
        assert after < 1.3 * before
        assert after < 60 * 3 * KEYS * ROW_BYTES / 4


@pytest.mark.usefixtures("small")
def test_what_is_published_takes_as_much_memory_as_it_is_large() -> None:
    few, many = peak_bytes(20, 2_000), peak_bytes(20, 12_000)
    more = len(many[2]) - len(few[2])
    assert more == 10_000
    assert many[1] - few[1] < 280 * more


def test_the_smallest_and_the_largest_numbers_are_kept_in_a_file() -> None:
    ends = np.array([-(2**62), -(2**31), -129, -128, 0, 127, 128, 2**31, 2**62])
    row = np.arange(len(ends)) << 55
    for off in (ends, ends // 2**40, ends * 0):
        n = np.full((len(row), H), 2**31 - 1, np.int32)
        sums = Sums(row, n, np.tile(off[:, None, None], (1, H, 2)), np.tile(off[::-1, None], (1, H)))
        file = RunFile()
        first, second = file.write([sums]), file.write([sums.at(slice(2, 5))])
        for blocks, kept in ((first, sums), (second, sums.at(slice(2, 5)))):
            found = Sums.total(file.read(blocks))
            for name in COLUMNS:
                assert np.array_equal(getattr(found, name), getattr(kept, name))
                assert getattr(found, name).dtype == getattr(kept, name).dtype
