"""Gaps that are filled along passages: round the corner, as vehicles went there, from one end to the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from streets import E7_EAST, fixes_at

from model.api import FIX, Atlas
from model.atlas import filling
from model.atlas.believing import UNFITTED, Forecast, combine
from model.atlas.filling import BESIDE_M, MOST, fill, passages_along
from model.atlas.growth import Growth
from model.atlas.passages import Passages, entity_ids
from model.atlas.published import Published, publish, publishable
from model.kinematics.queries import GapEnds
from model.serving.passages.filling_compiled import move_fills

SPEED_MPS = 8.0


def round_the_corner(gone_m: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Returns the places of a street that comes from the west, and turns north."""
    return np.stack([np.minimum(gone_m, 0.0), np.maximum(gone_m, 0.0)], axis=-1)


def streets(vehicles: int = 24, back: bool = False, speeds_mps: tuple[float, ...] = (SPEED_MPS,)) -> Published:
    """The passages of vehicles that go round the corner one after the other, or all of them back, at these speeds by
    turns."""
    rng = np.random.default_rng(5)
    tracks = []
    for one in range(vehicles):
        ts_s = 3_000.0 * one + 30.0 * np.arange(80)
        gone_m = speeds_mps[one % len(speeds_mps)] * (30.0 * np.arange(80) - 1_200 + rng.uniform(0, 30))
        tracks.append(fixes_at(round_the_corner(-gone_m if back else gone_m) + rng.normal(0, 4, (80, 2)), ts_s))
    ids = np.repeat(entity_ids([f"v{one}" for one in range(vehicles)]), 80)
    fixes, begins = np.concatenate(tracks), np.arange(len(ids)) % 80 == 0
    growth, later = Growth(), fixes[begins].copy()
    later["ts_ms"] += 86_400_000
    found = [growth.add(ids, fixes, begins), growth.add(ids[begins], later, np.ones(vehicles, np.bool_))]
    return publish(publishable(Passages.total(one.passages for one in found)))


def ends_of(
    end_m: Any, gap_s: Any, before_mps: Any = (0.0, 0.0), after_mps: Any = (0.0, 0.0), known: Any = (False, False)
) -> GapEnds:
    """Returns the ends of a gap; of its velocities, before and after it, those are known that `known` says."""
    arrays = [np.asarray(one, float) for one in (end_m, gap_s, before_mps, after_mps, *known)]
    return GapEnds(*arrays, *np.zeros(2))


def gap(from_m: float = -600.0, to_m: float = 600.0) -> tuple[Any, NDArray[np.float64], float]:
    """Returns a gap between two places of the street: its start, where it ends, and how long it takes."""
    start, end = round_the_corner(np.array([from_m, to_m]))
    return fixes_at(start[None], [0.0])[0], end - start, abs(to_m - from_m) / SPEED_MPS


def test_a_gap_round_the_corner_is_filled_round_the_corner() -> None:
    start, end_m, gap_s = gap()
    t_s = np.linspace(0, gap_s, 31)
    found = fill(streets(), start, ends_of(end_m, gap_s), t_s)
    way = round_the_corner(-600.0 + SPEED_MPS * t_s) - round_the_corner(np.array(-600.0))
    straight = end_m * (t_s / gap_s)[:, None]
    assert found.n == pytest.approx(MOST)
    assert np.hypot(*(found.mean_m - way).T).max() < 60  # the vehicles' own pings, 240 m apart, cut the corner
    assert np.hypot(*(straight - way).T).max() > 400


@pytest.mark.parametrize("off_m", [0.0, 80.0])
def test_both_ends_of_a_gap_stay_where_they_are(off_m: float) -> None:
    start, end_m, gap_s = gap()
    end_m = end_m + off_m
    found = fill(streets(), start, ends_of(end_m, gap_s), np.array([0.0, gap_s]))
    assert (found.n > 0).all()
    assert found.mean_m == pytest.approx(np.stack([np.zeros(2), end_m]), abs=1e-6)
    assert found.cov_m2 == pytest.approx(0.0, abs=1e-6)


