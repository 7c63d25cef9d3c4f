"""`pathcast dev bench latency`: measures the time from when a ping is due until its forecast is in a subscriber.

One worker is warmed up by a filled topic. Then, for each rate, a separate feeder and subscriber run several times, and
between them nothing, to count the CPU time of a worker and a broker that have nothing to do. Feeder, broker, Redis,
worker and subscriber share this machine's cores. So the highest rate with which the worker keeps up is searched
downwards from its rate when only broker and Redis run beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from stream.bench.harness import topics
from stream.bench.harness.line import Line, Load, Measured, percents
from stream.bench.harness.report import UNKNOWN, Cell, Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import middle, percentile, plus_minus
from stream.bench.harness.warm import warmed

Show = Callable[[str], None]
PERCENTS: Final = (50.0, 99.0, 99.9)
IDLE_S: Final = 10.0  # the longest time without pings in each run: 10 ms of CPU, what /proc counts, are 0.1 % of it
TRY_S: Final = 10.0  # per rate in the search for the highest one
LESS: Final = 0.9  # the next rate as a part of one with which the worker did not keep up
LEAST: Final = 0.1  # the lowest part of the drain's rate to try; if the worker cannot keep up, something is wrong
COLUMNS: Final = (
    *("pings/s", "p50 ms", "p99 ms", "± of p99", "p99.9 ms", "max ms"),
    *("missing", "feeder late, max ms", "worker, % of a core", "broker, % of a core"),
)


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    weights: str = "small"
    rates: Sequence[float] = (100.0, 1_000.0, 5_000.0)  # pings/s
    of_max: float | None = 0.8  # also measure this part of the highest rate with which the worker keeps up
    seconds: float = 20.0  # per rate and run
    runs: int = 5
    entities: int = 1_000
    warm_rounds: int = 64  # pings per entity that are drained before, so that windows are full
    partitions: int = 8
    timeout_s: float = 600.0
    data: Path | None = None


def row_of(runs: Sequence[Measured]) -> tuple[Cell, ...]:
    """Returns the medians of some runs of one rate, the spread of their p99, and the sum of missing forecasts."""
    half, p99, p999 = ([percentile(one.latencies_ms, percent) for one in runs] for percent in PERCENTS)
    ranks = (middle(half), middle(p99), plus_minus(p99), middle(p999), middle([one.latencies_ms[-1] for one in runs]))
    missing, late = sum(one.missing for one in runs), middle([one.feeder_late_ms for one in runs])
    return (runs[0].rate_per_s, *ranks, missing, late, *percents([one.load for one in runs]))


def idle_row_of(loads: Sequence[Load]) -> tuple[Cell, ...]:
    """Returns the medians of some times without pings, as the row of the rate 0."""
    return (0, *[UNKNOWN] * (len(COLUMNS) - 3), *percents(loads))


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Runs the benchmark. Raises launch.Failed or ConnectionError if a process or a server stops."""
    with (
        topics.fresh(servers.bootstrap, options.partitions) as names,
        warmed(options, servers, names, show) as (worker, drained),
    ):
        line = Line(options, servers, names, worker, options.entities * options.warm_rounds)
        rates = list(options.rates)
        most = None
        if options.of_max is not None:
            most = kept_up_with(line.measured, drained, show)
            rates.append(options.of_max * most)
        idle: list[Load] = []
        measured: list[list[Measured]] = [[] for _ in rates]
        for number in range(1, options.runs + 1):
            show(f"run {number} of {options.runs}: no pings")
            idle.append(line.idle(min(options.seconds, IDLE_S)))
            for rate, runs in zip(rates, measured, strict=True):
                show(f"run {number} of {options.runs}: {rate:,.0f} pings/s for {options.seconds:.0f} s")
                runs.append(line.measured(rate, options.seconds))
    return _report(options, servers, drained, most, idle, measured)


def kept_up_with(measured: Callable[[float, float], Measured], drained: float, show: Show) -> float:
    """Returns the highest of the rates drained, drained * LESS, ... at which pings do not wait longer and longer.

    Raises RuntimeError if there is none.
    """
    rate = drained
    while rate >= LEAST * drained:
        show(f"does it keep up with {rate:,.0f} pings/s?")
        one = measured(rate, TRY_S)
        if one.kept_up:
            return rate
        rate *= LESS
    raise RuntimeError(f"it drains {drained:,.0f} pings/s, and does not keep up with {rate / LESS:,.0f}: see its log")


def _report(
    options: Options,
    servers: Servers,
    drained: float,
    most: float | None,
    idle: Sequence[Load],
    measured: Sequence[Sequence[Measured]],
) -> Report:
    rows = [idle_row_of(idle), *(row_of(runs) for runs in measured)]
    table = Table("due time of a ping to its forecast in a subscriber", COLUMNS, rows)
    numbers: dict[str, Any] = {
        "options": {**asdict(options), "data": str(options.data or "")},
        "drained_per_wall_s": drained,
        "kept_up_with_per_s": most,
        "rates": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
        "runs": [[row_of([one]) for one in runs] for runs in measured],
        "idle": [load._asdict() for load in idle],
    }
    notes = [
        f"the worker drains {drained:,.0f} pings/s of wall when it warms up, with broker and Redis alone beside it; "
        f"{options.entities:,} entities, {options.partitions} partitions, weights {options.weights}",
        f"medians of {options.runs} runs of {options.seconds:g} s per rate, all rates in turn",
        "open loop: latency counts from when the ping was due, also where the feeder was late",
        f"0 pings/s: {min(options.seconds, IDLE_S):g} s per run without feeder and subscriber; the broker of the other "
        "rows serves these two as well as the worker",
    ]
    if most is not None:
        notes.append(
            f"the last row is {options.of_max:.0%} of {most:,.0f} pings/s, the most that it keeps up with while feeder "
            f"and subscriber work on the same cores, searched downwards by {1 - LESS:.0%} from what it drains"
        )
    return Report("latency", [table], numbers, notes, servers.what)
