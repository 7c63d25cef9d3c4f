"""Measures what an operator meets at the start: imports, starts without and with kept kernels, and memory.

    once      each import, so that files are in memory and bytecode is written
    each run  imports in fresh processes
              `pathcast worker --warm` into a new folder of kernels, and once more with what it has kept there
              two workers of one command, into another new folder, and with what `pathcast worker --warm` has kept
              one worker with these kernels: until it is ready, then with entities

The folders of kernels are temporary, so that a start without kernels is one, and the user's own kernels stay. Workers
are ready when they hold all partitions of empty topics and have taken them over: the group's protocol is in that time.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench_rig import Show, progress, wait_for_checkpoint

from stream.bench.harness import launch, proc, stores, topics
from stream.bench.harness.drain import watch
from stream.bench.harness.report import Cell, Report, Table
from stream.bench.harness.servers import Servers
from stream.bench.harness.stats import middle, plus_minus
from stream.bench.harness.workload import Workload

IMPORTS: Final = ("pass", "import model.api", "import stream.worker.app")
PRINT_MEMORY: Final = "; print(open('/proc/self/smaps_rollup').read())"
WORKERS: Final = 2
ROUNDS: Final = 64  # pings per entity: then its window is full
Rows = dict[str, list[tuple[float, ...]]]  # what was measured, and a row for each run
_READY: Final = re.compile(rf"^worker (\d+) \| .*{re.escape(launch.READY)} ([\d, ]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Options:
    """The options of the benchmark."""

    weights: str = "small"
    entities: int = 1_000
    partitions: int = 8
    runs: int = 3
    timeout_s: float = 600.0  # of one start or drain


def run(options: Options, servers: Servers, show: Show) -> Report:
    """Runs the benchmark. Raises launch.Failed or ConnectionError if a process or a server stops, RuntimeError if the
    kernels are not where they should be."""
    seconds: Rows = defaultdict(list)
    memory: Rows = defaultdict(list)
    for code in IMPORTS:
        timed([sys.executable, "-c", code], options.timeout_s)
    for number in range(1, options.runs + 1):
        with tempfile.TemporaryDirectory(prefix="pathcast-start-") as home:
            show(f"run {number} of {options.runs}")
            _run_once(options, servers, Path(home), seconds, memory, show)
    times: list[tuple[Cell, ...]] = [(name, *_spreads(runs)) for name, runs in seconds.items()]
    sizes: list[tuple[Cell, ...]] = [(name, *map(middle, zip(*runs, strict=True))) for name, runs in memory.items()]
    tables = [
        Table("until the end, or until all workers are ready", ("what", "wall s", "±", "CPU s", "±"), times),
        Table("memory", ("process", "resident MiB", "anonymous MiB", "PSS MiB"), sizes),
    ]
    notes = [
        f"medians of {options.runs} runs, all rows in turn; weights {options.weights}, {options.partitions} partitions",
        "in PSS a page of n processes counts as an n-th",
    ]
    return Report("start", tables, {"options": asdict(options), **seconds, "memory": memory}, notes, servers.what)


def _spreads(runs: Sequence[Sequence[float]]) -> list[Cell]:
    return [cell for column in zip(*runs, strict=True) for cell in (middle(column), plus_minus(column))]


def _run_once(options: Options, servers: Servers, home: Path, seconds: Rows, memory: Rows, show: Show) -> None:
    warmed, other = home / "warmed", home / "other"
    for code in IMPORTS:
        show(f"python -c '{code}'")
        *cost, said = timed([sys.executable, "-c", code + PRINT_MEMORY], options.timeout_s)
        seconds[f"python -c '{code}'"].append(tuple(cost))
        memory[f"python, after {code}"].append(memory_mib(said))
    for what in ("no kernels kept", "kernels kept"):
        show(f"pathcast worker --warm, {what}")
        with keeping(warmed):
            *cost, _ = timed([*launch.PATHCAST, "worker", "--warm", f"--weights={options.weights}"], options.timeout_s)
        seconds[f"pathcast worker --warm, {what}"].append(tuple(cost))
    for what, folder in (("no kernels kept", other), ("kernels kept", warmed)):
        show(f"{WORKERS} workers, {what}")
        with keeping(folder):
            seconds[f"pathcast worker --workers {WORKERS}, {what}"].append(_start_several(options, servers))
    with keeping(warmed):
        _start_one(options, servers, seconds, memory, show)


def timed(command: Sequence[str], timeout_s: float) -> tuple[float, float, str]:
    """Runs a command to its end. Returns its wall and CPU seconds, and what it printed. Raises launch.Failed."""
    began_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        ended = subprocess.run(
            command, env=launch.environment(), capture_output=True, text=True, timeout=timeout_s, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise launch.Failed(f"{error}: {error.stderr!r}") from error
    wall_s, after = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, ended.stdout


@contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Lets processes that start here keep their kernels in this folder, and load no others: numba prefers
    NUMBA_CACHE_DIR to the folders beside the sources and in the user's cache. Raises RuntimeError if none are there at
    the end: then what ran has compiled none, or has kept them elsewhere."""
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["NUMBA_CACHE_DIR"]
    if not any(folder.rglob("*.nbc")):
        raise RuntimeError(f"no kernels are kept in {folder}: does numba heed NUMBA_CACHE_DIR?")


