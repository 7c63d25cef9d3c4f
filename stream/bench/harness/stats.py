"""Computes rates, percentiles and what is due for the benchmarks. Pure: times are arguments."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from statistics import median
from typing import NamedTuple


class Sample(NamedTuple):
    """A running worker at one moment: the time, the CPU seconds of its process so far, and the number of answers."""

    at_s: float
    cpu_s: float
    done: int


class Rate(NamedTuple):
    """The pings between two samples, and their seconds."""

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
    """Returns the nearest-rank percentile of sorted values, which is always a measured value.

    It is not interpolated: nobody measured a latency between the two slowest of a thousand.

    Raises:
        ValueError: there are no values, or `percent` is outside (0, 100].
    """
    if not ordered:
        raise ValueError("no values to take a percentile of")
    if not 0 < percent <= 100:
        raise ValueError(f"a percentile lies in (0, 100], got {percent}")
    rank = ceil(len(ordered) * percent / 100 - 1e-9)  # 99.9 % of 1000 is 999, also if the float is rounded up
    return ordered[max(rank, 1) - 1]


def between(samples: Sequence[Sample], begin: int, end: int) -> Rate:
    """Returns the rate from the first sample with at least `begin` pings done to the first with at least `end`.

    Nothing is interpolated: the number of pings between two samples is known exactly.

    Raises:
        ValueError: there are no two such samples.
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
    """Returns the spread as a text for people."""
    return f"{100 * spread(values):.0f} %"


def spread(values: Sequence[float]) -> float:
    """Returns half of the range as a part of the median: the right ± for a few runs."""
    mid = middle(values)
    return (max(values) - min(values)) / 2 / mid if mid else 0.0


def due(rate_per_s: float, elapsed_s: float, count: int) -> int:
    """Returns how many of `count` pings are due at or before `elapsed_s`: evenly spaced, whenever the answers come.

    This is an open loop. A feeder that waited for answers would send fewer pings just while the worker is slow, and so
    hide it ("coordinated omission", G. Tene): late pings keep their due time, and latency counts from that.
    """
    if elapsed_s < 0:
        return 0
    n = min(count, int(elapsed_s * rate_per_s) + 1)
    while n < count and n / rate_per_s <= elapsed_s:  # the product may have rounded down
        n += 1
    while n > 0 and (n - 1) / rate_per_s > elapsed_s:  # or up
        n -= 1
    return n
