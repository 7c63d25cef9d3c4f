"""`pathcast bench latency`: measures the time from when a ping is due until its forecast is in a subscriber.

One worker is warmed up by a filled topic. Then, for each rate, a separate feeder and subscriber run several times.
Feeder, broker, Redis, worker and subscriber share this machine's cores. So the highest rate with which the worker keeps
up is searched downwards from its rate when only broker and Redis run beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.bench.harness import launch, topics
from stream.bench.harness.feeder import READY as FEEDING
from stream.bench.harness.feeder import Fed, Feed
from stream.bench.harness.report import Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import middle, percentile, plus_minus
from stream.bench.harness.subscriber import READY as LISTENING
from stream.bench.harness.subscriber import Listen
from stream.bench.harness.warm import Options as Warm
from stream.bench.harness.warm import warmed
from stream.wire import Topics

Show = Callable[[str], None]
PERCENTS: Final = (50.0, 99.0, 99.9)
PATIENCE_S: Final = 30.0  # if no forecast comes for so long, the others count as missing
SETTLE_S: Final = 2.0  # at the start of each rate, pings are not counted: the producer opens its connections
TRY_S: Final = 10.0  # per rate in the search for the highest one
LESS: Final = 0.9  # the next rate as a part of one with which the worker did not keep up
KEPT_UP_MS: Final = 200.0  # if the median of a try is at most this, the waiting pings do not increase
LEAST: Final = 0.1  # the lowest part of the drain's rate to try; if the worker cannot keep up, something is wrong


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    weights: str = "small"
    rates: Sequence[float] = (500.0, 5_000.0)  # pings/s
    of_max: float | None = 0.8  # also measure this part of the highest rate with which the worker keeps up
    seconds: float = 20.0  # per rate and run
    runs: int = 5
    entities: int = 1_000
    warm_rounds: int = 64  # pings per entity that are drained before, so that windows are full
    partitions: int = 8
    timeout_s: float = 600.0
    data: Path | None = None


@dataclass(frozen=True)
class Measured:
    """The result for one rate: sorted latencies in ms of the pings that were answered."""

    rate_per_s: float
    latencies_ms: list[float]
    missing: int
    feeder_late_ms: float
    cpu_part: float  # the worker's CPU time, as a part of one core

    def row(self) -> tuple[float | int, ...]:
        ranks = [percentile(self.latencies_ms, percent) for percent in PERCENTS]
        return (self.rate_per_s, *ranks, self.latencies_ms[-1], self.missing, self.feeder_late_ms, 100 * self.cpu_part)


def row_of(runs: Sequence[Measured]) -> tuple[float | int | str, ...]:
    """Returns the medians of some runs of one rate, the spread of their p99, and the sum of missing forecasts."""
    p99 = [percentile(one.latencies_ms, 99.0) for one in runs]
    rate, half, _, *others = (middle(column) for column in zip(*(one.row() for one in runs), strict=True))
    p999, most, _, late, cpu = others
    missing = sum(one.missing for one in runs)
    return (rate, half, middle(p99), plus_minus(p99), p999, most, missing, late, cpu)


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Runs the benchmark. Raises launch.Failed or ConnectionError if a process or a server stops."""
    with (
        topics.fresh(servers.bootstrap, options.partitions) as names,
        warmed(options, servers, names, show) as (worker, drained),
    ):
        line = Line(options, servers, names, worker)
        rates = list(options.rates)
        most = None
        if options.of_max is not None:
            most = kept_up_with(line.measured, drained, show)
            rates.append(options.of_max * most)
        measured: list[list[Measured]] = [[] for _ in rates]
        for number, (at, rate) in product(range(1, options.runs + 1), enumerate(rates)):
            show(f"run {number} of {options.runs}: {rate:,.0f} pings/s for {options.seconds:.0f} s")
            measured[at].append(line.measured(rate, options.seconds))
    return _report(options, servers, drained, most, measured)


def kept_up_with(measured: Callable[[float, float], Measured], drained: float, show: Show) -> float:
    """Returns the highest of the rates drained, drained * LESS, ... at which pings do not wait longer and longer.

    Raises RuntimeError if there is none.
    """
    rate = drained
    while rate >= LEAST * drained:
        show(f"does it keep up with {rate:,.0f} pings/s?")
        one = measured(rate, TRY_S)
        if percentile(one.latencies_ms, 50) <= KEPT_UP_MS and not one.missing:
            return rate
        rate *= LESS
    raise RuntimeError(f"it drains {drained:,.0f} pings/s, and does not keep up with {rate / LESS:,.0f}: see its log")


