"""Measures the cost of more entities and of more workers.

Entities: one worker drains the same number of pings of 1,000, 10,000 or 100,000 entities. Memory is the growth of the
worker since it was ready; Redis counts the bytes that it received. Workers: 1, 2 or 4 of one group share 8 partitions.
All of them run in turn, several times, and the results are medians.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from bench_rig import Show, progress, wait_for_checkpoint

from model.api import Predictor
from stream.bench.harness import launch, stores, topics
from stream.bench.harness.drain import rate_of, too_short, watch
from stream.bench.harness.report import Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import Rate, middle, plus_minus
from stream.bench.harness.workload import Workload

LEAST_ROUNDS: Final = 12  # pings per entity: each one's first ping costs more, and some of them write whole states
SETTLED_S: Final = 240.0  # the longest that a group of workers may take to share the partitions
_READY: Final = re.compile(re.escape(launch.READY) + r" ([\d, ]+)")
COLUMNS: Final = (
    *("entities", "CPU µs per ping", "±", "worker memory, KiB per entity"),
    *("sent to Redis, bytes per ping", "kept in Redis, KiB per entity"),
)


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    weights: str = "small"
    entities: tuple[int, ...] = (1_000, 10_000, 100_000)
    workers: tuple[int, ...] = (1, 2, 4)
    pings: int = 200_000  # per drain at least, and at least LEAST_ROUNDS of each entity
    workers_entities: int = 4_000  # in the runs with several workers
    partitions: int = 8
    runs: int = 5
    timeout_s: float = 900.0

    def rounds(self, entities: int) -> int:
        """Returns the pings per entity. Their total is that of the largest number of entities, so that the memory which
        grows with every batch is the same."""
        return math.ceil(max(self.pings, LEAST_ROUNDS * max(self.entities)) / entities)


class Cost(NamedTuple):
    """The result of one drain with this number of entities."""

    entities: int
    pings: int
    rate: Rate
    rss_bytes: int  # growth of the worker
    redis_sent_bytes: int
    redis_kept_bytes: int


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Runs the benchmark. Raises launch.Failed or ConnectionError if a process or a server stops."""
    costs: dict[int, list[Cost]] = {count: [] for count in options.entities}
    shared: dict[int, list[Rate]] = {count: [] for count in options.workers}
    for number in range(1, options.runs + 1):
        for count, drains in costs.items():
            drains.append(_entities(options, servers, count, show, f"run {number}, {count:,} entities"))
        for count, rates in shared.items():
            rates.append(_workers(options, servers, count, show, f"run {number}, {count} workers"))
    return _report(options, servers, list(costs.values()), shared)


def _entities(options: Options, servers: Servers, entities: int, show: Show, what: str) -> Cost:
    total = entities * options.rounds(entities)
    with (
        topics.fresh(servers.bootstrap, options.partitions) as names,
        stores.group(servers, topics.prefix_of(names)) as group,
        closing(topics.Counter(servers.bootstrap, topics.answers_of(names))) as counter,
    ):
        show(f"{what}: filling the topic with {total:,} pings")
        pings = Workload(entities).rounds(options.rounds(entities))
        topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)
        before = stores.used(servers.redis_url)
        command = launch.worker_command(launch.worker_options(servers, names, group, options.weights))
        with launch.process("worker", command) as worker:
            worker.wait_for(launch.READY)
            rss = worker.usage().rss_bytes
            samples = watch([worker], counter, total, timeout_s=options.timeout_s, show=progress(show, what, total))
            rss = worker.usage().rss_bytes - rss
            done = min(samples[-1].done, total)
            wait_for_checkpoint(worker, servers, group, names, options.partitions, done)
            after = stores.used(servers.redis_url)
    rate = rate_of(samples, total, warm=1.0 / options.rounds(entities))  # without each entity's first ping
    sent, kept = after.received_bytes - before.received_bytes, after.memory_bytes - before.memory_bytes
    return Cost(entities, done, rate, rss, sent, kept)


