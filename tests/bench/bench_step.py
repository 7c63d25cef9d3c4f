"""Measures the bare model step, the fold of a ping and its forecast, in every precision, without broker and store.

Batches have one ping of each of N entities, whose windows are full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
from bench_rig import Show, Stopwatch
from numpy.typing import NDArray

from model.api import PRECISIONS, Predictor
from stream.bench.harness.report import Report, Table
from stream.bench.harness.stats import middle, plus_minus
from stream.bench.harness.workload import NEVER_MS, Sent, Workload
from stream.config.settings import DEFAULT_HORIZONS_S
from stream.tracks.clean import parse
from stream.tracks.fix import pack_many
from stream.wire import Ping, Record
from stream.worker.memory import keep_freed

WINDOW_FILL: Final = 64  # pings per entity before the measurement
COLUMNS: Final = (
    *("precision", "layers", "entities per batch", "pings/s of CPU", "±", "pings/s of wall", "CPU µs per ping"),
)


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    sizes: tuple[int, ...] = (1, 32, 256, 1_024)  # entities per batch
    steps: int = 100  # per run
    runs: int = 5
    weights: str = "small"


class Stepped(NamedTuple):
    """The pings of the bare step, and its seconds: wall time, and CPU time of this process."""

    pings: int
    wall_s: float
    cpu_s: float


def run(options: Options, show: Show) -> Report:
    """Raises WeightsError for bad weights."""
    rows, found = [], {}
    for precision in PRECISIONS:
        for size in options.sizes:
            show(f"{precision}, batches of {size}: {options.runs} runs of {options.steps} steps")
            layers, runs = measure(options, size, precision)
            cpu = [one.pings / one.cpu_s for one in runs]
            wall = middle([one.pings / one.wall_s for one in runs])
            rows.append((precision, layers, size, middle(cpu), plus_minus(cpu), wall, 1e6 / middle(cpu)))
            found[f"{precision} {size}"] = [one._asdict() for one in runs]
    note = (
        f"weights {options.weights}, full windows, {len(DEFAULT_HORIZONS_S)} horizons; medians of {options.runs} runs"
    )
    return Report("step", [Table("folding a ping and forecasting alone", COLUMNS, rows)], {"runs": found}, [note])


def measure(options: Options, size: int, precision: str) -> tuple[str, list[Stepped]]:
    """Measures steps of batches of `size` entities. Returns what computes the layers, and the runs."""
    keep_freed()  # as a worker does
    predictor = Predictor.load(options.weights, capacity=size, precision=precision)
    rounds = _rounds(Workload(size), WINDOW_FILL + 1 + options.runs * options.steps)
    slots, one_each = predictor.acquire(size), np.ones(size, np.int64)

    def steps(batches: Sequence[NDArray[Any]]) -> None:
        for fixes in batches:
            predictor.answer(slots, fixes, one_each, DEFAULT_HORIZONS_S)

    for _ in range(WINDOW_FILL):
        predictor.advance(slots, next(rounds))
    steps([next(rounds)])  # compiles everything
    runs = []
    for _ in range(options.runs):
        watch, batches = Stopwatch(), list(islice(rounds, options.steps))
        watch.timed(partial(steps, batches))
        runs.append(Stepped(len(batches) * size, watch.wall_s, watch.cpu_s))
    return predictor.layers, runs


def _rounds(workload: Workload, count: int) -> Iterator[NDArray[Any]]:
    """Yields one FIX per entity, round by round."""
    sent = workload.rounds(count)
    while pings := list(islice(sent, workload.entities)):
        yield pack_many(ping for one in pings if isinstance(ping := parse(record_of(one)), Ping))


def record_of(ping: Sent, topic: str = "", partition: int = 0, offset: int = 0) -> Record:
    return Record(topic, partition, offset, NEVER_MS, ping.entity_id.encode(), ping.value)
