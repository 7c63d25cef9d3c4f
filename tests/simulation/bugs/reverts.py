"""Brings one mended bug back at a time, in a copy of the tree, and says whether the tests near it notice.

    python tests/simulation/bugs/reverts.py --check                 only whether every text that they change is there
    python tests/simulation/bugs/reverts.py --tests [NAME ...]      run the unit test that each of them names: minutes
    python tests/simulation/bugs/reverts.py --show NAME             what changes, as a diff

`bugs.json` names for each bug the commit that mended it, or the sabotage that no mended bug stands for, what must
happen in the world for it to show, and what is seen then; `found`, the seed that showed it, and within how many worlds,
or the plan that does; or `unseen`, why no world can show it, and what does. A bug whose text is gone is an error: write
it anew.
"""

from __future__ import annotations

import argparse
import difflib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
LIST = Path(__file__).with_name("bugs.json")
TREES = ("stream", "model", "tests", "train", "pyproject.toml")
AREAS = (
    *("delivery", "takeover", "guarantee", "checkpoint", "store", "engine", "log", "members", "services", "archive"),
    *("scores", "versions", "registry", "forget", "atlas"),
)
KEYS = {"name", "file", "old", "new", "commit", "area", "needs", "shows"}
FURTHER_KEYS = {"count", "changes", "test", "found", "unseen"}


class TextGone(ValueError):
    """The text that a bug changes is not there, or not as often as it says."""


def read_bugs() -> list[dict[str, Any]]:
    """Returns all bugs, in the order of the list. Raises ValueError for one that lacks a field."""
    bugs: list[dict[str, Any]] = json.loads(LIST.read_text())
    names = [one.get("name", "?") for one in bugs]
    for one, name in zip(bugs, names, strict=True):
        if not one.keys() >= KEYS or not one.keys() <= KEYS | FURTHER_KEYS or one["area"] not in AREAS:
            raise ValueError(f"{name}: fields are {', '.join(sorted(one))}, area {one.get('area')}")
        if names.count(name) > 1:
            raise ValueError(f"{name}: two bugs have this name")
    return bugs


def changed_files(bug: Mapping[str, Any], root: Path = ROOT) -> dict[str, str]:
    """Returns the text of each file that a bug changes, as it is with the bug. Raises TextGone."""
    texts: dict[str, str] = {}
    for change in (bug, *bug.get("changes", [])):
        text = texts.get(change["file"]) or (root / change["file"]).read_text()
        found, due = text.count(change["old"]), change.get("count", 1)
        if found != due:
            raise TextGone(f"{bug['name']}: its text is {found} times in {change['file']}, and should be {due} times")
        texts[change["file"]] = text.replace(change["old"], change["new"])
    return texts


def bring_back(bug: Mapping[str, Any], root: Path) -> None:
    """Writes the bug into the tree at `root`. Raises TextGone."""
    for name, text in changed_files(bug, root).items():
        (root / name).write_text(text)


def check(bugs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns what is wrong with the list; nothing if every text is there, and each file compiles with its bug."""
    wrong = []
    for one in bugs:
        try:
            for name, text in changed_files(one).items():
                compile(text, name, "exec", dont_inherit=True)
        except (TextGone, SyntaxError) as error:
            wrong.append(str(error))
    return wrong


def run_test(bug: Mapping[str, Any], tree: Path) -> str:
    """Runs the test that a bug names, in a tree with the bug. Returns what failed; "" if all passed."""
    bring_back(bug, tree)
    try:
        command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-x", "-p", "no:cacheprovider", bug["test"]]
        ended = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    finally:
        for name in changed_files_of(bug):
            shutil.copy2(ROOT / name, tree / name)
    if ended.returncode in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(f"error: {bug['name']}: no test was run: {ended.stdout}")
    if ended.returncode == pytest.ExitCode.OK:
        return ""
    failures = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failures[-1].partition(" - ")[0] if failures else f"pytest ended with {ended.returncode}"


def changed_files_of(bug: Mapping[str, Any]) -> set[str]:
    """Returns the names of the files that a bug changes."""
    return {change["file"] for change in (bug, *bug.get("changes", []))}


def main() -> int:
    parser = argparse.ArgumentParser(description="Bring mended bugs back, one at a time.")
    parser.add_argument("names", nargs="*", help="beginnings of names")
    parser.add_argument("--check", action="store_true", help="run no test")
    parser.add_argument("--tests", action="store_true", help="run the unit test that each bug names")
    parser.add_argument("--show", action="store_true", help="print what changes")
    given = parser.parse_args()
    bugs = [one for one in read_bugs() if one["name"].startswith(tuple(given.names) or "")]
    if wrong := check(bugs):
        raise SystemExit("error: " + "\n".join(wrong))
    if given.show:
        for one in bugs:
            _show(one)
    if not given.tests:
        print(f"{len(bugs)} bugs, and every text is there")
        return 0
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in TREES:
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, tree / name)
        for one in bugs:
            if "test" in one:
                notice = run_test(one, tree)
                survivors += not notice
                print(f"{'noticed' if notice else 'SURVIVED'}  {one['name']}  {notice}", flush=True)
    print(f"{survivors} survived")
    return 1 if survivors else 0


def _show(bug: Mapping[str, Any]) -> None:
    for name, text in changed_files(bug).items():
        before = (ROOT / name).read_text().splitlines(keepends=True)
        sys.stdout.writelines(difflib.unified_diff(before, text.splitlines(keepends=True), name, bug["name"]))


if __name__ == "__main__":
    raise SystemExit(main())
