"""`pathcast bench start`: measures what is met at installation and start, from the size of what is installed to the
memory of a worker.

    once      the sizes of what pip has installed; and each import once, so that files are in memory and bytecode is
              written
    each run  imports in fresh processes
              `pathcast warm` into a new folder of kernels, and once more with what it has kept there
              two workers of one command, into another new folder, and with what `pathcast warm` has kept
              one worker with these kernels: until it is ready, then with entities

The folders of kernels are temporary, so that a start without kernels is one, and the user's own kernels stay. Workers
are ready when they hold all partitions of empty topics and have taken them over: the group's protocol is in that time.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

import stream
from stream.bench.harness import launch, proc, stores, topics
from stream.bench.harness.drain import watch
from stream.bench.harness.report import Report, Table, shown
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import middle, plus_minus
from stream.bench.harness.workload import Workload
from stream.bench.start import installed, kernels

Show = Callable[[str], None]
EXTRAS: Final[Sequence[Sequence[str]]] = ((), ("demo",))
CHECKOUT: Final = tuple(Path(stream.__file__).parents[1] / name for name in ("model", "stream", "train"))
IMPORTS: Final = ("pass", "import model.api", "import stream.worker.app")
LARGEST: Final = 5  # distributions that are named
WORKERS: Final = 2
ENTITIES: Final = 1_000
ROUNDS: Final = 64  # pings per entity: then its window is full
SAVED_S: Final = 60.0  # the longest from the last answer to the checkpoint that includes it
IMPORTED: Final = "imported"
MIB: Final = 2**20
_PROCESS: Final = re.compile(r"\bworker \d+ is process (\d+)$", re.MULTILINE)
_READY: Final = re.compile(rf"^worker (\d+) \| .*{re.escape(launch.READY)} ([\d, ]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    weights: str = "small"
    entities: int | None = None  # the memory of a worker with so many is measured, too
    partitions: int = 8
    runs: int = 3
    timeout_s: float = 600.0  # of one start or drain
    data: Path | None = None


class Started(NamedTuple):
    """The seconds from the start of a worker's process, or of several, until all were ready."""

    wall_s: float
    cpu_s: float  # of all of these processes


