"""Several processes as one: which is started again and when, how all stop, and that none is left."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from parent_rig import DEAF, LONG_S, SERVES, Parent
from pathcast_process import eventually

from stream.processes.keeper import TROUBLED

PARENT = """
import logging, sys
from stream.processes import child
from stream.worker import process_pool
process_pool.LONGEST_DELAY_S, child.STOP_S = 0.1, float(sys.argv[1])
logging.basicConfig(level=logging.INFO)
process_pool.run([[sys.executable, *sys.argv[2:]]] * 2, ready="serves")
"""
MEMBER = """
import signal, sys, time
from pathlib import Path
from stream.processes import child
child.STOP_S = 0.2
child.end_with_parent()
def hear(number, frame):
    print("heard", signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        sys.exit(0)
signal.signal(signal.SIGTERM, hear)
signal.signal(signal.SIGINT, hear)
"""
CREW = ("worker 1", "worker 2")


class Crew(Parent):
    """A parent with two members."""

    def __init__(self, home: Path, member: str, stop_s: float) -> None:
        super().__init__(home, PARENT, stop_s, "-c", MEMBER + member, home)

    def wait_until_ready(self, member: str, times: int = 1) -> None:
        assert eventually(lambda: self.lines(member).count("serves") == times), self.log()

    def wait_until_all_ready(self) -> None:
        for member in CREW:
            self.wait_until_ready(member)

    def wait_until_killed(self, member: str, times: int) -> None:
        assert eventually(lambda: self.log().count(f"{member} ended with signal 9 (Killed)") == times), self.log()


Start = Callable[..., Crew]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(member: str = SERVES, stop_s: float = LONG_S) -> Crew:
            crew = Crew(tmp_path, member, stop_s)
            stack.enter_context(crew)
            return crew

        yield started


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_of_the_terminal_reaches_each_member_once_as_sigterm(start: Start, number: int) -> None:
    crew = start()
    crew.wait_until_all_ready()
    os.killpg(crew.process.pid, number)
    assert crew.status() == 0, crew.log()
    for member in CREW:
        assert crew.lines(member) == ["serves", "heard SIGTERM"]
    assert crew.nobody_is_left()


def test_members_that_have_not_begun_end_by_the_signal_and_that_is_well(start: Start) -> None:
    crew = start("signal.signal(signal.SIGTERM, signal.SIG_DFL); print('early', flush=True); time.sleep(600)")
    assert eventually(lambda: [line for member in CREW for line in crew.lines(member)] == ["early"] * 2), crew.log()
    crew.process.terminate()
    assert crew.status() == 0, crew.log()


def test_one_that_is_killed_again_and_again_comes_back_while_the_other_goes_on(start: Start) -> None:
    crew, (mortal, other) = start(), CREW
    crew.wait_until_ready(other)
    for times in range(1, TROUBLED + 2):  # it was ready each time, so that none is a false start
        crew.wait_until_ready(mortal, times)
        os.kill(crew.pids(mortal)[-1], signal.SIGKILL)
        crew.wait_until_killed(mortal, times)
    crew.wait_until_ready(mortal, TROUBLED + 2)
    assert len(set(crew.pids(mortal))) == TROUBLED + 2
    assert len(crew.pids(other)) == 1
    crew.process.terminate()
    assert crew.status() == 0, crew.log()
    assert crew.lines(other) == ["serves", "heard SIGTERM"]


def test_one_that_cannot_start_is_tried_three_times_and_then_all_are_stopped(start: Start) -> None:
    only_one = """
taken, serving = Path(sys.argv[1], "taken"), Path(sys.argv[1], "serving")
try:
    taken.touch(exist_ok=False)
except FileExistsError:
    while not serving.exists():
        time.sleep(0.01)
    sys.exit("no luck")
print("serves", flush=True)
serving.touch()
time.sleep(600)
"""
    crew = start(only_one)
    assert crew.status() == 1
    last = crew.log().splitlines()[-1]
    assert re.search(r"RuntimeError: all workers were stopped: worker \d ended 3 times before it was ready", last), last
    assert last.endswith("with status 1; its last words: no luck")
    unlucky, lucky = sorted(CREW, key=lambda member: "serves" in crew.lines(member))
    assert crew.lines(unlucky) == ["no luck"] * 3
    assert crew.lines(lucky) == ["serves", "heard SIGTERM"]
    assert crew.nobody_is_left()


@pytest.mark.parametrize("member", [SERVES, DEAF], ids=["willing", "deaf"])
def test_kill_9_of_the_parent_leaves_nobody(start: Start, member: str) -> None:
    crew = start(member)
    crew.wait_until_all_ready()
    crew.process.kill()
    assert crew.status() == -signal.SIGKILL
    assert crew.nobody_is_left()


def test_one_that_does_not_stop_is_killed_and_the_exit_status_tells(start: Start) -> None:
    crew = start(DEAF, stop_s=0.2)
    crew.wait_until_all_ready()
    crew.process.terminate()
    assert crew.status() == 1
    assert "did not stop well, but with signal 9 (Killed)" in crew.log().splitlines()[-1]
    assert crew.nobody_is_left()


def test_a_line_without_end_and_bytes_that_are_no_text_hold_nobody_up(start: Start) -> None:
    crew = start(r'sys.stdout.buffer.write(b"\xff" + b"x" * 3_000_000 + b"\n\xff last")')
    assert crew.status() == 1
    assert "\N{REPLACEMENT CHARACTER} last" in crew.lines(CREW[0])
