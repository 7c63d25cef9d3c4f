"""What a soak makes of its looks."""

from __future__ import annotations

import pytest

from stream.bench.workers.soak import Look, cut_into_slices, growth


def looks(count: int, *, rss_per_s: float = 0.0, blocks_per_s: int = 0) -> list[Look]:
    """A look a second of a worker of 100 MiB that answers 10 pings/s with half a core."""
    return [
        Look(
            at_s=s,
            rss_bytes=int((100 + s * rss_per_s) * 2**20),
            blocks=1_000 + s * blocks_per_s,
            redis_bytes=7 * 2**20,
            redis_keys=9,
            cpu_s=s / 2,
            answered=10 * s,
            lag=5 + s % 2,
            in_flight=s % 3,
        )
        for s in range(count)
    ]


def test_a_steady_worker_has_equal_slices_that_leave_the_warm_up_out() -> None:
    parts = cut_into_slices(looks(1_001), slices=9, warm=0.1)
    assert [part.from_s for part in parts] == list(range(100, 1_000, 100))
    assert {(p.rss_mib, p.redis_mib, p.pings_per_s, p.cpu_part, p.lag_most) for p in parts} == {(100, 7, 10, 0.5, 6)}
    assert {(p.blocks, p.redis_keys, p.in_flight_most) for p in parts} == {(1_000, 9, 2)}
    assert growth(parts, lambda part: part.rss_mib) == growth(parts, lambda part: part.blocks) == 0


def test_a_leak_and_an_object_kept_of_every_ping_are_growth_wherever_it_is_largest() -> None:
    parts = cut_into_slices(looks(1_001, rss_per_s=0.1, blocks_per_s=10), slices=9, warm=0.1)
    for some in (parts, [*parts[:4], parts[8], *parts[4:8]]):
        assert growth(some, lambda part: part.rss_mib) == pytest.approx(80 / 115)
        assert growth(some, lambda part: part.blocks) == pytest.approx(8_000 / 2_500)