def memory_mib(rollup: str) -> tuple[float, float, float]:
    """Parses /proc/<pid>/smaps_rollup: MiB that are resident, that belong to no file, and PSS."""
    lines = (line.partition(":") for line in rollup.strip().splitlines()[1:])
    kib = {name: int(rest.split()[0]) for name, _, rest in lines}
    return kib["Rss"] / 1024, kib["Anonymous"] / 1024, kib["Pss"] / 1024


def _start_several(options: Options, servers: Servers) -> tuple[float, float]:
    """Starts several workers with one command. Returns the seconds until all were ready, and the CPU of the parent's
    process and its children so far."""
    with (
        topics.fresh(servers.bootstrap, options.partitions) as names,
        stores.group(servers, topics.prefix_of(names)) as group,
    ):
        given = launch.worker_options(servers, names, group, options.weights, workers=WORKERS)
        began_s = time.monotonic()
        with launch.process("workers", launch.worker_command(given)) as parent:
            parent.wait_until(
                lambda: shared_out(parent.log(), WORKERS) == options.partitions, "shared partitions", options.timeout_s
            )
            pids = [parent.pid, *map(int, re.findall(r"\bworker \d+ is process (\d+)$", parent.log(), re.MULTILINE))]
            return time.monotonic() - began_s, sum(proc.usage(pid).cpu_s for pid in pids)


def shared_out(log: str, workers: int) -> int:
    """Returns how many partitions the workers of one command hold, by the last line about that of each; -1 while one of
    them has not been ready yet."""
    held = {number: partitions.split(",") for number, partitions in _READY.findall(log)}
    return sum(map(len, held.values())) if len(held) == workers else -1


def _start_one(options: Options, servers: Servers, seconds: Rows, memory: Rows, show: Show) -> None:
    """Starts one worker, and lets it answer ROUNDS pings of each entity and save their states."""
    total, what = options.entities * ROUNDS, f"one worker, {options.entities:,} entities of {ROUNDS} pings"
    with (
        topics.fresh(servers.bootstrap, options.partitions) as names,
        stores.group(servers, topics.prefix_of(names)) as group,
    ):
        began_s = time.monotonic()
        command = launch.worker_command(launch.worker_options(servers, names, group, options.weights))
        with launch.process("worker", command) as worker:
            rollup = Path(f"/proc/{worker.pid}/smaps_rollup")
            worker.wait_for(launch.READY, options.timeout_s)
            seconds["pathcast worker, kernels kept"].append((time.monotonic() - began_s, worker.usage().cpu_s))
            memory["one worker, ready, without entities"].append(memory_mib(rollup.read_text()))
            with closing(topics.Counter(servers.bootstrap, topics.answers_of(names))) as counter:
                pings = Workload(options.entities).rounds(ROUNDS)
                topics.prefill(servers.bootstrap, names.pings, options.partitions, pings)
                watch([worker], counter, total, timeout_s=options.timeout_s, show=progress(show, what, total))
            wait_for_checkpoint(worker, servers, group, names, options.partitions, total)
            memory[what].append(memory_mib(rollup.read_text()))
