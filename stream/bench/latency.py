"""`pathcast bench latency`: from the moment a ping is due to the moment its forecast is in a subscriber.

One worker, warmed by a filled topic (which also tells the most that it drains); then, per rate, a feeder and a
subscriber of their own, several times. Feeder, broker, Redis, worker and subscriber share this machine's cores.
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

from stream.bench import launch, topics
from stream.bench.feeder import READY as FEEDING
from stream.bench.feeder import Fed, Feed
from stream.bench.report import Report, Table
from stream.bench.servers import Servers
from stream.bench.stats import middle, percentile, spread
from stream.bench.subscriber import READY as LISTENING
from stream.bench.subscriber import Listen
from stream.bench.warm import warmed
from stream.wire import Topics

Show = Callable[[str], None]
PERCENTS: Final = (50.0, 99.0, 99.9)
PATIENCE_S: Final = 30.0  # without one more forecast: what is missing is counted as missing
SETTLE_S: Final = 2.0  # of each rate are fed but not counted: the producer's first connections


@dataclass(frozen=True)
class Options:
    """How fast, how long, and of what."""

    weights: str = "small"
    rates: Sequence[float] = (500.0, 5_000.0)  # pings/s
    of_max: float | None = 0.8  # and this part of the most that the worker drains
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
    return (rate, half, middle(p99), f"{100 * spread(p99):.0f} %", p999, most, missing, late, cpu)


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Raises launch.Failed or ConnectionError when something of it stops."""
    with (
        topics.fresh(servers.bootstrap, options.partitions) as names,
        warmed(options, servers, names, show) as (worker, most),
    ):
        measured = _each_rate(options, servers, names, worker, most, show)
    return _report(options, servers, most, measured)


def _each_rate(
    options: Options, servers: Servers, names: Topics, worker: launch.Process, most: float, show: Show
) -> list[list[Measured]]:
    """All rates in turn, as often as there are runs; by rate."""
    rates = [*options.rates, *([] if options.of_max is None else [options.of_max * most])]
    skip = options.warm_rounds
    measured: list[list[Measured]] = [[] for _ in rates]
    for number, rate in product(range(1, options.runs + 1), rates):
        feed = Feed(
            bootstrap=servers.bootstrap,
            topic=names.pings,
            partitions=options.partitions,
            entities=options.entities,
            skip=skip,
            rounds=math.ceil(rate * options.seconds / options.entities),
            rate_per_s=rate,
            data=None if options.data is None else str(options.data),
        )
        skip += feed.rounds
        show(f"run {number} of {options.runs}: {rate:,.0f} pings/s for {feed.count / rate:.0f} s")
        measured[rates.index(rate)].append(_one_rate(feed, names.forecasts, worker, options.timeout_s))
    return measured


def _one_rate(feed: Feed, topic: str, worker: launch.Process, timeout_s: float) -> Measured:
    with tempfile.TemporaryDirectory(prefix="pathcast-latency-") as home:
        output = Path(home) / "times.npy"
        how = Listen(feed=feed, topic=topic, output=str(output), patience_s=PATIENCE_S)
        listening = launch.module_command("subscriber", msgspec.json.encode(how).decode())
        feeding = launch.module_command("feeder", msgspec.json.encode(feed).decode())
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


def _report(options: Options, servers: Servers, most: float, measured: Sequence[Sequence[Measured]]) -> Report:
    columns = (
        *("pings/s", "p50 ms", "p99 ms", "± of p99", "p99.9 ms", "max ms"),
        *("missing", "feeder late, max ms", "worker, % of a core"),
    )
    rows = [row_of(runs) for runs in measured]
    table = Table("due time of a ping to its forecast in a subscriber", columns, rows)
    numbers: dict[str, Any] = {
        "options": {**asdict(options), "data": str(options.data or "")},
        "drained_per_wall_s": most,
        "rates": [dict(zip(columns, row, strict=True)) for row in rows],
        "runs": [[one.row() for one in runs] for runs in measured],
    }
    notes = [
        f"the worker drains {most:,.0f} pings/s of wall when it warms up, with nobody but broker and Redis beside it; "
        f"{options.entities:,} entities, {options.partitions} partitions, weights {options.weights}",
        f"medians of {options.runs} runs of {options.seconds:g} s per rate, all rates in turn",
        "open loop: latency counts from when the ping was due, also where the feeder was late",
    ]
    return Report("latency", [table], numbers, notes, servers.what)
