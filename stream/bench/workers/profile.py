"""Measures where a worker's CPU time goes: assigns py-spy's samples to stages.

py-spy reads the process from outside, so the worker is the one that people run. It counts threads that are on a CPU;
compiled code below a Python frame counts for that frame. It stops the process for each sample: without that
(`--nonblocking`) short functions such as `parse` end before their frame is read, and their time is lost.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from stream.bench.harness import proc
from stream.bench.harness.launch import Failed, Process, process

RATE_HZ: Final = 200
WRITE_S: Final = 60.0  # the longest that py-spy may take to write its file after the signal to stop
BEGIN: Final = 0.1  # the part of the work before the first sample
MAIN_THREAD: Final = "MainThread"
OTHER: Final = "event loop, other"
# Innermost frames in which a thread waits for work, or was woken and is not yet on a core: py-spy cannot distinguish
# them.
WAITING: Final = "waiting"
WAITS: Final = (
    ("EpollSelector.select", "selectors.py"),
    ("_worker", "concurrent/futures/thread.py"),
    ("Condition.wait", "threading.py"),
)
_THREAD: Final = re.compile(r"thread \((0x[0-9A-Fa-f]+|\d+)\)")

# (part of the file's path, qualified name of the function or "", stage). From a stack's innermost frame outwards, the
# first frame that matches a rule decides: numpy called by `track` is track, and called by `answers` it is encode.
RULES: Final[tuple[tuple[str, str, str], ...]] = (
    ("stream/tracks/clean.py", "", "decode"),
    ("stream/tracks/clean_compiled.py", "", "decode"),
    ("stream/tracks/json_values.py", "", "decode"),
    ("stream/engine/pings.py", "", "decode"),
    ("stream/wire/ping_rules.py", "", "decode"),
    ("stream/tracks/foreign_formats.py", "", "decode"),
    ("stream/adapters/live", "", "decode"),  # with `--map` alone: messages that are no pings of ours
    ("stream/tracks/track.py", "", "track"),
    ("stream/tracks/track_table.py", "", "track"),
    ("stream/engine/json_template.py", "", "encode"),
    ("stream/wire/ids.py", "", "encode"),
    ("stream/engine/entities/stored_entity.py", "", "store"),
    ("stream/store/base.py", "", "store"),
    ("stream/store/redis_store.py", "", "store"),
    ("stream/store/redis_scripts.py", "", "store"),
    ("stream/store/redis_index.py", "", "store"),
    ("stream/delivery/cold_reads.py", "", "store"),
    ("stream/engine/entities/restore.py", "", "store"),
    ("stream/engine/entities/snapshot.py", "", "store"),
    ("stream/delivery/checkpointer.py", "", "store"),
    ("model/serving/state_codec.py", "", "store"),
    ("model/api.py", "Predictor.dumps", "store"),
    ("model/api.py", "Predictor.loads", "store"),
    ("model/serving/state_pool.py", "StatePool.dumps", "store"),
    ("model/serving/state_pool.py", "StatePool.loads", "store"),
    ("stream/engine/entities/predictors.py", "", "engine"),
    ("stream/engine/entities/shard.py", "slots_of", "store"),
    ("stream/engine/entities/shard.py", "", "engine"),
    ("stream/engine/entities/table.py", "EntityTable.touch", "engine"),
    ("stream/engine/entities/table.py", "EntityTable.of_shards", "engine"),
    ("stream/engine/entities/table.py", "", "store"),
    ("/redis/", "", "store"),
    ("stream/engine/answers.py", "", "encode"),
    ("stream/engine/branches.py", "", "encode"),
    ("stream/engine/rendering.py", "", "encode"),
    ("stream/kafka/records/encoded_batches.py", "EncodedBatch.batch", "produce"),
    ("stream/kafka/records/encoded_batches.py", "Whole.__init__", "produce"),
    ("stream/kafka/records/encoded_batches.py", "Answers.of", "delivery"),
    ("stream/kafka/records/encoded_batches.py", "Answers.counts", "delivery"),
    ("stream/kafka/records/encoded_batches.py", "", "encode"),
    ("stream/wire/messages.py", "", "encode"),
    ("stream/wire/record.py", "", "encode"),
    ("stream/wire/dead_letters.py", "", "encode"),
    ("stream/kafka/producer.py", "", "produce"),
    ("aiokafka/producer/", "", "produce"),
    ("aiokafka/consumer/", "", "fetch"),
    ("stream/worker/faust_driver.py", "", "fetch"),
    ("stream/kafka/pacing.py", "", "fetch"),
    ("stream/kafka/fetcher.py", "", "fetch"),
    ("stream/kafka/records/record_batches.py", "", "fetch"),
    ("stream/kafka/records/decompression.py", "", "fetch"),
    ("stream/kafka/reading.py", "", "fetch"),
    ("model/", "", "step"),
    ("stream/engine/batch.py", "", "engine"),
    ("stream/engine/engine.py", "", "engine"),
    ("stream/engine/stepping.py", "", "engine"),
    ("stream/engine/asks.py", "", "engine"),
    ("stream/engine/bisection.py", "", "engine"),
    ("stream/engine/entities/quota.py", "", "engine"),
    ("stream/engine/entities/placement.py", "", "engine"),
    ("stream/delivery/inbox.py", "", "delivery"),
    ("stream/delivery/delivery.py", "", "delivery"),
    ("stream/delivery/ownership/ownership.py", "", "delivery"),
    ("stream/delivery/processing.py", "", "delivery"),
    ("stream/delivery/ownership/continuity.py", "", "delivery"),
    ("stream/delivery/committer.py", "", "delivery"),
    ("stream/delivery/guarantees.py", "", "delivery"),
    ("stream/delivery/accounts.py", "", "delivery"),
    ("stream/delivery/holds.py", "", "delivery"),
    ("stream/versions", "", "delivery"),
    ("stream/tracing", "", "delivery"),
    ("stream/wire/versions.py", "", "delivery"),
    ("/faust/", "", "Faust"),
    ("/mode/", "", "Faust"),
)
STAGES: Final = (
    *("fetch", "Faust", "decode", "track", "engine", "step", "encode", "produce", "delivery", "store"),
    OTHER,
)


class Stack(NamedTuple):
    """One line of py-spy's raw format: frames from the outermost inwards, as "function (file.py)", and its samples."""

    frames: tuple[str, ...]
    samples: int


