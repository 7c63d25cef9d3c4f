"""Outlines of regions and lines, against what they should hold."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.client.regions import CORNERS, cut, outline
from stream.wire.positions import mahalanobis2, offset_en_m, radius2


def area(ring: list[list[float]]) -> float:
    """Twice the signed area; positive for a ring that is counter-clockwise."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring))


@given(
    st.floats(-70, 70), st.floats(-175, 175), st.floats(10, 1e5), st.floats(10, 1e5), st.floats(-0.95, 0.95),
    st.sampled_from([0.5, 0.9]),
)  # fmt: skip
def test_each_corner_is_as_far_as_the_share_says(
    lat: float, lon: float, ee: float, nn: float, correlation: float, share: float
) -> None:
    cov = (ee, correlation * math.sqrt(ee * nn), nn)
    (ring,) = outline(lat, lon, cov, lat, share)
    assert len(ring) == CORNERS + 1
    assert ring[0] == ring[-1]
    assert area(ring) > 0
    for corner_lon, corner_lat in ring:
        error = offset_en_m(lat, lon, corner_lat, corner_lon, lat)
        # 1e-7 degrees, to which corners are rounded, are a centimetre, and the narrowest half axis here has 80.
        assert mahalanobis2(error, cov) == pytest.approx(radius2(share), rel=0.05)


def test_an_outline_across_the_180th_meridian_has_two_parts_within_the_world() -> None:
    rings = outline(-17.0, 179.99, (4e6, 0.0, 4e6), -17.0)
    whole = outline(-17.0, 0.0, (4e6, 0.0, 4e6), -17.0)
    assert len(rings) == 2
    assert all(-180.0 <= lon <= 180.0 for ring in rings for lon, _ in ring)
    assert all(ring[0] == ring[-1] and area(ring) > 0 for ring in rings)
    moved = [[[lon - 360.0 if lon > 0 else lon, lat] for lon, lat in ring] for ring in rings]
    assert sum(map(area, moved)) == pytest.approx(area(whole[0]), rel=1e-6)


def test_an_outline_at_a_pole_or_wider_than_the_world_stays_on_it() -> None:
    for lat in (90.0, -90.0, 89.999):
        for ring in outline(lat, 0.0, (1e9, 0.0, 1e9), lat):
            assert all(abs(a) <= 180.0 and abs(b) <= 90.0 for a, b in ring)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 90])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        outline(0.0, 0.0, (1.0, 0.0, 1.0), 0.0, share)


def test_a_line_is_cut_where_it_crosses_and_times_are_interpolated_there() -> None:
    line = [(178.0, 0.0, 0.0), (179.0, 10.0, 100.0), (-179.0, 20.0, 200.0), (-178.0, 30.0, 300.0)]
    assert cut(line) == [
        [[178.0, 0.0, 0.0], [179.0, 10.0, 100.0], [180.0, 15.0, 150.0]],
        [[-180.0, 15.0, 150.0], [-179.0, 20.0, 200.0], [-178.0, 30.0, 300.0]],
    ]
    assert cut(list(reversed(line)))[0][-1] == [-180.0, 15.0, 150.0]
    assert cut(line[:2]) == [[list(one) for one in line[:2]]]
    assert cut([]) == []


def test_a_line_that_stands_on_the_meridian_goes_nowhere_else() -> None:
    parts = cut([(180.0, 0.0), (-180.0, 1.0), (-179.0, 2.0)])
    assert all(abs(a[0] - b[0]) < 2 for part in parts for a, b in pairwise(part))