def _workers(options: Options, servers: Servers, count: int, show: Show, what: str) -> Rate:
    """Lets `count` workers share the partitions, and then fills the topic. Counting begins when it is full."""
    rounds = max(LEAST_ROUNDS, math.ceil(options.pings / options.workers_entities))
    total = options.workers_entities * rounds
    pings = list(Workload(options.workers_entities).rounds(rounds))
    with topics.fresh(servers.bootstrap, options.partitions) as names, ExitStack() as stack:
        group = stack.enter_context(stores.group(servers, topics.prefix_of(names)))
        counter = stack.enter_context(closing(topics.Counter(servers.bootstrap, topics.answers_of(names))))
        command = launch.worker_command(launch.worker_options(servers, names, group, options.weights))
        show(f"{what}: starting")
        workers = [stack.enter_context(launch.process("worker", command)) for _ in range(count)]
        for worker in workers:
            worker.wait_until(
                lambda: shared_out([one.log() for one in workers]) == options.partitions, "shared partitions", SETTLED_S
            )
        topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)
        samples = watch(workers, counter, total, timeout_s=options.timeout_s, show=progress(show, what, total))
    return rate_of(samples, total)


def shared_out(logs: Sequence[str]) -> int:
    """Returns how many partitions workers hold by the last line about that of each log; -1 while one has none."""
    ready = [_READY.findall(log) for log in logs]
    return sum(len(lines[-1].split(",")) for lines in ready) if all(ready) else -1


def row_of(runs: Sequence[Cost]) -> tuple[float | int | str, ...]:
    """Returns the medians of some drains with the same number of entities."""
    count, cpu_us = runs[0].entities, [one.rate.cpu_us_per_ping for one in runs]
    rss, sent, kept = (
        middle([one.rss_bytes for one in runs]) / count / 1024,
        middle([one.redis_sent_bytes / one.pings for one in runs]),
        middle([one.redis_kept_bytes for one in runs]) / count / 1024,
    )
    return count, middle(cpu_us), plus_minus(cpu_us), rss, sent, kept


def bytes_per_further_entity(fewer: Sequence[Cost], more: Sequence[Cost]) -> float:
    """Returns the memory per further entity, from medians. Memory that does not depend on the entities, such as a
    batch's answers, cancels out."""
    few, many = (middle([cost.rss_bytes for cost in runs]) for runs in (fewer, more))
    return (many - few) / (more[0].entities - fewer[0].entities)


def _report(
    options: Options, servers: Servers, costs: Sequence[Sequence[Cost]], shared: Mapping[int, Sequence[Rate]]
) -> Report:
    wall = {count: [rate.per_wall_s for rate in rates] for count, rates in shared.items()}
    alone = middle(wall[options.workers[0]])
    lines = [(count, middle(rates), plus_minus(rates), middle(rates) / alone) for count, rates in wall.items()]
    title = f"more workers, {options.partitions} partitions, {options.workers_entities:,} entities"
    tables = [
        Table("one worker, more entities", COLUMNS, [row_of(runs) for runs in costs]),
        Table(title, ("workers", "pings/s of wall", "±", "of the first row"), lines),
    ]
    numbers: dict[str, Any] = {
        "options": asdict(options),
        "entities": [{**cost._asdict(), "rate": cost.rate._asdict()} for runs in costs for cost in runs],
        "workers": {str(count): [rate._asdict() for rate in rates] for count, rates in shared.items()},
    }
    notes = [
        f"{max(options.pings, LEAST_ROUNDS * max(options.entities)):,} pings per drain of more entities, "
        f"{options.pings:,} of more workers; weights {options.weights}; medians of {options.runs} runs, in turn"
    ]
    if len(costs) > 1:
        state = Predictor.load(options.weights, capacity=1).slot_bytes
        further = numbers["bytes_per_further_entity"] = bytes_per_further_entity(costs[-2], costs[-1])
        notes.append(
            f"from {costs[-2][0].entities:,} entities to {costs[-1][0].entities:,} a further one takes {further:,.0f} "
            f"bytes: {state:,} of model state, and {further - state:,.0f} of window, name and bookkeeping"
        )
    notes += too_short(
        [one.rate for runs in costs for one in runs] + [one for rates in shared.values() for one in rates]
    )
    return Report("scale", tables, numbers, notes, servers.what)
