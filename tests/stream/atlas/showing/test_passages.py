"""The passages that an entity is compared with, as lines."""

from __future__ import annotations

import numpy as np
import pytest

from model.atlas import asking
from model.atlas.buckets import around
from model.atlas.passages import Passages
from model.atlas.published import Published
from model.atlas.ways import IN_M, IN_S, ON_M, ON_S, PASSAGE, SPEED_MPS
from model.kinematics.geo import M_PER_DEG, to_e7
from stream.atlas.showing.passages import LAST_S, compare

T0 = 1_700_000_000_000
LAT, LON, MPS = 30.27, -97.74, 5.0
NARROW = float(np.cos(np.radians(LAT)))


def passages(*turns: tuple[float, int], ahead_m: float = 0.0) -> Published:
    """Passages that came from the south, and from here on go east at so many m/s, of which so many places are known."""
    rows = np.zeros(len(turns), PASSAGE)
    rows["lat_e7"], rows["lon_e7"] = to_e7(LAT + ahead_m / M_PER_DEG), to_e7(LON)
    rows["in_m"][..., 1] = -MPS * np.array(IN_S) / IN_M
    rows["velocity"][..., 1] = MPS / SPEED_MPS
    for row, (mps, known) in zip(rows, turns, strict=True):
        row["on"][..., 0] = mps * np.array(ON_S) / ON_M
        row["known"] = known
    rows["bucket"] = around(rows["lat_e7"], rows["lon_e7"], rows["in_m"][:, 0] * -IN_M)[:, 0]
    return Published.of(Passages(rows), np.arange(len(rows), dtype=np.uint16))


def track(seconds: int = 600, every_s: int = 30) -> list[tuple[int, float, float]]:
    """Pings on the way from the south to (LAT, LON)."""
    return [(T0 - 1000 * s, LAT - MPS * s / M_PER_DEG, LON) for s in range(seconds, -1, -every_s)]


def test_a_line_has_the_way_in_the_place_beside_the_ping_and_the_way_on() -> None:
    (line,) = compare(passages((8.0, len(ON_S))), track())
    seconds, lat, lon = (np.array(column) for column in zip(*line.way, strict=True))
    assert line.weight == pytest.approx(1.0, abs=0.01)
    assert [seconds[0], seconds[-1], 0.0 in seconds] == [-IN_S[-1], LAST_S, True]
    north_m, east_m = (lat - LAT) * M_PER_DEG, (lon - LON) * M_PER_DEG * NARROW
    assert np.allclose(north_m, np.minimum(seconds, 0) * MPS, atol=2.0)
    assert np.allclose(east_m, np.maximum(seconds, 0) * 8.0, atol=ON_M)


def test_seconds_count_from_when_a_passage_was_beside_the_ping() -> None:
    """It is known from 100 m ahead, where it came 20 s later."""
    (line,) = compare(passages((8.0, len(ON_S)), ahead_m=100.0), track())
    (place,) = [(lat, lon) for seconds, lat, lon in line.way if seconds == 0.0]
    assert place == pytest.approx((LAT, LON), abs=1e-5)
    assert 20.0 in [seconds for seconds, *_ in line.way]


def test_a_line_ends_where_the_version_knows_no_more() -> None:
    (line,) = compare(passages((8.0, 4)), track())
    assert line.way[-1][0] == ON_S[3]


def test_there_are_sixteen_lines_at_most_and_the_nearest_comes_first() -> None:
    found = compare(passages(*((float(n), 5) for n in range(20))), track())
    assert len(found) == asking.NEAREST
    assert [one.weight for one in found] == sorted((one.weight for one in found), reverse=True)


def test_of_a_ping_of_which_no_way_is_known_there_are_none() -> None:
    """The first one, and the first after a long silence; and where nobody passed."""
    version = passages((8.0, 5))
    silent = [(T0 - 3_600_000, LAT, LON), track()[-1]]
    elsewhere = [(ts, lat + 1.0, lon) for ts, lat, lon in track()]
    assert [compare(version, one) for one in ([], track()[-1:], silent, elsewhere)] == [[], [], [], []]
    assert compare(version, [*silent[:1], *track()]), "and pings since then have one"
