"""What may be published of sums: how days fade, what few show, and what one that lies can do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.atlas import published as rules
from model.atlas.cells import LEVEL_SHIFT
from model.atlas.outcomes import HORIZONS_S
from model.atlas.published import FADED, UNIT, Published, published, weights
from model.atlas.sums import BUCKETS, Sums, rows_of

H = len(HORIZONS_S)
KEY = 4 << LEVEL_SHIFT | 5 << 20 | 3


def outcomes(off_m: list[tuple[float, float]], bucket: list[int], key: int = KEY, horizon: int = 0) -> Sums:
    """One outcome for each bucket that is given."""
    cm = np.rint(100 * np.array(off_m, np.float64).reshape(-1, 2)).astype(np.int64)
    return Sums.of(rows_of(np.int64(key), np.array(bucket, np.int64)), np.full(len(cm), horizon), cm)


def of_a_day(sums: Sums, min_entities: int = 3) -> Published:
    return published([(sums, UNIT)], min_entities)


def mean_m(found: Published) -> list[float]:
    mean: NDArray[np.float64] = found.off_cm[0, 0] * UNIT / (100 * found.n[0, 0])
    return mean.tolist()


def test_a_day_counts_half_after_a_half_life_and_for_nothing_after_five() -> None:
    found = weights(range(100, 200), range(100, 200), half_life_days=7.0)
    assert (found[199], found[192], found[185]) == (256, 128, 64)
    assert min(found) == 199 - 7 * FADED
    assert found[min(found)] == 8
    assert list(found) == sorted(found)


def test_while_a_fleet_rests_nothing_fades_and_a_wrong_clock_ages_nobody() -> None:
    assert weights([10, 400], [10, 400], 1.0) == {10: 128, 400: 256}
    assert weights([10, 11, 9_999], [10, 11], 1.0) == {10: 128, 11: 256, 9_999: 256}


def test_what_has_faded_counts_less_beside_what_is_new() -> None:
    old, new = (outcomes([(metres, 0.0)] * 8, list(range(8))) for metres in (1_000.0, 0.0))
    found = published([(old, 64), (new, 256)])
    assert found.n[0, 0] == 8 * (64 + 256)
    assert mean_m(found) == pytest.approx([1_000 * 64 / 320, 0.0], abs=0.1)
    alone = published([(old, 64)])
    assert mean_m(alone) == pytest.approx([1_000.0, 0.0], abs=0.1), "an atlas of old days says what they said"
    assert len(published([])) == 0


def test_what_is_far_and_has_faded_still_counts_for_something() -> None:
    """Faded sums are rounded: the squares may then be a little less than those of their mean."""
    far = outcomes([(-52_341.07, -17_343.33), (-52_341.09, -17_343.37), (78.91, 3.17)], [0, 1, 2])
    for of_day in (8, 9, 23, 100, 255):
        found = published([(far, of_day)])
        assert 0 < found.n[0, 0] <= 3 * of_day


def test_the_largest_sums_fade_without_an_overflow() -> None:
    huge = Sums(
        np.array([KEY]), np.full((1, H), 10**5, np.int32), np.zeros((1, H, 2), np.int64), np.full((1, H), 9 * 10**18)
    )
    found = published([(huge, 128)], min_entities=1)
    assert found.off_cm2[0, 0] == 9 * 10**18 // 2
    assert found.n[0, 0] == 128 * 10**5


def test_after_a_horizon_that_few_reached_nothing_is_said() -> None:
    """A cell that three leave may still show where the one of them that was seen a quarter of an hour later lives."""
    three, one = outcomes([(5.0, 0.0)] * 3, [1, 2, 3]), outcomes([(900.0, 0.0)], [2], horizon=4)
    found = of_a_day(three.plus(one))
    assert found.n[0].tolist() == [3 * UNIT, 0, 0, 0, 0]
    assert not found.off_cm2[0, 1:].any()
    assert of_a_day(three.plus(one), min_entities=1).n[0, 4] == UNIT
    assert len(of_a_day(outcomes([(5.0, 0.0)] * 9, [1, 2, 1, 2, 1, 2, 1, 2, 1]))) == 0


def test_of_those_that_agree_each_outcome_counts() -> None:
    rng = np.random.default_rng(1)
    off = rng.normal(0, 200, (160, 2))
    found = of_a_day(outcomes(off.tolist(), np.tile(range(BUCKETS), 10).tolist()))
    assert found.n[0, 0] == 160 * UNIT
    assert mean_m(found) == pytest.approx(off.mean(axis=0).tolist(), abs=0.1)
    assert found.off_cm2[0, 0] == pytest.approx(1e4 * (off**2).sum(), rel=1e-3)


def test_a_turn_that_a_third_take_is_no_lie() -> None:
    straight, turn = [(1_000.0, 0.0)] * 8, [(0.0, 1_000.0)] * 4
    found = of_a_day(outcomes(straight + turn, list(range(12))))
    spread_m = (
        20.0  # those who go straight on agree to the centimetre: here NEAR_CM alone decides, and the rest is a lie
    )
    assert mean_m(found)[0] > 1_000 - spread_m
    rng = np.random.default_rng(2)
    scattered = np.array(straight + turn) + rng.normal(0, 250, (12, 2))
    found = of_a_day(outcomes(scattered.tolist(), list(range(12))))
    assert found.n[0, 0] == 12 * UNIT


def test_what_has_faded_to_little_is_rounded_and_stays_what_it_was() -> None:
    """Five buckets agree to the centimetre, far from the middle: what they differ by is lost in rounding."""
    found = published([(outcomes([(9_999.99, -9_999.97)] * 5, list(range(5))), 9)])
    assert found.n[0, 0] == 5 * 9
    assert mean_m(found) == pytest.approx([9_999.99, -9_999.97], abs=0.5)


@pytest.mark.parametrize("times", [1, 30])
@pytest.mark.parametrize("lie_m", [(80_000.0, 0.0), (-3_000.0, 3_000.0)])
def test_one_that_lies_however_far_and_often_moves_an_estimate_by_less_than_the_others_differ(
    lie_m: tuple[float, float], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    honest = rng.normal(0, 100, (7, 2))
    both = outcomes(honest.tolist(), list(range(7))).plus(outcomes([lie_m] * times, [9] * times))
    moved = math.dist(mean_m(of_a_day(both)), honest.mean(axis=0))
    assert moved < 100
    monkeypatch.setattr(rules, "_shares", lambda n, *_: np.ones(n.shape))
    assert math.dist(mean_m(of_a_day(both)), honest.mean(axis=0)) > 500, "without the rule"


def test_one_that_lies_to_both_sides_does_not_hide_behind_its_mean() -> None:
    honest = outcomes([(float(n), 0.0) for n in range(7)], list(range(7)))
    lies = outcomes([(80_000.0, 0.0), (-80_000.0, 0.0)] * 5, [9] * 10)
    found = of_a_day(honest.plus(lies))
    assert math.sqrt(found.off_cm2[0, 0] * UNIT / found.n[0, 0]) < 100 * 50, "in cm: the spread stays theirs"


def test_one_that_is_there_all_day_counts_no_more_than_all_others_together() -> None:
    found = of_a_day(outcomes([(0.0, 0.0)] * 5 + [(15.0, 0.0)] * 60, [0, 1, 2, 3, 4] + [5] * 60))
    assert found.n[0, 0] == 10 * UNIT


MANY = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, H - 1), st.integers(0, BUCKETS - 1), st.integers(-(10**6), 10**6)),
    max_size=60,
)


@given(MANY, st.randoms())
def test_what_is_published_of_a_key_does_not_depend_on_order_or_on_other_keys(drawn, random) -> None:  # type: ignore[no-untyped-def]
    def made(rows: list[tuple[int, int, int, int]]) -> Sums:
        key, horizon, bucket, off = np.array(rows, np.int64).reshape(-1, 4).T
        return Sums.of(rows_of(KEY + (key << 20), bucket), horizon, np.stack([off, -off], axis=1))

    def of_days(one: Sums, other: Sums) -> Published:
        return published([(one, 101), (other, 256)])

    cut = len(drawn) // 2
    whole = of_days(made(drawn[:cut]), made(drawn[cut:]))
    halves = list(drawn[:cut]), list(drawn[cut:])
    for half in halves:
        random.shuffle(half)
    again = of_days(*map(made, halves))
    for name in ("key", "n", "off_cm", "off_cm2"):
        assert getattr(whole, name).tobytes() == getattr(again, name).tobytes()
    some = np.array([KEY, KEY + (2 << 20)])
    alone = of_days(made(drawn[:cut]).under(some), made(drawn[cut:]).under(some))
    here = np.flatnonzero(np.isin(whole.key, some))
    assert alone.off_cm2.tolist() == whole.at(here).off_cm2.tolist()


def test_keys_are_published_slice_by_slice_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    many = Sums.total(outcomes([(float(n), 1.0)] * 3, [1, 2, 3], KEY + (n << 20)) for n in range(50))
    whole = of_a_day(many)
    monkeypatch.setattr(rules, "_SLICE", 7)
    assert of_a_day(many).off_cm.tolist() == whole.off_cm.tolist()
    assert whole.key.tolist() == sorted(whole.key.tolist())
    assert len(whole) == 50


def test_what_is_too_much_is_left_out_of_the_smallest_cells_first() -> None:
    """Two levels of five keys; the keys of a level have 3, 6, ... outcomes."""
    key = [level << LEVEL_SHIFT | n << 20 for level in (3, 4) for n in range(5)]
    many = Sums.total(
        outcomes([(1.0, 1.0)] * 3 * (n % 5 + 1), [1, 2, 3] * (n % 5 + 1), one) for n, one in enumerate(key)
    )

    def left(most: int) -> list[int]:
        return [key.index(one) for one in published([(many, UNIT)], max_keys=most).key.tolist()]

    assert left(10) == list(range(10))
    assert left(8) == [0, 1, 2, 3, 4, 7, 8, 9]
    assert left(3) == [2, 3, 4]
