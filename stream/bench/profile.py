"""Where a worker's CPU goes: py-spy's samples, sorted into stages, and its flame graph. Knows stacks and file names.

py-spy reads the process from outside (`--nonblocking`: it does not even stop it), so the worker is the one that people
run. It counts threads that are on a CPU; the torch kernel below a Python frame counts for that frame.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from stream.bench.launch import Failed, Process, environment, process

RATE_HZ: Final = 200  # a sample costs py-spy 0.3 ms: 6 % of the other core
WRITE_S: Final = 60.0  # for py-spy to write its file after it was told to stop
MAIN_THREAD: Final = "MainThread"
OTHER: Final = "event loop, other"
# A thread in epoll, or woken from it and not yet on a core: py-spy cannot tell these apart. On a quiet machine it is
# little; where others compete for the cores it grows, and is no CPU that the worker used.
EPOLL: Final = "epoll, waking"

# (part of the file's path, qualified name of the function or "", stage). From a stack's innermost frame outwards, the
# first frame that a rule knows decides: numpy called by `track` is track, and by `render` it is encode.
RULES: Final[tuple[tuple[str, str, str], ...]] = (
    ("selectors.py", "EpollSelector.select", EPOLL),
    ("stream/clean.py", "", "decode"),
    ("stream/track.py", "", "track"),
    ("stream/record.py", "", "store"),
    ("stream/store.py", "", "store"),
    ("model/codec.py", "", "store"),
    ("model/api.py", "Predictor.dumps", "store"),
    ("model/api.py", "Predictor.loads", "store"),
    ("model/cache.py", "StatePool.import_rings", "store"),
    ("model/cache.py", "StatePool.export_rings", "store"),
    ("stream/residents.py", "", "store"),
    ("/redis/", "", "store"),
    ("stream/render.py", "", "encode"),
    ("stream/wire.py", "", "encode"),
    ("stream/publisher.py", "", "produce"),
    ("aiokafka/producer/", "", "produce"),
    ("aiokafka/consumer/", "", "fetch"),
    ("stream/transport.py", "", "fetch"),
    ("stream/source.py", "", "fetch"),
    ("model/cache.py", "", "gather"),
    ("model/", "", "step"),
    ("stream/turns.py", "", "engine"),
    ("stream/engine.py", "", "engine"),
    ("stream/batch.py", "", "delivery"),
    ("stream/delivery.py", "", "delivery"),
    ("/faust/", "", "Faust"),
    ("/mode/", "", "Faust"),
)
STAGES: Final = (
    *("fetch", "Faust", "decode", "track", "engine", "gather", "step", "encode", "produce", "delivery", "store"),
    EPOLL,
    OTHER,
)


class Stack(NamedTuple):
    """One line of py-spy's raw format: frames from the outermost in, each "function (file.py)", and its samples."""

    frames: tuple[str, ...]
    samples: int


def loads(raw: str) -> list[Stack]:
    """Raises ValueError for a line that is not `frame;frame;... count`."""
    stacks = []
    for line in raw.splitlines():
        names, _, count = line.rpartition(" ")
        if not names or not count.isdigit():
            raise ValueError(f"not a line of py-spy's raw format: {line[:80]!r}")
        stacks.append(Stack(tuple(names.split(";")), int(count)))
    return stacks


def stage_of(frames: tuple[str, ...]) -> str:
    for frame in reversed(frames):
        function, _, place = frame.partition(" (")
        for path, name, stage in RULES:
            if path in place and name in ("", function):
                return stage
        if "aiokafka/" in place:  # its connections: the producer's in the main thread, the consumer's in its own
            return "produce" if any(MAIN_THREAD in outer for outer in frames[:1]) else "fetch"
    return OTHER


def shares(stacks: Iterable[Stack]) -> dict[str, float]:
    """The part of all samples that each stage has, in the order of STAGES. Raises ValueError if there are none."""
    counts: Counter[str] = Counter()
    for stack in stacks:
        counts[stage_of(stack.frames)] += stack.samples
    total = counts.total()
    if not total:
        raise ValueError("the profiler took no sample: was the worker idle?")
    return {stage: counts[stage] / total for stage in STAGES}


@dataclass
class Profile:
    """What was seen. Empty until the context of `profiled` has ended."""

    stages: dict[str, float] = field(default_factory=dict)
    samples: int = 0
    svg: bytes = b""


def command() -> str | None:
    """py-spy, beside this Python or on PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


@contextmanager
def profiled(worker: Process) -> Iterator[Profile]:
    """Sample the worker while the context lasts. Raises launch.Failed if py-spy cannot; the worker goes on."""
    found = command()
    if found is None:
        raise Failed("no py-spy here: pip install 'pathcast[bench]'")
    home = Path(tempfile.mkdtemp(prefix="pathcast-profile-"))
    files = {"raw": home / "stacks.txt", "flamegraph": home / "flame.svg"}
    profile = Profile()
    try:
        with ExitStack() as stack:
            spies = [stack.enter_context(_spy(found, kind, path, worker.pid)) for kind, path in files.items()]
            yield profile
            for spy in spies:
                spy.check()
                os.kill(spy.pid, signal.SIGINT)  # how py-spy is told to write what it has
            for spy in spies:
                spy.wait(WRITE_S)
        stacks = loads(files["raw"].read_text())
        profile.stages, profile.samples = shares(stacks), sum(stack.samples for stack in stacks)
        profile.svg = files["flamegraph"].read_bytes()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _spy(found: str, kind: str, path: Path, pid: int) -> Iterator[Process]:
    how = ["record", "--pid", str(pid), "--format", kind, "--output", str(path), "--rate", str(RATE_HZ)]
    with process("py-spy", [found, *how, "--nonblocking", "--threads", "--function"], env=environment()) as spy:
        yield spy
