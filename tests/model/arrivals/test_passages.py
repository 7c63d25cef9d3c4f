"""Passages of made-up fleets, of which is known how they go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.arrivals.passages import MIN_ENTITIES, SPACING_M, Passages

LAT, LON = 30.0, -97.0
M_PER_DEG = 111_195.08
NOON_MS = 1_490_097_600_000 + 6 * 3_600_000  # a Tuesday
DAY_MS = 86_400_000


def fleet(runs: list[tuple[int, int, float, float]], every_s: float = 60.0, far_m: float = 6_000.0) -> Passages:
    """Straight runs from west to east: (entity, start in ms, speed in m/s, metres north of the line)."""
    ts, lat, lon, begins, entity = [], [], [], [], []
    for who, start_ms, speed, north_m in runs:
        steps = np.arange(0, far_m / abs(speed) + every_s, every_s)
        east = speed * steps + (0 if speed > 0 else far_m)
        ts += (start_ms + 1000 * steps).astype(int).tolist()
        lon += (LON + east / (M_PER_DEG * np.cos(np.radians(LAT)))).tolist()
        lat += [LAT + north_m / M_PER_DEG] * len(steps)
        begins += [True] + [False] * (len(steps) - 1)
        entity += [who] * len(steps)
    return Passages(np.array(ts), np.array(lat), np.array(lon), np.array(begins), np.array(entity))


def ask(known: Passages, east_m: float, to_m: float, velocity: float, ts_ms: int = NOON_MS, **more: int):
    lon = LON + np.array([east_m, to_m]) / (M_PER_DEG * np.cos(np.radians(LAT)))
    start, end = known.metres(LAT, lon[0]), known.metres(LAT, lon[1])
    return known.between(start, end, 100.0, np.array([velocity, 0.0]), ts_ms, **more)


def test_they_take_as_long_as_earlier_ones_took() -> None:
    known = fleet([(n, NOON_MS - (n + 1) * DAY_MS, 10.0, 0.0) for n in range(5)])
    like = ask(known, 500, 4_500, 10.0)
    assert like is not None
    assert like.entities == 5
    assert like.at(np.array([0.5]))[0] == pytest.approx(390, abs=30)  # 4 km less the radius


def test_the_other_direction_does_not_count() -> None:
    known = fleet([(n, NOON_MS - DAY_MS, way, 0.0) for n, way in enumerate([10.0] * 4 + [-10.0] * 4)])
    assert ask(known, 4_500, 500, -10.0) is not None
    like = ask(known, 500, 4_500, 10.0)
    assert like is not None
    assert like.entities == 4
    assert like.reached > 0.9, "who came from there weighs next to nothing"


def test_who_goes_as_fast_weighs_most() -> None:
    known = fleet([(n, NOON_MS - DAY_MS, 5.0 if n % 2 else 15.0, 0.0) for n in range(20)])
    slow, fast = (ask(known, 500, 4_500, v) for v in (5.0, 15.0))
    assert slow is not None
    assert fast is not None
    assert slow.at(np.array([0.5]))[0] == pytest.approx(780, abs=60)
    assert fast.at(np.array([0.5]))[0] == pytest.approx(260, abs=40)


def test_fewer_entities_than_an_atlas_would_publish_say_nothing() -> None:
    runs = [(n % (MIN_ENTITIES - 1), NOON_MS - (n + 1) * DAY_MS, 10.0, 0.0) for n in range(20)]
    assert ask(fleet(runs), 500, 4_500, 10.0) is None
    assert ask(fleet([*runs, (99, NOON_MS - DAY_MS, 10.0, 0.0)]), 500, 4_500, 10.0) is not None


def test_only_what_had_ended_before_is_known() -> None:
    known = fleet([(n, NOON_MS, 10.0, 0.0) for n in range(5)])
    ended_ms = NOON_MS + 450_000
    assert ask(known, 500, 4_500, 10.0, before_ms=ended_ms - 30_000) is None
    assert ask(known, 500, 4_500, 10.0, before_ms=ended_ms + 90_000) is not None


def test_an_entity_can_be_left_out() -> None:
    known = fleet([(n, NOON_MS - DAY_MS, 10.0, 0.0) for n in range(3)])
    assert ask(known, 500, 4_500, 10.0) is not None
    assert ask(known, 500, 4_500, 10.0, without=1) is None


def test_a_jump_and_a_long_silence_end_a_track() -> None:
    ts = NOON_MS + 1000 * np.array([0, 60, 120, 3_600, 3_660])
    lon = LON + np.array([0, 0.001, 5.0, 5.001, 5.002])
    known = Passages(ts, np.full(5, LAT), lon, np.array([True, False, False, False, False]), np.zeros(5, int))
    assert len(known) < 20, "no points along a jump of 480 km"
    assert len(np.unique(known.track)) == 3


def test_a_fleet_without_pings_knows_nothing() -> None:
    none = Passages(np.empty(0, int), np.empty(0), np.empty(0), np.empty(0, bool), np.empty(0, int))
    assert len(none) == 0
    assert none.between(np.zeros(2), np.ones(2), 100.0, np.zeros(2), NOON_MS) is None


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(1, 9), st.floats(1.0, 40.0), st.floats(-200, 200)),
        min_size=1,
        max_size=12,
    ),
    st.floats(0, 5_000),
    st.floats(0, 5_000),
    st.floats(5, 1e5),
)
@settings(max_examples=60, deadline=None)
def test_weights_are_a_distribution_and_times_rise(
    runs: list[tuple[int, int, float, float]], start_m: float, end_m: float, radius_m: float
) -> None:
    known = fleet([(who, NOON_MS - days * DAY_MS, speed, north) for who, days, speed, north in runs])
    like = known.between(
        known.metres(LAT, LON) + np.array([start_m, 0]),
        known.metres(LAT, LON) + np.array([end_m, 0]),
        radius_m,
        np.array([8.0, 0]),
        NOON_MS,
    )
    if like is None:
        return
    assert like.weight.sum() == pytest.approx(1)
    assert (like.weight >= 0).all()
    assert (np.diff(like.seconds) >= 0).all()
    assert like.seconds[0] >= 0
    assert 0 < like.reached <= 1 + 1e-9
    assert 1 <= like.passages <= len(like.seconds) + 1e-6
    steps = np.linalg.norm(np.diff(known.en_m, axis=0), axis=-1)[np.diff(known.track) == 0]
    assert (steps <= SPACING_M + 1).all()
