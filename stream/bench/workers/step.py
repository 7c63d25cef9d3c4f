"""Measures the bare model step: the fold of pings and the forecasts, without broker and store.

There are two sources of batches. `measure` makes them: N entities, one ping each, from the workload. `calls_of` passes
input records through the real engine once and records every call of the model; `played` repeats these calls on a fresh
Predictor and times those in TIMED: the same rows in the same batches as in a worker, without the rest of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.api import PRECISIONS, Forecasts, Guide, Moment, Predictor
from stream.bench.harness.report import Report, Table
from stream.bench.harness.stats import middle, plus_minus
from stream.bench.harness.workload import Sent, Workload
from stream.config.settings import DEFAULT_HORIZONS_S, FETCH_BYTES, Settings
from stream.engine.engine import Engine
from stream.store.base import MemoryStore
from stream.tracks.clean import parse
from stream.tracks.fix import packed
from stream.wire import Ping, Record
from stream.worker.memory import keep_freed

T = TypeVar("T")
Slots = NDArray[np.int64]
Call = tuple[str, tuple[Any, ...]]  # a method of Predictor, and its arguments
WINDOW_FILL: Final = 64  # pings per entity before the measurement: the ring is full then
AHEAD_MS: Final = 4_102_444_800_000
FRAME_BYTES: Final = 10  # of a record in Kafka's log, in addition to its key and value


class Stepped(NamedTuple):
    """The pings of the bare step, and its seconds: wall time, and CPU time of this process."""

    pings: int
    wall_s: float
    cpu_s: float
    calls: int

    @property
    def per_wall_s(self) -> float:
        return self.pings / self.wall_s

    @property
    def per_cpu_s(self) -> float:
        return self.pings / self.cpu_s


class Stopwatch:
    """Adds up the time of everything that runs inside `timed`."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def timed(self, work: Callable[[], T]) -> T:
        # It is process time, not thread time, so that all threads of the model count, as in the worker.
        wall, cpu = time.perf_counter(), time.process_time()
        made = work()
        self.cpu_s += time.process_time() - cpu
        self.wall_s += time.perf_counter() - wall
        return made


def measure(
    weights: str, n: int, *, steps: int, runs: int, workload: Workload | None = None, precision: str = "int8"
) -> tuple[str, list[Stepped]]:
    """Measures `runs` times `steps` steps of a batch of `n` entities, each with a full window. Returns the name of what
    computes the layers, and the measurements.

    Raises WeightsError, and ValueError for bad numbers.
    """
    keep_freed()  # as a worker does
    predictor = Predictor.load(weights, capacity=n, precision=precision)
    rounds = fix_rounds(workload or Workload(n), WINDOW_FILL + 1 + runs * steps)
    slots = predictor.acquire(n)
    for _ in range(WINDOW_FILL):
        predictor.advance(slots, next(rounds))
    _run(predictor, slots, [next(rounds)])  # compiles everything
    return predictor.layers, [_run(predictor, slots, [next(rounds) for _ in range(steps)]) for _ in range(runs)]


def measured(
    weights: str, sizes: Sequence[int], *, steps: int, runs: int, data: Path | None, show: Callable[[str], None]
) -> Report:
    """Measures for `pathcast bench step`, in every precision, and returns the report."""
    rows, found = [], {}
    for precision in PRECISIONS:
        for n in sizes:
            show(f"{precision}, batches of {n}: {runs} runs of {steps} steps")
            layers, those = measure(weights, n, steps=steps, runs=runs, workload=Workload(n, data), precision=precision)
            cpu, wall = [one.per_cpu_s for one in those], [one.per_wall_s for one in those]
            speed = (middle(cpu), plus_minus(cpu), middle(wall), 1e6 / middle(cpu))
            rows.append((precision, layers, n, *speed))
            found[f"{precision} {n}"] = [one._asdict() for one in those]
    columns = ("precision", "layers", "entities per batch", "pings/s of CPU", "±", "pings/s of wall", "CPU µs per ping")
    numbers = {"weights": weights, "steps": steps, "runs": found}
    note = (
        f"weights {weights}, full windows, {len(DEFAULT_HORIZONS_S)} horizons; medians of {runs} runs of {steps} steps"
    )
    return Report("step", [Table("folding a ping and forecasting alone", columns, rows)], numbers, [note])


def _run(predictor: Predictor, slots: Slots, batches: Sequence[NDArray[Any]]) -> Stepped:
    watch, one_each = Stopwatch(), np.ones(len(slots), np.int64)

    def steps() -> None:
        for fixes in batches:
            predictor.answer(slots, fixes, one_each, DEFAULT_HORIZONS_S)

    watch.timed(steps)
    return Stepped(len(batches) * len(slots), watch.wall_s, watch.cpu_s, len(batches))


