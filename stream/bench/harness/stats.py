"""The arithmetic of the benchmarks. Pure: numbers in, numbers out; the clock is an argument."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from statistics import median
from typing import NamedTuple


class Sample(NamedTuple):
    """One look at a running worker: when, how much CPU its process had used, how many answers were out."""

    at_s: float
    cpu_s: float
    done: int


class Rate(NamedTuple):
    """Pings per second between two looks."""

    pings: int
    wall_s: float
    cpu_s: float

    @property
    def per_wall_s(self) -> float:
        return self.pings / max(self.wall_s, 1e-9)

    @property
    def per_cpu_s(self) -> float:
        return self.pings / max(self.cpu_s, 1e-9)

    @property
    def cpu_us_per_ping(self) -> float:
        return 1e6 * self.cpu_s / max(self.pings, 1)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of sorted values: always one that was measured.

    Not interpolated: between the two slowest of a thousand lies no latency that anybody saw.

    Raises:
        ValueError: there are no values, or `percent` is outside (0, 100].
    """
    if not ordered:
        raise ValueError("no values to take a percentile of")
    if not 0 < percent <= 100:
        raise ValueError(f"a percentile lies in (0, 100], got {percent}")
    rank = ceil(len(ordered) * percent / 100 - 1e-9)  # 99.9 % of 1000 is 999, whatever the last bit of a float says
    return ordered[max(rank, 1) - 1]


def between(samples: Sequence[Sample], begin: int, end: int) -> Rate:
    """The rate from the first look with at least `begin` done to the first with at least `end`.

    The looks themselves are the ends, so nothing is interpolated: what was done between them is known exactly.

    Raises:
        ValueError: the samples do not hold two such looks.
    """
    first = next((sample for sample in samples if sample.done >= begin), None)
    last = next((sample for sample in samples if sample.done >= end), None)
    if first is None or last is None or last.done <= first.done:
        reached = samples[-1].done if samples else 0
        raise ValueError(f"no two looks between {begin} and {end} pings, {reached} were reached: too few pings?")
    return Rate(last.done - first.done, last.at_s - first.at_s, last.cpu_s - first.cpu_s)


def middle(values: Sequence[float]) -> float:
    return float(median(values))


def plus_minus(values: Sequence[float]) -> str:
    """The spread, for people."""
    return f"{100 * spread(values):.0f} %"


def spread(values: Sequence[float]) -> float:
    """Half of the range, as a part of the median: the honest ± of a handful of runs."""
    mid = middle(values)
    return (max(values) - min(values)) / 2 / mid if mid else 0.0


def schedule(rate_per_s: float, count: int) -> Iterator[float]:
    """When each of `count` pings is due, in seconds after the start: evenly spaced, whatever the answers do.

    An open loop. A feeder that waited for answers would send less exactly while the worker is slow, and so hide it
    ("coordinated omission", G. Tene): late sends keep their due time, and latency counts from that.
    """
    if rate_per_s <= 0:
        raise ValueError(f"the rate must be above 0 pings/s, got {rate_per_s}")
    return (i / rate_per_s for i in range(count))


def due(rate_per_s: float, elapsed_s: float, count: int) -> int:
    """How many of the schedule's pings are due after `elapsed_s`: those of `schedule` at or before then."""
    if elapsed_s < 0:
        return 0
    n = min(count, int(elapsed_s * rate_per_s) + 1)
    while n < count and n / rate_per_s <= elapsed_s:  # the product may have rounded down
        n += 1
    while n > 0 and (n - 1) / rate_per_s > elapsed_s:  # or up
        n -= 1
    return n
