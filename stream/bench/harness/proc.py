"""Reads a process's CPU time and memory from /proc (proc_pid_stat(5)), on Linux, without a library
or a tracer."""

from __future__ import annotations

import os
import platform
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


def parse(raw: bytes, ticks_per_s: int, page_bytes: int) -> Usage:
    """Parses one line of /proc/<pid>/stat. Children are not counted: cutime and cstime are left out.

    The command in parentheses may contain spaces and parentheses itself, so fields are counted from the last one.
    """
    fields = raw[raw.rindex(b")") + 2 :].split()  # fields[0] is field 3, the state
    utime, stime, rss_pages = int(fields[11]), int(fields[12]), int(fields[21])
    return Usage((utime + stime) / ticks_per_s, rss_pages * page_bytes)


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
