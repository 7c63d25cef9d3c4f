"""CPU and memory from /proc: only the process's own, and of all of its threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from stream.bench.harness.proc import Memory, memory, parse, parse_memory, parse_waited, total, usage, waited_s

# As Linux writes it; the command has spaces and parentheses, which may stand in a process's name.
STAT = (
    b"4242 (a (b) c) S 1 4242 4242 0 -1 4194560 3016 52 0 7 1234 56 900 800 20 0 9 0 123456 "
    b"1000000 2500 18446744073709551615 1 1 0 0 0 0 0 16781312 134235 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)


# As Linux writes it, shortened.
ROLLUP = b"""561f02cc6000-7ffc5b604000 ---p 00000000 00:00 0                          [rollup]
Rss:                1708 kB
Pss:                 292 kB
Pss_Anon:            112 kB
Shared_Clean:       1556 kB
Shared_Dirty:          0 kB
Private_Clean:        40 kB
Private_Dirty:       112 kB
Anonymous:           113 kB
SwapPss:               7 kB
"""


def test_user_and_system_time_count_and_the_childrens_does_not() -> None:
    found = parse(STAT, ticks_per_s=100, page_bytes=4096)
    assert found.cpu_s == pytest.approx((1234 + 56) / 100)
    assert found.rss_bytes == 2500 * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_work_of_a_second_thread_is_the_processs_too() -> None:
    busy = """
import sys, threading, time
def burn():
    end = time.thread_time() + 0.3
    while time.thread_time() < end: pass
thread = threading.Thread(target=burn); thread.start(); thread.join()
print("done", flush=True); sys.stdin.read()
"""
    child = subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        ours, theirs = usage(os.getpid()), usage(child.pid)
        assert theirs.cpu_s >= 0.29  # /proc counts in hundredths
        assert theirs.rss_bytes > 1_000_000
        assert usage(os.getpid()).cpu_s - ours.cpu_s < 0.29, "a child's work is not the parent's"
    finally:
        child.communicate()
    with pytest.raises(ProcessLookupError, match=str(child.pid)):
        usage(child.pid)


def test_memory_is_resident_anonymous_private_and_shared_by_parts() -> None:
    found = parse_memory(ROLLUP)
    assert found == Memory(1024 * 1708, 1024 * 113, 1024 * (40 + 112), 1024 * 292)
    assert total([found, found, Memory(1, 2, 3, 4)]) == Memory(
        2 * found.resident_bytes + 1,
        2 * found.anonymous_bytes + 2,
        2 * found.private_bytes + 3,
        2 * found.pss_bytes + 4,
    )


def test_memory_without_a_line_that_counts_is_an_error_and_not_nothing() -> None:
    with pytest.raises(ValueError, match="no line Private_Dirty"):
        parse_memory(b"\n".join(line for line in ROLLUP.splitlines() if not line.startswith(b"Private_Dirty")))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_process_is_its_own_and_at_most_what_is_resident() -> None:
    holding = "import sys; kept = b'#' * 50_000_000; print('done', flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        found = memory(child.pid)
        assert 50_000_000 < found.anonymous_bytes <= found.private_bytes <= found.pss_bytes <= found.resident_bytes
    finally:
        child.communicate()
    with pytest.raises(ProcessLookupError, match=str(child.pid)):
        memory(child.pid)


def test_the_wait_for_a_core_is_the_second_number_of_a_threads_line() -> None:
    assert parse_waited(b"9000000000 1500000000 77\n") == 1.5
    before = waited_s(os.getpid())
    assert 0.0 <= before <= waited_s(os.getpid())
    assert waited_s(2**22 + 1) == 0.0
