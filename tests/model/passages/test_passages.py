"""Passages: which there are, that they do not depend on how pings come, what is published of them, and what they say of
a thing that came the same way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.api import FIX
from model.passages import asking, passages, ways
from model.passages.buckets import STILL, around, buckets
from model.passages.growth import Growth
from model.passages.passages import MOST_OF_ONE, MOST_VEHICLES, Passages, entity_ids
from model.passages.published import Published, marks_of, published
from model.passages.ways import IN_S, ON_M, ON_S
from model.serving import passages_compiled

M_E7 = 90  # about one metre north
LAT_E7, LON_E7 = 302_700_000, -977_400_000


def drive(start_s: float, way_m: Any, every_s: float = 30.0) -> NDArray[Any]:
    """FIX records of a thing at the places way_m [R, 2], a ping every so many seconds."""
    way = np.asarray(way_m, float)
    fixes = np.zeros(len(way), FIX)
    fixes["ts_ms"] = np.rint(1000 * (start_s + every_s * np.arange(len(way)))).astype(np.int64)
    fixes["lat_e7"] = LAT_E7 + np.rint(way[:, 1] * M_E7)
    fixes["lon_e7"] = LON_E7 + np.rint(way[:, 0] * M_E7 / np.cos(np.radians(30.27)))
    return fixes


def turning(side: int, pings: int = 80) -> Any:
    """Comes from the west or from the south, and turns at the crossing: the former goes north, the latter east."""
    gone = 8.0 * 30 * (np.arange(pings) - pings // 2)
    zero = np.zeros(pings)
    if side:
        return np.stack([np.maximum(gone, zero), np.minimum(gone, zero)], axis=1)
    return np.stack([np.minimum(gone, zero), np.maximum(gone, zero)], axis=1)


def fleet(vehicles: int, pings: int = 80) -> tuple[NDArray[np.uint64], NDArray[Any], NDArray[np.bool_]]:
    """Pings of vehicles that pass the crossing one after the other, with the noise of receivers."""
    rng = np.random.default_rng(3)
    tracks = [drive(600.0 * one, turning(one % 2, pings) + rng.normal(0, 4, (pings, 2))) for one in range(vehicles)]
    ids = np.repeat(entity_ids([f"v{one}" for one in range(vehicles)]), pings)
    return ids, np.concatenate(tracks), np.arange(len(ids)) % pings == 0


def grown(vehicles: int = 20) -> Passages:
    """The passages of a fleet; each vehicle's next track begins a day later, so that all of these are known."""
    ids, fixes, begins = fleet(vehicles)
    growth = Growth()
    later = fixes[begins].copy()
    later["ts_ms"] += 86_400_000
    found = [growth.add(ids, fixes, begins), growth.add(ids[begins], later, np.ones(vehicles, np.bool_))]
    return Passages.total(found)


def same(one: Passages, other: Passages) -> bool:
    return one.rows.tobytes() == other.rows.tobytes()


def test_a_passage_has_the_way_in_and_the_way_on() -> None:
    """East at 8 m/s: 600 s before it was 4,800 m to the west, and 60 s later it is 480 m to the east."""
    fixes = drive(0.0, np.stack([8.0 * 30 * np.arange(90), np.zeros(90)], axis=1))
    found = Growth().add(np.full(90, 7, np.uint64), fixes, np.arange(90) == 0).rows
    settled = found[(found["ts_ms"] >= 600_000) & (found["known"] == len(ON_S))]
    assert len(settled) > 3
    assert settled["in_m"][..., 0] == pytest.approx(-8.0 * np.tile(IN_S, (len(settled), 1)), abs=6.0)
    assert settled["on"][..., 0] * ON_M == pytest.approx(8.0 * np.tile(ON_S, (len(settled), 1)), abs=9.0)
    assert np.abs(settled["on"][..., 1]).max() <= 1
    assert settled["velocity"][:, 0] == pytest.approx(800, abs=2)


def test_a_vehicle_adds_one_passage_a_visit_and_none_while_it_stands() -> None:
    way = np.zeros((200, 2))
    way[:20, 0] = 240.0 * np.arange(-20, 0)
    found = Growth().add(np.full(200, 7, np.uint64), drive(0.0, way), np.arange(200) == 0).rows
    assert len(np.unique(found["bucket"])) == len(found)
    assert (found["bucket"] & 15 == STILL).sum() <= 1


def test_a_track_that_ends_makes_known_what_it_had_and_a_silence_ends_a_track() -> None:
    way = np.stack([240.0 * np.arange(40), np.zeros(40)], axis=1)
    growth, ids = Growth(), np.full(40, 7, np.uint64)
    first = growth.add(ids, drive(0.0, way), np.arange(40) == 0).rows
    rest = growth.add(ids[:1], drive(40 * 30 + 400, way[-1:]), np.zeros(1, np.bool_)).rows
    assert (first["known"] == len(ON_S)).all()
    assert len(rest) > 3
    assert (np.sort(rest["known"]) == rest["known"][np.argsort(-rest["ts_ms"])]).all()  # the later, the less is known
    assert rest["known"].max() < len(ON_S)


