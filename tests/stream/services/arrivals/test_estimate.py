"""One estimate of one forecast."""

from __future__ import annotations

import numpy as np
import pytest
from arrivals_rig import LAT, LON, NOON_MS, forecast, place
from hypothesis import given, settings
from hypothesis import strategies as st

from model.arrivals.believing import Fleet
from model.arrivals.passages import Passages
from model.arrivals.times import FLOOR_S, PRIOR
from stream.services.arrivals.estimate import LEAST_CHANCE, Area, estimate
from stream.wire.arrivals import Circle, Geofence
from stream.wire.positions import position_at

finite = st.floats(-20_000, 20_000)


def fence(east_m: float, radius_m: float = 200.0, north_m: float = 0.0) -> Geofence:
    return Geofence(geofence_id="depot", circle=Circle(*place(east_m, north_m), radius_m))


def square(east_m: float, half_m: float) -> Geofence:
    corners = [(-half_m, -half_m), (half_m, -half_m), (half_m, half_m), (-half_m, half_m)]
    ring = tuple((lon, lat) for lat, lon in (place(east_m + e, n) for e, n in corners))
    return Geofence(geofence_id="depot", polygon=(ring,))


def earlier(speed_mps: float) -> Fleet:
    """Five entities that went the same way, each on a day of its own."""
    steps = np.arange(0, 1_500, 30)
    ts = np.concatenate([NOON_MS - (n + 1) * 86_400_000 + 1000 * steps for n in range(5)])
    lon = np.tile([place(-200 + speed_mps * s)[1] for s in steps], 5)
    entity = np.repeat(np.arange(5), len(steps))
    return Fleet.of(Passages(ts, np.full(len(ts), LAT), lon, np.diff(entity, prepend=-1) != 0, entity))


def test_who_is_there_arrives_at_once() -> None:
    told = estimate(forecast(), Circle(LAT, LON, 100.0))
    assert (told.in_s, told.distance_m, told.interval_s(0.9)) == (0.0, 0.0, (0.0, 0.0))
    assert told.chance_by(NOON_MS - 1) == told.chance_by(NOON_MS) == 1.0


def test_earlier_passages_decide_when() -> None:
    goal = Circle(*place(4_000), 100.0)
    alone, fast, slow = (estimate(forecast(), goal, known) for known in (None, earlier(9.0), earlier(6.0)))
    assert alone.passages == 0
    assert fast.passages >= 3
    assert fast.in_s < slow.in_s
    assert fast.interval_s(0.9)[0] < 4_000 / 9 < fast.interval_s(0.9)[1]


def test_what_a_fleet_believes_counts_with_passages_and_without() -> None:
    """Twice as slow: every quantile is of a logarithm, and its first coefficient is added."""
    known = earlier(9.0)
    belief = PRIOR._replace(
        **{name: one + np.log(2) * (np.arange(one.shape[1]) == 0) for name, one in PRIOR._asdict().items()}
    )
    for goal in (Circle(*place(4_000), 100.0), Circle(*place(0, 4_000), 100.0)):  # nobody went to the north
        plain, slow = (estimate(forecast(), goal, known._replace(belief=one)) for one in (PRIOR, belief))
        assert (plain.passages > 0) == (goal.lat == LAT)
        np.testing.assert_allclose(slow.times.seconds + FLOOR_S, 2 * (plain.times.seconds + FLOOR_S), rtol=1e-6)


@given(finite, finite, st.floats(5, 5_000), st.floats(0, 60), st.integers(-100_000, 10_000_000))
@settings(max_examples=150, deadline=None)
def test_an_estimate_is_ordered_whatever_is_asked(
    east_m: float, north_m: float, radius_m: float, mps: float, later_ms: int
) -> None:
    told = estimate(forecast(mps=mps), Circle(*place(east_m, north_m), radius_m))
    (a, b), (c, d), (e, f) = (told.interval_s(share) for share in (0.9, 0.8, 0.5))
    assert 0 <= a <= c <= e <= told.in_s <= f <= d <= b
    assert 0 <= told.chance_by(NOON_MS + later_ms) <= 1
    assert told.chance_by(NOON_MS + later_ms) <= told.chance_by(NOON_MS + later_ms + 60_000)


def test_other_shares_than_those_that_are_kept_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.9, 0\.8 or 0\.5"):
        estimate(forecast(), Circle(*place(4_000), 100.0)).interval_s(0.6)


def test_a_forecast_without_horizons_can_be_asked() -> None:
    assert estimate(forecast(horizons_s=()), Circle(*place(4_000), 100.0)).in_s > 0
    assert Area.of(fence(0)).chances(forecast(horizons_s=()), []).shape == (0,)


@pytest.mark.parametrize("area", [fence(2_400), square(2_400, 180)])
def test_a_fence_is_likely_where_the_forecast_leads(area: Geofence) -> None:
    at_60, at_300, at_900 = Area.of(area).chances(forecast(), [60, 300, 900])
    assert at_300 > 0.5 > 10 * max(at_60, at_900)


def test_a_circle_and_the_polygon_of_its_corners_are_as_likely() -> None:
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    corners = [place(2_000 + 300 * np.cos(a), 300 * np.sin(a)) for a in angles]
    outline = Geofence(geofence_id="round", polygon=(tuple((lon, lat) for lat, lon in corners),))
    round_, other = (Area.of(one).chances(forecast(), [60, 300, 900]) for one in (fence(2_000, 300.0), outline))
    np.testing.assert_allclose(round_, other, atol=0.002)


def test_a_chance_at_any_time_is_that_of_the_path_there() -> None:
    at_ms = NOON_MS + 150_000
    middle = position_at(forecast(), at_ms)
    around = Geofence(geofence_id="here", circle=Circle(*middle, 400.0))
    assert Area.of(around).chance_at(forecast(), at_ms) > 0.9
    with pytest.raises(ValueError, match="earlier"):
        Area.of(around).chance_at(forecast(), NOON_MS - 1)


@given(finite, finite, st.floats(5, 5_000), st.floats(0, 40), st.floats(1, 2_000))
@settings(max_examples=150, deadline=None)
def test_the_quick_bound_leaves_out_no_chance(
    east_m: float, north_m: float, radius_m: float, mps: float, sigma_m: float
) -> None:
    one, area = forecast(mps=mps, sigma_m=sigma_m), Area.of(fence(east_m, radius_m, north_m))
    if not area.may_matter(one):
        assert not area.holds(one.anchor.lat, one.anchor.lon)
        assert (area.chances(one, [h.h_s for h in one.horizons]) < LEAST_CHANCE).all()


def test_a_fence_over_the_date_line_is_in_one_piece() -> None:
    ring = ((179.99, -1.0), (-179.99, -1.0), (-179.99, 1.0), (179.99, 1.0))
    area = Area.of(Geofence(geofence_id="date line", polygon=(ring,)))
    assert area.holds(0.0, 180.0)
    assert area.holds(0.0, -179.995)
    assert not area.holds(0.0, 0.0)
