"""Arrows of an atlas, and two atlases compared."""

from __future__ import annotations

import numpy as np
import pytest

from model.atlas.buckets import buckets
from model.atlas.passages import Passages
from model.atlas.published import Published
from model.atlas.ways import ON_M, ON_S, PASSAGE
from stream.atlas.showing.diff import Buckets, Change, changes
from stream.atlas.showing.diff import buckets as compared
from stream.atlas.showing.flows import arrows, features

LAT_E7, LON_E7 = 302_707_000, -977_397_000
E_M = 111_195.08 * np.cos(np.radians(LAT_E7 / 1e7)) / 1e7  # metres in a unit of longitude
STOOD = -1


def atlas(*things: tuple[int, float], known: int = len(ON_S)) -> Published:
    """The passages of things that came heading so many degrees, or STOOD, and were so far east of there after every
    horizon. Each passed 10 m east of the one before."""
    rows = np.zeros(len(things), PASSAGE)
    heading, east_m = (np.array(column, float) for column in zip(*things, strict=True))
    turn = np.radians(heading)
    came_m = np.where(heading == STOOD, 0.0, 100.0) * np.stack([np.sin(turn), np.cos(turn)])
    rows["lat_e7"], rows["known"] = LAT_E7, known
    rows["lon_e7"] = LON_E7 + np.rint(10 * np.arange(len(things)) / E_M)
    rows["bucket"] = buckets(rows["lat_e7"], rows["lon_e7"], came_m.T)
    rows["on"][..., 0] = (east_m / ON_M)[:, None]
    rows = rows[np.argsort(rows["bucket"], kind="stable")]
    return Published.of(Passages(rows), np.zeros(len(rows), np.uint16))


def test_an_arrow_leads_from_the_middle_of_where_things_passed_to_the_middle_of_where_they_were_later() -> None:
    """One that went somewhere else entirely does not move it."""
    found = arrows(atlas((90, 300), (90, 310), (90, -9_000), (0, 50), (STOOD, 0), (STOOD, 0)), 60.0, 2)
    assert found.n.tolist() == [3, 2]
    assert (found.lon * 1e7 - LON_E7) * E_M == pytest.approx([10, 45], abs=0.1)
    assert (found.to_lon * 1e7 - LON_E7) * E_M == pytest.approx([300, 45], abs=0.1)
    assert found.to_lat * 1e7 == pytest.approx(LAT_E7)


def test_features_say_of_how_many_passages_they_are_and_only_what_is_known() -> None:
    version = atlas((90, 300), (90, 300), (90, 300), (STOOD, 0), known=3)
    first, second = features(version, 45.0, 1)
    assert first["properties"] == {"n": 3, "heading_deg": 90, "after_s": 45.0}
    assert second["properties"] == {"n": 1, "heading_deg": None, "after_s": 45.0}
    begin, end = first["geometry"]["coordinates"]
    assert (end[0] - begin[0]) * 1e7 * E_M == pytest.approx(300, abs=0.2)
    assert [one["properties"]["n"] for one in features(version, 45.0, 3)] == [3]
    assert list(features(version, 60.0, 1)) == [], "nobody knows where they were then"
    assert list(features(Published.none(), 60.0, 1)) == []
    with pytest.raises(ValueError, match="61 s: an atlas has 15, 30"):
        list(features(version, 61.0, 1))


def test_buckets_that_come_and_go_are_counted() -> None:
    one, other = atlas((0, 0), (45, 0), (45, 0), (90, 0)), atlas((45, 0), (135, 0), (STOOD, 0), (180, 0))
    assert compared(one, other) == Buckets(gained=3, lost=2, kept=1)
    assert compared(Published.none(), one) == Buckets(gained=3, lost=0, kept=0)


def test_the_middles_that_moved_farthest_come_first() -> None:
    one = atlas(*[(0, 10)] * 3, *[(45, 20)] * 4, *[(90, 30)] * 3, *[(180, 40)] * 3)
    other = atlas(*[(0, 10)] * 3, *[(45, -480)] * 4, *[(90, 130)] * 3, *[(180, 900)] * 2)
    first, second = changes(one, other, 300.0, 2)
    assert isinstance(first, Change)
    assert (first.heading_deg, first.n, second.heading_deg, second.n) == (45, (4, 4), 90, (3, 3))
    assert first.moved_m == pytest.approx(500, abs=0.2)
    assert second.moved_m == pytest.approx(100, abs=0.2)
    assert first.lat == pytest.approx(LAT_E7 / 1e7)
    assert len(changes(one, other, 300.0, 9)) == 3, "two passages are not sure"
    with pytest.raises(ValueError, match="an atlas has 15"):
        changes(one, other, 61.0, 2)
