"""Tests where passages part that a ping was compared with, and where they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from streets import E7_EAST, E7_NORTH, LAT_E7, LON_E7, fixes_at

from model.api import Atlas
from model.atlas import asking, branching
from model.atlas.believing import NOTHING, UNFITTED, Belief
from model.atlas.branching import Branches, branches
from model.atlas.growth import Growth
from model.atlas.passages import Passages, entity_ids
from model.atlas.published import Published, publish, publishable
from model.atlas.ways import IN_S, ON_S, Approach
from model.serving.answers import places_of_branches
from model.serving.passages.asking_compiled import move

SPEED_MPS = 8.0
HORIZONS_S = np.array([60.0, 300.0, 900.0])
LEFT, RIGHT, AHEAD = (np.array(one, float) for one in ((0, 1), (0, -1), (1, 0)))
PINGS, EVERY_S, BEGINS_M = 90, 30.0, -9_000.0


def crossing(gone_m: Any, turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the places of a street from the west, which goes on in a direction behind the crossing at 0, 0."""
    gone = np.asarray(gone_m, float)[..., None]
    return np.minimum(gone, 0.0) * AHEAD + np.maximum(gone, 0.0) * turn


def grown(turns: list[NDArray[np.float64]], speeds_mps: NDArray[np.float64] | None = None) -> Passages:
    """The passages of vehicles that come from the west one after the other, and turn at the crossing."""
    rng, count = np.random.default_rng(5), len(turns)
    speeds = np.full(count, SPEED_MPS) if speeds_mps is None else speeds_mps
    tracks = []
    for one, (turn, speed) in enumerate(zip(turns, speeds, strict=True)):
        gone_m = BEGINS_M + speed * (EVERY_S * np.arange(PINGS) + rng.uniform(0, 30))
        places = crossing(gone_m, turn) + rng.normal(0, 4, (PINGS, 2))
        tracks.append(fixes_at(places, 3_000.0 * one + EVERY_S * np.arange(PINGS)))
    ids = np.repeat(entity_ids([f"v{one}" for one in range(count)]), PINGS)
    fixes, begins = np.concatenate(tracks), np.arange(len(ids)) % PINGS == 0
    growth, later = Growth(), fixes[begins].copy()
    later["ts_ms"] += 86_400_000
    found = [growth.add(ids, fixes, begins), growth.add(ids[begins], later, np.ones(count, np.bool_))]
    return Passages.total(one.passages for one in found)


def version_of(turns: list[NDArray[np.float64]], speeds_mps: NDArray[np.float64] | None = None) -> Published:
    return publish(publishable(grown(turns, speeds_mps)))


def before_the_crossing(away_m: float = 300.0) -> tuple[NDArray[Any], Approach]:
    """Returns a ping of a vehicle that comes from the west, and how it came."""
    in_m = -SPEED_MPS * np.array(IN_S)[:, None] * AHEAD
    return fixes_at([-away_m * AHEAD], [0.0]), Approach(in_m[None], SPEED_MPS * AHEAD[None], np.ones(1, np.bool_))


def parted(version: Published, horizons_s: NDArray[np.float64] = HORIZONS_S, away_m: float = 300.0) -> Branches:
    fix, approach = before_the_crossing(away_m)
    near = asking.neighbours(version, fix, approach.in_m, approach.velocity_mps)
    assert (near.row >= 0).sum() >= 4, "else nothing was compared"
    return branches(version, near, fix, horizons_s[None])


def test_passages_part_at_a_crossing_and_each_branch_lies_on_its_street() -> None:
    found = parted(version_of([LEFT, LEFT, AHEAD] * 8))
    assert found.share[0] == pytest.approx([2 / 3, 1 / 3, 0], abs=0.15)
    assert found.share[0].sum() == pytest.approx(1)
    for branch, turn in enumerate((LEFT, AHEAD)):
        wanted = crossing(-300.0 + SPEED_MPS * HORIZONS_S[:2], turn) + 300.0 * AHEAD
        assert found.mean_m[0, branch, :2] == pytest.approx(wanted, abs=70)  # their pings are 240 m apart
    assert np.isnan(found.mean_m[0, 2]).all()


