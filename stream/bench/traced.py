"""`pathcast bench worker --trace-share`: workers that drain a filled topic, without traces and with some, in turn.

    pings -> Apache Kafka
    runs times: a fresh worker drains them without traces | one for each share, whose spans go to a collector of our own

A batch has at most `tracer.MOST_PINGS` traced pings: `--max-batch` says how large the batches of the backlog may be, so
with 128 a share of 1 traces every ping. How many spans came is counted: what the worker's queue had no room for is
lost, as it is with a real collector.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Final

from stream.bench.harness import topics
from stream.bench.harness.collector import collecting
from stream.bench.harness.drain import too_short
from stream.bench.harness.report import Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import Rate, middle, plus_minus
from stream.bench.harness.workload import Workload
from stream.bench.workers.worker import Options, drained

Show = Callable[[str], None]
OFF: Final = 0.0


class Found:
    """The rates by share, and how many spans came, by run."""

    def __init__(self) -> None:
        self.rates: dict[float, list[Rate]] = defaultdict(list)
        self.spans: dict[float, list[int]] = defaultdict(list)

    def costs(self, share: float) -> list[float]:
        """Returns the CPU of a ping in us, by run."""
        return [one.cpu_us_per_ping for one in self.rates[share]]

    def ratios(self, share: float) -> list[float]:
        """Returns the CPU of a ping over that without traces, of runs side by side."""
        return [one / bare for one, bare in zip(self.costs(share), self.costs(OFF), strict=True)]


def run(options: Options, shares: Sequence[float], servers: Servers, show: Show) -> Report:
    """Raises launch.Failed or ConnectionError when something of it stops; WeightsError for bad weights."""
    show(f"making {options.pings:,} pings of {options.entities:,} entities")
    pings = list(Workload(options.entities, options.data).rounds(options.rounds))
    found, ways = Found(), [OFF, *shares]
    with topics.fresh(servers.bootstrap, options.partitions) as names, collecting() as collector:
        show("filling the topic")
        topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)
        for number in range(options.runs):
            for place in range(len(ways)):  # another one begins each time
                share = ways[(place + number) % len(ways)]
                what = f"run {number + 1} of {options.runs} with share {share:g}"
                env = collector.environment
                rate = drained(options, servers, names, show, what, env, trace_share=share)
                found.rates[share].append(rate)
                found.spans[share].append(collector.take())
    return _report(options, servers, found, ways)


def _report(options: Options, servers: Servers, found: Found, ways: Sequence[float]) -> Report:
    rows = [
        (
            "off" if share == OFF else f"{share:g}",
            middle(found.costs(share)),
            middle([one.per_cpu_s for one in found.rates[share]]),
            middle(found.ratios(share)),
            plus_minus(found.ratios(share)),
            middle([spans / options.pings for spans in found.spans[share]]),
        )
        for share in ways
    ]
    columns = ("share", "CPU µs per ping", "pings/s of its CPU", "CPU / CPU without", "±", "spans per ping")
    notes = [
        f"{options.entities:,} entities, {options.rounds} pings each, {options.partitions} partitions, "
        f"batches of at most {options.max_batch}, weights {options.weights}; medians of {options.runs} runs, in turn",
        *too_short([rate for rates in found.rates.values() for rate in rates]),
    ]
    numbers = {
        "options": {**asdict(options), "data": str(options.data or ""), "flame": str(options.flame or "")},
        "rates": {f"{share:g}": [one._asdict() for one in found.rates[share]] for share in ways},
        "spans": {f"{share:g}": found.spans[share] for share in ways},
        "ratios": {f"{share:g}": middle(found.ratios(share)) for share in ways},
    }
    tables = [Table("one worker, a filled topic", columns, rows)]
    return Report("worker with traces", tables, numbers, notes, servers.what)
