"""Reads a process's CPU time and memory from /proc (proc_pid_stat(5), proc_pid_smaps(5)), on Linux, without a library
or a tracer."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """CPU seconds of all threads so far, including ended ones, and resident bytes now."""

    cpu_s: float
    rss_bytes: int


def usage(pid: int) -> Usage:
    """Returns the usage. Raises ProcessLookupError if there is no such process, RuntimeError if there is no /proc."""
    if platform.system() != "Linux":
        raise RuntimeError(f"CPU is counted from /proc, which {platform.system()} does not have")
    try:
        raw = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"no process {pid}: it has ended") from None
    return parse(raw, os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE"))


def threads(pid: int) -> dict[int, float]:
    """Returns the CPU seconds of each living thread so far, by its id. Empty if there is no such process."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    found: dict[int, float] = {}
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            found[int(path.parent.name)] = parse(path.read_bytes(), ticks, page).cpu_s
    return found


def waited_s(pid: int) -> float:
    """Returns for how many seconds so far its living threads were ready to run and had no core, all together. 0.0 if
    there is no such process, or the kernel does not count it."""
    found = 0.0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):  # the thread has ended meanwhile
            found += parse_waited(path.read_bytes())
    return found


def parse_waited(raw: bytes) -> float:
    """Parses /proc/<pid>/task/<tid>/schedstat: nanoseconds on a core, nanoseconds ready without one, and turns."""
    return int(raw.split()[1]) / 1e9


def parse(raw: bytes, ticks_per_s: int, page_bytes: int) -> Usage:
    """Parses one line of /proc/<pid>/stat. Children are not counted: cutime and cstime are left out.

    The command in parentheses may contain spaces and parentheses itself, so fields are counted from the last one.
    """
    fields = raw[raw.rindex(b")") + 2 :].split()  # fields[0] is field 3, the state
    utime, stime, rss_pages = int(fields[11]), int(fields[12]), int(fields[21])
    return Usage((utime + stime) / ticks_per_s, rss_pages * page_bytes)


class Memory(NamedTuple):
    """Bytes of a process's memory at one moment.

    Resident pages may be shared with other processes that load the same files. In `pss_bytes` a page that n processes
    share counts as an n-th, so that the sum over processes is what all of them take. `private_bytes` is what no other
    process has at that moment. Both depend on what else runs. `anonymous_bytes` is what belongs to no file, the heap
    above all, and does not depend on that.
    """

    resident_bytes: int
    anonymous_bytes: int
    private_bytes: int
    pss_bytes: int


def memory(pid: int) -> Memory:
    """Returns the memory. Raises ProcessLookupError if there is no such process, RuntimeError if the kernel does not
    tell: it is not Linux, or older than 4.14."""
    path = Path(f"/proc/{pid}/smaps_rollup")
    try:
        return parse_memory(path.read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        if not Path("/proc/self/smaps_rollup").exists():
            raise RuntimeError(f"memory is read from {path}, which this system does not have") from None
        raise ProcessLookupError(f"no process {pid}: it has ended") from None


def parse_memory(raw: bytes) -> Memory:
    """Parses /proc/<pid>/smaps_rollup: a line of addresses, and then lines such as `Rss:   1708 kB`. Raises ValueError
    if a line that counts is absent."""
    kib: dict[bytes, int] = {}
    for line in raw.splitlines()[1:]:
        name, _, rest = line.partition(b":")
        kib[name] = int(rest.split()[0])
    try:
        private = kib[b"Private_Clean"] + kib[b"Private_Dirty"]
        fields = kib[b"Rss"], kib[b"Anonymous"], private, kib[b"Pss"]
    except KeyError as error:
        raise ValueError(f"no line {error.args[0].decode()} in smaps_rollup: {raw[:80]!r}") from None
    return Memory(*(1024 * field for field in fields))


def peak_bytes(pid: int) -> int:
    """Returns the most that was resident at one moment since the process began its program. Raises RuntimeError
    if the system does not tell.
    """
    path = Path(f"/proc/{pid}/status")
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        raise RuntimeError(f"memory is read from {path}, which is not there") from None
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(b"VmHWM:"))


def total(memories: Iterable[Memory]) -> Memory:
    return Memory(*map(sum, zip(*memories, strict=True)))


def machine() -> str:
    """Returns processor, cores, memory, system and load, in one line for the results."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    system = f"{platform.system()} {platform.release()}"
    return f"{_processor()}, {cores} cores, {memory_gib:.0f} GiB, {system}, load {load:.1f} before"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
