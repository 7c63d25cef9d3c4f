"""Which records a subscription wants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stream.client.filter import Box, RecordFilter, SeenIds, Since

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, Since()),
        ("earliest", Since(beginning=True)),
        ("10m", Since(NOW_MS - 600_000)),
        ("2d", Since(NOW_MS - 2 * 86_400_000)),
        (timedelta(seconds=1.5), Since(NOW_MS - 1_500)),
        (datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), Since(NOW_MS)),
        ("2023-11-14T23:13:20+01:00", Since(NOW_MS)),
        ("2023-11-14T22:13:20Z", Since(NOW_MS)),
    ],
)
def test_since_takes_what_people_write(given: Any, expected: Since) -> None:
    assert Since.of(given, NOW_MS) == expected


@pytest.mark.parametrize("given", ["10", "m", "-5m", "2023-11-14T22:13:20", "yesterday", "", datetime(2023, 11, 14)])
def test_since_refuses_what_has_no_one_meaning(given: Any) -> None:
    """A time without a zone is another one on each machine."""
    with pytest.raises(ValueError, match="zone"):
        Since.of(given, NOW_MS)


def test_a_box_holds_its_edges_and_may_lie_across_the_180th_meridian() -> None:
    box = Box.of((-98.0, 30.0, -97.0, 31.0))
    assert box.holds(30.0, -98.0)
    assert box.holds(31.0, -97.0)
    assert not box.holds(29.9999, -97.5)
    assert not box.holds(30.5, -96.9999)
    fiji = Box.of((177.0, -20.0, -178.0, -15.0))
    assert fiji.holds(-17.0, 179.9)
    assert fiji.holds(-17.0, -179.0)
    assert not fiji.holds(-17.0, 0.0)


@pytest.mark.parametrize(
    "given", [(1, 2, 3), (0, 50, 1, 40), (-97, 30, -98, 131), (-200, 0, 0, 1), "abcd", (0, float("nan"), 1, 2)]
)
def test_a_box_that_makes_no_sense_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="west, south, east, north"):
        Box.of(given)


def test_wanted_entities_are_told_by_their_keys() -> None:
    wanted = RecordFilter.of(["bus-1", "büs-2"], None)
    assert wanted.takes_key(b"bus-1")
    assert wanted.takes_key("büs-2".encode())
    assert not wanted.takes_key(b"bus-10")
    assert not wanted.takes_key(None)
    assert RecordFilter.of("bus-1", None).keys == {b"bus-1"}
    assert RecordFilter.of(None, None).takes_key(None)
    with pytest.raises(ValueError, match="empty"):
        RecordFilter.of([], None)


def test_one_place_in_the_box_is_enough() -> None:
    wanted = RecordFilter.of(None, (0.0, 0.0, 1.0, 1.0))
    assert wanted.takes_places([(5.0, 5.0), (0.5, 0.5)])
    assert not wanted.takes_places([(5.0, 5.0)])


def test_seen_forgets_the_oldest_and_never_grows_beyond_its_bound() -> None:
    seen = SeenIds(3)
    assert [seen.is_new(one) for one in "aabca"] == [True, False, True, True, False]
    assert seen.is_new("d")  # and "a", the oldest, is forgotten
    assert seen.is_new("a")
    assert not seen.is_new("d")
    assert len(seen._ids) == 3
    nothing = SeenIds(0)
    assert nothing.is_new("a")
    assert nothing.is_new("a")
