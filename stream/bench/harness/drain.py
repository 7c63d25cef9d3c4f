"""Measures workers that drain a filled topic as fast as they can. It starts no process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from stream.bench.harness.launch import Process
from stream.bench.harness.stats import Rate, Sample, between
from stream.bench.harness.topics import Counter

LOOK_S: Final = 0.1  # between two samples: a tenth of a percent of a run, and a hundredth of a core
STALL_S: Final = 120.0  # without an answer for so long, something hangs
WARM: Final = 0.1  # the part of the pings before the measurement: imports, first look-ups, growth of pools
SHORT_CPU_S: Final = 1.0  # /proc counts hundredths of a second, and a sample may be late by LOOK_S


def watch(
    workers: Sequence[Process],
    counter: Counter,
    total: int,
    *,
    timeout_s: float,
    show: Callable[[int], None] = lambda done: None,
) -> list[Sample]:
    """Samples until there are `total` answers, or `timeout_s` are over: a slow worker is measured by those so far.

    Raises launch.Failed if a worker ends, or no answer comes for STALL_S.
    """
    began = moved = time.monotonic()
    samples: list[Sample] = []
    while True:
        cpu_s = sum(worker.usage().cpu_s for worker in workers)
        done, now = counter.count(), time.monotonic()
        if not samples or done > samples[-1].done:
            moved = now
        samples.append(Sample(now, cpu_s, done))
        show(done)
        if done >= total or now - began > timeout_s:
            return samples
        for worker in workers:
            worker.check()
        if now - moved > STALL_S:
            raise workers[0].failed(f"{done} of {total} answers, and none in {STALL_S:.0f} s")
        time.sleep(LOOK_S)


def rate_of(samples: Sequence[Sample], total: int, *, warm: float = WARM) -> Rate:
    """Returns the rate after the first `warm` part of the pings. Raises ValueError if it has no two samples."""
    reached = min(samples[-1].done, total)
    return between(samples, max(1, int(reached * warm)), reached)


def too_short(rates: Sequence[Rate]) -> list[str]:
    """Returns a note if too little CPU time was counted for a reliable number; otherwise nothing."""
    least = min((rate.cpu_s for rate in rates), default=SHORT_CPU_S)
    if least >= SHORT_CPU_S:
        return []
    return [f"too short to trust: only {least:.2f} s of CPU were counted, in steps of 0.01 s: ask for more pings"]
