"""Several processes as one: which is started again and when, how all stop, and that none is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import pytest
from pathcast_process import PATIENCE_S, eventually, processes_of

from stream.worker.process_pool import FALSE_STARTS, STEADY_S, Past

PARENT = """
import asyncio, logging, sys
from stream.worker import process_pool
process_pool.RESTART_S, process_pool.STOP_S = (0.0, 0.1), float(sys.argv[1])
logging.basicConfig(level=logging.INFO)
asyncio.run(process_pool.run([[sys.executable, *sys.argv[2:]]] * 2, ready="ready to serve"))
"""
MEMBER = """
import signal, sys, time
from pathlib import Path
from stream.worker import process_pool
process_pool.STOP_S = 0.2
process_pool.end_with_parent()
def hear(number, frame):
    print("heard", signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        sys.exit(0)
signal.signal(signal.SIGTERM, hear)
signal.signal(signal.SIGINT, hear)
"""
SERVES = """
print("ready to serve", flush=True)
while True:
    time.sleep(600)
"""
DEAF = f"signal.signal(signal.SIGTERM, signal.SIG_IGN){SERVES}"
LONG_S = 60.0  # until SIGKILL: longer than any test waits for a SIGTERM to be enough


def after(*lives: tuple[float, bool]) -> Past:
    *_, past = accumulate(lives, lambda past, life: past.after(life[0], ready=life[1]), initial=Past())
    return past


def test_each_end_in_a_row_doubles_the_delay_up_to_half_a_minute() -> None:
    delays = [after(*[(10.0, True)] * ends).delay_s for ends in range(1, 9)]
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_minute_of_work_makes_the_delay_short_again() -> None:
    assert after(*[(10.0, True)] * 5, (STEADY_S, True)).delay_s == 1.0
    assert after(*[(10.0, True)] * 5, (STEADY_S, True), (10.0, True)).delay_s == 2.0
    assert after(*[(10.0, True)] * 5, (STEADY_S - 0.1, True)).delay_s == 30.0


def test_only_false_starts_in_a_row_are_hopeless() -> None:
    false, served, steady = (5.0, False), (5.0, True), (STEADY_S, False)
    assert not after(*[false] * (FALSE_STARTS - 1)).hopeless
    assert after(*[false] * FALSE_STARTS).hopeless
    assert not after(*[served] * 100).hopeless
    for pause in (served, steady):
        assert not after(false, false, pause, false, false).hopeless
        assert after(false, pause, false, false, false).hopeless


class Crew:
    """A parent with two members, as processes of their own, all of which name `home` in their command lines."""

    def __init__(self, home: Path, member: str, stop_s: float) -> None:
        self._home = home
        self._log = home / "log"
        command = [sys.executable, "-c", PARENT, str(stop_s), "-c", MEMBER + member, str(home)]
        with self._log.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,  # a process group of its own, as a shell gives it
            )

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def lines(self, number: int) -> list[str]:
        return re.findall(rf"^worker {number} \| (.*)$", self.log(), re.MULTILINE)

    def pids(self, number: int) -> list[int]:
        """Of its processes so far; the last may live."""
        return [int(pid) for pid in re.findall(rf"worker {number} is process (\d+)$", self.log(), re.MULTILINE)]

    def wait_until_ready(self, number: int, times: int = 1) -> None:
        assert eventually(lambda: self.lines(number).count("ready to serve") == times), self.log()

    def wait_until_ended(self, number: int, how: str, times: int) -> None:
        assert eventually(lambda: self.log().count(f"worker {number} ended with {how}") == times), self.log()

    def status(self) -> int:
        """Of the parent, when it has ended."""
        return self.process.wait(PATIENCE_S)

    def nobody_is_left(self) -> bool:
        return eventually(lambda: not processes_of(self._home))

    def clean_up(self) -> None:
        self.process.kill()
        self.process.wait()
        if processes_of(self._home):
            for pid in (*self.pids(1), *self.pids(2)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


Start = Callable[..., Crew]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    crews: list[Crew] = []

    def started(member: str = SERVES, stop_s: float = LONG_S) -> Crew:
        crews.append(Crew(tmp_path, member, stop_s))
        return crews[-1]

    yield started
    for crew in crews:
        crew.clean_up()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_of_the_terminal_reaches_each_member_once_as_sigterm(start: Start, number: int) -> None:
    crew = start()
    crew.wait_until_ready(1)
    crew.wait_until_ready(2)
    os.killpg(crew.process.pid, number)
    assert crew.status() == 0, crew.log()
    for member in (1, 2):
        assert crew.lines(member) == ["ready to serve", "heard SIGTERM"]
    assert crew.nobody_is_left()


def test_members_that_have_not_begun_end_by_the_signal_and_that_is_well(start: Start) -> None:
    crew = start("signal.signal(signal.SIGTERM, signal.SIG_DFL); print('early', flush=True); time.sleep(600)")
    assert eventually(lambda: [*crew.lines(1), *crew.lines(2)] == ["early"] * 2), crew.log()
    crew.process.terminate()
    assert crew.status() == 0, crew.log()


def test_one_that_is_killed_again_and_again_comes_back_while_the_other_goes_on(start: Start) -> None:
    crew = start()
    crew.wait_until_ready(2)
    for times in range(1, FALSE_STARTS + 2):  # it was ready each time, so that none is a false start
        crew.wait_until_ready(1, times)
        os.kill(crew.pids(1)[-1], signal.SIGKILL)
        crew.wait_until_ended(1, "signal 9 (Killed)", times)
    crew.wait_until_ready(1, FALSE_STARTS + 2)
    assert len(set(crew.pids(1))) == FALSE_STARTS + 2
    assert len(crew.pids(2)) == 1
    crew.process.terminate()
    assert crew.status() == 0, crew.log()
    assert crew.lines(2) == ["ready to serve", "heard SIGTERM"]


def test_one_that_cannot_start_is_tried_three_times_and_then_all_are_stopped(start: Start) -> None:
    only_one = """
taken, serving = Path(sys.argv[1], "taken"), Path(sys.argv[1], "serving")
try:
    taken.touch(exist_ok=False)
except FileExistsError:
    while not serving.exists():
        time.sleep(0.01)
    sys.exit("no luck")
print("ready to serve", flush=True)
serving.touch()
time.sleep(600)
"""
    crew = start(only_one)
    assert crew.status() == 1
    last = crew.log().splitlines()[-1]
    assert re.search(r"RuntimeError: all workers were stopped: worker \d ended 3 times before it was ready", last), last
    assert last.endswith("with status 1; its last words: no luck")
    unlucky, lucky = sorted((1, 2), key=lambda number: "ready to serve" in crew.lines(number))
    assert crew.lines(unlucky) == ["no luck"] * 3
    assert crew.lines(lucky) == ["ready to serve", "heard SIGTERM"]
    assert crew.nobody_is_left()


@pytest.mark.parametrize("member", [SERVES, DEAF], ids=["willing", "deaf"])
def test_kill_9_of_the_parent_leaves_nobody(start: Start, member: str) -> None:
    crew = start(member)
    crew.wait_until_ready(1)
    crew.wait_until_ready(2)
    crew.process.kill()
    assert crew.status() == -signal.SIGKILL
    assert crew.nobody_is_left()


def test_one_that_does_not_stop_is_killed_and_the_exit_status_tells(start: Start) -> None:
    crew = start(DEAF, stop_s=0.2)
    crew.wait_until_ready(1)
    crew.wait_until_ready(2)
    crew.process.terminate()
    assert crew.status() == 1
    assert "did not stop well, but with signal 9 (Killed)" in crew.log().splitlines()[-1]
    assert crew.nobody_is_left()


def test_a_line_without_end_and_bytes_that_are_no_text_hold_nobody_up(start: Start) -> None:
    crew = start(r'sys.stdout.buffer.write(b"\xff" + b"x" * 3_000_000 + b"\n\xff last")')
    assert crew.status() == 1
    assert "\N{REPLACEMENT CHARACTER} last" in crew.lines(1)