def test_three_ways_are_three_branches_and_more_are_still_three() -> None:
    three = parted(version_of([LEFT, RIGHT, AHEAD] * 8))
    assert (three.share[0] > 0.15).all()
    assert (np.diff(three.share[0]) <= 0).all(), "the largest first"
    four = parted(version_of([LEFT, RIGHT, AHEAD, (LEFT + AHEAD) / np.sqrt(2)] * 8)).share[0]
    assert (four > 0.15).all()
    assert four.sum() < 0.9, "the fourth is left out"


@pytest.mark.parametrize("turn", [LEFT, AHEAD])
def test_where_all_go_one_way_nobody_parts_though_some_are_slower(turn: NDArray[np.float64]) -> None:
    speeds = SPEED_MPS * np.random.default_rng(3).uniform(0.75, 1.2, 24)
    found = parted(version_of([turn] * 24, speeds))
    assert (found.share == 0).all()
    assert np.isnan(found.mean_m).all()


def test_where_passages_scatter_there_are_no_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some go left or right, and many of the others each their own way."""
    alone = [np.array([np.cos(turn), np.sin(turn)]) for turn in np.linspace(-1.2, 1.2, 6)]
    version = publish(publishable(grown([*alone, *[LEFT, RIGHT] * 3]), 1))
    assert (parted(version).share == 0).all()
    monkeypatch.setattr(branching, "LEAST_TOGETHER", 0.3)
    assert (parted(version).share[0] > 0).sum() >= 2


def test_a_way_that_one_vehicle_alone_went_is_no_branch() -> None:
    """As often as it did."""
    version = version_of([LEFT, AHEAD] * 12)
    fix, approach = before_the_crossing()
    near = asking.neighbours(version, fix, approach.in_m, approach.velocity_mps)
    went_left = version.on[:, -1, 1] > 500
    assert (branches(version, near, fix, HORIZONS_S[None]).share[0, :2] > 0).all()
    one = version._replace(mark=np.where(went_left, 7, version.mark).astype(np.uint16))
    assert (branches(one, near, fix, HORIZONS_S[None]).share == 0).all()


def test_a_way_that_hardly_anybody_went_is_no_branch() -> None:
    version = version_of([AHEAD] * 24)
    fix, approach = before_the_crossing()
    near = asking.neighbours(version, fix, approach.in_m, approach.velocity_mps)
    on = version.on.copy()
    on[near.row[0, 1]] = on[near.row[0, 1]][:, ::-1]  # one of them turns at once
    assert (branches(version._replace(on=on), near, fix, HORIZONS_S[None]).share == 0).all()


def test_branches_end_where_the_half_of_the_passages_is_not_known_any_more() -> None:
    version = version_of([LEFT, AHEAD] * 12)
    known = np.minimum(version.known, np.searchsorted(ON_S, 500.0)).astype(np.uint8)
    found = parted(version._replace(known=known))
    assert (found.share[0, :2] > 0).all()
    assert np.isfinite(found.mean_m[0, :2, :2]).all()
    assert np.isnan(found.mean_m[0, :, 2]).all()
    behind = np.minimum(version.known, np.searchsorted(ON_S, 50.0)).astype(np.uint8)
    assert (parted(version._replace(known=behind)).share == 0).all()


def test_horizons_may_stand_in_any_order() -> None:
    version = version_of([LEFT, AHEAD] * 12)
    there, back = parted(version), parted(version, HORIZONS_S[::-1])
    assert (there.share == back.share).all()
    assert (there.mean_m[0, :2] == back.mean_m[0, :2, ::-1]).all()


def pings(rows: int = 300) -> tuple[NDArray[Any], Approach, NDArray[np.float64]]:
    """Pings before and behind the crossing, and the next one's time and three horizons of each."""
    rng = np.random.default_rng(7)
    places = crossing(rng.uniform(-2_000, 500, rows), AHEAD) + rng.normal(0, 30, (rows, 2))
    in_m = -rng.uniform(6, 9, (rows, 1, 1)) * np.array(IN_S)[:, None] * AHEAD
    approach = Approach(
        in_m + rng.normal(0, 40, in_m.shape), SPEED_MPS * AHEAD + rng.normal(0, 1, (rows, 2)), rng.random(rows) < 0.9
    )
    horizons_s = rng.permuted(rng.uniform(20, 1_100, (rows, 3)), axis=1)
    horizons_s[::7, 2] = 2_000.0  # beyond all that is known
    return fixes_at(places, np.zeros(rows)), approach, np.column_stack([np.full(rows, 30.0), horizons_s])


