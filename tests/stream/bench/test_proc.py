"""CPU time from /proc: only the process's own, and of all of its threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from stream.bench.harness.proc import parse, usage

# As Linux writes it; the command has spaces and parentheses, which may stand in a process's name.
STAT = (
    b"4242 (a (b) c) S 1 4242 4242 0 -1 4194560 3016 52 0 7 1234 56 900 800 20 0 9 0 123456 "
    b"1000000 2500 18446744073709551615 1 1 0 0 0 0 0 16781312 134235 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)


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
