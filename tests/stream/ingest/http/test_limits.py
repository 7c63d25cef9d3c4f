"""How many messages a second: with a clock that the test moves."""

from __future__ import annotations

from stream.ingest.http.limits import Rate


def test_a_rate_allows_a_second_at_once_and_then_as_many_as_time_brings() -> None:
    rate = Rate(10.0)
    assert [rate.allows(5.0) for _ in range(11)] == [True] * 10 + [False]
    assert [rate.allows(5.25) for _ in range(3)] == [True, True, False]
    assert [rate.allows(500.0) for _ in range(11)] == [True] * 10 + [False], "no more is saved than a second's"