def assert_same(found: Branches, wanted: Branches) -> None:
    assert found.share == pytest.approx(wanted.share, abs=1e-9)
    assert found.mean_m == pytest.approx(wanted.mean_m, rel=0, abs=1e-3, nan_ok=True)


def test_what_serves_is_the_definition() -> None:
    """Rows ask one of three versions, the last of which is not believed, or none; some are not sound, or nobody knows
    how they came."""
    rng = np.random.default_rng(9)
    many = [np.array([np.cos(turn), np.sin(turn)]) for turn in np.linspace(-2.0, 2.0, 9)] * 4
    speeds = SPEED_MPS * rng.uniform(0.6, 1.4, len(many))
    first, second = version_of([LEFT, RIGHT, AHEAD] * 12), version_of(many, speeds)
    short = rng.integers(1, len(ON_S) + 1, len(second.known)).astype(np.uint8)
    second = second._replace(known=np.minimum(second.known, short))
    nothing = Belief(np.full(3, NOTHING), np.zeros(3))
    atlases = [Atlas(one, of, {}, "") for one, of in ((first, UNFITTED), (second, UNFITTED), (first, nothing))]
    fixes, approach, dt_s = pings()
    which, sound = rng.integers(-1, 3, len(fixes)), rng.random(len(fixes)) < 0.9
    mean, cov = np.zeros((*dt_s.shape, 2)), np.tile([1e6, 0.0, 1e6], (*dt_s.shape, 1))
    _, found = move(mean, cov, sound, fixes, dt_s, atlases, which, approach)
    wanted, parts = Branches.none(len(fixes), 3), [0, 0, 0]
    for number, atlas in enumerate(atlases[:2]):
        rows = np.flatnonzero(sound & approach.came & (which == number))
        near = asking.neighbours(atlas.passages, fixes[rows], approach.in_m[rows], approach.velocity_mps[rows])
        one = branches(atlas.passages, near, fixes[rows], dt_s[rows, 1:])
        wanted.share[rows], wanted.mean_m[rows] = one
        parts[number] = int((one.share[:, 0] > 0).sum())
    assert min(parts[:2]) > 10, parts
    assert (wanted.share[:, 2] > 0).any()
    assert (wanted.share[:, 0] == 0).sum() > 50
    assert_same(found, wanted)


def test_places_of_branches_are_degrees() -> None:
    version = version_of([LEFT, AHEAD] * 12)
    fix, _ = before_the_crossing()
    found = parted(version)
    lat, lon = places_of_branches(np.concatenate([fix, fix]), np.concatenate([found.mean_m, found.mean_m * np.nan]))
    east, north = found.mean_m[0, :2, :, 0], found.mean_m[0, :2, :, 1]
    assert lat[0, :2] == pytest.approx((LAT_E7 + north * E7_NORTH) / 1e7, abs=1e-5)
    assert lon[0, :2] == pytest.approx((LON_E7 - 300 * E7_EAST + east * E7_EAST) / 1e7, abs=1e-5)
    assert np.isnan(lat[1]).all()


def test_a_branch_over_the_date_line_goes_on_beyond_it() -> None:
    fix, _ = before_the_crossing()
    fix["lat_e7"], fix["lon_e7"] = 0, 1_799_990_000
    lat, lon = places_of_branches(fix, np.full((1, 3, 1, 2), 1_000.0))
    assert lat == pytest.approx(np.full((1, 3, 1), 0.00899), abs=1e-4)
    assert lon == pytest.approx(np.full((1, 3, 1), -179.99201), abs=1e-4)
