"""The arithmetic of the benchmarks: percentiles, the open loop's schedule, rates between looks."""

from __future__ import annotations

import random
from fractions import Fraction
from math import ceil

import numpy as np
import pytest

from stream.bench.harness.line import Load, Measured, compute_latencies, percents, settle_s
from stream.bench.harness.programs.feeder import Fed
from stream.bench.harness.report import UNKNOWN
from stream.bench.harness.stats import Sample, between, due, middle, percentile, spread
from stream.bench.workers.latency import COLUMNS, highest_steady_rate, idle_row_of, row_of


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 1000, 12_345])
def test_the_rank_of_a_percentile_is_exact(count: int) -> None:
    """In floats, 0.999 times 1000 is a little above 999; rounded up, that would be the maximum instead."""
    values = [float(rank) for rank in range(1, count + 1)]
    for percent in ("0.1", "1", "50", "90", "99", "99.9", "100"):
        assert percentile(values, float(percent)) == ceil(Fraction(percent) / 100 * count)


@pytest.mark.parametrize("rate", [0.7, 3.0, 500.0, 4_999.3, 123_456.7])
def test_due_counts_exactly_what_the_schedule_has_by_then(rate: float) -> None:
    times = [ping / rate for ping in range(2_000)]  # summed steps of 1/rate would drift
    rng = random.Random(int(rate))
    looks = [*times[::97], *(rng.uniform(-1, 2_100 / rate) for _ in range(500))]
    for elapsed_s in looks:
        assert due(rate, elapsed_s, 2_000) == sum(time <= elapsed_s for time in times)


def test_a_late_feeder_does_not_shorten_latency() -> None:
    """Coordinated omission: a ping sent 2 s late and answered 10 ms after that took 2.01 s, not 10 ms."""
    fed = Fed(start_s=100.0, sent=100, late_ms=2_000.0)
    times = 100.0 + np.arange(100) / 10 + 0.010
    times[50] += 2.0
    found = compute_latencies(10.0, fed, times, Load(0.5, 0.2))
    assert found.latencies_ms[-1] == pytest.approx(2_010.0)
    assert percentile(found.latencies_ms, 50) == pytest.approx(10.0)
    assert found.missing == 0


def test_an_unanswered_ping_is_missing_and_not_fast() -> None:
    times = 5.0 + np.arange(100) / 10 + 0.010
    times[[30, 99]] = np.nan
    found = compute_latencies(10.0, Fed(start_s=5.0, sent=100, late_ms=0.0), times, Load(0.5, 0.2))
    assert (found.missing, len(found.latencies_ms)) == (2, 78)  # the first 2 s, 20 pings, settle and do not count


def test_a_rate_goes_from_the_first_look_past_the_warm_up_to_the_first_past_the_end() -> None:
    samples = [Sample(0.0, 4.0, 0), Sample(1.0, 4.5, 90), Sample(2.0, 5.0, 130), Sample(3.0, 6.0, 1000)]
    rate = between([*samples, Sample(4.0, 6.5, 1000)], 100, 1000)
    assert rate == (870, 1.0, 1.0)
    assert (rate.per_wall_s, rate.per_cpu_s) == (870.0, 870.0)
    assert rate.cpu_us_per_ping == pytest.approx(1e6 / 870)


@pytest.mark.parametrize("samples", [[], [Sample(0.0, 0.0, 5)], [Sample(0.0, 0.0, 0), Sample(1.0, 1.0, 100)]])
def test_no_rate_is_made_up_from_fewer_than_two_looks(samples: list[Sample]) -> None:
    with pytest.raises(ValueError, match="too few pings"):
        between(samples, 1, 100)


def test_the_spread_is_half_the_range_over_the_median() -> None:
    assert (middle([3.0, 1.0, 2.0]), spread([3.0, 1.0, 2.0])) == (2.0, 0.5)
    assert spread([7.0]) == 0.0


def measured(
    rate: float, half_ms: float, *, p99_ms: float = 1_000.0, missing: int = 0, broker_part: float | None = 0.2
) -> Measured:
    return Measured(rate, [half_ms] * 98 + [p99_ms] * 2, missing, 1.0, Load(0.5, broker_part))


def test_the_most_is_the_first_rate_that_does_not_pile_up() -> None:
    asked: list[float] = []

    def one(rate: float, seconds: float) -> Measured:
        asked.append(rate)
        return measured(rate, 30.0 if rate < 8_500 else 900.0, missing=int(8_000 < rate < 8_500))

    assert highest_steady_rate(one, 10_000.0, lambda _: None) == pytest.approx(7_290.0)
    assert asked == pytest.approx([10_000, 9_000, 8_100, 7_290])
    with pytest.raises(RuntimeError, match="does not keep up"):
        highest_steady_rate(lambda rate, _: measured(rate, 900.0), 10_000.0, lambda _: None)


def test_a_row_is_of_medians_and_of_all_that_is_missing() -> None:
    runs = [measured(5_000.0, 20.0, p99_ms=p99, missing=1) for p99 in (40.0, 60.0, 50.0)]
    rate, half, p99, spread_, *_, missing, late, worker, broker = row_of(runs)
    assert (rate, half, p99, spread_, missing, late) == (5_000.0, 20.0, 50.0, "20 %", 3, 1.0)
    assert (worker, broker) == (50.0, 20.0)


def test_a_broker_whose_process_is_not_known_has_no_number_and_the_worker_has() -> None:
    assert row_of([measured(100.0, 20.0, broker_part=None)] * 3)[-2:] == (50.0, UNKNOWN)
    assert percents([Load(part, None) for part in (0.5, 0.1, 0.2)]) == (20.0, UNKNOWN)


def test_the_row_without_pings_has_the_load_and_no_latency() -> None:
    row = idle_row_of([Load(0.5, 0.25), Load(0.25, 0.5), Load(0.125, 0.75)])
    assert len(row) == len(COLUMNS) == len(row_of([measured(100.0, 20.0)]))
    assert row[0] == 0
    assert set(row[1:-2]) == {UNKNOWN}
    assert row[-2:] == (25.0, 50.0)


def test_a_rate_at_which_nothing_is_answered_is_all_missing_and_not_kept_up_with() -> None:
    found = compute_latencies(10.0, Fed(start_s=5.0, sent=100, late_ms=0.0), np.full(100, np.nan), Load(0.5, 0.2))
    assert (found.latencies_ms, found.missing, found.kept_up) == ([], 80, False)
    assert measured(10.0, 20.0).kept_up
    assert not measured(10.0, 20.0, missing=1).kept_up


def test_a_short_feed_counts_its_second_half() -> None:
    assert [settle_s(count, 10.0) for count in (1, 10, 40, 100)] == [0.05, 0.5, 2.0, 2.0]
