"""Breaks one line of the product at a time, and says whether the tests near it notice.

    python tests/suite/sabotage.py                      every sabotage of sabotages.json: hours
    python tests/suite/sabotage.py "m1 D" "mut2 Re"     those whose names begin so
    python tests/suite/sabotage.py --check              only whether the lines that they change are there

Run it in a clone of its own with nothing uncommitted. A sabotage is a file, a text in it, what stands there instead,
and the tests near it. One whose text is gone is an error: write it anew, or take it out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("sabotages.json")
BOUND_S = 1_200.0  # of the tests of one sabotage, kernels compiled anew included; a test that hangs is noticed, too


def main() -> int:
    parser = argparse.ArgumentParser(description="Break lines, and see whether tests notice.")
    parser.add_argument("begin", nargs="*", help="beginnings of names")
    parser.add_argument("--check", action="store_true", help="run no test")
    asked = parser.parse_args()
    sabotages = [one for one in json.loads(LIST.read_text()) if one["name"].startswith(tuple(asked.begin) or "")]
    misses = [one["name"] for one in sabotages if _text_of(one).count(one["old"]) != one.get("count", 1)]
    if misses:
        raise SystemExit(f"error: the texts of {', '.join(misses)} are not there (any more)")
    gone = sorted({test for one in sabotages for test in one["tests"] if not (ROOT / test.partition("::")[0]).exists()})
    if gone:
        raise SystemExit(f"error: there is no {', '.join(gone)} (any more)")
    if asked.check:
        print(f"{len(sabotages)} sabotages, and every text is there")
        return 0
    if subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, check=True).stdout:
        raise SystemExit("error: something is not committed here: a sabotage might stay in it")
    survivors = []
    for one in sabotages:
        began = time.monotonic()
        notice = run_tests(one)
        took = f"{time.monotonic() - began:.0f} s"
        print(f"{'noticed' if notice else 'SURVIVED'}  {one['name']}  {one['file']}  {took}  {notice}", flush=True)
        survivors += [] if notice else [one["name"]]
    print(f"{len(survivors)} of {len(sabotages)} survived")
    return 1 if survivors else 0


def run_tests(sabotage: dict[str, Any]) -> str:
    """Breaks the line, runs the tests near it, and mends it again, whatever happens.

    Returns the test that noticed, or what else went wrong; "" if all tests passed.
    """
    path, text = ROOT / sabotage["file"], _text_of(sabotage)
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-x", "-p", "no:cacheprovider", *sabotage["tests"]]
    try:
        path.write_text(text.replace(sabotage["old"], sabotage["new"]))
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=BOUND_S, check=False)
    except subprocess.TimeoutExpired:
        return f"the time limit of {BOUND_S:.0f} s"
    finally:
        path.write_text(text)
    if ended.returncode in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(f"error: {sabotage['name']}: no test was run: {ended.stdout.decode()}")
    if ended.returncode == pytest.ExitCode.OK:
        return ""
    failures = [line for line in ended.stdout.decode().splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failures[-1].partition(" - ")[0] if failures else f"pytest ended with {ended.returncode}"


def _text_of(sabotage: dict[str, Any]) -> str:
    return (ROOT / sabotage["file"]).read_text()


if __name__ == "__main__":
    raise SystemExit(main())
