"""Passages: which there are, that they do not depend on how pings come, what is published of them, and what they say of
a thing that came the same way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.api import FIX
from model.atlas import asking, believing, passages, ways
from model.atlas import published as publishing
from model.atlas.atlas import Atlas
from model.atlas.believing import NOTHING
from model.atlas.buckets import STILL, around, buckets, tiles
from model.atlas.growth import Growth
from model.atlas.passages import MOST_OF_ONE, MOST_VEHICLES, Passages, entity_ids
from model.atlas.published import MIN_VEHICLES, Published, marks_of, publish, publishable
from model.atlas.ways import IN_S, ON_M, ON_S, Approach
from model.kinematics.geo import E7, move_deg, to_e7
from model.serving.passages import asking_compiled, ways_compiled

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
    return Passages.total(one.passages for one in found)


def version_of(known: Passages, min_vehicles: int = MIN_VEHICLES) -> Published:
    return publish(publishable(known, min_vehicles))


def same(one: Passages, other: Passages) -> bool:
    return one.rows.tobytes() == other.rows.tobytes()


def test_a_passage_has_the_way_in_and_the_way_on() -> None:
    """East at 8 m/s: 600 s before it was 4,800 m to the west, and 60 s later it is 480 m to the east."""
    fixes = drive(0.0, np.stack([8.0 * 30 * np.arange(90), np.zeros(90)], axis=1))
    found = Growth().add(np.full(90, 7, np.uint64), fixes, np.arange(90) == 0).passages.rows
    settled = found[(found["ts_ms"] >= 600_000) & (found["known"] == len(ON_S))]
    assert len(settled) > 3
    assert settled["in_m"][..., 0] == pytest.approx(-8.0 * np.tile(IN_S, (len(settled), 1)), abs=6.0)
    assert settled["on"][..., 0] * ON_M == pytest.approx(8.0 * np.tile(ON_S, (len(settled), 1)), abs=9.0)
    assert np.abs(settled["on"][..., 1]).max() <= 1
    assert settled["velocity"][:, 0] == pytest.approx(800, abs=2)


def test_a_vehicle_adds_one_passage_a_visit_and_none_while_it_stands() -> None:
    way = np.zeros((200, 2))
    way[:20, 0] = 240.0 * np.arange(-20, 0)
    found = Growth().add(np.full(200, 7, np.uint64), drive(0.0, way), np.arange(200) == 0).passages.rows
    assert len(np.unique(found["bucket"])) == len(found)
    assert (found["bucket"] & 15 == STILL).sum() <= 1


def test_a_track_that_ends_makes_known_what_it_had_and_a_silence_ends_a_track() -> None:
    way = np.stack([240.0 * np.arange(40), np.zeros(40)], axis=1)
    growth, ids = Growth(), np.full(40, 7, np.uint64)
    first = growth.add(ids, drive(0.0, way), np.arange(40) == 0).passages.rows
    rest = growth.add(ids[:1], drive(40 * 30 + 400, way[-1:]), np.zeros(1, np.bool_)).passages.rows
    assert (first["known"] == len(ON_S)).all()
    assert len(rest) > 3
    assert (np.sort(rest["known"]) == rest["known"][np.argsort(-rest["ts_ms"])]).all()  # the later, the less is known
    assert rest["known"].max() < len(ON_S)


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
    assert len(version_of(grown(2)).known) == 0
    known = grown(12)
    whole = version_of(known)
    assert len(whole.known) > 100
    lonely = known.rows[known.rows["id"] == known.rows["id"][0]].copy()
    lonely["id"] = 99
    lonely["on"][:, :, 0] = -lonely["on"][:, :, 0] - 4_000  # to where nobody else goes
    lonely["in_m"][:, :, 1] = 15_000  # and from there
    lonely["draw"] = 0
    told = version_of(Passages.total([known, Passages.of(lonely)]))
    mark = marks_of(np.array([99], np.uint64), told.lat_e7[:1], told.lon_e7[:1], 0)
    assert (np.abs(told.on * ON_M).max(axis=(1, 2)) < 12_000).all()
    assert (told.known[told.mark == mark[0]] < len(ON_S)).all()
    assert (told.in_m[..., 1] < 15_000).all()
    assert len(version_of(known, min_vehicles=1).known) >= len(whole.known)


def test_nobody_can_be_followed_by_marks() -> None:
    """A vehicle's mark is the same near by, and another one some kilometres on; and nobody knows it by the name."""
    ids, lat_e7 = np.full(4, 99, np.uint64), LAT_E7 + np.array([0, 10, 10_000, 20_000]) * M_E7
    one, other = (marks_of(ids, lat_e7, np.full(4, LON_E7), secret) for secret in (1, 2))
    assert one[0] == one[1]
    assert len(set(one[1:].tolist())) == 3
    assert not (one == other).any()


