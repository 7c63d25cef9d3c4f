"""Brings the bugs of `bugs.json` back, one at a time in a copy of the tree, and plays worlds until one is wrong.

The seed that showed a bug before, or the plan of `found/`, is played first. A seed draws another world once
`seeds/plans.py` has changed; where that one shows nothing, others are played from seed 0 on, or those of a kind.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from plan_kinds import draw_plan
from plans import Plan, read_plan
from reverts import LIST, ROOT, TREES, bring_back, changed_files_of, read_bugs

TRIAL_S: Final = 1_800.0
FOUND: Final = re.compile(r"^seed (\d+): (.*)$", re.MULTILINE)
PLAYED: Final = re.compile(r"^(\d+) worlds in ", re.MULTILINE)


class Asked(NamedTuple):
    """Which bugs are looked for, and where."""

    names: list[str]  # beginnings of names; none: all
    area: str | None
    story: str | None  # only worlds of this kind: see `is_of`
    worlds: int
    processes: int
    records: bool  # writes into `bugs.json` what is found


class Trial(NamedTuple):
    """What became of a bug."""

    seed: int | None
    worlds: int
    what: str
    plan: str = ""  # of `found/`, where that was played


def is_of(plan: Plan, name: str) -> bool:
    """Returns whether a plan tells this story, is of this kind, has such a member, or an event of this kind."""
    return name in {plan.story, plan.world, *(one.kind for one in plan.members), *plan.kinds}


def describe(plan: Plan) -> str:
    """Returns the kind of a world in a few words: its kind or its story, and the members beside its workers."""
    kind = plan.story or plan.world
    return " and ".join([kind, *sorted({one.kind for one in plan.members})])


def look_for(asked: Asked) -> int:
    """Prints for each bug the first seed that shows it, and what is seen. Returns 1 if one was not found."""
    wanted = [
        one
        for one in read_bugs()
        if one["name"].startswith(tuple(asked.names) or "") and asked.area in (None, one["area"])
    ]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in TREES:
            _copy(name, root)
        for one in wanted:
            bring_back(one, root)
            trial = try_bug(one, root, asked)
            for name in changed_files_of(one):
                shutil.copy2(ROOT / name, root / name)
            missed += trial.seed is None
            where = "missed" if trial.seed is None else trial.plan or f"seed {trial.seed}"
            print(f"{where:12} {trial.worlds:5} {one['area']:10} {one['name']}  {trial.what}", flush=True)
            if asked.records and trial.seed is not None:
                record(one["name"], trial)
    print(f"{len(wanted) - missed} of {len(wanted)} bugs are found")
    return int(missed > 0)


def _copy(name: str, root: Path) -> None:
    if (ROOT / name).is_dir():
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(ROOT / name, root / name)


def try_bug(bug: Mapping[str, Any], root: Path, asked: Asked) -> Trial:
    """Plays the seed or the plan that showed a bug before, and then others until one does."""
    before = bug.get("found")
    if before is not None and asked.story is None:
        if "plan" in before:
            trial = _play_plan(root, before["plan"])
        else:
            trial = _play(root, ["--seeds", "1", "--from", str(before["seed"])])._replace(worlds=before["worlds"])
        if trial.seed is not None:
            return trial
    more = [] if asked.story is None else ["--story", asked.story]
    return _play(root, ["--seeds", str(asked.worlds), "--processes", str(asked.processes), *more])


def _play(root: Path, options: list[str]) -> Trial:
    command = [sys.executable, "tests/simulation/pathcast_sim.py", "--first-found", "--processes", "1", *options]
    try:
        ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=TRIAL_S, check=False)
    except subprocess.TimeoutExpired:
        return Trial(None, 0, f"no answer in {TRIAL_S:.0f} s")
    found, played = FOUND.search(ended.stdout), PLAYED.search(ended.stdout)
    worlds = int(played[1]) if played is not None else 0
    if found is None:
        said = ended.stderr.splitlines()
        return Trial(None, worlds, said[-1] if ended.returncode not in (0, 1) and said else "")
    return Trial(int(found[1]), worlds, found[2][:120])


def _play_plan(root: Path, name: str) -> Trial:
    """Plays a plan of `found/`."""
    plan = Path("tests/simulation/found", f"{name}.json")
    command = [sys.executable, "tests/simulation/pathcast_sim.py", "--plan", str(plan)]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=TRIAL_S, check=False)
    shown, lines = ended.returncode == 1, ended.stdout.splitlines()  # the last of which are what is wrong
    if not shown or not lines:
        return Trial(None, 1, "")
    return Trial(read_plan((root / plan).read_bytes()).seed, 1, lines[-1][:120], name)


def record(name: str, trial: Trial) -> None:
    """Writes into the list by which world a bug was found."""
    assert trial.seed is not None
    bugs = read_bugs()
    one = next(one for one in bugs if one["name"] == name)
    one.pop("unseen", None)
    if trial.plan:
        one["found"] = {"plan": trial.plan}
    else:
        one["found"] = {"kind": describe(draw_plan(trial.seed)), "seed": trial.seed, "worlds": trial.worlds}
    LIST.write_text(json.dumps(bugs, indent=2, ensure_ascii=False) + "\n")
