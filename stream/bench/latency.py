"""`pathcast bench latency`: from the moment a ping is due to the moment its forecast is in a subscriber.

One worker, warmed by a filled topic; then, per rate, a feeder and a subscriber of their own, several times. Feeder,
broker, Redis, worker and subscriber share this machine's cores, so the most that the worker keeps up with is searched
downwards from what it drains when only broker and Redis are beside it.
"""

from __future__ import annotations

import math
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
PATIENCE_S: Final = 30.0  # without one more forecast: what is missing is counted as missing
SETTLE_S: Final = 2.0  # of each rate are fed but not counted: the producer's first connections
TRY_S: Final = 10.0  # of each rate in the search for the most
LESS: Final = 0.9  # of a rate is tried next, where the worker did not keep up
KEPT_UP_MS: Final = 200.0  # the median of a try is below: what waits does not become more
LEAST: Final = 0.1  # of what it drains; where it does not keep up with that, something is wrong


@dataclass(frozen=True)
class Options:
    """How fast, how long, and of what."""

    weights: str = "small"
    rates: Sequence[float] = (500.0, 5_000.0)  # pings/s
    of_max: float | None = 0.8  # and this part of the most that the worker keeps up with
    seconds: float = 20.0  # per rate and run
    runs: int = 5
    entities: int = 1_000
    warm_rounds: int = 64  # per entity, drained before: full windows
    partitions: int = 8
    timeout_s: float = 600.0
    data: Path | None = None


@dataclass(frozen=True)
class Measured:
    """One rate: latencies in ms, sorted, of the pings that were answered."""

    rate_per_s: float
    latencies_ms: list[float]
    missing: int
    feeder_late_ms: float
    cpu_part: float  # of one core, the worker's own

    def row(self) -> tuple[float | int, ...]:
        ranks = [percentile(self.latencies_ms, percent) for percent in PERCENTS]
        return (self.rate_per_s, *ranks, self.latencies_ms[-1], self.missing, self.feeder_late_ms, 100 * self.cpu_part)


def row_of(runs: Sequence[Measured]) -> tuple[float | int | str, ...]:
    """The medians of some runs of one rate, the spread of their p99, and all that is missing."""
    p99 = [percentile(one.latencies_ms, 99.0) for one in runs]
    rate, half, _, *others = (middle(column) for column in zip(*(one.row() for one in runs), strict=True))
    p999, most, _, late, cpu = others
    missing = sum(one.missing for one in runs)
    return (rate, half, middle(p99), plus_minus(p99), p999, most, missing, late, cpu)


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Raises launch.Failed or ConnectionError when something of it stops."""
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
    """The highest of the rates drained, drained * LESS, ... at which pings do not wait longer and longer.

    Raises RuntimeError if none of them is.
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
    """From a feeder through the worker to a subscriber. Each feed goes on where the one before ended."""

    def __init__(self, options: Warm, servers: Servers, names: Topics, worker: launch.Process) -> None:
        self._options = options
        self._servers = servers
        self._names = names
        self._worker = worker
        self._fed = options.warm_rounds  # rounds of the workload

    def measured(self, rate: float, seconds: float) -> Measured:
        return _one_rate(self.feed(rate, seconds), self._names.forecasts, self._worker, self._options.timeout_s)

    def feed(self, rate: float, seconds: float, *, ahead: bool = True) -> Feed:
        """What a feeder is to send next."""
        options = self._options
        feed = Feed(
            bootstrap=self._servers.bootstrap,
            topic=self._names.pings,
            partitions=options.partitions,
            entities=options.entities,
            skip=self._fed,
            rounds=math.ceil(rate * seconds / options.entities),
            rate_per_s=rate,
            data=None if options.data is None else str(options.data),
            ahead=ahead,
        )
        self._fed += feed.rounds
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
    """Latency of ping i: its arrival minus start + i / rate, whenever it was really sent."""
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