@pytest.mark.parametrize("min_vehicles", [3, 7])
def test_ways_end_where_fewer_vehicles_went_along(min_vehicles: int) -> None:
    """Counted one by one: whose ways come through which square, of those that passed another."""
    known, rng = grown(12), np.random.default_rng(10)
    known.rows["on"] += rng.integers(-400, 400, known.rows["on"].shape).astype(np.int16)
    passed, whose = dict[int, set[int]](), dict[Any, set[int]]()
    for row in known.rows:
        passed.setdefault(row["bucket"] >> 4, set()).add(row["id"])
    rows = [row for row in known.rows if len(passed[row["bucket"] >> 4]) >= min_vehicles]
    for row in rows:
        for zoom in (publishing.NEAR_ZOOM, publishing.FAR_ZOOM):
            for square in squares_of(row, zoom, zoom):
                whose.setdefault(square, set()).add(row["id"])
    wanted = {}
    for row in rows:
        enough = [len(whose[square]) >= min_vehicles for square in squares_of(row)]
        came, went = [*enough[: len(IN_S)], False].index(False), [*enough[len(IN_S) :], False].index(False)
        if went:
            wanted[row["bucket"], row["draw"]] = came, went
    found = publishable(known, min_vehicles).rows
    assert {(row["bucket"], row["draw"]): row["known"] for row in found} == {
        at: went for at, (_, went) in wanted.items()
    }
    original = {(row["bucket"], row["draw"]): row["in_m"] for row in known.rows}
    for row in found:
        came, in_m = wanted[row["bucket"], row["draw"]][0], original[row["bucket"], row["draw"]]
        last = in_m[came - 1] if came else np.zeros(2)
        assert (row["in_m"] == [*in_m[:came], *[last] * (len(IN_S) - came)]).all()
    assert (found["known"] < len(ON_S)).sum() > 10


def squares_of(row: Any, near: int = publishing.NEAR_ZOOM, far: int = publishing.FAR_ZOOM) -> list[Any]:
    """Returns through which squares of two zooms a passage's way comes, together with the one of its own place."""
    lat_e7, lon_e7 = row["lat_e7"][None], row["lon_e7"][None]
    way_m = np.concatenate([row["in_m"] * ways.IN_M, row["on"][: row["known"]] * ON_M])
    lat, lon = move_deg(lat_e7 / E7, lon_e7 / E7, way_m)
    here, found = tuple(one[0] for one in tiles(lat_e7, lon_e7, publishing.NEAR_ZOOM)), []
    for place, seconds in enumerate((*IN_S, *ON_S)[: len(way_m)]):
        zoom = near if seconds <= publishing.NEAR_S else far
        found.append((here, zoom, *(one[place] for one in tiles(to_e7(lat), to_e7(lon), zoom))))
    return found


