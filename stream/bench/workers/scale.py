"""`pathcast bench scale`: measures the cost of more entities and of more workers.

Entities: one worker drains the same number of pings of 1,000, 10,000 or 100,000 entities. Memory is the growth of the
worker since it was ready; Redis counts the bytes that it received. Workers: 1, 2 or 4 of one group share 8 partitions.
All of them run in turn, several times, and the results are medians.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from model.api import Predictor
from stream.bench.harness import launch, stores, topics
from stream.bench.harness.drain import rate_of, too_short, watch
from stream.bench.harness.report import Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import Rate, middle, plus_minus
from stream.bench.harness.workload import Workload
from stream.wire import Topics

Show = Callable[[str], None]
LEAST_ROUNDS: Final = 12  # pings per entity: each one's first ping costs more, and some of them write whole states
SETTLED_S: Final = 240.0  # the longest that a group of workers may take to share the partitions
_READY: Final = re.compile(re.escape(launch.READY) + r" ([\d, ]+)")


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    weights: str = "small"
    entities: Sequence[int] = (1_000, 10_000, 100_000)
    workers: Sequence[int] = (1, 2, 4)
    pings: int = 200_000  # per drain at least, and at least LEAST_ROUNDS of each entity
    workers_entities: int = 4_000  # in the runs with several workers
    partitions: int = 8
    runs: int = 5
    timeout_s: float = 900.0
    data: Path | None = None

    def rounds(self, entities: int) -> int:
        """Returns the pings per entity. Their total is that of the largest number of entities, so that the memory which
        grows with every batch is the same."""
        return math.ceil(max(self.pings, LEAST_ROUNDS * max(self.entities)) / entities)


class Cost(NamedTuple):
    """The result of one drain with this number of entities."""

    entities: int
    rate: Rate
    rss_bytes: int  # growth of the worker
    redis_sent_bytes: int
    redis_kept_bytes: int
    pings: int

    @property
    def numbers(self) -> tuple[float, ...]:
        """CPU µs per ping, the worker's bytes per entity, bytes sent to Redis per ping, bytes in Redis per entity."""
        sent = self.redis_sent_bytes / self.pings
        return self.rate.cpu_us_per_ping, self.rss_bytes / self.entities, sent, self.redis_kept_bytes / self.entities


def row_of(runs: Sequence[Cost]) -> tuple[float | int | str, ...]:
    """Returns the medians of some drains with the same number of entities."""
    cpu_us, rss, sent, kept = (middle(column) for column in zip(*(cost.numbers for cost in runs), strict=True))
    wide = plus_minus([cost.rate.cpu_us_per_ping for cost in runs])
    return runs[0].entities, cpu_us, wide, 1e6 / cpu_us, rss / 1024, sent, kept / 1024


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Runs the benchmark. Raises launch.Failed or ConnectionError if a process or a server stops."""
    costs: dict[int, list[Cost]] = {count: [] for count in options.entities}
    shared: dict[int, list[Rate]] = {count: [] for count in options.workers}
    for number in range(1, options.runs + 1):
        tell = _prefixed(show, f"run {number} of {options.runs}")
        for count, drains in costs.items():
            drains.append(_entities(options, servers, count, tell))
        for count, rates in shared.items():
            rates.append(_workers(options, servers, count, tell))
    return _report(options, servers, list(costs.values()), shared)


def _entities(options: Options, servers: Servers, entities: int, show: Show) -> Cost:
    rounds = options.rounds(entities)
    total = entities * rounds
    with topics.fresh(servers.bootstrap, options.partitions) as names:
        show(f"{entities:,} entities: filling the topic with {total:,} pings")
        pings = Workload(entities, options.data).rounds(rounds)
        topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)
        with stores.group(servers, topics.prefix_of(names)) as group:
            command = launch.worker_command(launch.worker_options(servers, names, group, options.weights))
            counter = topics.Counter(servers.bootstrap, topics.answers_of(names))
            before = stores.used(servers.redis_url)
            with launch.process("worker", command) as worker:
                show(f"{entities:,} entities, drained: starting the worker")
                worker.wait_for(launch.READY)
                rss = worker.usage().rss_bytes
                tell = _teller(show, f"{entities:,} entities, drained", total)
                samples = watch([worker], counter, total, timeout_s=options.timeout_s, show=tell)
                rss = worker.usage().rss_bytes - rss
                done = min(samples[-1].done, total)
                worker.wait_until(lambda: saved(servers, group, names, options) >= done, "checkpoint", 60.0)
                after = stores.used(servers.redis_url)
            counter.close()
    # The first round, each entity's first ping, is not counted.
    rate = rate_of(samples, total, warm=1.0 / rounds)
    kept = after.memory_bytes - before.memory_bytes
    return Cost(entities, rate, rss, after.received_bytes - before.received_bytes, kept, done)


def saved(servers: Servers, group: str, names: Topics, options: Options) -> int:
    return stores.saved(servers.redis_url, group, names.pings, options.partitions)


def _workers(options: Options, servers: Servers, count: int, show: Show) -> Rate:
    """Lets `count` workers share the partitions, and then fills the topic. Counting begins when it is full."""
    rounds = max(LEAST_ROUNDS, math.ceil(options.pings / options.workers_entities))
    total = options.workers_entities * rounds
    pings = list(Workload(options.workers_entities, options.data).rounds(rounds))
    with topics.fresh(servers.bootstrap, options.partitions) as names, ExitStack() as stack:
        group = stack.enter_context(stores.group(servers, topics.prefix_of(names)))
        command = launch.worker_command(launch.worker_options(servers, names, group, options.weights))
        show(f"{count} workers: starting")
        workers = [stack.enter_context(launch.process("worker", command)) for _ in range(count)]
        for worker in workers:
            worker.wait_until(lambda: shared_out(workers) == options.partitions, "shared partitions", SETTLED_S)
        counter = topics.Counter(servers.bootstrap, topics.answers_of(names))
        topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)
        tell = _teller(show, f"{count} workers", total)
        samples = watch(workers, counter, total, timeout_s=options.timeout_s, show=tell)
        counter.close()
    return rate_of(samples, total)


def shared_out(workers: Sequence[launch.Process]) -> int:
    """Returns how many partitions the workers have by their logs; -1 while one of them has none."""
    held = [held_by(worker.log()) for worker in workers]
    return sum(map(len, held)) if all(held) else -1


def held_by(log: str) -> list[int]:
    """Returns the partitions in the last READY line of a log."""
    ready = _READY.findall(log)
    return [int(number) for number in ready[-1].split(",")] if ready else []


def bytes_per_further_entity(fewer: Sequence[Cost], more: Sequence[Cost]) -> float:
    """Returns the memory per further entity, from medians. Memory that does not depend on the entities, such as a
    batch's answers, cancels out."""
    few, many = (middle([cost.rss_bytes for cost in runs]) for runs in (fewer, more))
    return (many - few) / (more[0].entities - fewer[0].entities)


