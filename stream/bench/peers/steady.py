"""Compares the peers at steady rates, as most fleets have them: the latency of their answers, and the CPU of each.

Each peer and rate has topics of its own. They are filled with the warm part and one more ping of each entity; when the
peer has answered these, an open-loop feeder sends the next ones. A peer that is too slow for a rate is measured all the
same: its answers come later and later, and those that have not come LATE_S after the feed's end count as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from stream.bench.harness import launch, topics
from stream.bench.harness.drain import watch
from stream.bench.harness.line import Line, Measured, percents
from stream.bench.harness.report import UNKNOWN, Cell, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import middle, percentile
from stream.bench.harness.workload import Workload
from stream.bench.peers.kinds import PEERS, Options, Results, in_turn, started

LATE_S: Final = 10.0  # for answers after the feed's end; a peer that keeps up needs a tenth of a second
COLUMNS: Final = ("by", "pings/s", "% of a core", "p50 ms", "p99 ms", "missing", "keeps up")


def run(options: Options, servers: Servers, show: Callable[[str], None]) -> Results[list[Measured]]:
    """Measures each peer at each rate. A result has the rates of one run. Raises ConnectionError if a server stops."""

    def one(key: str, number: int) -> list[Measured]:
        found = []
        for rate in options.rates:
            show(f"{PEERS[key].name} at {rate:,.0f} pings/s, run {number} of {options.runs}")
            found.append(_measured(key, rate, options, servers))
        return found

    return in_turn(options, one)


def _measured(key: str, rate: float, options: Options, servers: Servers) -> Measured:
    with topics.fresh(servers.bootstrap, options.partitions) as names:
        workload = Workload(options.entities, options.data)
        topics.prefill(servers.bootstrap, names.pings, options.partitions, workload.rounds(options.warm_rounds))
        start = topics.ends(servers.bootstrap, names.pings, options.partitions)
        topics.prefill(servers.bootstrap, names.pings, options.partitions, workload.rounds(1))
        with started(key, options, servers, names, start, "steady") as (peer, counter, warm):
            filled = warm + options.entities
            if watch([peer], counter, filled, timeout_s=options.timeout_s)[-1].done < filled:
                raise launch.Failed(f"one ping of each entity takes it more than {options.timeout_s:.0f} s")
            line = Line(options, servers, names, peer, options.entities * (options.warm_rounds + 1))
            return line.attempted(rate, options.seconds, options.seconds + LATE_S)


def table_of(results: Results[list[Measured]]) -> Table:
    """Returns a row per peer and rate, with the medians of its runs and the sum of missing answers."""
    rows = [[PEERS[key].name, *row_of(same)] for key, runs in results.whole.items() for same in zip(*runs, strict=True)]
    return Table("the same forecasts at steady rates: due time of a ping to its answer in a subscriber", COLUMNS, rows)


def row_of(runs: Sequence[Measured]) -> tuple[Cell, ...]:
    """Returns the medians of some runs of one peer and rate; it keeps up if it did in more than half of them."""
    came = [one.latencies_ms for one in runs if one.latencies_ms]
    ranks = [middle([percentile(some, percent) for some in came]) if came else UNKNOWN for percent in (50.0, 99.0)]
    cpu, _ = percents([one.load for one in runs])
    missing, kept_up = sum(one.missing for one in runs), sum(one.kept_up for one in runs)
    return (runs[0].rate_per_s, cpu, *ranks, missing, "yes" if 2 * kept_up > len(runs) else "no")
