"""A client gets so many requests at once, then so many a second, and no other client's."""

from __future__ import annotations

import pytest

from stream.http.limits import Buckets


def test_a_burst_is_taken_at_once_and_then_one_each_period() -> None:
    buckets = Buckets(2.0, 3)
    assert [buckets.take("a", 100.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("a", 100.25) == pytest.approx(0.25)
    assert buckets.take("a", 100.5) == 0
    assert buckets.take("a", 100.5) == 0.5
    assert buckets.take("b", 100.5) == 0, "another client has its own"


def test_a_bucket_never_holds_more_than_a_burst() -> None:
    buckets = Buckets(10.0, 2)
    assert buckets.take("a", 0.0) == 0
    assert [buckets.take("a", 1e6) for _ in range(3)] == [0, 0, 0.1]


def test_no_more_clients_are_remembered_than_the_limit() -> None:
    """An attacker with many addresses must not fill the memory."""
    buckets = Buckets(1.0, 1, most=10)
    for client in range(1_000):
        buckets.take(str(client), 0.0)
    assert len(buckets) == 10


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.5)])
def test_a_bucket_that_would_never_give_anything_is_an_error(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        Buckets(rate, burst)