def _prefixed(show: Show, begin: str) -> Show:
    return lambda text: show(f"{begin}: {text}")


def _teller(show: Show, what: str, total: int) -> Callable[[int], None]:
    return lambda done: show(f"{what}: {done:,} of {total:,} pings")


def _report(
    options: Options, servers: Servers, costs: Sequence[Sequence[Cost]], shared: Mapping[int, Sequence[Rate]]
) -> Report:
    tables = []
    numbers: dict[str, Any] = {"options": {**asdict(options), "data": str(options.data or "")}}
    if costs:
        columns = (
            "entities",
            "CPU µs per ping",
            "±",
            "pings/s of CPU",
            "worker memory, KiB per entity",
            "sent to Redis, bytes per ping",
            "kept in Redis, KiB per entity",
        )
        rows = [row_of(runs) for runs in costs]
        tables.append(Table("one worker, more entities", columns, rows))
        numbers["entities"] = [{**cost._asdict(), "rate": cost.rate._asdict()} for runs in costs for cost in runs]
        numbers["cpu_per_ping_growth"] = _cpu_us([cost.rate for cost in costs[-1]]) / _cpu_us(
            [cost.rate for cost in costs[0]]
        )
    if shared:
        wall = {count: middle([rate.per_wall_s for rate in rates]) for count, rates in shared.items()}
        alone = wall[options.workers[0]]
        lines = [
            (count, wall[count], plus_minus([rate.per_wall_s for rate in rates]), wall[count] / alone, _cpu_us(rates))
            for count, rates in shared.items()
        ]
        shares = ("workers", "pings/s of wall", "±", "of the first row", "CPU µs per ping")
        title = f"more workers, {options.partitions} partitions, {options.workers_entities:,} entities"
        tables.append(Table(title, shares, lines))
        numbers["workers"] = [{"workers": count, **rate._asdict()} for count, rates in shared.items() for rate in rates]
    notes = [
        f"{max(options.pings, LEAST_ROUNDS * max(options.entities)):,} pings per drain of more entities, "
        f"{options.pings:,} of more workers; weights {options.weights}",
        f"medians of {options.runs} runs, all rows in turn",
    ]
    if len(costs) > 1:
        state = Predictor.load(options.weights, capacity=1).slot_bytes
        further = bytes_per_further_entity(costs[-2], costs[-1])
        numbers["bytes_per_further_entity"], numbers["state_bytes"] = further, state
        notes.append(
            f"from {costs[-2][0].entities:,} entities to {costs[-1][0].entities:,} a further one takes {further:,.0f} "
            f"bytes: {state:,} of model state, and {further - state:,.0f} of window, name and bookkeeping"
        )
    notes += too_short(
        [cost.rate for runs in costs for cost in runs] + [rate for rates in shared.values() for rate in rates]
    )
    return Report("scale", tables, numbers, notes, servers.what)


def _cpu_us(rates: Sequence[Rate]) -> float:
    return middle([rate.cpu_us_per_ping for rate in rates])
