"""Parts that are kept running, with real processes: when one is started again, how all stop, and that none is left."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path

import pytest
from parent_rig import DEAF, LONG_S, SERVES, Parent
from pathcast_process import eventually, processes_of

from stream.up import keeper
from stream.up.home import Home, locked
from stream.up.keeper import LONGEST_DELAY_S, STEADY_S, TROUBLED, Past

# Arguments: a directory, seconds until SIGKILL, and then the program of each part. The last is stopped first.
PARENT = """
import asyncio, os, signal, sys
from functools import partial
from pathlib import Path
from stream.up import child, keeper
from stream.up.home import Home, locked
from stream.worker import process_pool

keeper.FIRST_DELAY_S, keeper.LONGEST_DELAY_S = 0.05, 0.2
process_pool.STOP_S = float(sys.argv[2])
home = Home(Path(sys.argv[1]))
home.make("pings.v1")

def say(name, line):
    print(f"{name} | {line}", flush=True)

async def main(lock):
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    theirs, ours = os.pipe()

    async def start(name, program):
        command = [sys.executable, "-c", program, str(home.root)]
        if name.startswith("server"):
            return child.Server(command, lock=lock, log=home.log(name))
        return await child.Child.start(
            command, env=os.environ, stdin=theirs, lock=lock, log=home.log(name), on_line=partial(say, name)
        )

    keepers = []
    for argument in sys.argv[3:]:
        name, _, program = argument.partition("=")
        keepers.append(keeper.Keeper(name, partial(start, name, program), home.log(name), partial(say, name)))
        keepers[-1].begin()
    await stop.wait()
    for one in reversed(keepers):
        await one.stop()
    return all(one.stopped_well for one in keepers)

with locked(home) as lock:
    sys.exit(0 if asyncio.run(main(lock)) else 1)
"""
MEMBER = """
import os, signal, subprocess, sys, time
from stream.worker import process_pool
process_pool.STOP_S = 0.2
process_pool.end_with_parent()
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


def after(*ran_s: float) -> Past:
    *_, past = accumulate(ran_s, lambda past, one: past.after(one), initial=Past())
    return past


def test_each_end_in_a_row_doubles_the_delay_up_to_a_minute() -> None:
    delays = [after(*[1.0] * ends).delay_s for ends in range(1, 10)]
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert after(*[1.0] * 10_000).delay_s == LONGEST_DELAY_S


def test_a_minute_of_work_lets_what_was_before_be_forgotten() -> None:
    assert after(1.0, 1.0, 1.0, STEADY_S).delay_s == 1.0
    assert after(*[STEADY_S - 0.1] * TROUBLED).troubled
    assert not after(*[STEADY_S] * 100).troubled
    assert not after(1.0, 1.0, STEADY_S, 1.0).troubled


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
    slow = "signal.signal(signal.SIGTERM, signal.SIG_IGN); process_pool.STOP_S = 600.0" + SERVES
    fleet = start(slow=slow)
    fleet.wait_until_serving("slow")
    with (
        pytest.raises(RuntimeError, match=f"another pathcast up, process {fleet.process.pid}, works in"),
        locked(fleet.home),
    ):
        pass
    fleet.process.kill()
    fleet.status()
    with pytest.raises(RuntimeError, match="an earlier pathcast up are still ending"), locked(fleet.home):
        pass
    os.kill(fleet.pids("slow")[0], signal.SIGKILL)
    assert fleet.nobody_is_left()
    with locked(fleet.home):
        pass


async def test_one_that_cannot_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "FIRST_DELAY_S", 0.0)
    said: list[str] = []
    tried_on = asyncio.Event()

    async def start() -> keeper.Running:
        if one.status.restarts > TROUBLED:
            tried_on.set()
        raise FileNotFoundError(2, "No such file", "program")

    one = keeper.Keeper("one", start, tmp_path / "log", said.append)
    one.begin()
    await tried_on.wait()
    await one.stop()
    assert "no start ([Errno 2] No such file: 'program')" in said[0]
    assert said[TROUBLED : TROUBLED + 2] == [f"its last words, of {tmp_path / 'log'}:", "    none"]
    assert one.status.doing == "stopped"
    assert said[-1] == "has stopped"
