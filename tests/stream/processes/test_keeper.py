"""Parts that are kept running, with real processes: when one is started again, how all stop, and that none is left."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path

import pytest
from parent_rig import DEAF, LONG_S, SERVES, Parent
from pathcast_process import PATIENCE_S, eventually, processes_of

from stream.config.home import Home, lock_home
from stream.processes import keeper
from stream.processes.child import Process
from stream.processes.keeper import STEADY_S, TROUBLED, Past

# Arguments: a directory, seconds until SIGKILL, and then the program of each part. The last is stopped first.
PARENT = """
import os, signal, sys
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from stream.processes import child, keeper
from stream.config.home import Home, lock_home
from stream.up.screen import is_shown

keeper.FIRST_DELAY_S, child.STOP_S = 0.05, float(sys.argv[2])
home = Home(Path(sys.argv[1]))
home.make("pings.v1")

def say(name, line):
    os.write(1, f"{name} | {line}\\n".encode())  # in one piece, as several threads say something

def main(lock):
    signals = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.put(number))

    def start(name, program):
        command = [sys.executable, "-c", program, str(home.root)]
        if name.startswith("server"):
            return child.Supervised(command, held=[lock], log=home.log(name))
        show = lambda line: say(name, line) if is_shown(line) else None
        return child.Child(command, env=os.environ, held=[lock], log=home.log(name), on_line=show)

    keepers = []
    for argument in sys.argv[3:]:
        name, _, program = argument.partition("=")
        tell = lambda level, line, name=name: say(name, line)
        keepers.append(keeper.Keeper(name, partial(start, name, program), tell, longest_s=0.2, log=home.log(name)))
        keepers[-1].begin()
    signals.get()
    for one in reversed(keepers):
        one.stop()
    return not any(one.fault for one in keepers)

with lock_home(home) as lock:
    sys.exit(0 if main(lock) else 1)
"""
MEMBER = """
import os, signal, subprocess, sys, time
from stream.processes import child
child.STOP_S = 0.2
child.end_with_parent()
"""
SERVER = f"import time{SERVES}"  # it does not know that it has a parent


class Fleet(Parent):
    """A parent and its parts."""

    def __init__(self, root: Path, stop_s: float, parts: dict[str, str]) -> None:
        self.home = Home(root / "data")
        programs = [
            f"{name}={program if name.startswith('server') else MEMBER + program}" for name, program in parts.items()
        ]
        super().__init__(root, PARENT, self.home.root, stop_s, *programs)

    def log_of(self, name: str) -> str:
        path = self.home.log(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_until_serving(self, *names: str, times: int = 1) -> None:
        def serves(name: str) -> bool:
            return self.log_of(name).count("serves") == times == len(self.pids(name))

        assert eventually(lambda: all(map(serves, names))), self.log()


Start = Callable[..., Fleet]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(stop_s: float = LONG_S, /, **parts: str) -> Fleet:
            fleet = Fleet(tmp_path, stop_s, parts)
            stack.enter_context(fleet)
            return fleet

        yield started


def after(*lives: tuple[float, bool]) -> Past:
    *_, past = accumulate(lives, lambda past, life: past.after(life[0], ready=life[1]), initial=Past())
    return past


SHORT, STEADY, FALSE = (1.0, True), (STEADY_S, True), (1.0, False)


def test_each_end_in_a_row_doubles_the_delay_up_to_the_longest() -> None:
    for longest_s in (30.0, 60.0):
        delays = [after(*[SHORT] * ends).delay_s(longest_s) for ends in range(1, 9)]
        assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, min(32.0, longest_s), longest_s, longest_s]
        assert after(*[SHORT] * 10_000).delay_s(longest_s) == longest_s


def test_a_minute_of_work_lets_what_was_before_be_forgotten() -> None:
    assert after(*[SHORT] * 5, STEADY).delay_s(60.0) == 1.0
    assert after(*[SHORT] * 5, STEADY, SHORT).delay_s(60.0) == 2.0
    assert after(*[(STEADY_S - 0.1, True)] * TROUBLED).troubled
    assert not after(*[STEADY] * 100).troubled
    assert not after(SHORT, SHORT, STEADY, SHORT).troubled


def test_only_false_starts_in_a_row_are_hopeless() -> None:
    assert not after(*[FALSE] * (TROUBLED - 1)).hopeless
    assert after(*[FALSE] * TROUBLED).hopeless
    assert not after(*[SHORT] * 100).hopeless
    for pause in (SHORT, (STEADY_S, False)):
        assert not after(FALSE, FALSE, pause, FALSE, FALSE).hopeless
        assert after(FALSE, pause, FALSE, FALSE, FALSE).hopeless


def test_one_that_is_killed_comes_back_while_the_others_go_on(start: Start) -> None:
    fleet = start(one=SERVES, other=SERVES, server=SERVER)
    fleet.wait_until_serving("one", "other", "server")
    os.kill(fleet.pids("one")[0], signal.SIGKILL)
    os.kill(fleet.pids("server")[0], signal.SIGKILL)
    fleet.wait_until_serving("one", "server", times=2)
    for name in ("one", "server"):
        assert any(line.startswith("ended with signal 9 (Killed) after") for line in fleet.lines(name))
    assert len(fleet.pids("other")) == 1
    fleet.process.terminate()
    assert fleet.status() == 0, fleet.log()
    assert fleet.nobody_is_left()


def test_one_that_ends_at_once_is_reported_with_its_last_words_and_the_others_go_on(start: Start) -> None:
    fleet = start(one='print("first\\nno luck", flush=True); sys.exit(3)', other=SERVES)
    fleet.wait_until_serving("other")
    assert eventually(lambda: len(fleet.pids("one")) > TROUBLED + 1), "it is tried on"
    lines = fleet.lines("one")
    (report,) = (at for at, line in enumerate(lines) if line.startswith(f"ended {TROUBLED} times in a row"))
    assert "the last time with status 3 after" in lines[report]
    assert lines[report + 1] == f"its last words, of {fleet.home.log('one')}:"
    assert "    no luck" in lines[report + 2 : report + 8]
    assert len(fleet.pids("other")) == 1
    fleet.process.send_signal(signal.SIGINT)
    assert fleet.status() == 0, fleet.log()
    assert fleet.nobody_is_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_of_the_terminal_stops_them_one_after_the_other(start: Start, number: int) -> None:
    fleet = start(server=SERVER, part=SERVES)
    fleet.wait_until_serving("server", "part")
    os.killpg(fleet.process.pid, number)
    assert fleet.status() == 0, fleet.log()
    ends = [line for line in fleet.log().splitlines() if line.endswith("has stopped")]
    assert ends == ["part | has stopped", "server | has stopped"]
    assert fleet.nobody_is_left()


def test_one_that_ctrl_c_meets_before_it_has_a_session_of_its_own_stopped_well(start: Start) -> None:
    dies = "signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))"
    fleet = start(early=f"signal.signal(signal.SIGINT, signal.SIG_DFL); {dies}{SERVES}")
    fleet.wait_until_serving("early")
    fleet.process.send_signal(signal.SIGINT)
    assert fleet.status() == 0, fleet.log()
    assert fleet.lines("early")[-1] == "has stopped"


def test_one_that_does_not_hear_sigterm_is_killed_and_the_exit_status_tells(start: Start) -> None:
    fleet = start(0.5, deaf=DEAF, other=SERVES)
    fleet.wait_until_serving("deaf", "other")
    fleet.process.terminate()
    assert fleet.status() == 1
    assert "it did not stop well, but with signal 9 (Killed)" in fleet.lines("deaf")
    assert fleet.nobody_is_left()


@pytest.mark.parametrize("program", [SERVES, DEAF], ids=["willing", "deaf"])
def test_kill_9_of_the_parent_leaves_nobody(start: Start, program: str) -> None:
    fleet = start(one=program, server=SERVER)
    fleet.wait_until_serving("one", "server")
    assert len(processes_of(fleet.home.root)) == 4, "with the server's supervisor: the search would find what is left"
    fleet.process.kill()
    assert fleet.status() == -signal.SIGKILL
    assert fleet.nobody_is_left()


def test_what_has_no_line_end_is_in_the_log_and_a_warning_is_shown(start: Start) -> None:
    written = r"""
