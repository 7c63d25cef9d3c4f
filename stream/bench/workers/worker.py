"""`pathcast dev bench worker`: one worker drains a filled topic.

    pings -> Apache Kafka, all of them before the start
    runs times: a fresh worker of a fresh group drains them
    once more, sampled by py-spy, to find where the CPU time goes

Counting begins after the first tenth of the pings, so that neither imports nor each entity's first ping count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from stream.bench.harness import launch, stores, topics
from stream.bench.harness.drain import rate_of, too_short, watch
from stream.bench.harness.report import Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import Rate, middle, plus_minus
from stream.bench.harness.workload import Workload
from stream.bench.workers import profile
from stream.config.settings import Settings
from stream.wire import Topics

Show = Callable[[str], None]
NOT_PROFILED: Final = "no profile: "


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
    profile: bool = True
    data: Path | None = None

    @property
    def pings(self) -> int:
        return self.entities * self.rounds


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Raises launch.Failed or ConnectionError when something of it stops; WeightsError for bad weights."""
    show(f"making {options.pings:,} pings of {options.entities:,} entities")
    pings = list(Workload(options.entities, options.data).rounds(options.rounds))
    with topics.fresh(servers.bootstrap, options.partitions) as names:
        show("filling the topic")
        topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)
        runs = range(1, options.runs + 1)
        drains = [drained(options, servers, names, show, f"run {number} of {options.runs}") for number in runs]
        seen, why = profiled(options, servers, names, show)
    return _report(options, servers, drains, seen, why)


def drained(options: Options, servers: Servers, names: Topics, show: Show, what: str, **more: object) -> Rate:
    """Lets one fresh worker, with these options more, drain the topic, and returns its rate."""
    with _draining(options, servers, names, show, what, **more) as (worker, counter):

        def tell(done: int) -> None:
            show(f"{what}: {done:,} of {options.pings:,} pings")

        samples = watch([worker], counter, options.pings, timeout_s=options.timeout_s, show=tell)
    return rate_of(samples, options.pings)


@contextmanager
def _draining(
    options: Options, servers: Servers, names: Topics, show: Show, what: str, **more: object
) -> Iterator[tuple[launch.Process, topics.Counter]]:
    with stores.group(servers, f"{topics.prefix_of(names)}-{what.replace(' ', '-')}") as group:
        more = {"max_batch": options.max_batch, **more}
        command = launch.worker_command(launch.worker_options(servers, names, group, options.weights, **more))
        counter = topics.Counter(servers.bootstrap, topics.answers_of(names))
        with closing(counter), launch.process("worker", command) as worker:
            show(f"{what}: starting the worker")
            worker.wait_for(launch.READY)
            yield worker, counter


def profiled(
    options: Options, servers: Servers, names: Topics, show: Show, **more: object
) -> tuple[profile.Profile | None, str]:
    """Returns the profile of a further drain, or the reason why there is none."""
    if not options.profile:
        return None, "not asked for"
    try:
        profile.command()  # raises here, before a whole drain is wasted
        with (
            _draining(options, servers, names, show, "profile", **more) as (worker, counter),
            profile.profiler(worker) as profiler,
        ):

            def tell(done: int) -> None:
                show(f"profile: {done:,} of {options.pings:,} pings")
                profiler.at(done / options.pings)

            watch([worker], counter, options.pings, timeout_s=options.timeout_s, show=tell)
            return profiler.found(), ""
    except (launch.Failed, ValueError) as error:
        return None, str(error)


def _report(
    options: Options, servers: Servers, drains: Sequence[Rate], seen: profile.Profile | None, why: str
) -> Report:
    per_cpu = middle([drain.per_cpu_s for drain in drains])
    tables = [_rates(drains)]
    notes = [
        f"{options.entities:,} entities, {options.rounds} pings each, {options.partitions} partitions, "
        f"batches of at most {options.max_batch}, weights {options.weights}; medians of {options.runs} runs",
    ]
    notes += too_short(drains)
    if seen is not None:
        tables.append(stages(seen, 1e6 / per_cpu))
    else:
        notes.append(NOT_PROFILED + why)
    numbers = {
        "options": {**asdict(options), "data": str(options.data or "")},
        "worker": [drain._asdict() for drain in drains],
        "pings_per_cpu_s": per_cpu,
        "pings_per_wall_s": middle([drain.per_wall_s for drain in drains]),
        "stages": seen.stages if seen is not None else None,
        "samples": seen.samples if seen is not None else 0,
    }
    return Report("worker", tables, numbers, notes, servers.what)


def _rates(drains: Sequence[Rate]) -> Table:
    kinds = {
        "pings/s of its CPU": [one.per_cpu_s for one in drains],
        "pings/s of wall": [one.per_wall_s for one in drains],
        "CPU µs per ping": [one.cpu_us_per_ping for one in drains],
    }
    rows = [(what, middle(values), plus_minus(values)) for what, values in kinds.items()]
    return Table("one worker, a filled topic", ("what", "median", "±"), rows)


def stages(seen: profile.Profile, us_per_ping: float) -> Table:
    rows = [(stage, 100 * part, part * us_per_ping) for stage, part in seen.stages.items()]
    title = f"where the worker's CPU goes ({seen.samples:,} samples of py-spy)"
    return Table(title, ("stage", "% of its CPU", "CPU µs per ping"), rows)
