"""When each row is due, and where a demo begins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stream.adapters.files import RecordedRow, row_of
from stream.commands.feeder import pace, replay
from stream.demo.board import percentile
from stream.demo.run import busiest
from stream.wire import MAX_TS_MS


def rows(*seconds: float | None) -> Iterator[RecordedRow]:
    return (RecordedRow(b"e", b"{}", None if s is None else int(1_500_000_000_000 + s * 1000)) for s in seconds)


@pytest.mark.parametrize(
    ("speedup", "due"),
    [
        pytest.param(1, [0, 10, 70], id="real time"),
        pytest.param(10, [0, 1, 7], id="ten times"),
        pytest.param(0, [0, 0, 0], id="as fast as it goes"),
    ],
)
def test_rows_are_due_at_their_event_time_over_the_speedup(speedup: float, due: list[float]) -> None:
    assert [due_s for due_s, _ in pace(rows(0, 10, 70), speedup)] == due


def test_order_is_kept_for_rows_that_are_late_or_have_no_time() -> None:
    assert [due_s for due_s, _ in pace(rows(None, 0, 10, None, 5, 20), 1)] == [0, 0, 10, 10, 10, 20]


@pytest.mark.parametrize("ts", [0, 315_964_800, -1, (MAX_TS_MS + 1) / 1000, "1980-01-06T00:00:00Z", 10**17])
def test_a_time_that_is_no_ping_s_holds_up_nothing(ts: object) -> None:
    """One row of a receiver without a fix, first by its time, once had all others wait for decades."""
    odd = row_of({"entity_id": "e", "ts": ts, "lat": 0.0, "lon": 0.0})
    assert odd.ts_ms is not None
    good = list(rows(0, 10, 70))
    assert [due_s for due_s, _ in pace([odd, *good], 1)] == [0, 0, 10, 70]
    assert [due_s for due_s, _ in pace([*good[:2], odd, good[2]], 1)] == [0, 10, 10, 70]


def test_nothing_is_sent_before_it_is_due_or_after_a_stop() -> None:
    sent: list[bytes] = []
    due = [(0.0, RecordedRow(b"now", b"", 0)), (3600.0, RecordedRow(b"in an hour", b"", 0))]
    replay(due, lambda row: sent.append(row.key or b""), stop=lambda: len(sent) == 1)
    assert sent == [b"now"]


def test_a_demo_begins_at_the_beginning_unless_elsewhere_is_far_more_to_see() -> None:
    assert busiest([0, 10, 20, 100, 105, 110, 115], span=20) == 0
    assert busiest([0, 100, 105, 110], span=20) == 1


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([], 50) is None
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.0
    assert percentile([1.0] * 98 + [2.0, 9.0], 99) == 2.0
    assert percentile([7.0], 99) == 7.0
