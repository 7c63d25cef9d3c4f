"""The table of newest forecasts: what it takes, what it forgets, and what is in a box."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.api.live.newest import MAX_FORECAST_BYTES, Box, Newest, Published


def raw(entity_id: str, ts: int = 1, lat: float = 0.0, lon: float = 0.0, status: str = "ok") -> bytes:
    return (
        f'{{"forecast_id":"x","entity_id":"{entity_id}","anchor":{{"ts":{ts},"lat":{lat},"lon":{lon}}},'
        f'"status":"{status}","src":{{"topic":"t","partition":7,"offset":1}}}}'
    ).encode()


def ids(newest: Newest, box: Box | None = None) -> list[str]:
    return sorted(newest.name(row) for row in np.flatnonzero(newest.inside(box)).tolist())


def test_a_late_pings_forecast_is_no_news_and_an_earlier_anchor_of_another_kind_is() -> None:
    """A track that went back from a time in the future has earlier anchors from then on."""
    newest = Newest(10, 1_000)
    newest.update([Published(raw("e", 100), 0), Published(raw("e", 90, status="stale"), 0)], 0)
    assert newest.forecast("e") == (raw("e", 100), 100)
    newest.update([Published(raw("e", 50, status="warmup"), 0)], 0)
    assert newest.forecast("e") == (raw("e", 50, status="warmup"), 50)
    assert newest.partition("e") == 7


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        raw("e")[:-1],
        raw(""),
        raw("e" * 129),
        raw("e", lat=91.0),
        raw("e", lon=-181.0),
        raw("e", status="fine"),
        raw("e").replace(b":7", b":-1"),
        raw("e").replace(b'"x"', b'"\n"'),
        raw("e").replace(b'"x",', b'"x",\n'),  # sound JSON, and two lines of an event
        raw("e").replace(b'"x",', b'"x",\r'),
        raw("e").replace(b'"x"', b'"\xff"'),
        raw("e").replace(b'"x"', b'"' + b"x" * MAX_FORECAST_BYTES + b'"'),
        raw("e", ts=10**18),
        raw("e").replace(b'"x"', b"[" * 5_000),
    ],
    ids=range(18),
)
def test_what_is_no_forecast_is_counted_and_changes_nothing(bad: bytes) -> None:
    newest = Newest(10, 1_000)
    newest.update([Published(bad, 0)], 0)
    assert (len(newest), newest.refused, newest.change) == (0, 1, 0)


def test_who_is_silent_leaves_and_who_is_not_stays() -> None:
    newest = Newest(10, 1_000)
    newest.update([Published(raw("a"), 500), Published(raw("b"), 1_500), Published(raw("c"), -1)], 2_000)
    assert newest.expire(2_000) == 1
    assert ids(newest) == ["b", "c"]
    assert [one.entity_id for one in newest.list_gone_since(0)] == ["a"]
    newest.update([Published(raw("d"), 2_000)], 2_000)
    assert ids(newest) == ["b", "c", "d"]


def test_a_record_from_the_future_stays_no_longer_than_one_of_now() -> None:
    newest = Newest(10, 1_000)
    newest.update([Published(raw("a"), 10**13)], 2_000)
    assert newest.expire(3_001) == 1


def test_a_full_table_leaves_out_whom_it_heard_of_longest_ago() -> None:
    newest = Newest(100, 10**9)
    newest.update([Published(raw(f"e{n}"), n) for n in range(250)], 1_000)
    assert len(newest) == 100
    assert ids(newest) == sorted(f"e{n}" for n in range(150, 250))
    assert newest.crowded_out == 150


place = st.tuples(st.integers(-90, 90), st.integers(-180, 180))


@given(st.lists(place, min_size=1, max_size=20), place, place)
def test_a_box_holds_what_is_between_its_sides_also_over_the_date_line(
    places: list[tuple[int, int]], one: tuple[int, int], other: tuple[int, int]
) -> None:
    newest = Newest(100, 10**9)
    newest.update([Published(raw(f"e{n}", lat=lat, lon=lon), 0) for n, (lat, lon) in enumerate(places)], 0)
    south, north = sorted((one[0], other[0]))
    west, east = one[1], other[1]
    wide = range(west, east + 1) if west <= east else [*range(west, 181), *range(-180, east + 1)]
    due = [f"e{n}" for n, (lat, lon) in enumerate(places) if south <= lat <= north and lon in wide]
    assert ids(newest, Box(west, south, east, north)) == sorted(due)
