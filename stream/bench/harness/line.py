"""Measures a worker between a feeder and a subscriber: latencies at a steady rate, and CPU time with and without pings.

    feeder -> pings -> worker -> forecasts -> subscriber

Feeder and subscriber are processes of their own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.bench.harness import launch, proc
from stream.bench.harness.programs.feeder import LEAD_S, Fed, Feed
from stream.bench.harness.programs.feeder import READY as FEEDING
from stream.bench.harness.programs.subscriber import READY as LISTENING
from stream.bench.harness.programs.subscriber import Listen
from stream.bench.harness.report import UNKNOWN, Cell
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import middle, percentile
from stream.bench.harness.warm import WarmOptions
from stream.wire import Topics

PATIENCE_S: Final = 30.0  # if no forecast comes for so long, the others count as missing
SETTLE_S: Final = 2.0  # at the start of each rate, nothing is counted: the producer opens its connections
KEPT_UP_MS: Final = 200.0  # if the median is at most this, the waiting pings do not increase


class Load(NamedTuple):
    """The CPU time of the worker and of the broker in some seconds, as parts of one core."""

    worker_part: float
    broker_part: float | None  # None: its process is not known


@dataclass(frozen=True)
class Measured:
    """The result for one rate: sorted latencies in ms of the pings that were answered."""

    rate_per_s: float
    latencies_ms: list[float]  # empty: none was answered
    missing: int
    feeder_late_ms: float
    load: Load

    @property
    def kept_up(self) -> bool:
        """Whether every ping was answered, and they did not wait longer and longer."""
        return bool(self.latencies_ms) and not self.missing and percentile(self.latencies_ms, 50) <= KEPT_UP_MS


def percents(loads: Sequence[Load]) -> tuple[Cell, Cell]:
    """Returns the medians for the worker and for the broker, in % of a core."""
    brokers = [load.broker_part for load in loads if load.broker_part is not None]
    return 100 * middle([load.worker_part for load in loads]), 100 * middle(brokers) if brokers else UNKNOWN


class Line:
    """Measures from a feeder through the worker to a subscriber. Each feed continues where the previous one ended."""

    def __init__(self, options: WarmOptions, servers: Servers, names: Topics, worker: launch.Process, fed: int) -> None:
        """`fed` is the number of the workload's pings that are in the topic already."""
        self._options = options
        self._servers = servers
        self._names = names
        self._worker = worker
        self._fed = fed

    def measure(self, rate: float, seconds: float) -> Measured:
        """Feeds so many pings/s for so long. Raises RuntimeError if no forecast came, or a process ends."""
        feed = self.feed(rate, seconds)
        with tempfile.TemporaryDirectory(prefix="pathcast-latency-") as home:
            output = Path(home) / "times.npy"
            how = Listen(feed=feed, topic=self._names.forecasts, output=str(output), patience_s=PATIENCE_S)
            fed, load = self._between(feed, how)
            times: NDArray[np.float64] = np.load(output)
        one = compute_latencies(feed.rate_per_s, fed, times, load)
        if not one.latencies_ms:
            raise RuntimeError(f"no forecast came at {rate:,.0f} pings/s: does the worker run?")
        return one

    def feed(self, rate: float, seconds: float, *, ahead: bool = True) -> Feed:
        """Returns what a feeder must send next: the workload's pings of so many seconds, at least one."""
        options = self._options
        feed = Feed(
            bootstrap=self._servers.bootstrap,
            topic=self._names.pings,
            partitions=options.partitions,
            entities=options.entities,
            skip=self._fed,
            count=max(1, round(rate * seconds)),
            rate_per_s=rate,
            data=None if options.data is None else str(options.data),
            ahead=ahead,
        )
        self._fed += feed.count
        return feed

    def idle(self, seconds: float) -> Load:
        """Returns the load in so many seconds without pings, after a pause in which the last ones are dealt with."""
        time.sleep(SETTLE_S)
        return self._load(seconds)

    def _between(self, feed: Feed, how: Listen) -> tuple[Fed, Load]:
        timeout_s = self._options.timeout_s
        listening = launch.module_command("harness.programs.subscriber", msgspec.json.encode(how).decode())
        feeding = launch.module_command("harness.programs.feeder", msgspec.json.encode(feed).decode())
        with launch.process("subscriber", listening) as subscriber:
            subscriber.wait_for(LISTENING)
            with launch.process("feeder", feeding) as feeder:
                feeder.wait_for(FEEDING)
                unsettled_s = settle_s(feed.count, feed.rate_per_s)
                time.sleep(LEAD_S + unsettled_s)
                load = self._load(feed.count / feed.rate_per_s - unsettled_s)
                feeder.wait(timeout_s)
                fed = msgspec.json.decode(feeder.log().splitlines()[-1], type=Fed)
            subscriber.wait(timeout_s)
        return fed, load

    def _load(self, seconds: float) -> Load:
        began_s, (worker_s, broker_s) = time.monotonic(), self._cpu_s()
        time.sleep(seconds)
        wall_s, (worker_end_s, broker_end_s) = time.monotonic() - began_s, self._cpu_s()
        broker = None if broker_s is None or broker_end_s is None else (broker_end_s - broker_s) / wall_s
        return Load((worker_end_s - worker_s) / wall_s, broker)

    def _cpu_s(self) -> tuple[float, float | None]:
        pid = self._servers.broker_pid
        try:
            return self._worker.usage().cpu_s, None if pid is None else proc.usage(pid).cpu_s
        except ProcessLookupError as error:
            raise ConnectionError(f"the broker is gone: {error}") from error


def settle_s(count: int, rate_per_s: float) -> float:
    """Returns the time at the start of a feed that is not counted: SETTLE_S, and at most half of a short feed."""
    return min(SETTLE_S, count / rate_per_s / 2)


def compute_latencies(rate_per_s: float, fed: Fed, times_s: NDArray[np.float64], load: Load) -> Measured:
    """Computes latencies. That of ping i is its forecast's arrival minus (start + i / rate), whenever it was sent."""
    due_s = fed.start_s + np.arange(len(times_s)) / rate_per_s
    counted = due_s - fed.start_s >= settle_s(len(times_s), rate_per_s)
    latencies: NDArray[Any] = ((times_s - due_s) * 1000)[counted]
    came = np.sort(latencies[np.isfinite(latencies)]).tolist()
    return Measured(rate_per_s, came, int(counted.sum()) - len(came), fed.late_ms, load)
