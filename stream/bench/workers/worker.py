"""`pathcast bench worker`: one worker drains a filled topic, compared with the bare step on the same batches.

    pings -> Apache Kafka, all of them before the start
    runs times: a fresh worker of a fresh group drains them | the bare step processes the same batches, in this process
    once more, sampled by py-spy, to find where the CPU time goes

Counting begins after the first tenth of the pings, so that neither imports nor each entity's first ping count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from stream.bench.harness import launch, stores, topics
from stream.bench.harness.drain import WARM, rate_of, too_short, watch
from stream.bench.harness.report import Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import Rate, middle, plus_minus
from stream.bench.harness.workload import Workload
from stream.bench.workers import profile, step
from stream.config.settings import Settings
from stream.wire import Topics

Show = Callable[[str], None]
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
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
    flame: Path | None = None  # the file for the flame graph; None: it is not written
    data: Path | None = None

    @property
    def pings(self) -> int:
        return self.entities * self.rounds


@dataclass(frozen=True)
class Found:
    """The rates of the worker and of the bare step, by run."""

    drains: list[Rate]
    steps: list[step.Stepped]

    @property
    def ratios(self) -> list[float]:
        """The worker's rate over the bare step's, per CPU second, of runs side by side."""
        return [drain.per_cpu_s / bare.per_cpu_s for drain, bare in zip(self.drains, self.steps, strict=True)]


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Raises launch.Failed or ConnectionError when something of it stops; WeightsError for bad weights."""
    show(f"making {options.pings:,} pings of {options.entities:,} entities")
    pings = list(Workload(options.entities, options.data).rounds(options.rounds))
    show("the bare step: which batches the engine makes of them")
    calls = step.calls_of(options.weights, step.batches(pings, "bench.pings.v1", options.partitions, options.max_batch))
    with topics.fresh(servers.bootstrap, options.partitions) as names:
        show("filling the topic")
        topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)
        found = Found([], [])
        for number in range(1, options.runs + 1):
            found.drains.append(drained(options, servers, names, show, f"run {number} of {options.runs}"))
            show(f"run {number} of {options.runs}: the bare step on the same batches")
            found.steps.append(step.played(options.weights, calls, WARM))
        seen, why = profiled(options, servers, names, show)
    return _report(options, servers, found, seen, why)


def drained(
    options: Options,
    servers: Servers,
    names: Topics,
    show: Show,
    what: str,
    env: Mapping[str, str] = NOTHING,
    **more: object,
) -> Rate:
    """Lets one fresh worker, with these options more and this environment more, drain the topic, and returns its
    rate."""
    with _draining(options, servers, names, show, what, env, **more) as (worker, counter):

        def tell(done: int) -> None:
            show(f"{what}: {done:,} of {options.pings:,} pings")

        samples = watch([worker], counter, options.pings, timeout_s=options.timeout_s, show=tell)
    return rate_of(samples, options.pings)


@contextmanager
def _draining(
    options: Options,
    servers: Servers,
    names: Topics,
    show: Show,
    what: str,
    env: Mapping[str, str],
    **more: object,
) -> Iterator[tuple[launch.Process, topics.Counter]]:
    with stores.group(servers, f"{topics.prefix_of(names)}-{what.replace(' ', '-')}") as group:
        more = {"max_batch": options.max_batch, **more}
        command = launch.worker_command(launch.worker_options(servers, names, group, options.weights, **more))
        counter = topics.Counter(servers.bootstrap, topics.answers_of(names))
        with closing(counter), launch.process("worker", command, env={**launch.environment(), **env}) as worker:
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
            _draining(options, servers, names, show, "profile", NOTHING, **more) as (worker, counter),
            profile.profiler(worker) as profiler,
        ):

            def tell(done: int) -> None:
                show(f"profile: {done:,} of {options.pings:,} pings")
                profiler.at(done / options.pings)

            watch([worker], counter, options.pings, timeout_s=options.timeout_s, show=tell)
            seen = profiler.found()
    except (launch.Failed, ValueError) as error:
        return None, str(error)
    if options.flame is not None:
        options.flame.write_bytes(seen.svg)
    return seen, ""


def _report(options: Options, servers: Servers, found: Found, seen: profile.Profile | None, why: str) -> Report:
    per_cpu = [drain.per_cpu_s for drain in found.drains]
    tables = [_rates(found)]
    notes = [
        f"{options.entities:,} entities, {options.rounds} pings each, {options.partitions} partitions, "
        f"batches of at most {options.max_batch}, weights {options.weights}; medians of {options.runs} runs",
    ]
    notes += too_short(found.drains)
    if seen is not None:
        tables.append(stages(seen, 1e6 / middle(per_cpu)))
        if options.flame is not None:
            notes.append(f"flame graph: {options.flame}")
    else:
        notes.append(NOT_PROFILED + why)
    numbers = {
        "options": {**asdict(options), "data": str(options.data or ""), "flame": str(options.flame or "")},
        "worker": [drain._asdict() for drain in found.drains],
        "step": [bare._asdict() for bare in found.steps],
        "pings_per_cpu_s": middle(per_cpu),
        "pings_per_wall_s": middle([drain.per_wall_s for drain in found.drains]),
        "step_pings_per_cpu_s": middle([bare.per_cpu_s for bare in found.steps]),
        "ratio_to_step": middle(found.ratios),
        "stages": seen.stages if seen is not None else None,
        "samples": seen.samples if seen is not None else 0,
    }
    return Report("worker", tables, numbers, notes, servers.what)


def _rates(found: Found) -> Table:
    per_cpu = [drain.per_cpu_s for drain in found.drains]
    bare = [one.per_cpu_s for one in found.steps]
    rows = [
        ("worker, pings/s of its CPU", middle(per_cpu), plus_minus(per_cpu)),
        ("worker, pings/s of wall", *_both([drain.per_wall_s for drain in found.drains])),
        ("worker, CPU µs per ping", *_both([drain.cpu_us_per_ping for drain in found.drains])),
        ("bare step on the same batches, pings/s of CPU", middle(bare), plus_minus(bare)),
        ("pings per model call", middle([one.pings / max(one.calls, 1) for one in found.steps]), ""),
        ("worker / bare step", *_both(found.ratios)),
    ]
    return Table("one worker, a filled topic", ("what", "median", "±"), rows)


def _both(values: list[float]) -> tuple[float, str]:
    return middle(values), plus_minus(values)


def stages(seen: profile.Profile, us_per_ping: float) -> Table:
    rows = [(stage, 100 * part, part * us_per_ping) for stage, part in seen.stages.items()]
    title = f"where the worker's CPU goes ({seen.samples:,} samples of py-spy)"
    return Table(title, ("stage", "% of its CPU", "CPU µs per ping"), rows)
