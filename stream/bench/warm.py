"""A worker that is warm: full windows, pools of their size, kernels loaded. Knows how to get there; measures only how
fast it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stream.bench import launch, stores, topics
from stream.bench.drain import rate_of, watch
from stream.bench.servers import Servers
from stream.bench.workload import Workload
from stream.wire import Topics


@contextmanager
def warmed(
    servers: Servers,
    names: Topics,
    weights: str,
    *,
    entities: int,
    rounds: int,
    partitions: int,
    data: Path | None,
    timeout_s: float,
    show: Callable[[str], None],
) -> Iterator[tuple[launch.Process, float]]:
    """One worker that has drained `rounds` pings of each entity, and the most that it drains, in pings/s of wall.

    Raises launch.Failed or ConnectionError when something of it stops.
    """
    total = entities * rounds
    show(f"filling the topic with {total:,} pings to warm the worker up")
    topics.prefill(servers.bootstrap, names.pings, partitions, Workload(entities, data).rounds(rounds))
    with stores.group(servers, topics.prefix_of(names)) as group:
        command = launch.worker_command(launch.worker_options(servers, names, group, weights))
        counter = topics.Counter(servers.bootstrap, topics.answers_of(names))
        with launch.process("worker", command) as worker:
            show("starting the worker")
            worker.wait_for(launch.READY)
            show("warming up")
            most = rate_of(watch([worker], counter, total, timeout_s=timeout_s), total).per_wall_s
            counter.close()
            yield worker, most
