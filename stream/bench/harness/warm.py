"""Starts a worker and warms it up: afterwards windows are full, pools have their size, and kernels are loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from stream.bench.harness import launch, stores, topics
from stream.bench.harness.drain import rate_of, watch
from stream.bench.harness.servers import Servers
from stream.bench.harness.workload import Workload
from stream.wire import Topics


class WarmOptions(Protocol):
    """The options that a benchmark must have for such a worker."""

    @property
    def weights(self) -> str: ...

    @property
    def entities(self) -> int: ...

    @property
    def warm_rounds(self) -> int: ...

    @property
    def partitions(self) -> int: ...

    @property
    def timeout_s(self) -> float: ...

    @property
    def data(self) -> Path | None: ...


@contextmanager
def warm_worker(
    options: WarmOptions, servers: Servers, names: Topics, show: Callable[[str], None], **more: object
) -> Iterator[tuple[launch.Process, float]]:
    """Yields one worker that has drained `warm_rounds` pings of each entity, and its rate, in pings/s of wall time.
    `more` are options of `pathcast worker`.

    Raises launch.Failed or ConnectionError if a process or a server stops.
    """
    total = options.entities * options.warm_rounds
    show(f"filling the topic with {total:,} pings to warm the worker up")
    pings = Workload(options.entities, options.data).rounds(options.warm_rounds)
    topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)
    with stores.group(servers, topics.prefix_of(names)) as group:
        command = launch.worker_command(launch.worker_options(servers, names, group, options.weights, **more))
        counter = topics.Counter(servers.bootstrap, topics.answers_of(names))
        with launch.process("worker", command) as worker:
            show("starting the worker")
            worker.wait_for(launch.READY)
            show("warming up")
            most = rate_of(watch([worker], counter, total, timeout_s=options.timeout_s), total).per_wall_s
            counter.close()
            yield worker, most