def test_whoever_came_the_other_way_says_nothing() -> None:
    start, end_m, gap_s = gap()
    there, back = streets(), streets(back=True)
    assert len(passages_along(there, start, ends_of(end_m, gap_s)).weight) == MOST
    assert len(passages_along(back, start, ends_of(end_m, gap_s)).weight) == 0
    end, to_start_m, _ = gap(600.0, -600.0)
    assert len(passages_along(back, end, ends_of(to_start_m, gap_s)).weight) == MOST
    assert len(passages_along(there, end, ends_of(to_start_m, gap_s)).weight) == 0


def test_whoever_took_another_time_says_nothing() -> None:
    """These come to within BESIDE_M of the end somewhat earlier than they reach it, and leave it somewhat later."""
    version, slack_s = streets(), BESIDE_M / SPEED_MPS + 5
    start, end_m, gap_s = gap(-600.0, 1_200.0)
    for counts, some_s in (
        (True, [gap_s, 0.6 * gap_s, 1.9 * gap_s]),
        (False, [(gap_s - slack_s) / filling.SLOWEST, (gap_s + slack_s) / filling.QUICKEST]),
    ):
        for one_s in some_s:
            along = passages_along(version, start, ends_of(end_m, one_s))
            assert len(along.weight) == (MOST if counts else 0), one_s
            assert (along.end_s - along.begin_s >= filling.QUICKEST * one_s - 1e-6).all()
            assert (along.end_s - along.begin_s <= filling.SLOWEST * one_s + 1e-6).all()


def test_whoever_took_the_time_of_the_gap_or_had_its_speed_at_an_end_is_taken_first() -> None:
    """Of vehicles that come from the same place, some go twice as fast."""
    version = streets(speeds_mps=(SPEED_MPS, 2 * SPEED_MPS))
    start, end_m, gap_s = gap()
    for times in (1, 2):
        east_mps, north_mps = (times * SPEED_MPS, 0.0), (0.0, times * SPEED_MPS)
        between_s = gap_s / 2**0.5  # as far from the time of the slow ones as from that of the fast ones
        for ends in (
            ends_of(end_m, gap_s / times),
            ends_of(end_m, between_s, before_mps=east_mps, known=(True, False)),
            ends_of(end_m, between_s, after_mps=north_mps, known=(False, True)),
        ):
            along = passages_along(version, start, ends)
            assert along.end_s - along.begin_s == pytest.approx(gap_s / times, rel=0.15), (times, ends)


def test_a_velocity_that_nobody_knows_says_nothing() -> None:
    version, (start, end_m, gap_s) = streets(), gap()
    silent = passages_along(version, start, ends_of(end_m, gap_s))
    for known in ((False, False), (True, True)):
        found = passages_along(version, start, ends_of(end_m, gap_s, (-9.0, 0.0), (0.0, -9.0), known))
        assert (found.weight.tobytes() == silent.weight.tobytes()) == (not known[0])


@pytest.mark.parametrize("north_mps", [SPEED_MPS, -SPEED_MPS])
def test_whose_way_ends_with_the_gap_is_between_those_that_went_on_likewise_and_otherwise(north_mps: float) -> None:
    """Ways are known for 180 s, and the gap takes 150: it ends with them where a ping lies before its start."""
    version, (start, end_m, gap_s) = streets(), gap()
    cut = version._replace(known=np.full_like(version.known, np.searchsorted(filling.TIMES_S, 180.0) - 1))
    ends = ends_of(end_m, gap_s, after_mps=(0.0, north_mps), known=(False, True))
    along = passages_along(cut, start, ends)
    goes_on = 180.0 - along.end_s >= filling.LEAST_AFTER_S
    assert len(goes_on) == MOST
    assert (goes_on[:4] == (north_mps > 0)).all()


