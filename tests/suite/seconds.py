"""How many seconds each file of the default selection takes, and what they may be in sum.

    pytest --record-seconds    runs the default selection, and writes `seconds.tsv` if nothing failed

The seconds of a file are those of its tests with their set-up, waits included, on the machine and at the load of that
run: they compare files, and say nothing of another machine. `test_seconds.py` fails when their sum passes the budget.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from selection import TESTS, name_of

FILE: Final = Path(__file__).with_name("seconds.tsv")
# Ten minutes of three processes on two cores of a slow machine (Intel Xeon, 2.6 GHz), with a minute of each for finding
# the tests. What a new test takes beyond it goes to `--all`, or something else does.
BUDGET_S: Final = 1_620.0
HEAD: Final = "file\tseconds\tsince\n"


class Entry(NamedTuple):
    """One file of the default selection."""

    file: str  # below `tests`
    seconds: float
    since: date  # when it was first recorded


def read() -> dict[str, Entry]:
    """Returns the recorded files, by name."""
    entries = {}
    for line in FILE.read_text().splitlines()[1:]:
        file, seconds, since = line.split("\t")
        entries[file] = Entry(file, float(seconds), date.fromisoformat(since))
    return entries


def write(measured: Mapping[str, float], today: date) -> None:
    """Writes what was measured. A file that was recorded before keeps its date."""
    before = read()
    rows = [Entry(file, round(s, 1), before[file].since if file in before else today) for file, s in measured.items()]
    FILE.write_text(HEAD + "".join(f"{one.file}\t{one.seconds}\t{one.since}\n" for one in sorted(rows)))


def excess(entries: Mapping[str, Entry], budget_s: float = BUDGET_S) -> str:
    """Returns what to say if the files take more than the budget in sum, and nothing if they do not."""
    total_s = sum(one.seconds for one in entries.values())
    if total_s <= budget_s:
        return ""
    newest = sorted(entries.values(), key=lambda one: (one.since, one.seconds), reverse=True)[:8]
    return "\n".join(
        [
            f"the default selection takes {total_s:,.0f} s in sum, and may take {budget_s:,.0f}. Its newest files:",
            *(f"  {one.since}  {one.seconds:6.1f} s  {one.file}" for one in newest),
            "Say which promise a new test stands for (tests/README.md), and let something else run with --all alone.",
        ]
    )


def file_of(report: pytest.TestReport) -> str:
    """Returns the name below `tests` of the file whose test a report is about."""
    return name_of(TESTS.parent / report.nodeid.partition("::")[0])


class Stopwatch:
    """Adds up what each file takes in one run, in the process that hears of all tests."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[file_of(report)] += report.duration  # type: ignore[assignment]  # a Counter may hold floats
