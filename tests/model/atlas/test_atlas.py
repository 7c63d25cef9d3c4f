"""What an atlas counts and what it says, on tracks whose answers are worked by hand."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from atlas_worlds import same
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.api import Predictor
from model.atlas import cells, estimate, outcomes, sums
from model.atlas.cells import LEVELS, STILL
from model.atlas.estimate import PRIOR
from model.atlas.outcomes import DAMPING_S, HORIZONS_S, MAX_MPS, NEVER
from model.atlas.published import MIN_ENTITIES, UNIT, Published, published
from model.atlas.sums import BUCKETS, SLOT_MS, Sums, rows_of
from model.config import SMALL
from model.kinematics import motion as state
from model.kinematics.features import FIX
from model.kinematics.geo import E7, M_PER_DEG

LAT_E7, LON_E7 = 300_000_000, -977_000_000
H = len(HORIZONS_S)


def line(seconds: list[float], north_m: list[float], start_ms: int = 0) -> NDArray[np.void]:
    """FIX records of a thing on a line to the north."""
    fixes = np.zeros(len(seconds), FIX)
    fixes["ts_ms"] = start_ms + np.rint(1000 * np.array(seconds)).astype(np.int64)
    fixes["lat_e7"] = LAT_E7 + np.rint(np.array(north_m) / M_PER_DEG * E7).astype(np.int64)
    fixes["lon_e7"] = LON_E7
    return fixes


def motion(key: np.int64) -> tuple[int, int]:
    return int(key >> 4) & 15, int(key) & 15


# -- keys


@pytest.mark.parametrize(
    ("velocity", "expected"),
    [
        ((0.0, 0.0), (STILL, 0)),
        ((0.3, -0.3), (STILL, 0)),
        ((0.0, 10.0), (0, 3)),  # north
        ((5.0, 5.0), (1, 2)),
        ((20.0, 0.0), (2, 4)),
        ((0.0, -1.0), (4, 1)),
        ((-2.0, 0.0), (6, 1)),
        ((-0.1, 4.0), (0, 2)),  # a little west of north is north, too
    ],
)
def test_a_key_has_the_octant_and_the_class_of_the_speed(
    velocity: tuple[float, float], expected: tuple[int, int]
) -> None:
    found = cells.keys(np.array([LAT_E7]), np.array([LON_E7]), np.array([velocity]), np.zeros((1, 2)))
    assert {motion(key) for key in found[0]} == {expected}


def test_each_level_has_its_own_cells_and_smaller_ones_lie_in_the_larger() -> None:
    rng = np.random.default_rng(0)
    lat, lon = rng.integers(-80 * E7, 80 * E7, 200), rng.integers(-180 * E7, 180 * E7, 200)
    found = cells.keys(lat, lon, np.zeros((200, 2)), rng.normal(0, 100, (200, 2)))
    assert [set((found[:, level] >> 60).tolist()) for level in range(LEVELS)] == [{level} for level in range(LEVELS)]
    column, row = (found >> 40) & (2**20 - 1), (found >> 20) & (2**20 - 1)
    for level in range(1, LEVELS):
        shift = cells.ZOOMS[level] - cells.ZOOMS[level - 1]
        assert (column[:, level] >> shift == column[:, level - 1]).all()
        assert (row[:, level] >> shift == row[:, level - 1]).all()
    assert np.array_equal(np.stack(cells.levels_of(found[:, -1]), axis=-1), found)


@pytest.mark.parametrize(
    ("came", "expected"), [((0.0, 59.0), 8), ((0.0, 61.0), 0), ((100.0, 0.0), 2), ((-80.0, 80.0), 7)]
)
def test_the_last_level_has_where_it_came_from(came: tuple[float, float], expected: int) -> None:
    found = cells.keys(np.array([LAT_E7]), np.array([LON_E7]), np.array([(5.0, 0.0)]), np.array([came]))[0]
    assert ((found >> 12) & 15).tolist() == [0, 0, 0, 0, 0, expected]


def test_the_way_that_a_ping_came_is_the_window_of_a_state() -> None:
    """So that a worker, which has only the state, finds the key under which the ping was counted."""
    rng = np.random.default_rng(1)
    fixes = np.zeros(40, FIX)
    fixes["ts_ms"] = np.arange(40) * 30_000
    fixes["lat_e7"], fixes["lon_e7"] = (np.cumsum(rng.normal(0, 3_000, 40)) + middle for middle in (LAT_E7, LON_E7))
    predictor = Predictor.untrained(SMALL)
    slots = predictor.acquire(1)
    begins = np.arange(40) == 0
    ways = outcomes.ways_m(fixes, begins)
    for i, fix in enumerate(fixes):
        predictor.advance(slots, fixes[i : i + 1])
        kin = predictor.moment(slots).kin[0]
        assert np.allclose(ways[i], kin[[state.W_E, state.W_N]], rtol=1e-9, atol=1e-6), fix


def test_the_poles_and_the_date_line_have_cells() -> None:
    lat, lon = np.array([90 * E7, -90 * E7, 0, 0]), np.array([0, 0, 180 * E7, -180 * E7])
    found = cells.keys(lat, lon, np.zeros((4, 2)), np.zeros((4, 2)))
    assert (found >= 0).all()
    assert (found[2] == found[3]).all()  # the same meridian


# -- outcomes


def test_an_outcome_is_what_happened_minus_what_a_decaying_velocity_expects() -> None:
    fixes = line([0, 10, 70, 130, 700], [0, 100, 100, 700, 700])
    found = outcomes.of_tracks(fixes, np.array([0]))
    assert found.row.tolist() == [1, 2, 3, 4]
    first = found.off_cm[0] / 100
    expected = -10.0 * DAMPING_S * np.expm1(-60.0 / DAMPING_S)  # it went at 10 m/s
    assert first[0].tolist() == pytest.approx([0.0, 0.0 - expected], abs=0.03)  # after 60 s it was where it is
    assert found.known_ms[0].tolist()[:2] == [70_000, 130_000]
    expected = -10.0 * DAMPING_S * np.expm1(-300.0 / DAMPING_S)
    assert first[2].tolist() == pytest.approx([0.0, 600.0 - expected], abs=0.03)  # on the line between two pings
    assert found.known_ms[0, 2] == 700_000
    assert (found.known_ms[-1] == NEVER).all()


def test_the_first_ping_of_a_track_and_the_end_of_another_say_nothing_of_each_other() -> None:
    one, other = line([0, 60, 120], [0, 0, 0]), line([130, 190], [9_000, 9_000])
    both = outcomes.of_tracks(np.concatenate([one, other]), np.array([0, 3]))
    assert both.row.tolist() == [1, 2, 4]
    alone = outcomes.of_tracks(one, np.array([0]))
    assert (both.known_ms[:2] == alone.known_ms).all()
    assert (both.known_ms[2] == NEVER).all()


def test_a_jump_does_not_count() -> None:
    far = MAX_MPS * 60
    for metres, known in ((far * 0.99, 60_000), (far * 1.01, NEVER)):
        found = outcomes.of_tracks(line([0, 1, 61], [0, 0, metres]), np.array([0]))
        assert found.known_ms[0, 0] == (known + 1_000 if known != NEVER else NEVER)


def test_what_happened_in_a_long_silence_is_not_known_and_nor_is_the_velocity_after_it() -> None:
    for silence_s, known in ((600, True), (601, False)):
        found = outcomes.of_tracks(line([0, 60, 60 + silence_s], [0, 0, 0]), np.array([0]))
        assert found.row.tolist() == ([1, 2] if known else [1])
        assert bool(found.known_ms[0, 0] < NEVER) is known


def test_no_pings_have_no_outcomes() -> None:
    for fixes in (line([], []), line([0], [0])):
        found = outcomes.of_tracks(fixes, np.zeros(min(len(fixes), 1), np.int64))
        assert [len(column) for column in found] == [0, 0, 0, 0]


# -- sums


OFFSET = st.integers(-8_000_000, 8_000_000)
MANY = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, H - 1), OFFSET, OFFSET, st.integers(0, BUCKETS - 1)), max_size=30
)


def added(rows: list[tuple[int, int, int, int, int]]) -> Sums:
    """Sums of outcomes, each with one of six keys in three cells."""
    number, horizon, east, north, bucket = np.array(rows, np.int64).reshape(-1, 5).T
    key = number % 2 | (number // 2) << 20
    return Sums.of(rows_of(key, bucket), horizon, np.stack([east, north], axis=1))


@given(MANY, st.randoms(), st.integers(0, 30))
def test_the_same_outcomes_give_the_same_bytes_in_any_order_and_in_any_parts(rows, random, cut) -> None:  # type: ignore[no-untyped-def]
    whole = added(rows)
    mixed = list(rows)
    random.shuffle(mixed)
    assert same(added(mixed), whole)
    assert same(added(mixed[:cut]).plus(added(mixed[cut:])), whole)
    assert same(added(mixed[cut:]).plus(added(mixed[:cut])), whole)
    assert same(Sums.total([added([one]) for one in mixed]), whole)


def test_sums_are_those_of_a_loop() -> None:
    rows = [(0, 0, 5, -5, 1), (0, 0, 7, 1, 2), (1, 2, -3, 0, 1), (0, 4, 1, 1, 1), (3, 0, 8_000_000, 8_000_000, 15)]
    rows.append((0, 0, 1, 1, 1))
    found = added(rows)
    assert found.row.tolist() == [1, 2, (1 << 4) | 1, (1 << 20) | (1 << 4) | 15]
    assert found.n[0].tolist() == [2, 0, 0, 0, 1]
    assert found.off_cm[0, 0].tolist() == [6, -4]
    assert found.off_cm2[0, 0] == 25 + 25 + 1 + 1
    assert found.off_cm2[3, 0] == 2 * 8_000_000**2
    assert sums.keys_of(found.row).tolist() == [0, 0, 1, (1 << 20) | 1]
    assert sums.bucket_of(found.row).tolist() == [1, 2, 1, 15]


def test_a_row_is_a_key_with_a_bucket() -> None:
    rng = np.random.default_rng(4)
    places, (velocity, came) = rng.integers(-80 * E7, 80 * E7, (2, 100)), rng.normal(0, 10, (2, 100, 2))
    key = np.sort(cells.keys(*places, velocity, 10 * came).ravel())
    bucket = rng.integers(0, BUCKETS, len(key))
    row = sums.rows_of(key, bucket)
    assert (sums.keys_of(row) == key).all()
    assert (sums.bucket_of(row) == bucket).all()
    assert (np.diff(row) > 0).all(), "rows are in the order of their keys"


def test_the_rows_of_some_keys_are_found() -> None:
    found = added([(0, 0, 5, -5, 1), (0, 0, 7, 1, 2), (1, 2, -3, 0, 1), (3, 0, 1, 1, 15)])
    assert found.under(np.array([0, 7, 1 << 20])).row.tolist() == [1, 2]
    assert len(found.under(np.array([], np.int64))) == len(Sums.none().under(np.array([0]))) == 0


def test_an_entity_counts_once_in_each_quarter_of_an_hour_under_a_key() -> None:
    entity = np.array([7, 7, 7, 7, 8, 7])
    key = np.array([[1], [1], [2], [1], [1], [1]])
    ts_ms = np.array([10, 20, 30, SLOT_MS, 40, 5])
    expected = [False, False, True, True, True, True]
    assert sums.counted(entity, key, ts_ms)[:, 0].tolist() == expected
    order = [3, 5, 1, 0, 4, 2]
    assert sums.counted(entity[order], key[order], ts_ms[order])[:, 0].tolist() == [expected[i] for i in order]


# -- estimates

KEYS = np.array([[level << 60 | 5 for level in range(LEVELS)]])


def seen(level: int, off_cm: tuple[int, int], times: int, entities: int = MIN_ENTITIES, key: int = 5) -> Sums:
    """So many equal outcomes at all horizons, of some entities."""
    horizon = np.tile(np.arange(H), times)
    bucket = np.repeat(np.arange(times), H) % entities
    return Sums.of(rows_of(np.int64(level << 60 | key), bucket), horizon, np.tile(off_cm, (len(horizon), 1)))


def publish(sums: Sums, min_entities: int = MIN_ENTITIES) -> Published:
    return published([(sums, UNIT)], min_entities)


def read(*parts: Sums, dt_s: float = 300.0, var_m2: float = 400.0) -> estimate.Estimate:
    return estimate.read(publish(reduce(Sums.plus, parts, Sums.none())), KEYS, np.array([[dt_s]]), np.array([[var_m2]]))


def test_an_empty_atlas_says_what_physics_says() -> None:
    for parts in ((), (Sums.none(),), (seen(2, (500, 0), 9, key=6),)):
        found = read(*parts)
        assert found.off_m.tolist() == [[[0.0, 0.0]]]
        assert found.var_m2.tolist() == [[400.0]]
        assert found.n.tolist() == [[[0.0] * LEVELS]]


def test_each_level_is_shrunk_to_the_one_above_by_its_count() -> None:
    found = read(seen(0, (10_000, 0), 8), seen(4, (0, 20_000), 18))
    east = 100.0 * 8 / (8 + PRIOR)
    assert found.off_m[0, 0].tolist() == pytest.approx([east * PRIOR / (18 + PRIOR), 200.0 * 18 / (18 + PRIOR)])
    assert found.n[0, 0].tolist() == [8, 0, 0, 0, 18, 0]
    assert read(seen(3, (10_000, 0), 1_000_000)).off_m[0, 0, 0] == pytest.approx(100.0, rel=1e-4)


def test_the_variance_goes_from_that_of_physics_to_that_of_the_outcomes() -> None:
    east, west = seen(4, (3_000, 0), 500), seen(4, (-3_000, 0), 500)
    assert read(east, west).var_m2[0, 0] == pytest.approx(30.0**2 / 2, rel=0.01)  # per axis
    assert read(east, west).off_m[0, 0].tolist() == [0.0, 0.0]
    assert read(seen(4, (3_000, 0), 3)).var_m2[0, 0] == pytest.approx(400.0, rel=0.8)


def test_what_few_did_is_not_published() -> None:
    few, enough = (seen(4, (500, 0), 50, entities=count) for count in (MIN_ENTITIES - 1, MIN_ENTITIES))
    assert not read(few).off_m.any()
    assert read(enough).off_m.any()
    others = seen(4, (0, 0), 3, entities=MIN_ENTITIES, key=7)  # in the same cell, but not in this way
    assert not read(few, others).off_m.any()
    assert len(publish(few, 2)) == 1
    assert publish(enough).key.tolist() == [4 << 60 | 5], "whose pings they were is not published"


@pytest.mark.parametrize(
    ("dt_s", "east_m"), [(6.0, 0.1), (30.0, 2.5), (60.0, 10.0), (450.0, 15.0), (900.0, 20.0), (5_000.0, 20.0)]
)
def test_between_horizons_it_is_between_and_before_the_first_it_grows_by_an_acceleration(
    dt_s: float, east_m: float
) -> None:
    """It is 10 m at 60 to 300 s, and 20 m from 600 s on."""
    horizon = np.tile(np.arange(H), 10**5)
    east_cm = np.where(np.array(HORIZONS_S) <= 300, 1_000, 2_000)[horizon]
    bucket = np.arange(len(horizon)) // H % BUCKETS
    many = Sums.of(rows_of(np.int64(4 << 60 | 5), bucket), horizon, np.stack([east_cm, 0 * east_cm], axis=1))
    assert read(many, dt_s=dt_s).off_m[0, 0, 0] == pytest.approx(east_m, rel=1e-3)


def test_the_same_names_are_in_the_same_buckets_everywhere_and_all_buckets_are_used() -> None:
    ids = sums.entity_ids(["bus-1", "bus-2", "é"])
    assert ids.tolist() == [0xD0FF39216A537E0D, 0xEDC57358DAC2E99D, 0x2F19F3EF8BBF1ACB]
    found = np.bincount(sums.buckets(sums.entity_ids([f"bus-{n}" for n in range(1_600)])), minlength=BUCKETS)
    assert found.min() > 70
