"""Measures a worker that changes its weights under a steady load.

    one worker with --registry drains a filled topic, until every window is full
    runs times, back and forth between two versions:
        feeder -> pings -> worker -> forecasts -> subscriber
        meanwhile the other version is announced, and every entity is rebuilt by it at a ping of the ramp

Latency counts from when a ping was due. Which weights answered which ping is read from the forecasts afterwards.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from bench_rig import Show, ends_of
from swap_phases import PHASES, Answer, Load, Swap, swap_of

from model.api import weights_folder
from stream.bench.harness import launch, topics
from stream.bench.harness.line import PATIENCE_S, SETTLE_S, Line
from stream.bench.harness.programs.feeder import READY as FEEDING
from stream.bench.harness.programs.feeder import Fed, Feed
from stream.bench.harness.programs.subscriber import READY as LISTENING
from stream.bench.harness.programs.subscriber import Listen
from stream.bench.harness.report import Cell, Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import middle, plus_minus
from stream.bench.harness.warm import warm_worker
from stream.bench.workers.soak import scrape
from stream.kafka.reading import bounds, reread
from stream.registry import About, Registry
from stream.registry.golden import make_golden
from stream.up.embedded import free_port
from stream.versions.announcing import SAMPLE_S, Announcer
from stream.versions.deciding import RAMP_S
from stream.wire import Topics, WeightsRecord, loads_forecast

LOOK_S: Final = 0.25
ANNOUNCE_S: Final = 10.0  # for the announcement itself, of which SAMPLE_S measure the rate
SLACK: Final = 1.25  # the ramp has more pings than are meant, if the announcer saw them come faster
MOVED: Final = "pathcast_states_moved_total"
PHASE_COLUMNS: Final = (
    *("phase", "s", "p50 ms", "p99 ms", "± of p99", "p99 / before", "max ms"),
    *("worker, % of a core", "waits for a core, %"),
)
COLUMNS: Final = (
    *("entities", "states moved", "all rebuilt, s", "slowest run, s", "bound, s"),
    *("CPU ms per state", "±", "late forecasts", "missing"),
)


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    weights: str = "small"
    other_weights: str = "small-research"
    entities: int = 10_000
    rate: float = 2_000.0  # pings/s
    ramp_s: float = RAMP_S
    lead_s: float = 15.0  # from the announcement to its first ping
    seconds: float = 20.0  # before the announcement, and after the last entity has followed
    runs: int = 3
    warm_rounds: int = 180  # pings per entity that are drained before, so that windows are full
    partitions: int = 8
    timeout_s: float = 1_200.0
    data: Path | None = None  # the bundled buses

    @property
    def feed_s(self) -> float:
        moving_s = SLACK * self.ramp_s + 2 * self.entities / self.rate
        return SETTLE_S + 2 * self.seconds + ANNOUNCE_S + SLACK * self.lead_s + moving_s


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Runs the benchmark. Raises launch.Failed, ConnectionError or RuntimeError if something of it stops; WeightsError
    for bad weights, ValueError if both are the same."""
    if options.weights == options.other_weights:
        raise ValueError(f"there is no change from {options.weights} to {options.other_weights}")
    with tempfile.TemporaryDirectory(prefix="pathcast-swap-") as home:
        show("publishing both versions")
        registry = Registry.open(home)
        versions = [
            registry.publish_weights(weights_folder(name), About(), make_golden(name)).version
            for name in (options.weights, options.other_weights)
        ]
        port = free_port()
        more = {"registry": home, "lead_s": options.lead_s, "metrics": port}
        with (
            topics.fresh(servers.bootstrap, options.partitions) as names,
            warm_worker(options, servers, names, show, **more) as (worker, _),
        ):
            drill = Drill(options, servers, names, worker, port, Path(home))
            swaps = []
            for number in range(1, options.runs + 1):
                show(f"run {number} of {options.runs}: {options.feed_s:.0f} s")
                swaps.append(drill.swap(versions[number % 2]))
    return _report(options, servers, swaps)


