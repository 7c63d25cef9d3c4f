"""Brings the bugs of `bugs.json` back, one at a time in a copy of the tree, and plays worlds until one is wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from reverts import ROOT, TREES, bring_back, read_bugs

TRIAL_S: Final = 1_800.0
FOUND: Final = re.compile(r"^seed (\d+): (.*)$", re.MULTILINE)


def look_for(names: list[str], area: str | None, worlds: int, processes: int) -> int:
    """Prints for each bug the first seed that shows it, and what is seen. Returns how many were not found."""
    bugs = [one for one in read_bugs() if (not names or one["name"] in names) and area in (None, one["area"])]
    missed = 0
    for one in bugs:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for tree in TREES:
                source = ROOT / tree
                if source.is_dir():
                    shutil.copytree(source, root / tree, ignore=shutil.ignore_patterns("data"))
                else:
                    shutil.copy(source, root / tree)
            bring_back(one, root)
            seed, what = _first_seed(root, worlds, processes)
        missed += seed is None
        print(f"{'missed' if seed is None else f'seed {seed}':12} {one['area']:10} {one['name']}  {what}", flush=True)
    print(f"{len(bugs) - missed} of {len(bugs)} bugs are found within {worlds} worlds each")
    return int(missed > 0)


def _first_seed(root: Path, worlds: int, processes: int) -> tuple[int | None, str]:
    command = [
        sys.executable,
        "tests/simulation/pathcast_sim.py",
        "--seeds",
        str(worlds),
        "--processes",
        str(processes),
    ]
    try:
        ended = subprocess.run(
            [*command, "--first-found"], cwd=root, capture_output=True, text=True, timeout=TRIAL_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer in {TRIAL_S:.0f} s"
    found = FOUND.search(ended.stdout)
    if found is None:
        return None, ended.stderr.splitlines()[-1] if ended.returncode not in (0, 1) and ended.stderr else ""
    return int(found[1]), found[2][:120]
