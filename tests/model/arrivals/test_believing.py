"""Tests what made-up fleets find out of themselves: of each it is known how it goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.arrivals.believing import FEW, HALF, RADIUS_M, ask_others, believe, first_inside, fit_from, questions
from model.arrivals.passages import MIN_ENTITIES, Passages
from model.arrivals.times import PRIOR, Belief, arrive
from model.kinematics.geo import F64

M_PER_DEG = 111_195.08
NOON_MS = 1_490_097_600_000 + 6 * 3_600_000  # a Tuesday
DAY_MS = 86_400_000
EVERY_S = 60.0


def fleet(ways: list[F64], entity: list[int] | None = None, every_s: list[float] | None = None) -> Passages:
    """Ways to the east along the equator, metres at each minute or each every_s; of an entity and a day of its own."""
    steps_s = [EVERY_S] * len(ways) if every_s is None else every_s
    ts = [NOON_MS + DAY_MS * n + 1000 * steps_s[n] * np.arange(len(way)) for n, way in enumerate(ways)]
    begins = np.concatenate([np.arange(len(way)) == 0 for way in ways])
    whose = np.repeat(np.arange(len(ways)) if entity is None else entity, [len(way) for way in ways])
    east_deg = np.concatenate(ways) / M_PER_DEG
    return Passages(np.concatenate(ts).astype(np.int64), np.zeros(len(whose)), east_deg, begins, whose)


def halting(halt_s: float, ways: int, seed: int) -> list[F64]:
    """Drives of an hour and a half at 8 m/s, that halt every five minutes or so, for halt_s or so."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(ways):
        drive_s, stay_s = rng.exponential(300.0, 100), rng.exponential(halt_s, 100)
        at_s = np.cumsum(np.stack([drive_s, stay_s], axis=1).ravel())
        way_m = 8.0 * np.repeat(np.cumsum(drive_s), 2)
        found.append(np.interp(np.arange(0, 5_400, EVERY_S), [0.0, *at_s], [0.0, *way_m]))
    return found


def held(belief: Belief, fleet_: Passages) -> tuple[float, float]:
    """Returns the share of a fleet's arrivals that the 90 % intervals hold, and their mean width in s."""
    asked = questions(fleet_)
    told = arrive(*ask_others(fleet_, asked), belief).seconds
    inside = (told[:, 0] <= asked.seconds) & (asked.seconds <= told[:, -1])
    return float(inside.mean()), float((told[:, -1] - told[:, 0]).mean())


@pytest.mark.parametrize("halt_s", [20.0, 600.0])
def test_intervals_hold_what_they_say_of_a_punctual_fleet_and_of_an_erratic_one(halt_s: float) -> None:
    """Judged on other vehicles of the same manner."""
    others = fleet(halting(halt_s, 60, seed=2))
    share, width = held(believe(fleet(halting(halt_s, 80, seed=1))), others)
    assert 0.84 <= share <= 0.96, share
    assert width < held(PRIOR, others)[1], "what is known of no fleet has to be wider"


def test_each_fleet_is_believed_as_it_goes() -> None:
    """The belief of a punctual fleet is wrong of an erratic one: coefficients of other fleets were, of taxis."""
    punctual, erratic = (believe(fleet(halting(halt_s, 80, seed=1))) for halt_s in (20.0, 600.0))
    others = fleet(halting(600.0, 60, seed=2))
    assert held(punctual, others)[0] < 0.75 < held(erratic, others)[0]


def test_a_question_is_when_an_entity_was_first_inside() -> None:
    speeds = np.repeat([4.0, 9.0, 14.0], 5)
    known = fleet([speed * EVERY_S * np.arange(90) for speed in speeds])
    asked = questions(known)
    assert len(asked.seconds) > 80
    mps = speeds[known.entity[asked.row]]
    np.testing.assert_allclose(asked.seconds, (np.hypot(*asked.place_m.T) - RADIUS_M) / mps, rtol=1e-3)
    # At its first ping nothing is known of how it moves.
    moving = known.ts_ms[asked.row] > NOON_MS + DAY_MS * known.entity[asked.row].astype(np.int64)
    np.testing.assert_allclose(asked.velocity_mps[moving, 0], mps[moving], rtol=1e-3)
    assert (asked.velocity_mps[~moving] == 0).all()
    assert known.is_ping[asked.row].all(), "what lies between two pings knows the later one"