def test_no_vehicle_counts_more_than_twice_and_no_place_elsewhere_does() -> None:
    start, end_m, gap_s = gap()
    version = streets()
    few = version._replace(mark=(version.mark % 2).astype(np.uint16))
    assert len(passages_along(few, start, ends_of(end_m, gap_s)).weight) == 4
    assert len(passages_along(version, start, ends_of(end_m + 1_000.0, gap_s)).weight) == 0
    assert len(passages_along(Published.none(), start, ends_of(end_m, gap_s)).weight) == 0


def test_what_serves_is_the_definition_and_other_fills_keep_their_bits() -> None:
    """Gaps ask one of two versions, or none; some are not sound, too short, too long, or lie elsewhere."""
    rng = np.random.default_rng(11)
    rows = 240
    one, other = streets(), streets(12, back=True)
    some = one.known.copy()
    some[::3] = rng.integers(1, 12, len(some[::3]))
    versions = one._replace(known=some), other
    atlases = [Atlas(one, UNFITTED, {}, "") for one in versions]
    start, end_m, gap_s = np.zeros(rows, FIX), np.zeros((rows, 2)), np.zeros(rows)
    for row in range(rows):
        from_m = rng.uniform(-4_000, 4_000)
        start[row], end_m[row], gap_s[row] = gap(from_m, from_m + rng.choice([-1, 1]) * rng.uniform(15, 64) ** 2)
        start["lon_e7"][row] += round(float(rng.normal(0, 80)) * E7_EAST)
    end_m += rng.normal(0, 60, end_m.shape)
    gap_s *= rng.uniform(0.4, 2.5, rows)
    gap_s[:6], gap_s[6:12] = filling.MIN_GAP_S - 1, filling.MAX_GAP_S + 1
    sound, which = rng.random(rows) < 0.9, rng.integers(-1, 2, rows)
    of = np.sort(rng.integers(0, rows, 1_000))
    t_s = rng.uniform(0, 1, len(of)) * gap_s[of]
    t_s[::9], t_s[1::9] = 0.0, gap_s[of][1::9]
    root = rng.normal(0, 100, (len(of), 1, 2, 2))
    mean, cov = rng.normal(0, 500, (len(of), 1, 2)), (root @ np.swapaxes(root, -1, -2))[..., [0, 0, 1], [0, 1, 1]]
    was = Forecast(mean.copy(), cov.copy())
    speeds_mps, known = rng.normal(0, 8, (2, rows, 2)), rng.random((2, rows)) < 0.7
    ends = ends_of(end_m, gap_s, *speeds_mps, known)
    rests_on = move_fills(mean, cov, sound, start, ends, of, t_s, atlases, which)
    filled = np.zeros(rows, np.bool_)
    for row in np.flatnonzero(sound & (which >= 0)).tolist():
        here = np.flatnonzero(of == row)
        one = ends_of(end_m[row], gap_s[row], *speeds_mps[:, row], known[:, row])
        found = fill(versions[which[row]], start[row], one, t_s[here])
        model = Forecast(was.mean_m[here, 0], was.cov_m2[here, 0])
        wanted = combine(model, found, np.ones(len(here)), UNFITTED)
        assert mean[here, 0] == pytest.approx(wanted.mean_m, rel=0, abs=1e-3)
        assert cov[here, 0] == pytest.approx(wanted.cov_m2, rel=1e-6, abs=1e-3)
        filled[row] = len(passages_along(versions[which[row]], start[row], one).weight) > 0
        assert rests_on[row] == (found.n[0] if len(here) else rests_on[row])
    assert 40 < filled.sum() < 160
    assert (rests_on[~filled] == 0).all()
    assert not filled[:12].any()
    for after, before in zip((mean, cov), was, strict=True):
        assert after[~filled[of]].tobytes() == before[~filled[of]].tobytes()
        assert (after[filled[of]] != before[filled[of]]).any()
