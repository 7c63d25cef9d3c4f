"""`pathcast bench peers`: compares the same forecasts from the same records by other means.

Each way to make them (`kinds`) drains a filled topic as fast as it can (`drained`), and then answers pings that come at
steady rates (`steady`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from stream.bench.harness.drain import too_short
from stream.bench.harness.line import Measured
from stream.bench.harness.report import Report
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import Rate, middle
from stream.bench.peers import drained, steady
from stream.bench.peers.kinds import PEERS, Options, Results


def run(options: Options, servers: Servers, show: Callable[[str], None]) -> Report:
    """Runs the benchmark. A peer that cannot run is skipped, and the report gives the reason. Raises ConnectionError if
    a server stops."""
    drains = drained.run(options, servers, show) if options.drain else None
    rates = steady.run(options, servers, show) if options.rates else None
    return _report(options, servers, drains, rates)


def _report(
    options: Options, servers: Servers, drains: Results[Rate] | None, rates: Results[list[Measured]] | None
) -> Report:
    tables = []
    notes = [
        f"{options.entities:,} entities with windows of {options.warm_rounds} before, {options.partitions} partitions, "
        f"weights {options.weights}, take({options.take}); medians of {options.runs} runs"
    ]
    numbers: dict[str, Any] = {"options": {**asdict(options), "data": str(options.data or "")}}
    if drains is not None:
        tables.append(drained.table_of(drains))
        notes.append(f"drained: {options.pings:,} pings, at most {options.seconds:g} s each")
        notes += too_short([rate for found in drains.found.values() for rate in found])
        ours = drains.found.get("pathcast")
        numbers["peers"] = {key: [rate._asdict() for rate in found] for key, found in drains.found.items()}
        numbers["times_faster"] = {
            key: middle(drained.ratios(ours, found)) for key, found in drains.whole.items() if ours
        }
    if rates is not None:
        tables.append(steady.table_of(rates))
        notes.append(
            f"steady: {options.seconds:g} s per rate and run; missing: of all runs, what was not answered "
            f"{steady.LATE_S:g} s after the end. Latencies are those of the answers that came"
        )
        numbers["rates"] = {key: [_rows(runs) for runs in found] for key, found in rates.found.items()}
    skipped = [item for results in (drains, rates) if results is not None for item in results.skipped.items()]
    numbers["skipped"] = dict(skipped)
    notes += dict.fromkeys(f"{PEERS[key].name}: skipped, {why}" for key, why in skipped)  # each once
    return Report("peers", tables, numbers, notes, servers.what)


def _rows(runs: Sequence[Measured]) -> list[dict[str, Any]]:
    """Returns one run's rates for a program. The broker's load includes what feeder and subscriber ask of it."""
    return [{**dict(zip(steady.COLUMNS[1:], steady.row_of([one]), strict=True)), **one.load._asdict()} for one in runs]