def test_questions_are_spread_over_the_time_that_tracks_last() -> None:
    """Not over their pings, of which who reports more often has more."""
    every_s = [240.0, 20.0] * 8
    known = fleet([8.0 * step * np.arange(7_200 / step) for step in every_s], every_s=every_s)
    often = known.entity[questions(known).row] % 2
    assert 0.35 < often.mean() < 0.65


def test_who_stays_where_it_is_is_asked_nothing() -> None:
    known = fleet([0.01 * EVERY_S * np.arange(90)] * 20)
    assert len(questions(known).seconds) == 0
    assert (believe(known).alone == PRIOR.alone).all()


@pytest.mark.parametrize("ways", [0, 1, 2])
def test_a_fleet_that_has_hardly_gone_is_believed_as_any(ways: int) -> None:
    none = Passages(np.empty(0, int), np.empty(0), np.empty(0), np.empty(0, bool), np.empty(0, int))
    known = fleet(halting(60.0, ways, seed=1)) if ways else none
    assert all((one == other).all() for one, other in zip(believe(known), PRIOR, strict=True))


def test_an_entitys_own_passages_do_not_answer_it() -> None:
    """MIN_ENTITIES of them have passages of too few others each; with one more they have enough."""
    ways = halting(60.0, 60, seed=1)
    few, enough = (
        believe(fleet(ways, [n % entities for n in range(60)])) for entities in (MIN_ENTITIES, MIN_ENTITIES + 1)
    )
    assert (few.with_passages == PRIOR.with_passages).all()
    assert (enough.with_passages != PRIOR.with_passages).any()
    assert (few.alone != PRIOR.alone).any()


def test_the_same_tracks_give_the_same_belief() -> None:
    one, other = (believe(fleet(halting(60.0, 40, seed=3))) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, other, strict=True))


@given(st.lists(st.floats(0.5, 40), min_size=1, max_size=6), st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_whatever_the_tracks_are_the_quantiles_are_finite_and_rise(speeds: list[float], again: int) -> None:
    """Also where all went alike, so that the terms are multiples of each other."""
    known = fleet([speed * EVERY_S * np.arange(90) for speed in speeds * again])
    belief, asked = believe(known), questions(known)
    told = arrive(*ask_others(known, asked), belief).seconds
    assert all(np.isfinite(one).all() for one in (*belief, told))
    assert (np.diff(told, axis=1) >= 0).all()


def test_many_questions_count_more_than_the_prior_and_few_less() -> None:
    def moved(number: int) -> float:
        terms = np.tile([1.0, 0.0, 0.0], (number, 1))
        return float(fit_from(np.zeros((7, 3)), terms, np.ones(number))[3, 0])  # all say 1, where the prior says 0

    assert moved(FEW - 1) == 0
    assert moved(HALF) == pytest.approx(0.5, abs=0.01)
    assert moved(20 * HALF) > 0.9


@given(
    st.lists(st.tuples(st.floats(-2_000, 2_000), st.floats(-2_000, 2_000), st.floats(1, 600)), min_size=2, max_size=8),
    st.floats(10, 500),
)
@settings(max_examples=100, deadline=None)
def test_the_first_time_inside_is_that_of_a_fine_search(way: list[tuple[float, float, float]], radius_m: float) -> None:
    way_m, at_s = np.array(way)[:, :2], np.cumsum([0.0, *(step for *_, step in way[1:])])
    found = first_inside(way_m, at_s, way_m[-1], radius_m)
    fine = np.linspace(0, at_s[-1], 20_001)
    away = np.hypot(*(np.interp(fine, at_s, way_m[:, axis]) - way_m[-1, axis] for axis in (0, 1)))
    fastest = (np.linalg.norm(np.diff(way_m, axis=0), axis=-1) / np.diff(at_s)).max()
    slack_m = fastest * fine[1] + 1e-3
    assert (away[fine < found] > radius_m - slack_m).all(), "it was not inside before"
    assert away[np.searchsorted(fine, found).clip(max=len(fine) - 1)] <= radius_m + slack_m
