"""`pathcast bench takeover`: a worker dies, and its successor is timed until it has forecast every entity again.

    first worker    drains the pings, checkpoints, kill -9
                    one more ping of each entity waits in the topic
    successors      same weights: continue from the checkpointed caches, one after the other, each with
                    kill -9 and one more ping of each entity
    and then        other weights than the previous one: no cache is usable, all are rebuilt from the stored windows

Time counts from when the group assigned the partitions to the successor (by its log) to when the broker had the first
forecast of an entity (the topic stamps arrivals). Before that, the group waits for its session timeout until it notices
the death; this time is reported, but not counted.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from kafka import KafkaConsumer, TopicPartition

from stream.bench.harness import launch, stores, topics
from stream.bench.harness.drain import watch
from stream.bench.harness.report import Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import middle, percentile
from stream.bench.harness.workload import Workload
from stream.wire import Topics, loads_forecast

Show = Callable[[str], None]
SESSION_S: Final = 6  # the shortest that a worker accepts, so that the death is noticed soon
SAVED_S: Final = 120.0  # for the last checkpoint
CACHES: Final = "checkpointed caches"
WINDOWS: Final = "windows alone"


@dataclass(frozen=True)
class Options:
    """The options of the benchmark: entities, the length of their windows, and weights that make caches unusable."""

    weights: str = "small"
    other_weights: str = "small-research"
    entities: Sequence[int] = (10_000, 100_000)
    rounds: int = 16  # pings per entity before the death
    partitions: int = 8
    runs: int = 5
    timeout_s: float = 1_200.0
    data: Path | None = None


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


def row_of(runs: Sequence[Taken]) -> tuple[str | int | float, ...]:
    """Returns the medians of some takeovers of one kind, the slowest, and the caches of all."""
    caches = sum((Tally(one.caches) for one in runs), Tally())
    ranks = [middle(column) for column in zip(*(one.ranks for one in runs), strict=True)]
    worst = max(one.first_s[-1] for one in runs)
    said = ", ".join(f"{count:,} {cache}" for cache, count in sorted(caches.items()))
    return (runs[0].entities, runs[0].way, *ranks, worst, said)


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Runs the benchmark. Raises launch.Failed or ConnectionError if a process or a server stops."""
    taken: list[list[Taken]] = []
    for entities in options.entities:
        taken += Drill(options, servers, entities, show).run()
    columns = (
        *("entities", "from", "first, s", "half, s", "99 %, s", "all, s"),
        *("all, slowest run, s", "caches of these forecasts"),
    )
    rows = [row_of(runs) for runs in taken]
    table = Table("from assignment to the first forecast per entity", columns, rows)
    numbers: dict[str, Any] = {
        "options": {**asdict(options), "data": str(options.data or "")},
        "takeovers": [dict(zip(columns, row, strict=True)) for row in rows],
        "runs": [[one.ranks for one in runs] for runs in taken],
    }
    notes = [
        f"windows of {options.rounds} pings, {options.partitions} partitions, one ping of each entity waiting; "
        f"medians of {options.runs} takeovers",
        f"{WINDOWS}: the successor has the weights {options.other_weights} where the states are of {options.weights}, "
        "and the other way round",
        f"before the assignment the group waits for its session timeout ({SESSION_S} s at least) to see the death",
    ]
    return Report("takeover", [table], numbers, notes, servers.what)


