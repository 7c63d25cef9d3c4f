"""The cells of an atlas are joined to ways along the streets that were driven, whatever their direction."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from model.atlas.published import Published
from stream.adapters.files import Row
from stream.atlas.building import Rules, of_rows
from stream.atlas.showing import ways as module
from stream.atlas.showing.ways import Points, Ways, ways
from stream.wire import Ping, dumps

T0 = 1_700_000_000_000
LAT, LON, M_PER_DEG = 30.27, -97.74, 111_320.0
NARROW = float(np.cos(np.radians(LAT)))
MPS = 10.0


def drive(name: str, degrees: float, from_m: float, to_m: float, begin_s: int) -> Iterator[Row]:
    """Pings of one that drives a straight street through the middle, as metres along it."""
    east, north = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    for count, along in enumerate(np.arange(from_m, to_m, np.sign(to_m - from_m) * MPS * 30)):
        x, y = float(along * east), float(along * north)
        ts = T0 + (begin_s + 30 * count) * 1000
        ping = Ping(entity_id=name, ts=ts, lat=LAT + y / M_PER_DEG, lon=LON + x / (M_PER_DEG * NARROW))
        yield Row(name.encode(), dumps(ping), ts)


def atlas_of(*rows: Iterator[Row]) -> Published:
    ordered = sorted((row for some in rows for row in some), key=lambda row: row.ts_ms or 0)
    return of_rows(ordered).published(Rules(min_entities=1))[0]


def street(degrees: float, cars: int = 20) -> list[Iterator[Row]]:
    """Cars that drive three kilometres of it, each from another place."""
    return [drive(f"{degrees} {n}", degrees, -1_500 + 17 * n, 1_500, 5 * n) for n in range(cars)]


def metres(found: Ways) -> tuple[np.ndarray, np.ndarray]:
    """Begins and ends, east and north of the middle."""
    begin = np.stack([(found.lon - LON) * M_PER_DEG * NARROW, (found.lat - LAT) * M_PER_DEG], axis=-1)
    end = np.stack([(found.to_lon - LON) * M_PER_DEG * NARROW, (found.to_lat - LAT) * M_PER_DEG], axis=-1)
    return begin, end


@pytest.mark.parametrize("degrees", [10, 20, 45, 70, 160, 290])
def test_a_straight_street_is_one_line_in_its_own_direction(degrees: float) -> None:
    """Between two octants, too: there an arrow from the middle of a cell would be 20 degrees off, and 50 m."""
    begin, end = metres(ways(atlas_of(*street(degrees))))
    turn = np.radians(degrees)
    along, across = np.array([np.sin(turn), np.cos(turn)]), np.array([np.cos(turn), -np.sin(turn)])
    assert len(begin) >= 8
    assert np.abs(begin @ across).mean() < 20
    assert np.abs(end @ across).max() < 60
    way = end - begin
    assert (way @ along > 0).all(), "nobody drove the other way"
    off = np.degrees(np.arctan2(np.abs(way @ across), way @ along))
    assert np.average(off, weights=np.hypot(*way.T)) < 10
    begins, ends = sorted(begin @ along), sorted(end @ along)
    assert begins[0] < -700
    assert ends[-1] > 700
    covered = sum(way @ along) / (ends[-1] - begins[0])
    assert covered > 0.8, "it is joined from one end to the other"


def test_streets_that_cross_are_not_joined_and_each_direction_has_its_ways() -> None:
    back = [drive(f"back {n}", 90, 1_500 - 17 * n, -1_500, 5 * n) for n in range(20)]
    begin, end = metres(ways(atlas_of(*street(0), *street(90), *back)))
    way = end - begin
    heading = np.degrees(np.arctan2(way[:, 0], way[:, 1])) % 360
    off = np.abs(heading[:, None] - np.array([0, 90, 270, 360])).min(axis=1)
    assert off.max() < 30, "no way leads from one street into the other, as nobody turned"
    assert {0, 90, 270} == {int(90 * np.round(one / 90)) % 360 for one in heading}


def test_no_point_leaves_its_cell_so_that_a_way_has_the_same_cells_in_every_version() -> None:
    for cars in (10, 20):
        points = Points.of(atlas_of(*street(20, cars)))
        at, _ = module.fitted(points)
        assert (np.floor(at) == points.cell).all()


def test_what_stands_and_what_is_nowhere_make_no_ways() -> None:
    standing = (
        Row(b"stands", dumps(Ping(entity_id="stands", ts=T0 + n * 60_000, lat=LAT, lon=LON)), T0 + n * 60_000)
        for n in range(30)
    )
    assert len(ways(atlas_of(standing)).n) == 0
    assert len(ways(atlas_of(iter(()))).n) == 0


def test_of_too_many_points_the_most_travelled_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = [drive(f"busy {n}", 90, -400, 400, 3 * n) for n in range(60)]
    atlas = atlas_of(*street(0), *busy)
    every = Points.of(atlas)
    monkeypatch.setattr(module, "MOST_POINTS", 4)
    kept = Points.of(atlas)
    assert len(kept) == 4 < len(every)
    assert kept.n.min() >= np.sort(every.n)[-4]
    assert len(ways(atlas).n) > 0
