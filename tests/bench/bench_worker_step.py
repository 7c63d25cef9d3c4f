"""Measures a worker that drains a filled topic beside the bare model step on the same batches: which part of its CPU is
the step's.

The pings pass once through the real engine, which records every call of the model; then these calls are repeated on a
fresh Predictor, in this process, and those that answer are timed: the same rows in the same batches, without the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, zip_longest
from typing import Any, Final

from bench_rig import Show, Stopwatch
from bench_step import Stepped, record_of

from model.api import Predictor
from stream.bench.harness import topics
from stream.bench.harness.drain import WARM, too_short
from stream.bench.harness.report import Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import middle, plus_minus
from stream.bench.harness.workload import Sent, Workload
from stream.bench.workers import worker
from stream.config.settings import FETCH_BYTES, Settings
from stream.engine.engine import Engine
from stream.kafka.partitioner import partition_of
from stream.store.base import MemoryStore
from stream.wire import Record
from stream.worker.memory import keep_freed

Call = tuple[str, tuple[Any, ...]]  # a method of Predictor, and its arguments
ANSWERING: Final = {"forecast": 0, "answer": 1}  # the methods that are timed: which argument has a row for each ping
RECORDED: Final = (*ANSWERING, "occupy", "vacate", "reset", "rebuild", "catch_up")
FRAME_BYTES: Final = 10  # of a record in Kafka's log, in addition to its key and value


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    weights: str = "small"
    entities: int = 2_000
    rounds: int = 100  # pings per entity
    partitions: int = 8
    max_batch: int = Settings.max_batch
    runs: int = 5
    timeout_s: float = 600.0  # of one drain


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Raises launch.Failed or ConnectionError when something of it stops; WeightsError for bad weights."""
    pings = list(Workload(options.entities).rounds(options.rounds))
    show("the bare step: which batches the engine makes of them")
    calls = calls_of(options.weights, batches(pings, "bench.pings.v1", options.partitions, options.max_batch))
    drain = worker.WorkerBenchOptions(**vars(options), profile=False)
    drains, steps = [], []
    with topics.fresh(servers.bootstrap, options.partitions) as names:
        show("filling the topic")
        topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)
        for number in range(1, options.runs + 1):
            drains.append(worker.drain(drain, servers, names, show, f"run {number} of {options.runs}"))
            show(f"run {number} of {options.runs}: the bare step on the same batches")
            steps.append(played(options.weights, calls, WARM))
    workers, bare = [one.per_cpu_s for one in drains], [one.pings / one.cpu_s for one in steps]
    ratios = [one / other for one, other in zip(workers, bare, strict=True)]
    kinds = {"worker, pings/s of its CPU": workers, "bare step, pings/s of CPU": bare, "worker / bare step": ratios}
    rows = [(what, middle(values), plus_minus(values)) for what, values in kinds.items()]
    numbers = {"worker": workers, "step": bare, "ratio": middle(ratios)}
    notes = [
        f"{options.entities:,} entities, {options.rounds} pings each, {options.partitions} partitions, batches of at "
        f"most {options.max_batch}, weights {options.weights}; medians of {options.runs} runs, in turn",
        *too_short(drains),
    ]
    table = Table("one worker, a filled topic, and the step on the same batches", ("what", "median", "±"), rows)
    return Report("worker-step", [table], numbers, notes, servers.what)


class Recorder(Predictor):
    """A Predictor that records its calls, in order, with their arguments, once `calls` is a list."""

    calls: list[Call] | None = None

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in RECORDED or self.calls is None:
            return found
        calls = self.calls

        def recorded(*arguments: Any) -> Any:
            calls.append((name, arguments))
            return found(*arguments)

        return recorded


def calls_of(weights: str, batches: Sequence[Sequence[Record]]) -> list[Call]:
    """Returns the calls with which an engine uses the model for these batches."""
    recorder = Recorder.load(weights)
    calls: list[Call] = []
    recorder.calls = calls
    engine = Engine(recorder, MemoryStore(), Settings())

    async def fold() -> None:
        for records in batches:
            await engine.process(records, started_ms=0.0, fetched_ms=0.0)

    asyncio.run(fold())
    return calls


def played(weights: str, calls: Sequence[Call], warm: float) -> Stepped:
    """Repeats the calls, and times those that answer. The first `warm` part of the pings is not counted."""
    keep_freed()  # as a worker does
    predictor = Predictor.load(weights)
    total = sum(map(_answers, calls))
    watch, pings, counted = Stopwatch(), 0, 0
    for name, arguments in calls:
        work, answers = partial(getattr(predictor, name), *arguments), _answers((name, arguments))
        if name in ANSWERING and pings >= warm * total:
            watch.timed(work)
            counted += answers
        else:
            work()
        pings += answers
    return Stepped(counted, watch.wall_s, watch.cpu_s)


def _answers(call: Call) -> int:
    """Returns how many pings a call answers."""
    name, arguments = call
    return len(arguments[ANSWERING[name]]) if name in ANSWERING else 0


def batches(pings: Sequence[Sent], topic: str, partitions: int, max_batch: int) -> list[list[Record]]:
    """Returns the pings in the batches of a worker that drains a full topic: FETCH_BYTES of each partition in turn, and
    `max_batch` of these in each poll, which is a batch."""
    logs: list[list[Record]] = [[] for _ in range(partitions)]
    for ping in pings:
        number = partition_of(ping.entity_id.encode(), partitions)
        logs[number].append(record_of(ping, topic, number, len(logs[number])))
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