sys.stdout.buffer.write(b"x" * 3_000_000)
sys.stdout.buffer.write(b"\n2026-11-30T07:00:00.000Z WARNING \x1b[31mtrouble\nINFO nothing\nerror: the \xff end")
sys.exit(1)
"""
    fleet = start(one=written)
    assert eventually(lambda: any(line.startswith("ended 3 times") for line in fleet.lines("one"))), fleet.log()
    assert r"2026-11-30T07:00:00.000Z WARNING " in fleet.log()
    assert "error: the \N{REPLACEMENT CHARACTER} end" in fleet.lines("one")
    assert "INFO nothing" not in [line for line in fleet.lines("one") if not line.startswith("    ")]
    assert fleet.log_of("one").count("x") >= 3_000_000
    assert re.search(r"\x1b\[31mtrouble\n", fleet.log_of("one"))
    assert "end\n" in fleet.log_of("one"), "the next process begins a line"


def test_a_process_that_one_leaves_behind_neither_holds_it_up_nor_outlives_it(start: Start) -> None:
    leaves = (
        'subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1], "left"]); sys.exit(1)'
    )
    fleet = start(one=leaves)
    assert eventually(lambda: len(fleet.pids("one")) > 2), fleet.log()
    fleet.process.terminate()
    assert fleet.status() == 0
    assert fleet.nobody_is_left()


def test_a_second_parent_is_refused_also_while_a_part_of_the_first_is_still_ending(start: Start) -> None:
    slow = "signal.signal(signal.SIGTERM, signal.SIG_IGN); child.STOP_S = 600.0" + SERVES
    fleet = start(slow=slow)
    fleet.wait_until_serving("slow")
    with (
        pytest.raises(RuntimeError, match=f"another pathcast up, process {fleet.process.pid}, works in"),
        lock_home(fleet.home),
    ):
        pass
    fleet.process.kill()
    fleet.status()
    with pytest.raises(RuntimeError, match="an earlier pathcast up are still ending"), lock_home(fleet.home):
        pass
    os.kill(fleet.pids("slow")[0], signal.SIGKILL)
    assert fleet.nobody_is_left()
    with lock_home(fleet.home):
        pass


def test_one_that_cannot_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "FIRST_DELAY_S", 0.0)
    said: list[str] = []
    is_tried_on = threading.Event()

    def start() -> Process:
        if one.status.restarts > TROUBLED:
            is_tried_on.set()
        raise FileNotFoundError(2, "No such file", "program")

    one = keeper.Keeper("one", start, lambda _, line: said.append(line), longest_s=1.0, log=tmp_path / "log")
    one.begin()
    assert is_tried_on.wait(PATIENCE_S)
    one.stop()
    assert "no start ([Errno 2] No such file: 'program')" in said[0]
    assert said[TROUBLED : TROUBLED + 2] == [f"its last words, of {tmp_path / 'log'}:", "    none"]
    assert one.status.doing == "stopped"
    assert said[-1] == "has stopped"