def fix_rounds(workload: Workload, count: int) -> Iterator[NDArray[Any]]:
    """Yields one FIX per entity, round by round."""
    sent = workload.rounds(count)
    while pings := list(islice(sent, workload.entities)):
        yield packed(ping for item in pings if isinstance(ping := parse(_record(item, 0)), Ping))


class Recorder(Predictor):
    """A Predictor that records its calls, in order, with their arguments."""

    calls: list[Call]

    def occupy(self, slots: Slots) -> None:
        self._note("occupy", slots)
        super().occupy(slots)

    def vacate(self, slots: Slots) -> None:
        self._note("vacate", slots)
        super().vacate(slots)

    def reset(self, slots: Slots) -> None:
        self._note("reset", slots)
        super().reset(slots)

    def rebuild(self, slots: Slots, windows: Sequence[NDArray[Any]]) -> None:
        self._note("rebuild", slots, windows)
        super().rebuild(slots, windows)

    def catch_up(self, slots: Slots, fixes: NDArray[Any], counts: NDArray[np.int64]) -> None:
        self._note("catch_up", slots, fixes, counts)
        super().catch_up(slots, fixes, counts)

    def answer(
        self,
        slots: Slots,
        fixes: NDArray[Any],
        counts: NDArray[np.int64],
        horizons_s: Any,
        guide: Guide | None = None,
    ) -> tuple[Forecasts, Moment]:
        self._note("answer", slots, fixes, counts, horizons_s, guide)
        return super().answer(slots, fixes, counts, horizons_s, guide)

    def forecast(self, slots: Slots, horizons_s: Any, guide: Guide | None = None) -> Forecasts:
        self._note("forecast", slots, horizons_s, guide)
        return super().forecast(slots, horizons_s, guide)

    def _note(self, name: str, *arguments: Any) -> None:
        if not hasattr(self, "calls"):
            self.calls = []
        self.calls.append((name, arguments))


TIMED: Final = frozenset({"answer", "forecast"})


def calls_of(weights: str, batches: Sequence[Sequence[Record]]) -> list[Call]:
    """Returns the calls with which an engine uses the model for these batches."""
    recorder = Recorder.load(weights)
    recorder.calls = []
    engine = Engine(recorder, MemoryStore(), Settings())

    async def fold() -> None:
        for records in batches:
            await engine.process(records, started_ms=0.0, fetched_ms=0.0)

    asyncio.run(fold())
    return recorder.calls


def played(weights: str, calls: Sequence[Call], warm: float) -> Stepped:
    """Repeats the calls, and times those of the bare step. The first `warm` part of the pings is not counted."""
    keep_freed()  # as a worker does
    predictor = Predictor.load(weights)
    total = sum(_forecasts(call) for call in calls)
    watch, pings, counted, steps = Stopwatch(), 0, 0, 0
    for call in calls:
        name, arguments = call
        method, answered = getattr(predictor, name), _forecasts(call)
        if name in TIMED and pings >= warm * total:
            watch.timed(partial(method, *arguments))
            counted += answered
            steps += answered > 0
        else:
            method(*arguments)
        pings += answered
    return Stepped(counted, watch.wall_s, watch.cpu_s, steps)


def _forecasts(call: Call) -> int:
    """Returns how many pings a call answers."""
    name, arguments = call
    return len(arguments[{"forecast": 0, "answer": 1}[name]]) if name in ("forecast", "answer") else 0


def batches(pings: Sequence[Sent], topic: str, partitions: int, max_batch: int) -> list[list[Record]]:
    """Returns the pings in the batches of a worker that drains a full topic: FETCH_BYTES of each partition in turn, and
    `max_batch` of these in each poll, which is a batch."""
    from stream.kafka.partitioner import partition_of

    logs: list[list[Record]] = [[] for _ in range(partitions)]
    for ping in pings:
        number = partition_of(ping.entity_id.encode(), partitions)
        logs[number].append(_record(ping, len(logs[number]), topic, number))
    fetches = (piece for fetched in zip_longest(*map(_fetched, logs)) for piece in fetched if piece)
    records = chain.from_iterable(fetches)
    return list(iter(lambda: list(islice(records, max_batch)), []))


def _fetched(log: Sequence[Record]) -> Iterator[list[Record]]:
    """Yields a partition's log in pieces of FETCH_BYTES."""
    piece, size = [], 0
    for record in log:
        piece.append(record)
        size += len(record.key or b"") + len(record.value or b"") + FRAME_BYTES
        if size >= FETCH_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _record(ping: Sent, offset: int, topic: str = "", partition: int = 0) -> Record:
    return Record(topic, partition, offset, AHEAD_MS, ping.entity_id.encode(), ping.value)