def test_publishing_square_by_square_is_publishing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of passages with the same draw, the ones that come first are taken: a slice must not change their order."""
    known = grown(40)
    known.rows["draw"] >>= np.uint64(62)
    at_once = publishable(known, most=9)
    assert len(publishable(known)) > len(at_once) > 300
    for most_of_slice in (1, 100, 400):
        monkeypatch.setattr(publishing, "SLICE", most_of_slice)
        assert same(publishable(known, most=9), at_once)


def test_a_thing_that_comes_from_the_south_turns_east_and_one_from_the_west_north() -> None:
    """Both are at the crossing, and nobody knows how fast they are: only the way in tells them apart."""
    version = version_of(grown())
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
    for version in (Published.none(), version_of(grown())):
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


def pings(rows: int = 400) -> tuple[NDArray[Any], Approach, NDArray[np.float64]]:
    """Pings, of which half come nearly as the fleet does, and four questions of each."""
    rng = np.random.default_rng(4)
    fixes = drive(0.0, rng.uniform(-3_000, 3_000, (rows, 2)))
    in_m = rng.normal(0, 1_500, (rows, len(IN_S), 2)) * rng.integers(0, 2, (rows, 1, 1))
    for row in range(rows // 2):
        fixes[row], in_m[row], _ = (one[0] for one in question(row % 2, 300.0 * rng.normal()))
        in_m[row] += rng.normal(0, 60, in_m[row].shape)
    approach = Approach(in_m, rng.normal(0, 8, (rows, 2)), np.ones(rows, np.bool_))
    return fixes, approach, rng.uniform(1, 1_200, (rows, 4))


def defined(version: Published, fixes: NDArray[Any], approach: Approach, dt_s: NDArray[np.float64]) -> asking.Estimate:
    near = asking.neighbours(version, fixes, approach.in_m, approach.velocity_mps)
    return asking.estimate(version, near, fixes, dt_s)


def assert_same(found: asking.Estimate, wanted: asking.Estimate) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("vehicles", [0, 3, 40])
def test_what_serves_is_the_definition(vehicles: int) -> None:
    version = version_of(grown(vehicles)) if vehicles else Published.none()
    asked = pings()
    few = version._replace(mark=(version.mark % 3).astype(np.uint16))  # of three vehicles, which pass again and again
    for one_version in (version, few):
        wanted = defined(one_version, *asked)
        if vehicles == 40:
            assert (wanted.n > 0.1).mean() > 0.1
        assert_same(asking_compiled.estimate(one_version, *asked), wanted)
    if vehicles == 40:
        near = asking.neighbours(few, asked[0], asked[1].in_m, asked[1].velocity_mps)
        assert (near.row >= 0).sum(axis=1).max() == 3 * asking.MOST_OF_ONE


@pytest.mark.parametrize(("lat_e7", "lon_e7"), [(0, 0), (-333_000_000, -1_800_000_000), (849_000_000, 1_799_990_000)])
def test_what_serves_is_the_definition_in_a_crowd_and_at_the_end_of_the_map(lat_e7: int, lon_e7: int) -> None:
    rng, rows = np.random.default_rng(12), np.zeros(2_500, ways.PASSAGE)
    rows["lat_e7"] = lat_e7 + rng.integers(-5_000, 5_000, len(rows))
    rows["lon_e7"] = (lon_e7 + rng.integers(-20_000, 20_000, len(rows)) + 1_800_000_000) % 3_600_000_000 - 1_800_000_000
    rows["in_m"] = np.cumsum(rng.normal(-300, 200, (len(rows), len(IN_S), 2)), axis=1)
    rows["on"] = np.cumsum(rng.normal(30, 60, (len(rows), len(ON_S), 2)), axis=1)
    rows["velocity"], rows["known"] = rng.integers(-900, 900, (len(rows), 2)), rng.integers(1, len(ON_S) + 1, len(rows))
    rows["id"] = rng.integers(0, 600, len(rows))
    rows["bucket"] = buckets(rows["lat_e7"], rows["lon_e7"], -rows["in_m"][:, 0].astype(float))
    version = publish(Passages(rows[np.argsort(rows["bucket"], kind="stable")]))
    assert np.diff(version.stop, prepend=0).max() > 256
    fixes = np.zeros(200, FIX)
    fixes["lat_e7"], fixes["lon_e7"] = rows["lat_e7"][:200], rows["lon_e7"][200:400]
    came = Approach(
        rows["in_m"][:200] + rng.normal(0, 50, (200, len(IN_S), 2)), rng.normal(0, 5, (200, 2)), np.ones(200, np.bool_)
    )
    dt_s = rng.uniform(1, 1_200, (200, 3))
    wanted = defined(version, fixes, came, dt_s)
    assert (wanted.n > 1).mean() > 0.5
    assert_same(asking_compiled.estimate(version, fixes, came, dt_s), wanted)


def test_nobody_is_compared_with_itself() -> None:
    chosen = publishable(grown(40))
    mine = np.random.default_rng(8).choice(np.unique(chosen.rows["id"])[:4], 400)
    fixes, approach, dt_s = pings()
    found = asking_compiled.estimate(publish(chosen), fixes, approach, dt_s, chosen.rows["id"], mine)
    for one in np.unique(mine):
        rows = mine == one
        version = publish(chosen.without(one[None]))
        assert_same(
            asking.Estimate(*(part[rows] for part in found)),
            defined(version, fixes[rows], approach.at(rows), dt_s[rows]),
        )
    assert (found.n != asking_compiled.estimate(publish(chosen), fixes, approach, dt_s).n).any()


def test_questions_are_answered_by_the_passages_of_others() -> None:
    """Of some, nobody knows how they came: they are not answered, though things stood where they are."""
    ids, fixes, begins = fleet(40)
    questions, standing = Growth().add(ids, fixes, begins).questions, grown(40)
    unknown = np.argsort(np.abs(questions.rows["fixes"]["lat_e7"][:, 0] - LAT_E7))[:3]
    questions.rows["size"][unknown] = 1
    standing.rows["bucket"] = standing.rows["bucket"] & ~15 | STILL
    chosen = publishable(Passages.total([grown(40), standing]))
    found = asking_compiled.answer_questions(publish(chosen), questions, chosen.rows["id"])
    approach = ways_compiled.approaches_of(questions.windows)
    assert (~approach.came).sum() == 3
    assert len(questions) > 50
    for row in range(len(questions)):
        version = publish(chosen.without(questions.rows["id"][row, None]))
        wanted = defined(version, questions.last[row, None], approach.at([row]), np.array([believing.HORIZONS_S]))
        if not approach.came[row]:
            assert (wanted.n > 0).all()
            assert (found.n[row] == 0).all()
        else:
            assert_same(asking.Estimate(*(part[row, None] for part in found)), wanted)


def test_a_forecast_is_moved_as_the_definition_says_and_any_other_keeps_its_bits() -> None:
    """Rows ask one of three versions, the last of which is not believed, or none; some are not sound, or nobody knows
    how they came."""
    belief = believing.Belief(np.array([0.25, NOTHING, 2.0]), np.array([0.3, 0.0, -0.4]))
    nothing = believing.Belief(np.full(3, NOTHING), np.zeros(3))
    versions = version_of(grown(20)), version_of(grown(40)), version_of(grown(40))
    beliefs = belief, believing.UNFITTED, nothing
    atlases = [Atlas(one, of, {}, "") for one, of in zip(versions, beliefs, strict=True)]
    fixes, approach, dt_s = pings()
    dt_s[:40, 0], dt_s[40:80, 0] = 300.0, 0.5
    rng = np.random.default_rng(9)
    which, sound, came = rng.integers(-1, 3, 400), rng.random(400) < 0.8, rng.random(400) < 0.8
    root = rng.normal(0, 300, (400, 4, 2, 2))
    full = root @ np.swapaxes(root, -1, -2)
    mean, cov = rng.normal(0, 1_000, (400, 4, 2)), full[..., [0, 0, 1], [0, 1, 1]]
    mean[~sound, 0], cov[~sound, 0] = np.nan, np.nan
    model = believing.Forecast(mean.copy(), cov.copy())
    came_so = approach._replace(came=came)
    rests_on, _ = asking_compiled.move(mean, cov, sound, fixes, dt_s, atlases, which, came_so)
    moved = np.zeros(400, np.bool_)
    for number, atlas in enumerate(atlases):
        rows = np.flatnonzero(sound & came & (which == number))
        near = asking.neighbours(atlas.passages, fixes[rows], approach.in_m[rows], approach.velocity_mps[rows])
        found = asking.estimate(atlas.passages, near, fixes[rows], dt_s[rows])
        before = believing.Forecast(*(part[rows] for part in model))
        wanted = believing.combine(before, found, dt_s[rows], atlas.belief)
        assert mean[rows] == pytest.approx(wanted.mean_m, rel=0, abs=1e-3)
        assert cov[rows] == pytest.approx(wanted.cov_m2, rel=1e-6, abs=1e-3)
        moved[rows] = (wanted.mean_m != before.mean_m).any(axis=(1, 2))
        assert (rests_on[rows] == np.where(moved[rows], (near.row >= 0).sum(axis=1), 0)).all()
    assert 50 < moved.sum() < 200
    assert (rests_on[~moved] == 0).all()
    for after, was in zip((mean, cov), model, strict=True):
        assert after[~moved].tobytes() == was[~moved].tobytes()


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
    in_m, velocity, came = ways_compiled.approaches(rings, np.arange(rows), newest, size)
    for one, other in zip(ways_compiled.approaches_of(whole), (in_m, velocity, came), strict=True):
        assert (one == other).all()
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
