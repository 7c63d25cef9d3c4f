"""Former forecasts against what then happened, by a case that is computed by hand."""

from __future__ import annotations

import pytest
from map_rig import M_PER_DEG, T0, fleet_of, forecast, publish

from stream.api.map.fleet.entity import SLOT_MS
from stream.api.map.fleet.errors import MINUTES, ByMinute, rows
from stream.api.map.fleet.moments import MAX_HORIZONS
from stream.wire import Branch, BranchPosition, Outcome, loads_forecast
from stream.wire.scoring import DAMPING_S

FIRST_S = (SLOT_MS - T0 % SLOT_MS) / 1000  # the first in a slot is kept: T0 is not the begin of a slot
LAT, LON = 0.0, 10.0  # on the equator a degree to the east is as long as one to the north


def at(ts_s: float, north_m: float, *, to_m: float = 0.0, cov_m2: float = 100.0, **more: object) -> bytes:
    """A ping so many metres to the north, and a forecast of `to_m` metres to the north after 60 s."""
    place = LAT + north_m / M_PER_DEG
    to = ((60.0, LAT + to_m / M_PER_DEG, LON),)
    cov = (cov_m2, 0.0, cov_m2)
    return forecast("e", T0 + int(ts_s * 1000), place, LON, to=to, cov_m2=cov, d_lat=1e-4, **more)  # type: ignore[arg-type]


def test_a_forecast_is_compared_with_the_ping_nearest_to_its_end_as_the_scorer_does() -> None:
    """At 10 m/s: pings at 0, 20, 40, 58 and 70 s. The forecast of 20 s says 830 m for 80 s; nearest to that is the ping
    at 82 s, 820 m. Read at 82 s, two seconds beyond its end, it goes on as between its last two places."""
    fleet = fleet_of(at(FIRST_S - 20, 0.0))
    publish(fleet, at(FIRST_S, 200.0, to_m=830.0, dt_s=20.0))
    publish(fleet, at(FIRST_S + 30, 500.0), at(FIRST_S + 55, 750.0))
    entity = fleet.get("e")
    assert entity is not None
    assert [one for one in entity.comparisons() if one.at == T0 + FIRST_S * 1000] == [], "its end has not come"
    publish(fleet, at(FIRST_S + 62, 820.0))
    (found,) = [one for one in entity.comparisons() if one.at == T0 + FIRST_S * 1000]
    assert (found.h_s, found.true_ts) == (60.0, T0 + (FIRST_S + 62) * 1000), "2 s after its end, and not 5 s before"
    # It goes from 11.1 m beyond the anchor at 20 s (d_lat) to 830 m at 60 s, and on at that speed.
    step_m = 200.0 + 1e-4 * M_PER_DEG
    read_m = 830.0 + (830.0 - step_m) / 40 * 2
    assert found.error_m == pytest.approx(read_m - 820.0, abs=0.02)
    assert (found.lat - LAT) * M_PER_DEG == pytest.approx(read_m, abs=0.02)
    # Damped velocity goes on at 10 m/s, ever more slowly.
    damped_m = 200.0 + 10.0 * DAMPING_S * (1 - 2.718281828459045 ** (-62 / DAMPING_S))
    assert found.damped_m == pytest.approx(820.0 - damped_m, abs=0.05)
    assert not found.in50, "10 m in north wide, it is more than 30 m off"
    assert not found.in90


def test_a_region_holds_what_is_within_it() -> None:
    fleet = fleet_of(at(FIRST_S, 0.0, to_m=600.0, cov_m2=100.0, dt_s=1.0), at(FIRST_S + 60, 610.0))
    (found,) = fleet.get("e").comparisons()  # type: ignore[union-attr]
    # Student's t with 4 degrees of freedom: half is within 4 (sqrt 2 - 1) / 1.878 = 0.88, nine tenths within 4.6.
    assert found.error_m == pytest.approx(10.0, abs=0.01)
    assert (found.in50, found.in90) == (False, True), "10 m is one standard deviation, 1 in squares"
    assert found.damped_m is None, "nothing is known from before"


def test_no_ping_near_the_end_is_no_comparison() -> None:
    fleet = fleet_of(at(FIRST_S, 0.0, to_m=600.0), at(FIRST_S + 40, 400.0), at(FIRST_S + 80, 800.0))
    assert fleet.get("e").comparisons() == [], "20 s off is more than 20 % of 60 s"  # type: ignore[union-attr]


def test_the_fleet_sums_up_what_its_entities_were_off_by() -> None:
    fleet = fleet_of(at(FIRST_S - 20, -100.0), at(FIRST_S, 100.0, to_m=700.0, dt_s=1.0), at(FIRST_S + 60, 650.0))
    told = fleet.summary(T0)
    (row,) = [one for one in told["errors"] if one["h_s"] == 60.0]
    assert row["n"] == 1, "of the one before, no ping is near its end"
    assert row["mean_m"] == pytest.approx(50.0, abs=0.02)
    damped_m = 650.0 - (100.0 + 10.0 * DAMPING_S * (1 - 2.718281828459045 ** (-60 / DAMPING_S)))
    assert row["damped_m"] == pytest.approx(damped_m, abs=0.05)
    assert row["skill"] == pytest.approx(1 - 50.0 / damped_m, abs=0.002)