class Drill:
    """One group, its topics, and one worker after another."""

    def __init__(self, options: Options, servers: Servers, entities: int, show: Show) -> None:
        self._options = options
        self._servers = servers
        self._entities = entities
        self._show: Show = lambda text: show(f"{entities:,} entities, {text}")
        self._workload = Workload(entities, options.data)
        self._sent = 0

    def run(self) -> list[list[Taken]]:
        """Runs all takeovers and returns them, by way."""
        options = self._options
        with (
            topics.fresh(self._servers.bootstrap, options.partitions, stamped=True) as names,
            stores.group(self._servers, topics.prefix_of(names)) as group,
        ):
            self._fill(names, options.rounds)
            self._until_killed(names, group, options.weights, "first worker")
            others = islice(cycle((options.other_weights, options.weights)), options.runs)
            ways = {CACHES: [options.weights] * options.runs, WINDOWS: list(others)}
            return [[self._taken(names, group, way, one) for one in weights] for way, weights in ways.items()]

    def _taken(self, names: Topics, group: str, way: str, weights: str) -> Taken:
        """Lets one successor take over."""
        before = topics.ends(self._servers.bootstrap, names.forecasts, self._options.partitions)
        self._fill(names, 1)
        assigned_s = self._until_killed(names, group, weights, way)
        heads = _forecasts(self._servers.bootstrap, before)
        return taken_of(self._entities, way, assigned_s, heads)

    def _fill(self, names: Topics, rounds: int) -> None:
        self._show(f"filling: {self._entities * rounds:,} pings")
        pings = self._workload.rounds(rounds)
        self._sent += topics.prefill(self._servers.bootstrap, names.pings, self._options.partitions, pings)

    def _until_killed(self, names: Topics, group: str, weights: str, what: str) -> float:
        """Runs a worker until all is answered and checkpointed, and kills it. Returns when its partitions were
        assigned, in seconds since 1970."""
        options = self._options
        more = {"session_timeout_s": SESSION_S}
        command = launch.worker_command(launch.worker_options(self._servers, names, group, weights, **more))
        begin = stores.saved(self._servers.redis_url, group, names.pings, options.partitions)
        counter = topics.Counter(self._servers.bootstrap, topics.answers_of(names))
        total = self._sent - begin
        with launch.process("worker", command) as worker:
            self._show(f"{what}: starting the worker")
            worker.wait_for(launch.ASSIGNED)
            watch(
                [worker],
                counter,
                total,
                timeout_s=options.timeout_s,
                show=lambda done: self._show(f"{what}: {done:,} of {total:,} pings"),
            )
            worker.wait_until(lambda: self._all_saved(group, names), "last checkpoint", SAVED_S)
            assigned_s = worker.logged_at(launch.ASSIGNED)
            worker.kill()
        counter.close()
        if assigned_s is None:
            raise RuntimeError(f"no time before {launch.ASSIGNED!r} in the worker's log: is its format another?")
        return assigned_s

    def _all_saved(self, group: str, names: Topics) -> bool:
        return stores.saved(self._servers.redis_url, group, names.pings, self._options.partitions) >= self._sent


class Head(NamedTuple):
    """A forecast in the log: its entity, when it arrived, and its `cache` field."""

    entity_id: str
    arrived_s: float
    cache: str


def taken_of(entities: int, way: str, assigned_s: float, heads: Sequence[Head]) -> Taken:
    """Returns the takeover by the first forecast of each entity. Raises RuntimeError if an entity has none."""
    first: dict[str, Head] = {}
    for head in heads:
        known = first.get(head.entity_id)
        if known is None or head.arrived_s < known.arrived_s:
            first[head.entity_id] = head
    if len(first) < entities:
        raise RuntimeError(f"{entities - len(first):,} of {entities:,} entities have no forecast of the successor")
    times = sorted(head.arrived_s - assigned_s for head in first.values())
    return Taken(entities, way, times, dict(Tally(head.cache for head in first.values())))


def _forecasts(bootstrap: str, begin: dict[TopicPartition, int]) -> list[Head]:
    """Returns all forecasts since `begin`."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), enable_auto_commit=False)
    heads: list[Head] = []
    try:
        consumer.assign(list(begin))
        for tp, offset in begin.items():
            consumer.seek(tp, offset)
        ends = consumer.end_offsets(list(begin))
        while any(consumer.position(tp) < end for tp, end in ends.items()):
            for records in consumer.poll(1_000).values():
                heads += [_head(record) for record in records]
    finally:
        consumer.close()
    return heads


def _head(record: Any) -> Head:
    try:
        cache = loads_forecast(record.value).cache
    except msgspec.MsgspecError as error:
        raise RuntimeError(f"what the worker wrote to {record.topic} is no forecast: {error}") from error
    return Head(record.key.decode(), record.timestamp / 1000, cache)
