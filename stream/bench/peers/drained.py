"""Compares the peers as they drain a filled topic, each as fast as it can, by the CPU time of its process.

Behind the warm part, the topic has the pings that count. Each peer is measured for at most `seconds`, after its first
tenth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from kafka import TopicPartition

from stream.bench.harness import topics
from stream.bench.harness.drain import rate_of, watch
from stream.bench.harness.report import UNKNOWN, Cell, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import Rate, Sample, middle, plus_minus
from stream.bench.harness.workload import Workload
from stream.bench.peers.kinds import PEERS, Options, Results, in_turn, started
from stream.wire import Topics

COLUMNS: Final = ("by", "pings/s of its CPU", "±", "pings/s of wall", "pathcast is so many times faster (CPU)")


def run(options: Options, servers: Servers, show: Callable[[str], None]) -> Results[Rate]:
    """Lets each peer drain the same topic. Raises ConnectionError if a server stops."""
    with topics.fresh(servers.bootstrap, options.partitions) as names:
        show(f"filling the topic with {options.pings:,} pings of {options.entities:,} entities")
        workload = Workload(options.entities, options.data)
        topics.prefill(servers.bootstrap, names.pings, options.partitions, workload.rounds(options.warm_rounds))
        start = topics.ends(servers.bootstrap, names.pings, options.partitions)
        topics.prefill(servers.bootstrap, names.pings, options.partitions, workload.rounds(options.rounds))

        def one(key: str, number: int) -> Rate:
            show(f"{PEERS[key].name}, run {number} of {options.runs}")
            return _rate(key, options, servers, names, start, number)

        return in_turn(options, one)


def _rate(
    key: str, options: Options, servers: Servers, names: Topics, start: Mapping[TopicPartition, int], number: int
) -> Rate:
    with started(key, options, servers, names, start, str(number)) as (peer, counter, warm):
        samples = watch([peer], counter, warm + options.pings, timeout_s=options.seconds)
    return rate_behind(samples, warm, options.pings)


def rate_behind(samples: Sequence[Sample], warm: int, total: int) -> Rate:
    """Returns the rate after the warm part, without the first tenth of the rest."""
    return rate_of([sample._replace(done=max(0, sample.done - warm)) for sample in samples], total)


def table_of(results: Results[Rate]) -> Table:
    """Returns a row per peer, with the medians of its runs."""
    ours = results.found.get("pathcast")
    rows: list[list[Cell]] = []
    for key, rates in results.whole.items():
        per_cpu = [rate.per_cpu_s for rate in rates]
        times: Cell = middle(ratios(ours, rates)) if ours else UNKNOWN
        spreads = plus_minus(per_cpu)
        rows.append([PEERS[key].name, middle(per_cpu), spreads, middle([rate.per_wall_s for rate in rates]), times])
    return Table("the same forecasts by other means", COLUMNS, rows)


def ratios(ours: Sequence[Rate], theirs: Sequence[Rate]) -> list[float]:
    """Returns the ratios run by run, so that both numbers of a pair come from the same state of the machine."""
    return [our.per_cpu_s / their.per_cpu_s for our, their in zip(ours, theirs, strict=False)]