COMPARED = (Outcome(60.0, 60.0, 10.0, 20.0, False, True), Outcome(60.0, 60.0, 20.0, 40.0, False, False))
ALONE = Outcome(60.0, 60.0, 9_000.0, None, True, True)  # the first forecast of an entity: nothing is known from before


@pytest.mark.parametrize("outcomes", [(ALONE, *COMPARED), (*COMPARED, ALONE), (COMPARED[0], ALONE, COMPARED[1])])
def test_all_figures_of_a_row_are_of_the_same_cases(outcomes: tuple[Outcome, ...]) -> None:
    """The error was once of all, and damped velocity's and the skill of those that this has an error for: the error was
    larger than damped velocity's, and the skill above 0."""
    (row,) = rows([*outcomes, Outcome(300.0)])
    assert row == {"h_s": 60.0, "n": 2, "mean_m": 15.0, "damped_m": 30.0, "skill": 0.5, "in50": 0.0, "in90": 0.5}
    kept = ByMinute()
    for minute, one in enumerate(outcomes):
        kept.add(minute * 60_000, one)
    assert kept.since(0) == [row], "and so are those of minutes that are joined"


def test_a_row_of_what_damped_velocity_has_no_error_for_is_of_all() -> None:
    (row,) = rows([ALONE, ALONE])
    assert row == {"h_s": 60.0, "n": 2, "mean_m": 9_000.0, "damped_m": None, "skill": None, "in50": 1.0, "in90": 1.0}


def test_minutes_are_bounded_and_the_oldest_goes() -> None:
    kept = ByMinute()
    for minute in range(MINUTES + 5):
        kept.add(minute * 60_000, Outcome(60.0, 60.0, float(minute), None, True, True))
    kept.add(0, Outcome(60.0, 60.0, 1.0, None, True, True))  # older than all that are kept
    points = kept.points()
    assert len(points) == MINUTES
    assert points[0]["mean_m"] == 5.0


def test_a_minute_says_of_how_many_its_means_are() -> None:
    """So that the page can join minutes: a mean of one case must not count as much as one of a hundred."""
    kept = ByMinute()
    for one in (*COMPARED, ALONE):
        kept.add(0, one)
    kept.add(60_000, ALONE)
    first, second = kept.points()
    assert first == {"ts": 0, "h_s": 60.0, "n": 2, "mean_m": 15.0, "damped_m": 30.0}
    assert second == {"ts": 60_000, "h_s": 60.0, "n": 1, "mean_m": 9_000.0, "damped_m": None}


def test_a_clock_that_was_ahead_is_forgotten() -> None:
    fleet = fleet_of(at(0, 0.0), at(10, 100.0), at(500, 0.0))
    publish(fleet, at(20, 200.0, status="warmup"))
    entity = fleet.get("e")
    assert entity is not None
    assert [ts for ts, *_ in entity.track()] == [T0, T0 + 10_000, T0 + 20_000]
    assert loads_forecast(fleet.newest.forecast("e")[0]).anchor.ts == T0 + 20_000  # type: ignore[index]


def test_whatever_a_stranger_publishes_what_is_kept_is_bounded() -> None:
    """Forecasts with horizons and versions of their own each, and some that cannot be drawn."""
    fleet = fleet_of()
    for n in range(200):
        to = tuple((1.0 + n + h / 100, 0.0, 10.0) for h in range(30))
        publish(fleet, forecast("e", T0 + n * SLOT_MS, to=to, weights=f"w{n}", atlas=f"a{n}"))
    entity = fleet.get("e")
    assert entity is not None
    assert len(entity._waiting) <= MAX_HORIZONS
    assert (fleet.figures.weights, fleet.figures.atlas) == ({"w199": 1}, {"a199": 1})
    before = fleet.refused
    odd = (
        b"no JSON",
        forecast("e", T0 + 10**8, dt_s=0.0),
        forecast("e", T0 + 10**8, to=((60.0, 95.0, 0.0),)),
        forecast("e", T0 + 10**8, branches=(Branch(0.5, (BranchPosition(60.0, 95.0, 0.0),)),)),
        forecast("e", T0 + 10**8, branches=(Branch(-0.5, (BranchPosition(60.0, 30.0, 0.0),)),)),
        forecast("e", T0 + 10**8, cov_m2=(-1.0, 0.0, 1.0)),
        forecast("e", T0 + 10**8, cov_m2=(1e300, 0.0, 1.0)),
        forecast("e", T0 + 10**8, d_lat=1e300),
    )
    publish(fleet, *odd)
    assert fleet.refused == before + len(odd)
    assert entity.moment.ts == T0 + 199 * SLOT_MS
