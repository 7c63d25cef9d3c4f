"""Kills a worker, and times its successor until it has forecast every entity again.

    first worker    drains the pings, checkpoints, kill -9
                    one more ping of each entity waits in the topic
    successors      same weights: continue from the checkpointed caches, one after the other, each with
                    kill -9 and one more ping of each entity
    and then        other weights than the previous one: no cache is usable, all are rebuilt from the stored windows

Time counts from when the group assigned the partitions to the successor (by its log) to when the broker had the first
forecast of an entity (the topic stamps arrivals): not while the group still waits for its session timeout.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import cycle, islice
from typing import Final, NamedTuple

from bench_rig import Show, ends_of, progress, wait_for_checkpoint
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from stream.bench.harness import launch, stores, topics
from stream.bench.harness.drain import watch
from stream.bench.harness.report import Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import middle, percentile
from stream.bench.harness.workload import Workload
from stream.kafka import admin
from stream.kafka.reading import bounds, reread
from stream.wire import Topics, loads_forecast

SESSION_S: Final = 6  # the shortest that a worker accepts, so that the death is noticed soon
ASSIGNED: Final = "assigned: partitions"  # a worker logs it when the group has assigned partitions to it
CACHES: Final = "checkpointed caches"
WINDOWS: Final = "windows alone"
COLUMNS: Final = (
    *("entities", "from", "first, s", "half, s", "99 %, s", "all, s"),
    *("all, slowest run, s", "caches of these forecasts"),
)
_ASSIGNED: Final = re.compile(rf"^(\S+Z) .*{re.escape(ASSIGNED)}", re.MULTILINE)


@dataclass(frozen=True)
class Options:
    """The options of the benchmark: entities, the length of their windows, and weights that make caches unusable."""

    weights: str = "small"
    other_weights: str = "small-research"
    entities: tuple[int, ...] = (10_000, 100_000)
    rounds: int = 16  # pings per entity before the death
    partitions: int = 8
    runs: int = 5
    timeout_s: float = 1_200.0


class Head(NamedTuple):
    """A forecast in the log: its entity, when it arrived, and its `cache` field."""

    entity_id: str
    arrived_s: float
    cache: str


class Taken(NamedTuple):
    """One takeover: seconds from assignment to each entity's first forecast, sorted, and these forecasts' caches."""

    entities: int
    way: str
    first_s: list[float]
    caches: dict[str, int]

    @property
    def ranks(self) -> tuple[float, ...]:
        """The first, the median, the 99th percentile and the last."""
        return (self.first_s[0], *(percentile(self.first_s, percent) for percent in (50, 99, 100)))


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Runs the benchmark. Raises launch.Failed or ConnectionError if a process or a server stops."""
    taken = [runs for entities in options.entities for runs in Drill(options, servers, entities, show).run()]
    table = Table("from assignment to the first forecast per entity", COLUMNS, [row_of(runs) for runs in taken])
    numbers = {"options": asdict(options), "runs": [[one.ranks for one in runs] for runs in taken]}
    notes = [
        f"windows of {options.rounds} pings, {options.partitions} partitions, one ping of each entity waiting; "
        f"medians of {options.runs} takeovers",
        f"{WINDOWS}: the successor has the weights {options.other_weights} where the states are of {options.weights}, "
        "and the other way round",
    ]
    return Report("takeover", [table], numbers, notes, servers.what)


def row_of(runs: Sequence[Taken]) -> tuple[str | int | float, ...]:
    """Returns the medians of some takeovers of one kind, the slowest, and the caches of all."""
    caches = sum((Tally(one.caches) for one in runs), Tally())
    ranks = map(middle, zip(*(one.ranks for one in runs), strict=True))
    worst = max(one.first_s[-1] for one in runs)
    said = ", ".join(f"{count:,} {cache}" for cache, count in sorted(caches.items()))
    return (runs[0].entities, runs[0].way, *ranks, worst, said)