def test_the_same_pings_leave_the_same_passages_however_they_are_split() -> None:
    ids, fixes, begins = fleet(12)
    whole = Growth().add(ids, fixes, begins)
    assert len(whole) > 100
    for seed in range(3):
        rng = np.random.default_rng(seed)
        order = np.argsort(fixes["ts_ms"], kind="stable")
        growth, parts = Growth(), list[Passages]()
        for some in np.split(order, np.sort(rng.integers(0, len(order), 40))):
            growth = Growth.loads(growth.dumps())
            by_entity = some[np.argsort(ids[some], kind="stable")]
            parts.append(growth.add(ids[by_entity], fixes[by_entity], begins[by_entity]))
        rng.shuffle(parts)  # type: ignore[arg-type]
        assert same(Passages.total(parts), whole), f"seed {seed}"


def test_what_is_chosen_of_parts_is_what_is_chosen_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passages, "MOST_VEHICLES", 5)
    monkeypatch.setattr(passages, "MOST_OF_ONE", 2)
    rng = np.random.default_rng(1)
    rows = np.zeros(3_000, passages.PASSAGE)
    rows["bucket"], rows["id"] = rng.integers(0, 12, 3_000), rng.integers(0, 40, 3_000)
    rows["ts_ms"], rows["known"] = np.arange(3_000), 1
    rows["draw"] = passages.draws(rows["id"], rows["ts_ms"])
    whole = Passages.of(rows)
    assert len(whole) == 12 * 5 * 2
    for seed in range(5):
        part = np.random.default_rng(seed).integers(0, 7, 3_000)
        some = [Passages.of(rows[part == one]) for one in range(7)]
        assert same(Passages.total([*some, some[0]]), whole)  # and what comes twice counts once


def test_one_vehicle_takes_no_place_of_others_however_often_it_passes() -> None:
    rows = np.zeros(10_000, passages.PASSAGE)
    rows["id"], rows["ts_ms"] = 7, np.arange(10_000)
    rows["id"][-50:] = 100 + np.arange(50)
    rows["draw"] = passages.draws(rows["id"], rows["ts_ms"])
    kept = Passages.of(rows).rows
    assert (kept["id"] == 7).sum() == MOST_OF_ONE
    assert len(np.unique(kept["id"])) == 51 <= MOST_VEHICLES


def test_what_too_few_vehicles_show_is_not_published() -> None:
    """One vehicle comes and goes where no other does: the place is busy, and yet its ways end there."""
    assert len(published(grown(2)).known) == 0
    known = grown(12)
    whole = published(known)
    assert len(whole.known) > 100
    lonely = known.rows[known.rows["id"] == known.rows["id"][0]].copy()
    lonely["id"] = 99
    lonely["on"][:, :, 0] = -lonely["on"][:, :, 0] - 4_000  # to where nobody else goes
    lonely["in_m"][:, :, 1] = 15_000  # and from there
    lonely["draw"] = 0
    told = published(Passages.total([known, Passages.of(lonely)]))
    mark = marks_of(np.array([99], np.uint64), told.lat_e7[:1], told.lon_e7[:1], 0)
    assert (np.abs(told.on * ON_M).max(axis=(1, 2)) < 12_000).all()
    assert (told.known[told.mark == mark[0]] < len(ON_S)).all()
    assert (told.in_m[..., 1] < 15_000).all()
    assert len(published(known, min_vehicles=1).known) >= len(whole.known)


def test_a_thing_that_comes_from_the_south_turns_east_and_one_from_the_west_north() -> None:
    """Both are at the crossing, and nobody knows how fast they are: only the way in tells them apart."""
    version = published(grown())
    for side, axis in ((0, 1), (1, 0)):
        fixes, in_m, velocity = question(side)
        near = asking.neighbours(version, fixes, in_m, velocity)
        found = asking.estimate(version, near, fixes, np.array([[60.0, 300.0, 900.0]]))
        assert found.n.min() > 2
        assert found.mean_m[0, :, axis] == pytest.approx([480.0, 2_400.0, 7_200.0], abs=30)
        assert np.abs(found.mean_m[0, :, 1 - axis]).max() < 60
        marks = version.mark[near.row[0]]
        assert np.unique(marks, return_counts=True)[1].max() <= asking.MOST_OF_ONE


