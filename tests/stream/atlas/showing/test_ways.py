"""The passages of an atlas are drawn as ways along the streets that were driven, whatever their direction."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from model.atlas.buckets import tiles
from model.atlas.published import Published
from stream.adapters.files import RecordedRow
from stream.atlas.building import Rules, of_rows
from stream.atlas.showing import ways as module
from stream.atlas.showing.ways import ZOOM, Ways, ways
from stream.wire import Ping, dumps

T0 = 1_700_000_000_000
LAT, LON, M_PER_DEG = 30.27, -97.74, 111_195.0
NARROW = float(np.cos(np.radians(LAT)))


def row(name: str, second: float, east_m: float, north_m: float) -> RecordedRow:
    ts = T0 + round(1000 * second)
    ping = Ping(entity_id=name, ts=ts, lat=LAT + north_m / M_PER_DEG, lon=LON + east_m / (M_PER_DEG * NARROW))
    return RecordedRow(name.encode(), dumps(ping), ts)


def street(degrees: float, cars: int = 20, mps: float = 10.0, every_s: float = 30.0) -> Iterator[RecordedRow]:
    """Pings of cars that drive three kilometres through the middle, each from its own place, with noise."""
    rng = np.random.default_rng(round(degrees))
    east, north = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    for car in range(cars):
        for count, along in enumerate(np.arange(-1_500 + 17 * car, 1_500, mps * every_s)):
            noise = rng.normal(0, 4, 2)
            x, y = float(along * east + noise[0]), float(along * north + noise[1])
            yield row(f"{degrees} {car}", 5 * car + every_s * count, x, y)


def atlas_of(*rows: Iterator[RecordedRow]) -> Published:
    """The passages of these pings; each vehicle has another ping a day later, so that all are known."""
    ordered = sorted((one for some in rows for one in some), key=lambda one: one.ts_ms or 0)
    ordered += [row(name, 86_400.0, 0.0, 0.0) for name in sorted({one.key.decode() for one in ordered if one.key})]
    return of_rows(ordered).published(Rules(min_entities=1)).passages


def metres(found: Ways) -> tuple[np.ndarray, np.ndarray]:
    """Begins and ends, east and north of the middle."""
    begin = np.stack([(found.lon - LON) * M_PER_DEG * NARROW, (found.lat - LAT) * M_PER_DEG], axis=-1)
    end = np.stack([(found.to_lon - LON) * M_PER_DEG * NARROW, (found.to_lat - LAT) * M_PER_DEG], axis=-1)
    return begin, end


@pytest.mark.parametrize("degrees", [10, 20, 45, 160, 290])
@pytest.mark.parametrize("mps", [3.0, 10.0])
def test_a_straight_street_is_drawn_where_it_is_from_one_end_to_the_other(degrees: float, mps: float) -> None:
    """Between two octants, too; and what is slow leaves no gaps."""
    begin, end = metres(ways(atlas_of(street(degrees, mps=mps))))
    turn = np.radians(degrees)
    along, across = np.array([np.sin(turn), np.cos(turn)]), np.array([np.cos(turn), -np.sin(turn)])
    assert np.abs(np.concatenate([begin, end]) @ across).max() < 20
    assert ((end - begin) @ along > 0).all(), "nobody drove the other way"
    covered = np.zeros(2_400, np.bool_)
    for a, b in zip(begin @ along + 1_200, end @ along + 1_200, strict=True):
        covered[max(round(a), 0) : max(round(b), 0)] = True
    assert covered.mean() > 0.9


def test_streets_that_cross_are_not_joined_and_each_direction_has_its_ways() -> None:
    begin, end = metres(ways(atlas_of(street(0), street(90), street(270))))
    way = end - begin
    heading = np.degrees(np.arctan2(way[:, 0], way[:, 1])) % 360
    off = np.abs(heading[:, None] - np.array([0, 90, 270, 360])).min(axis=1)
    assert off.max() < 15, "no way leads from one street into the other, as nobody turned"
    assert {0, 90, 270} == {int(90 * np.round(one / 90)) % 360 for one in heading}


def test_a_way_begins_in_its_tile_so_that_it_does_so_in_every_version() -> None:
    few, many = (ways(atlas_of(street(20, cars))) for cars in (10, 20))
    squares = [
        set(zip(*tiles(np.rint(found.lat * 1e7), np.rint(found.lon * 1e7), ZOOM), strict=True)) for found in (few, many)
    ]
    assert squares[0] <= squares[1]
    assert many.n.sum() > few.n.sum()


def test_what_stands_and_what_is_nowhere_make_no_ways() -> None:
    jumps = [0, 8, -5, 9, -8, 3]  # metres, as a receiver has them between walls
    atlas = atlas_of(row("stands", 15.0 * n, float(jumps[n % 6]), 0.0) for n in range(120))
    assert len(atlas.known) > 0
    assert len(ways(atlas).n) == 0
    assert len(ways(Published.none()).n) == 0


def test_of_too_many_the_most_travelled_are_kept_and_the_same_version_has_the_same_ways(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    atlas = atlas_of(street(0), street(90, cars=60))
    every = ways(atlas)
    assert all(one.tobytes() == other.tobytes() for one, other in zip(every, ways(atlas), strict=True))
    monkeypatch.setattr(module, "MOST", 4)
    kept = ways(atlas)
    assert sorted(kept.n) == sorted(every.n)[-4:]