class Drill:
    """One group, its topics, and one worker after another."""

    def __init__(self, options: Options, servers: Servers, entities: int, show: Show) -> None:
        self._options = options
        self._servers = servers
        self._entities = entities
        self._show = show
        self._workload = Workload(entities)
        self._sent = 0

    def run(self) -> list[list[Taken]]:
        """Runs all takeovers and returns them, by way."""
        options, bootstrap = self._options, self._servers.bootstrap
        with (
            topics.fresh(bootstrap, options.partitions) as names,
            stores.group(self._servers, topics.prefix_of(names)) as group,
        ):
            _stamp_arrivals(bootstrap, names.forecasts)
            self._run_until_killed(names, group, options.weights, options.rounds)
            others = islice(cycle((options.other_weights, options.weights)), options.runs)
            ways = {CACHES: [options.weights] * options.runs, WINDOWS: list(others)}
            return [[self._take(names, group, way, one) for one in weights] for way, weights in ways.items()]

    def _take(self, names: Topics, group: str, way: str, weights: str) -> Taken:
        """Lets one successor take over."""
        before = ends_of(self._servers.bootstrap, names.forecasts, self._options.partitions)
        assigned_s = self._run_until_killed(names, group, weights, 1)
        heads = asyncio.run(_read_forecasts(self._servers.bootstrap, before))
        return taken_of(self._entities, way, assigned_s, heads)

    def _run_until_killed(self, names: Topics, group: str, weights: str, rounds: int) -> float:
        """Fills the topic, runs a worker until all is answered and checkpointed, and kills it. Returns when its
        partitions were assigned, in seconds since 1970."""
        options, servers, total = self._options, self._servers, self._entities * rounds
        self._show(f"filling: {total:,} pings")
        pings = self._workload.rounds(rounds)
        self._sent += topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)
        given = launch.worker_options(servers, names, group, weights, session_timeout_s=SESSION_S)
        shown = progress(self._show, f"{self._entities:,} entities, weights {weights}", total)
        with (
            closing(topics.Counter(servers.bootstrap, topics.answers_of(names))) as counter,
            launch.process("worker", launch.worker_command(given)) as worker,
        ):
            worker.wait_for(ASSIGNED)
            watch([worker], counter, total, timeout_s=options.timeout_s, show=shown)
            wait_for_checkpoint(worker, servers, group, names, options.partitions, self._sent)
            assigned_s = assigned_at(worker.log())
            os.kill(worker.pid, signal.SIGKILL)
        return assigned_s


def assigned_at(log: str) -> float:
    """Returns when partitions were first assigned, by a worker's log, in seconds since 1970. Raises RuntimeError."""
    match = _ASSIGNED.search(log)
    if match is None:
        raise RuntimeError(f"no time before {ASSIGNED!r} in the worker's log: is its format another?")
    return datetime.fromisoformat(match[1]).timestamp()


def _stamp_arrivals(bootstrap: str, topic: str) -> None:
    """Lets the broker's time of arrival be the timestamp of a topic's records, instead of the worker's send time."""
    configs = {"message.timestamp.type": "LogAppendTime"}
    with admin.connect(bootstrap) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])


def taken_of(entities: int, way: str, assigned_s: float, heads: Sequence[Head]) -> Taken:
    """Returns the takeover by the first forecast of each entity. Raises RuntimeError if an entity has none."""
    first: dict[str, Head] = {}
    for head in sorted(heads, key=lambda one: one.arrived_s):
        first.setdefault(head.entity_id, head)
    if len(first) < entities:
        raise RuntimeError(f"{entities - len(first):,} of {entities:,} entities have no forecast of the successor")
    times = [head.arrived_s - assigned_s for head in first.values()]
    return Taken(entities, way, times, dict(Tally(head.cache for head in first.values())))


async def _read_forecasts(bootstrap: str, begin: Mapping[TopicPartition, int]) -> list[Head]:
    """Returns all forecasts since `begin`."""
    servers = bootstrap.split(",")
    logs = await bounds(servers, [(one.topic, one.partition) for one in begin])
    heads = []
    for partition, (_, end) in logs.items():
        async for records in reread(servers, partition, begin[TopicPartition(*partition)], end):
            for value, arrived_ms in zip(records.values.each(), records.timestamps_ms.tolist(), strict=True):
                one = loads_forecast(value or b"")
                heads.append(Head(one.entity_id, arrived_ms / 1000, one.cache))
    return heads
