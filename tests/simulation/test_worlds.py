"""Simulated worlds: whatever happens in them, each ping has its answer, and each state is that of the log."""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import bug_table
import pytest
from plan_kinds import draw_plan
from plans import read_plan, write_plan
from reverts import read_bugs
from virtual_loop import SERVERS, VirtualLoop

HERE = Path(__file__).parent
TOOL = HERE / "pathcast_sim.py"
FOUND = sorted((HERE / "found").glob("*.json"))
WORLDS = 100
# What the worlds must have had, so that there was something to judge. Members that are stopped or paused while they
# hold something are rarer than one in a hundred worlds.
JUDGED = ("scored", "latest", "drawn", "passages", "landed", "kill_holding")

pytestmark = pytest.mark.simulation


def simulate(*arguments: str, allocator: str = "pymalloc") -> subprocess.CompletedProcess[str]:
    """Runs the tool in a process of its own: there is one loop, one clock, and one order of sets."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONMALLOC": allocator}
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_in_no_world_anything_is_wrong() -> None:
    ended = simulate("--seeds", str(WORLDS), "--processes", "1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{WORLDS} worlds" in ended.stdout
    found = dict(re.findall(r"^  (\w+) +(\d+)$", ended.stdout, re.MULTILINE))
    assert {kind: int(found.get(kind, 0)) >= 1 for kind in JUDGED} == dict.fromkeys(JUDGED, True), found


@pytest.mark.parametrize("plan", FOUND, ids=lambda path: path.stem)
def test_what_was_found_stays_mended(plan: Path) -> None:
    ended = simulate("--plan", str(plan))
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("seed", ["3", "7"])
def test_a_seed_gives_the_same_world_again(seed: str) -> None:
    """Wherever its objects lie: the order of tasks in a set followed from their addresses, and seed 3 gave another
    world where the folder had another name."""
    first, second = (simulate("--seed", seed, allocator=one) for one in ("pymalloc", "malloc"))
    assert first.stdout == second.stdout
    assert first.stdout.count("\n") > 80


ENDLESS = """
import itertools
import msgspec
import pathcast_sim, play
from events import Event
from world_faults import ACTS

def follow_reasons(*_):
    for _ in itertools.repeat(None):
        pass

play.ENDLESS_S = 0.5
ACTS["kill"] = follow_reasons
plan = msgspec.structs.replace(pathcast_sim.draw_plan(1), events=(Event(0.0, "kill"),))
print(*play.play(plan).findings, sep="\\n")
"""


def test_a_step_that_never_ends_is_a_finding() -> None:
    """And says where it is. In seed 503 two errors were the reason of each other, and a night stood still."""
    ended = subprocess.run(
        [sys.executable, "-c", ENDLESS], cwd=HERE, capture_output=True, text=True, check=False, timeout=60
    )
    assert re.match(r"endless: .*in follow_reasons", ended.stdout, re.DOTALL), ended.stdout + ended.stderr


def test_futures_and_tasks_lie_in_sets_as_they_were_made() -> None:
    loop = VirtualLoop(random.Random(0))
    made = [loop.create_future() if number % 2 else loop.create_task(asyncio.sleep(0)) for number in range(50)]
    assert list(set(made)) == made
    for one in made:
        one.cancel()
    while SERVERS.ready:
        loop._run_once()
    loop.close()


def test_a_plan_that_is_written_down_is_the_same() -> None:
    for seed in range(50):
        assert read_plan(write_plan(draw_plan(seed))) == draw_plan(seed)


def test_the_options_of_the_page_are_those_of_the_tool() -> None:
    commands = [line for line in (HERE / "README.md").read_text().splitlines() if "pathcast_sim.py --" in line]
    named = {option for line in commands for option in re.findall(r"--[a-z]+", line)}
    assert named >= {"--seeds", "--seed", "--shrink", "--bugs"}
    offered = set(re.findall(r"--[a-z-]+", simulate("--help").stdout))
    assert named - offered == set()


def test_the_table_of_the_page_is_that_of_the_bugs() -> None:
    page = bug_table.PAGE.read_text()
    assert page == bug_table.with_table(page, bug_table.make_table(read_bugs())), "bugs/bug_table.py makes it anew"