@dataclass
class Found:
    """What was measured. In each mapping, a row of a table has one value per run."""

    installs: Sequence[installed.Install]
    ended: dict[str, list[launch.Ran]] = field(default_factory=lambda: defaultdict(list))
    started: dict[str, list[Started]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[str, list[proc.Memory]] = field(default_factory=lambda: defaultdict(list))
    kept: dict[str, list[kernels.CachedKernels]] = field(default_factory=lambda: defaultdict(list))


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Runs the benchmark. Raises launch.Failed or ConnectionError if a process or a server stops, RuntimeError if the
    kernels are not where they should be."""
    show("adding up what is installed")
    found = Found([installed.install("pathcast", extras, checkout=CHECKOUT) for extras in EXTRAS])
    show("importing everything once")
    for code in IMPORTS:
        _imported(options, code)
    for number in range(1, options.runs + 1):
        _one_run(options, servers, found, _prefixed(show, f"run {number} of {options.runs}, "))
    return report_of(options, found, servers.what)


def _prefixed(show: Show, begin: str) -> Show:
    return lambda text: show(begin + text)


def _one_run(options: Options, servers: Servers, found: Found, show: Show) -> None:
    for code in IMPORTS:
        show(f"python -c '{code}'")
        found.ended[f"python -c '{code}'"].append(_imported(options, code))
    found.memory["python, after import model.api"].append(_imported_memory("import model.api"))
    with tempfile.TemporaryDirectory(prefix="pathcast-start-") as home:
        warmed, other = Path(home, "warmed"), Path(home, "other")
        for what in ("no kernels kept", "kernels kept"):
            show(f"pathcast warm, {what}")
            found.ended[f"pathcast warm, {what}"].append(_warm(options, warmed))
        found.kept["pathcast warm"].append(kernels.cached_kernels(warmed))
        for what, folder in (("no kernels kept", other), ("kernels kept", warmed)):
            show(f"{WORKERS} workers, {what}")
            started, parent, workers = _several(options, servers, folder)
            found.started[f"pathcast worker --workers {WORKERS}, {what}"].append(started)
        found.memory[f"the parent of --workers {WORKERS}"].append(parent)
        found.memory[f"its {WORKERS} workers, ready, together"].append(proc.total(workers))
        for entities in dict.fromkeys((ENTITIES, options.entities or ENTITIES)):
            started, ready, filled = _alone(options, servers, warmed, entities, show)
            if entities == ENTITIES:
                found.started["pathcast worker, kernels kept"].append(started)
                found.memory["one worker, ready, without entities"].append(ready)
            found.memory[f"one worker, {entities:,} entities of {ROUNDS} pings"].append(filled)
        found.kept["workers after it"].append(kernels.cached_kernels(warmed))


# -- processes that end -----------------------------------------------------------------------------------------------


def _imported(options: Options, code: str) -> launch.Ran:
    return launch.ran(f"python -c '{code}'", [sys.executable, "-c", code], timeout_s=options.timeout_s)


def _warm(options: Options, folder: Path) -> launch.Ran:
    """Lets `pathcast warm` keep its kernels in the folder. Raises RuntimeError if it has kept them elsewhere."""
    command = [*launch.PATHCAST, "warm", "--json", f"--weights={options.weights}"]
    ran = launch.ran("pathcast warm", command, timeout_s=options.timeout_s, env=kernels.keeping(folder))
    for kept in msgspec.json.decode(ran.said.splitlines()[-1])["folders"]:
        if not Path(kept).resolve().is_relative_to(folder.resolve()):
            raise RuntimeError(f"pathcast warm keeps kernels in {kept}, not in NUMBA_CACHE_DIR: was it really cold?")
    return ran


# -- processes that stay ----------------------------------------------------------------------------------------------


def _imported_memory(code: str) -> proc.Memory:
    staying = f"{code}; print({IMPORTED!r}, flush=True); import time; time.sleep(3600)"
    with launch.process("python", [sys.executable, "-c", staying]) as one:
        one.wait_for(IMPORTED)
        return one.memory()


def _several(options: Options, servers: Servers, folder: Path) -> tuple[Started, proc.Memory, list[proc.Memory]]:
    """Starts several workers with one command. Returns what their start took, and the memory of the command's process
    and of theirs when all were ready."""
    with (
        topics.fresh(servers.bootstrap, options.partitions) as names,
        stores.group(servers, topics.prefix_of(names)) as group,
    ):
        given = launch.worker_options(servers, names, group, options.weights, workers=WORKERS)
        began_s = time.monotonic()
        with launch.process("workers", launch.worker_command(given), env=kernels.keeping(folder)) as parent:
            parent.wait_until(
                lambda: shared_out(parent.log(), WORKERS) == options.partitions, "shared partitions", options.timeout_s
            )
            wall_s = time.monotonic() - began_s
            pids = processes_of(parent.log())
            if len(pids) != WORKERS:
                raise parent.failed(f"{len(pids)} processes were started for {WORKERS} workers, so some have ended")
            try:
                cpu_s = parent.usage().cpu_s + sum(proc.usage(pid).cpu_s for pid in pids)
                memory = [proc.memory(pid) for pid in pids]
            except ProcessLookupError as error:
                raise parent.failed(str(error)) from None
            kernels.cached_kernels(folder)  # raises if the workers have compiled elsewhere, so that they were not cold
            return Started(wall_s, cpu_s), parent.memory(), memory


def processes_of(log: str) -> list[int]:
    """Returns the process ids of all workers that a command with --workers has started so far."""
    return [int(pid) for pid in _PROCESS.findall(log)]


def shared_out(log: str, workers: int) -> int:
    """Returns how many partitions the workers of one command hold, by the last line about that of each; -1 while one of
    them has not been ready yet."""
    held = {number: partitions.split(",") for number, partitions in _READY.findall(log)}
    return sum(map(len, held.values())) if len(held) == workers else -1


def _alone(
    options: Options, servers: Servers, folder: Path, entities: int, show: Show
) -> tuple[Started, proc.Memory, proc.Memory]:
    """Starts one worker. Returns what its start took, its memory when it was ready, and its memory when it has answered
    ROUNDS pings of each entity and saved their states."""
    total = entities * ROUNDS
    with (
        topics.fresh(servers.bootstrap, options.partitions) as names,
        stores.group(servers, topics.prefix_of(names)) as group,
    ):
        command = launch.worker_command(launch.worker_options(servers, names, group, options.weights))
        show(f"one worker for {entities:,} entities, kernels kept")
        began_s = time.monotonic()
        with launch.process("worker", command, env=kernels.keeping(folder)) as worker:
            worker.wait_for(launch.READY, options.timeout_s)
            started = Started(time.monotonic() - began_s, worker.usage().cpu_s)
            ready = worker.memory()
            with closing(topics.Counter(servers.bootstrap, topics.answers_of(names))) as counter:
                what = f"one worker with {entities:,} entities"
                show(f"{what}: filling the topic with {total:,} pings")
                pings = Workload(entities, options.data).rounds(ROUNDS)
                topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)

                def tell(done: int) -> None:
                    show(f"{what}: {done:,} of {total:,} pings")

                done = watch([worker], counter, total, timeout_s=options.timeout_s, show=tell)[-1].done
            if done < total:
                raise worker.failed(f"{done:,} of {total:,} answers in {options.timeout_s:.0f} s: raise --timeout-s")
            saved = (servers.redis_url, group, names.pings, options.partitions)
            worker.wait_until(lambda: stores.saved(*saved) >= total, "checkpoint", SAVED_S)
            return started, ready, worker.memory()


# -- the report -------------------------------------------------------------------------------------------------------


def medians(runs: Iterable[Sequence[float]]) -> list[float]:
    """Returns the median of each column."""
    return [middle(column) for column in zip(*runs, strict=True)]


def times(runs: Sequence[launch.Ran] | Sequence[Started]) -> list[float | str]:
    """Returns the medians of wall and CPU seconds, each with its spread."""
    columns = [one.wall_s for one in runs], [one.cpu_s for one in runs]
    return [cell for column in columns for cell in (middle(column), plus_minus(column))]


def largest(shares: Sequence[installed.Share], count: int = LARGEST) -> str:
    """Returns the names and MiB of the first distributions of some that are sorted by size."""
    return ", ".join(f"{share.name} {shown(share.size_bytes / MIB)}" for share in shares[:count])


def added(fewer: installed.Install, more: installed.Install) -> list[installed.Share]:
    """Returns the distributions that only the second installation has."""
    names = {share.name for share in fewer.shares}
    return [share for share in more.shares if share.name not in names]


def report_of(options: Options, found: Found, servers: str) -> Report:
    sizes = [
        (f"pip install '{one.asked}'", len(one.shares), one.files, one.size_bytes / MIB, largest(one.shares))
        for one in found.installs
    ]
    ended = [(name, *times(runs), middle([one.peak_bytes for one in runs]) / MIB) for name, runs in found.ended.items()]
    started = [(name, *times(runs)) for name, runs in found.started.items()]
    memory: list[tuple[str | float, ...]] = [
        (name, *(size / MIB for size in medians(runs))) for name, runs in found.memory.items()
    ]
    seconds = ("wall s", "± of wall", "CPU s", "± of CPU")
    kinds = ("resident MiB", "anonymous MiB", "private MiB", "PSS MiB")
    tables = [
        Table("what is installed", ("by", "distributions", "files", "MiB", f"the largest {LARGEST}, MiB"), sizes),
        Table("processes, from their start to their end", ("process", *seconds, "peak MiB"), ended),
        Table("workers, from their start until all are ready", ("workers", *seconds), started),
        Table("memory", ("process", *kinds), memory),
    ]
    return Report("start", tables, _numbers(options, found), _notes(options, found), servers)


def _numbers(options: Options, found: Found) -> dict[str, Any]:
    def facts(rows: Mapping[str, Sequence[Any]]) -> dict[str, list[dict[str, Any]]]:
        return {name: [one._asdict() for one in runs] for name, runs in rows.items()}

    ended = {
        name: [{key: value for key, value in one._asdict().items() if key != "said"} for one in runs]
        for name, runs in found.ended.items()
    }
    return {
        "options": {**asdict(options), "data": str(options.data or "")},
        "installed": [{**asdict(one), "shares": [share._asdict() for share in one.shares]} for one in found.installs],
        "ended": ended,
        "started": facts(found.started),
        "memory": facts(found.memory),
        "kept": facts(found.kept),
    }


def _notes(options: Options, found: Found) -> list[str]:
    plain, *richer = found.installs
    (kept, kept_bytes), (then, _) = (medians(runs) for runs in found.kept.values())
    notes = [
        f"medians of {options.runs} runs, all rows in turn; weights {options.weights}, {options.partitions} partitions",
        "sizes are those of the files that pip's records list, without Python itself and pip",
        *(f"{one.asked} adds, in MiB: {largest(added(plain, one), len(one.shares))}" for one in richer),
        f"pathcast warm keeps {kept:,.0f} kernels, {kept_bytes / MIB:.1f} MiB; the workers that start with them, and "
        f"answer pings, compile {then - kept:,.0f} more",
        "private pages are no other process's, and in PSS a page of n processes counts as an n-th: both are lower "
        "while other processes load the same files, as this benchmark does with some; anonymous pages are of no file",
    ]
    if any(one.editable for one in found.installs):
        names = ", ".join(sorted({name for one in found.installs for name in one.editable}))
        notes.append(f"{names}: an editable installation, so the checkout's files count, without bytecode")
    notes += [
        f"{one.asked}: not installed here, so not counted: {', '.join(one.absent)}"
        for one in found.installs
        if one.absent
    ]
    return notes