class Drill:
    """One worker, whose weights change again and again."""

    def __init__(
        self, options: Options, servers: Servers, names: Topics, worker: launch.Process, port: int, home: Path
    ) -> None:
        self._options = options
        self._servers = servers
        self._names = names
        self._worker = worker
        self._port = port
        self._times = home / "times.npy"
        self._line = Line(options, servers, names, worker, options.entities * options.warm_rounds)

    def swap(self, version: str) -> Swap:
        """Feeds the worker, and brings the version into service meanwhile."""
        options, bootstrap = self._options, self._servers.bootstrap
        begin = ends_of(bootstrap, self._names.forecasts, options.partitions)
        moved = scrape(self._port)[MOVED]
        feed = self._line.feed(options.rate, options.feed_s)
        fed, (announced_s, record), loads = self._feed(feed, version)
        index = {(ping.entity_id, ping.ts_ms): at for at, ping in enumerate(feed.pings())}
        answers: list[Answer | None] = [None] * feed.count
        starts = {tp.partition: at for tp, at in begin.items()}
        for key, answer in asyncio.run(_answers(bootstrap, self._names.forecasts, starts)):
            if (at := index.get(key)) is not None:
                answers[at] = answer
        due_s = fed.start_s + np.arange(feed.count) / feed.rate_per_s
        return swap_of(
            due_s,
            np.load(self._times),
            answers,
            record,
            announced_s,
            loads,
            entities=options.entities,
            rate_per_s=options.rate,
            settle_s=SETTLE_S,
            moved=round(scrape(self._port)[MOVED] - moved),
        )

    def _feed(self, feed: Feed, version: str) -> tuple[Fed, tuple[float, WeightsRecord], list[Load]]:
        options, loads = self._options, list[Load]()
        how = Listen(feed=feed, topic=self._names.forecasts, output=str(self._times), patience_s=PATIENCE_S)
        listening = launch.module_command("harness.programs.subscriber", msgspec.json.encode(how).decode())
        feeding = launch.module_command("harness.programs.feeder", msgspec.json.encode(feed).decode())
        with ThreadPoolExecutor(1) as beside, launch.process("subscriber", listening) as subscriber:
            subscriber.wait_for(LISTENING)
            with launch.process("feeder", feeding) as feeder:
                feeder.wait_for(FEEDING)
                announcing = beside.submit(self._announce, version)
                until_s = time.monotonic() + options.feed_s
                while time.monotonic() < until_s:
                    loads.append(self._load())
                    feeder.check()
                    time.sleep(LOOK_S)
                feeder.wait(options.timeout_s)
                fed = msgspec.json.decode(feeder.log().splitlines()[-1], type=Fed)
            loads.append(self._load())
            subscriber.wait(options.timeout_s)
            return fed, announcing.result(), loads

    def _load(self) -> Load:
        return Load(time.monotonic(), self._worker.usage().cpu_s, waited_s(self._worker.pid))

    def _announce(self, version: str) -> tuple[float, WeightsRecord]:
        """Announces a version, after the time before it. Returns when that began, and what was announced."""
        options = self._options

        async def announce() -> WeightsRecord:
            where = self._servers.bootstrap, self._names
            async with Announcer.open(*where, lead_s=options.lead_s, sample_s=SAMPLE_S) as announcer:
                return await announcer.announce_weights(
                    version, "bench", role="all", ramp_s=options.ramp_s, reason="a benchmark"
                )

        time.sleep(SETTLE_S + options.seconds)
        return time.monotonic(), asyncio.run(announce())


def waited_s(pid: int) -> float:
    """Returns for how many seconds so far a process's living threads were ready to run and had no core, all together
    (proc_pid_schedstat: nanoseconds on a core, nanoseconds ready without one, and turns)."""
    found = 0.0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):  # the thread has ended meanwhile
            found += int(path.read_bytes().split()[1]) / 1e9
    return found


async def _answers(bootstrap: str, topic: str, starts: Mapping[int, int]) -> list[tuple[tuple[str, int], Answer]]:
    """Returns the forecasts from these offsets on, each with the entity and the time of its ping."""
    servers, found = bootstrap.split(","), []
    logs = await bounds(servers, [(topic, number) for number in starts])
    for partition, (_, end) in logs.items():
        async for records in reread(servers, partition, starts[partition[1]], end):
            for value in records.values.each():
                one = loads_forecast(value or b"")
                answer = Answer(one.entity_id, one.model.version, one.model.late, one.src.partition, one.src.offset)
                found.append(((one.entity_id, one.anchor.ts), answer))
    return found


def _report(options: Options, servers: Servers, swaps: Sequence[Swap]) -> Report:
    phases, total = phase_rows(swaps), row_of(swaps)
    tables = [
        Table("due time of a ping to its forecast in a subscriber", PHASE_COLUMNS, phases),
        Table("one change of weights", COLUMNS, [total]),
    ]
    numbers = {
        "phases": [dict(zip(PHASE_COLUMNS, row, strict=True)) for row in phases],
        "swap": dict(zip(COLUMNS, total, strict=True)),
        "runs": [[phase_rows([one]), row_of([one])] for one in swaps],
    }
    notes = [
        f"{options.entities:,} entities with windows of {options.warm_rounds} pings, {options.rate:,.0f} pings/s, "
        f"{options.partitions} partitions; from {options.weights} to {options.other_weights} and back, a ramp of "
        f"{options.ramp_s:g} s, announced {options.lead_s:g} s ahead; medians of {options.runs} runs",
        "waits for a core: its threads that were ready to run and had none, all together; where that is more than a "
        "few percent, other processes of the machine decide the latencies",
        "CPU ms per state: the worker's CPU while moving beyond that before, for each state moved",
    ]
    return Report("swap", tables, numbers, notes, servers.what)


def phase_rows(swaps: Sequence[Swap]) -> list[tuple[Cell, ...]]:
    """Returns the medians of some changes, a row for each phase."""
    rows: list[tuple[Cell, ...]] = []
    for at, name in enumerate(PHASES):
        phases = [one.phases[name] for one in swaps]
        half, p99, most = zip(*(one.ranks for one in phases), strict=True)
        ranks = middle(half), middle(p99), plus_minus(p99), middle([one.ratios[at] for one in swaps]), middle(most)
        cpu = (100 * middle(parts) for parts in zip(*((one.cpu_part, one.waited_part) for one in phases), strict=True))
        rows.append((name, middle([one.seconds for one in phases]), *ranks, *cpu))
    return rows


def row_of(swaps: Sequence[Swap]) -> tuple[Cell, ...]:
    """Returns the medians of some changes, the slowest, and the sums of what must not be."""
    took, cost = [one.rebuilt_s for one in swaps], [one.ms_per_state for one in swaps]
    entities, moved = (
        round(middle(counts)) for counts in zip(*((one.entities, one.moved) for one in swaps), strict=True)
    )
    times = middle(took), max(took), middle([one.bound_s for one in swaps])
    wrong = sum(one.late for one in swaps), sum(one.missing for one in swaps)
    return entities, moved, *times, middle(cost), plus_minus(cost), *wrong