def loads(raw: str) -> list[Stack]:
    """Parses py-spy's raw format. Raises ValueError for a line that is not `frame;frame;... count`."""
    stacks = []
    for line in raw.splitlines():
        names, _, count = line.rpartition(" ")
        if not names or not count.isdigit():
            raise ValueError(f"not a line of py-spy's raw format: {line[:80]!r}")
        stacks.append(Stack(tuple(names.split(";")), int(count)))
    return stacks


def stage_of(frames: tuple[str, ...]) -> str:
    if any(frames[-1].startswith(f"{function} (") and place in frames[-1] for function, place in WAITS):
        return WAITING
    for frame in reversed(frames):
        function, _, place = frame.partition(" (")
        for path, name, stage in RULES:
            if path in place and name in ("", function):
                return stage
        if "aiokafka/" in place:  # a connection: the producer's is in the main thread, the consumer's in another
            return "produce" if any(MAIN_THREAD in outer for outer in frames[:1]) else "fetch"
    return OTHER


def shares(stacks: Iterable[Stack], cpu_s: Mapping[int, float]) -> dict[str, float]:
    """Returns the part of the process's CPU time that each stage has, in the order of STAGES.

    The CPU time of a thread is known from /proc, by its id; its samples only divide that among the stages. Samples of a
    waiting thread are left out: on a busy machine there are many, and they use no CPU. Threads without other samples
    count for OTHER. Raises ValueError if there is nothing to divide.
    """
    counts: dict[int, Counter[str]] = {thread: Counter() for thread in cpu_s}
    for stack in stacks:
        thread = _thread(stack.frames)
        if thread in counts and (stage := stage_of(stack.frames)) != WAITING:
            counts[thread][stage] += stack.samples
    total_s = sum(cpu_s.values())
    if total_s <= 0 or not any(counts.values()):
        raise ValueError("the profiler took no sample: was the worker idle?")
    found = dict.fromkeys(STAGES, 0.0)
    for thread, stages in counts.items():
        for stage, samples in (stages or Counter({OTHER: 1})).items():
            found[stage] += cpu_s[thread] / total_s * samples / (stages.total() or 1)
    return found


def _thread(frames: tuple[str, ...]) -> int | None:
    """Returns the id in "thread (1234): name"."""
    match = _THREAD.match(frames[0]) if frames else None
    return int(match[1], 0) if match else None


class Profile(NamedTuple):
    """The result of the samples."""

    stages: dict[str, float]
    samples: int


def command() -> str:
    """Returns the path of py-spy, beside this Python or on PATH. Raises launch.Failed if there is none."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise Failed("no py-spy here: pip install 'pathcast[bench]'")
    return found


class Profiler:
    """Samples a worker. `at` gets the worker's progress, and starts py-spy when the first tenth is done."""

    def __init__(self, worker: Process, home: Path) -> None:
        self._worker = worker
        self._output = home / "raw"
        self._command = [command(), "record", "--pid", str(worker.pid), "--format", "raw"]
        self._command += ["--output", str(self._output), "--rate", str(RATE_HZ), "--threads", "--function"]
        self._stack = ExitStack()
        self._spy: Process | None = None
        self._cpu_s: dict[int, float] = {}  # by thread, when py-spy was started, and then while it ran

    def at(self, part_done: float) -> None:
        """Starts py-spy, or ends it if all is done. Raises launch.Failed if py-spy fails."""
        if self._spy is None and BEGIN <= part_done < 1.0:
            self._cpu_s = proc.threads(self._worker.pid)
            self._spy = self._stack.enter_context(process("py-spy", self._command))
        elif self._spy is not None and part_done >= 1.0:
            self._finish(self._spy)

    def _finish(self, spy: Process) -> None:
        now_s = proc.threads(self._worker.pid)
        self._cpu_s = {thread: cpu_s - self._cpu_s.get(thread, 0.0) for thread, cpu_s in now_s.items()}
        spy.check()
        os.kill(spy.pid, signal.SIGINT)  # py-spy then writes its samples
        spy.wait(WRITE_S)

    def close(self) -> None:
        """Ends a py-spy that still runs, without its samples."""
        self._stack.close()

    def found(self) -> Profile:
        """Returns the profile. Raises launch.Failed if the drain was too short, ValueError if there is no sample."""
        if not self._output.exists():
            raise Failed("the drain was over before py-spy had begun: ask for more pings")
        stacks = loads(self._output.read_text())
        return Profile(shares(stacks, self._cpu_s), sum(stack.samples for stack in stacks))


@contextmanager
def profiler(worker: Process) -> Iterator[Profiler]:
    """Yields a Profiler. Raises launch.Failed if there is no py-spy. The worker continues even if py-spy fails."""
    with tempfile.TemporaryDirectory(prefix="pathcast-profile-") as home, closing(Profiler(worker, Path(home))) as one:
        yield one
