"""The dated report of `pytest --all`: what ran, what failed, what was skipped and why, and how long it took."""

from __future__ import annotations

import platform
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from seconds import Stopwatch, file_of
from selection import TESTS

REPORT: Final = Path(__file__).with_name("REPORT.md")


class RunReport(Stopwatch):
    """Gathers the outcome of each test in the process that hears of all, and writes the report at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._began_s = time.monotonic()
        self._outcomes: dict[str, Counter[str]] = {}  # by file
        self._failures: list[str] = []
        self._reasons: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        super().pytest_runtest_logreport(report)
        if report.failed:
            self._add(report, "failed")
            self._failures.append(f"{report.nodeid} ({report.when})")
        elif report.skipped:
            self._add(report, "skipped")
            self._reasons[_reason(report)] += 1
        elif report.when == "call":
            self._add(report, "passed")

    def _add(self, report: pytest.TestReport, outcome: str) -> None:
        self._outcomes.setdefault(file_of(report), Counter())[outcome] += 1

    def render(self, command: str, servers: Iterable[str]) -> str:
        """Returns the report as Markdown."""
        total = sum(self._outcomes.values(), Counter[str]())
        minutes = (time.monotonic() - self._began_s) / 60
        return "\n".join(
            [
                "# What `pytest --all` found",
                "",
                f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {_commit()}, `{command}`, {_machine()}: "
                f"**{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped** in {minutes:.0f} "
                "minutes.",
                "",
                *_section("Failed", self._failures),
                *_section("Skipped", [f"{n}: {reason}" for reason, n in self._reasons.most_common()]),
                *_section("Servers", sorted(set(servers))),
                "| folder | passed | failed | skipped | seconds, in sum |",
                "|---|---:|---:|---:|---:|",
                *self._rows(),
                "",
            ]
        )

    def _rows(self) -> Iterable[str]:
        folders: dict[str, Counter[str]] = {}
        seconds: Counter[str] = Counter()
        for file, outcomes in self._outcomes.items():
            folder = Path(file).parent.as_posix()
            folders[folder] = folders.get(folder, Counter()) + outcomes
            seconds[folder] += self.seconds[file]
        for folder, one in sorted(folders.items()):
            yield f"| {folder} | {one['passed']} | {one['failed']} | {one['skipped']} | {seconds[folder]:.0f} |"


def _reason(report: pytest.TestReport) -> str:
    longrepr = report.longrepr
    return str(longrepr[2] if isinstance(longrepr, tuple) else longrepr).removeprefix("Skipped: ")


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", "", *(f"- {line}" for line in lines), ""] if lines else []


def _commit() -> str:
    said = subprocess.run(["git", "-C", str(TESTS), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return said.stdout.strip() or "unknown"


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(names)} cores, Python {platform.python_version()}"
