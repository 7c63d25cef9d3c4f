"""A time in the form that a file has its times in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.adapters.column_names import ColumnMap, cell, milliseconds
from stream.commands.files.times import like, unit_ms
from stream.wire import MAX_TS_MS, MIN_TS_MS
from stream.wire.ping_rules import event_time_ms

SECOND = 1_490_096_317_000


@pytest.mark.parametrize(
    ("sample", "ts_ms", "expected"),
    [
        (1490096205, SECOND, 1490096317),
        (1490096205000, SECOND + 1, SECOND + 1),
        (1490096205.5, SECOND + 250, 1490096317.25),
        ("1490096205", SECOND, "1490096317"),
        ("1490096205", SECOND + 250, "1490096317.25"),
        ("1490096205.000", SECOND, "1490096317.000"),
        (" 1490096205123 ", SECOND, "1490096317000"),
        ("2017-03-21T11:36:45Z", SECOND, "2017-03-21T11:38:37Z"),
        ("2017-03-21T11:36:45.123456Z", SECOND + 7, "2017-03-21T11:38:37.007000Z"),
        ("2017-03-21 06:36:45-05:00", SECOND, "2017-03-21 06:38:37-05:00"),
        ("2017-03-21T17:21:45+05:45", SECOND + 20, "2017-03-21T17:23:37.02+05:45"),
        ("", SECOND, "2017-03-21T11:38:37Z"),
    ],
)
def test_a_time_takes_the_form_of_the_sample(sample: Any, ts_ms: int, expected: Any) -> None:
    found = like(sample, ts_ms)
    assert found == expected
    assert type(found) is type(expected)


FORMS = [1490096205, 1490096205123, 1490096205.5, 1490096205123.0, "1490096205", "1490096205.1", "2017-03-21T11:36:45Z"]


@given(st.integers(MIN_TS_MS, MAX_TS_MS), st.sampled_from([*FORMS, "2017-03-21 06:36:45.1-09:30"]))
def test_what_is_written_is_read_as_the_same_time(ts_ms: int, sample: Any) -> None:
    ts_ms -= ts_ms % unit_ms(sample)
    assert event_time_ms(like(sample, ts_ms)) == ts_ms


@pytest.mark.parametrize("clock", ["s", "ms", "us", "ns"])
@given(ts_ms=st.integers(MIN_TS_MS, MAX_TS_MS))
def test_the_unit_of_a_column_map_is_kept(clock: str, ts_ms: int) -> None:
    columns = ColumnMap.parse(f"t:{clock}=when")
    sample = str(SECOND * {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[clock] // 1000)
    ts_ms -= ts_ms % unit_ms(sample, columns)
    text = like(sample, ts_ms, columns)
    assert text.isdecimal()
    assert event_time_ms(milliseconds(cell("ts", text), columns)) == ts_ms
    assert like(int(sample), ts_ms, columns) == int(text)