class Line:
    """Measures from a feeder through the worker to a subscriber. Each feed continues where the previous one ended."""

    def __init__(self, options: Warm, servers: Servers, names: Topics, worker: launch.Process) -> None:
        self._options = options
        self._servers = servers
        self._names = names
        self._worker = worker
        self._fed = options.entities * options.warm_rounds  # pings of the workload

    def measured(self, rate: float, seconds: float) -> Measured:
        return _one_rate(self.feed(rate, seconds), self._names.forecasts, self._worker, self._options.timeout_s)

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


def _one_rate(feed: Feed, topic: str, worker: launch.Process, timeout_s: float) -> Measured:
    with tempfile.TemporaryDirectory(prefix="pathcast-latency-") as home:
        output = Path(home) / "times.npy"
        how = Listen(feed=feed, topic=topic, output=str(output), patience_s=PATIENCE_S)
        listening = launch.module_command("harness.subscriber", msgspec.json.encode(how).decode())
        feeding = launch.module_command("harness.feeder", msgspec.json.encode(feed).decode())
        with launch.process("subscriber", listening) as subscriber:
            subscriber.wait_for(LISTENING)
            with launch.process("feeder", feeding) as feeder:
                feeder.wait_for(FEEDING)
                before = worker.usage().cpu_s
                feeder.wait(timeout_s)
                cpu_s = worker.usage().cpu_s - before
                fed = msgspec.json.decode(feeder.log().splitlines()[-1], type=Fed)
            subscriber.wait(timeout_s)
        times: NDArray[np.float64] = np.load(output)
    cpu_part = cpu_s * feed.rate_per_s / feed.count
    return measured_of(feed.rate_per_s, fed, times, cpu_part)


def measured_of(rate_per_s: float, fed: Fed, times_s: NDArray[np.float64], cpu_part: float) -> Measured:
    """Computes latencies. That of ping i is its forecast's arrival minus (start + i / rate), whenever it was sent."""
    due_s = fed.start_s + np.arange(len(times_s)) / rate_per_s
    counted = due_s - fed.start_s >= min(SETTLE_S, len(times_s) / rate_per_s / 2)
    latencies = ((times_s - due_s) * 1000)[counted]
    came = np.sort(latencies[np.isfinite(latencies)]).tolist()
    if not came:
        raise RuntimeError(f"no forecast came at {rate_per_s:,.0f} pings/s: does the worker run?")
    return Measured(rate_per_s, came, int(counted.sum()) - len(came), fed.late_ms, cpu_part)


def _report(
    options: Options, servers: Servers, drained: float, most: float | None, measured: Sequence[Sequence[Measured]]
) -> Report:
    columns = (
        *("pings/s", "p50 ms", "p99 ms", "± of p99", "p99.9 ms", "max ms"),
        *("missing", "feeder late, max ms", "worker, % of a core"),
    )
    rows = [row_of(runs) for runs in measured]
    table = Table("due time of a ping to its forecast in a subscriber", columns, rows)
    numbers: dict[str, Any] = {
        "options": {**asdict(options), "data": str(options.data or "")},
        "drained_per_wall_s": drained,
        "kept_up_with_per_s": most,
        "rates": [dict(zip(columns, row, strict=True)) for row in rows],
        "runs": [[one.row() for one in runs] for runs in measured],
    }
    notes = [
        f"the worker drains {drained:,.0f} pings/s of wall when it warms up, with broker and Redis alone beside it; "
        f"{options.entities:,} entities, {options.partitions} partitions, weights {options.weights}",
        f"medians of {options.runs} runs of {options.seconds:g} s per rate, all rates in turn",
        "open loop: latency counts from when the ping was due, also where the feeder was late",
    ]
    if most is not None:
        notes.append(
            f"the last row is {options.of_max:.0%} of {most:,.0f} pings/s, the most that it keeps up with while feeder "
            f"and subscriber work on the same cores, searched downwards by {1 - LESS:.0%} from what it drains"
        )
    return Report("latency", [table], numbers, notes, servers.what)
