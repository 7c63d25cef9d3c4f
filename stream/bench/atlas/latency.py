"""`pathcast dev bench latency --atlas`: latencies with an atlas and without, in turn.

    an atlas of the benchmark's own pings, filled up to `--atlas-passages`, is announced before the first ping
    runs times, the other way round in every other, each with topics of its own:
        a fresh worker without --atlas is warmed up, and fed at each rate | another one with it

So both sides of a ratio were measured soon after each other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Final, NamedTuple

from model.api import Atlas
from stream.bench.atlas import filled
from stream.bench.atlas.guided import COLUMNS, Served, fresh_with, in_turn, note_of, read_served, row_of, write_atlas
from stream.bench.harness.line import Line, Measured
from stream.bench.harness.report import Cell, Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import percentile
from stream.bench.harness.warm import warmed
from stream.bench.harness.workload import Workload
from stream.bench.workers import latency
from stream.bench.workers.latency import Options

Show = Callable[[str], None]
KINDS: Final[Mapping[str, Callable[[Measured], float]]] = {
    "p50 ms": lambda one: percentile(one.latencies_ms, 50.0),
    "p99 ms": lambda one: percentile(one.latencies_ms, 99.0),
    "worker, % of a core": lambda one: 100 * one.load.worker_part,
}


class Found(NamedTuple):
    """Holds what was measured, by run and in each by rate, and what the workers with an atlas published."""

    plain: list[list[Measured]]
    guided: list[list[Measured]]
    served: list[Served]


def run(options: Options, passages: int, servers: Servers, show: Show) -> Report:
    """Raises launch.Failed or ConnectionError if a process or a server stops."""
    show(f"making an atlas of {passages:,} passages")
    rounds = options.warm_rounds + ceil(sum(options.rates) * options.seconds / options.entities)
    raw = filled.bytes_of(Workload(options.entities, options.data).rounds(rounds), passages)
    found = Found([], [], [])
    with tempfile.TemporaryDirectory(prefix="pathcast-bench-") as folder:
        atlas = write_atlas(raw, Path(folder))
        for number in range(1, options.runs + 1):
            for guided in in_turn(number):
                show(f"run {number} of {options.runs} with{'' if guided else 'out'} the atlas")
                _measure(options, servers, atlas, found, show, {"atlases": folder} if guided else {})
    return _report(options, servers, atlas, found)


def _measure(
    options: Options, servers: Servers, atlas: Atlas, found: Found, show: Show, more: Mapping[str, str]
) -> None:
    with (
        fresh_with(atlas, servers, options.partitions) as names,
        warmed(options, servers, names, show, **more) as (worker, _),
    ):
        line = Line(options, servers, names, worker, options.entities * options.warm_rounds)
        show(f"{options.seconds:g} s at each rate")
        (found.guided if more else found.plain).append([line.measured(rate, options.seconds) for rate in options.rates])
        if more:
            found.served.append(read_served(servers.bootstrap, names, options.partitions, atlas))


def rows_of(plain: Sequence[Measured], guided: Sequence[Measured]) -> list[tuple[Cell, ...]]:
    """Returns the rows of some runs of one rate."""
    rate = f"{plain[0].rate_per_s:,.0f} pings/s, "
    return [row_of(rate + what, list(map(of, plain)), list(map(of, guided))) for what, of in KINDS.items()]


def _report(options: Options, servers: Servers, atlas: Atlas, found: Found) -> Report:
    by_rate = zip(zip(*found.plain, strict=True), zip(*found.guided, strict=True), strict=True)
    rows = [row for plain, guided in by_rate for row in rows_of(plain, guided)]
    sides = {"without": found.plain, "with": found.guided}
    missing = {side: sum(one.missing for run in runs for one in run) for side, runs in sides.items()}
    notes = [
        f"{options.entities:,} entities, {options.partitions} partitions, weights {options.weights}; medians of "
        f"{options.runs} runs of {options.seconds:g} s per rate, with and without in turn, each with a fresh worker",
        note_of(atlas, found.served),
        f"open loop: latency counts from when the ping was due; missing: {missing['without']} without, "
        f"{missing['with']} with",
    ]
    numbers = {
        "options": {**asdict(options), "data": str(options.data or "")},
        "passages": len(atlas.passages.known),
        **{side: [[latency.row_of([one]) for one in run] for run in runs] for side, runs in sides.items()},
        "missing": missing,
        "served": [one._asdict() for one in found.served],
        "rows": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
    }
    return Report(
        "latency with an atlas",
        [Table("due time of a ping to its forecast", COLUMNS, rows)],
        numbers,
        notes,
        servers.what,
    )