def question(side: int, before_m: float = 0.0) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """A ping at the crossing, or so far before it, its way in, and no velocity."""
    here = [0.0, 0.0]
    here[side] = -before_m
    fixes = drive(0.0, [here])
    came = np.array([8.0 * s for s in IN_S])
    in_m = np.zeros((1, len(IN_S), 2))
    in_m[0, :, side] = -came
    return fixes, in_m, np.zeros((1, 2))


def test_a_place_that_nobody_passed_says_nothing() -> None:
    fixes, in_m, velocity = question(0)
    fixes["lat_e7"] += 10_000_000
    for version in (Published.none(), published(grown())):
        near = asking.neighbours(version, fixes, in_m, velocity)
        found = asking.estimate(version, near, fixes, np.array([[60.0]]))
        assert (near.row == -1).all()
        assert (found.n == 0).all()


def test_buckets_around_a_ping_are_its_own_and_the_nearest_others() -> None:
    rng = np.random.default_rng(2)
    lat, lon = LAT_E7 + rng.integers(-50_000, 50_000, 500), LON_E7 + rng.integers(-50_000, 50_000, 500)
    came = rng.normal(0, 1, (500, 2)) + np.array([100.0, 0.0]) * rng.choice([-1, 1], (500, 1))
    asked = around(lat, lon, came)
    assert (asked[:, 0] == buckets(lat, lon, came)).all()
    assert all(len(np.unique(row)) == 8 for row in asked)
    still = around(lat, lon, np.zeros((500, 2)))
    assert ((still & 15 == STILL) | (still == -1)).all()
    assert ((still >= 0).sum(axis=1) == 4).all()


@pytest.mark.parametrize("vehicles", [0, 3, 40])
def test_what_serves_is_the_definition(vehicles: int) -> None:
    version = published(grown(vehicles)) if vehicles else Published.none()
    rng = np.random.default_rng(4)
    fixes = drive(0.0, rng.uniform(-3_000, 3_000, (400, 2)))
    in_m = rng.normal(0, 1_500, (400, len(IN_S), 2)) * rng.integers(0, 2, (400, 1, 1))
    for row in range(200):  # nearly as the fleet comes
        fixes[row], in_m[row], _ = (one[0] for one in question(row % 2, 300.0 * rng.normal()))
        in_m[row] += rng.normal(0, 60, in_m[row].shape)
    velocity, dt_s = rng.normal(0, 8, (400, 2)), rng.uniform(1, 1_200, (400, 4))
    few = version._replace(mark=(version.mark % 3).astype(np.uint16))  # of three vehicles, which pass again and again
    for one_version in (version, few):
        found = passages_compiled.estimate(one_version, fixes, in_m, velocity, dt_s)
        near = asking.neighbours(one_version, fixes, in_m, velocity)
        wanted = asking.estimate(one_version, near, fixes, dt_s)
        if vehicles == 40:
            assert (wanted.n > 0.1).mean() > 0.1
        for one, other in zip(found, wanted, strict=True):
            assert one == pytest.approx(other, rel=1e-9, abs=1e-6)
    if vehicles == 40:
        assert (near.row >= 0).sum(axis=1).max() == 3 * asking.MOST_OF_ONE


def test_the_way_that_a_window_shows_is_that_of_its_track() -> None:
    """Windows wrap, have silences, pings at the very times that are asked for, and are shorter than the way in."""
    rng = np.random.default_rng(6)
    places, rows = 40, 200
    rings, size = np.zeros((rows, places), FIX), rng.integers(1, places + 1, rows)
    newest, whole = rng.integers(0, places, rows), []
    for row in range(rows):
        step_ms = rng.choice([20_000, 60_000, 110_500], size[row]) * rng.choice([1, 6], size[row], p=[0.97, 0.03])
        track = drive(0.0, np.cumsum(rng.normal(0, 200, (size[row], 2)), axis=0))
        track["ts_ms"] = np.cumsum(step_ms)
        rings[row, (newest[row] - np.arange(size[row])) % places] = track[::-1]
        whole.append(track)
    in_m, velocity, came = passages_compiled.ways(rings, np.arange(rows), newest, size)
    for row, track in enumerate(whole):
        apart_ms = np.diff(track["ts_ms"])
        begins = np.flatnonzero(np.append(True, apart_ms > ways.MAX_APART_MS))[-1]
        line_ms, last = ways.one_line(track["ts_ms"][begins:], np.zeros(1, np.int64)), len(track) - 1 - begins
        assert came[row] == (last > 0)
        wanted = ways.ways_in(track[begins:], line_ms, np.array([last]), np.zeros(1, np.int64))
        assert in_m[row] == pytest.approx(wanted[0], abs=1e-6)
        if came[row]:
            assert velocity[row] == pytest.approx(ways.velocities(track[-1:], track[-2:-1])[0], abs=1e-9)
    assert 50 < came.sum() < rows
