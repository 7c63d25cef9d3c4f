"""The default selection stays within its budget, by what was recorded of each file."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import seconds
from run_report import RunReport
from seconds import Entry, excess
from selection import TESTS, is_default, name_of


def test_the_recorded_seconds_are_within_the_budget() -> None:
    assert not (said := excess(seconds.read())), said


def test_every_file_of_the_default_selection_is_recorded(request: pytest.FixtureRequest) -> None:
    """Of a part that was named, this checks the files of that part. A run that records them has still to do it."""
    if request.config.option.record_seconds:
        return
    files = {name_of(item.path) for item in request.session.items if is_default(item)}
    recorded = seconds.read().keys()
    assert files - recorded == set(), "of unknown cost: `pytest --record-seconds`, and commit tests/suite/seconds.tsv"
    assert [file for file in recorded if not (TESTS / file).exists()] == [], "gone: record the seconds again"


def test_what_passes_the_budget_is_told_with_the_newest_files_first() -> None:
    old, new = date(2026, 1, 1), date(2026, 2, 1)
    entries = {name: Entry(name, s, day) for name, s, day in (("a.py", 60.0, old), ("b.py", 50.0, new))}
    assert excess(entries, budget_s=110) == ""
    lines = excess(entries, budget_s=109).splitlines()
    assert "110 s in sum, and may take 109" in lines[0]
    assert [line.split()[-1] for line in lines[1:3]] == ["b.py", "a.py"]


def test_a_file_that_was_recorded_before_keeps_its_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seconds, "FILE", tmp_path / "seconds.tsv")
    seconds.FILE.write_text(f"{seconds.HEAD}a.py\t1.0\t2026-01-01\ngone.py\t9.0\t2026-01-01\n")
    seconds.write({"b.py": 2.04, "a.py": 3.0}, date(2026, 2, 1))
    assert list(seconds.read().values()) == [
        Entry("a.py", 3.0, date(2026, 1, 1)),
        Entry("b.py", 2.0, date(2026, 2, 1)),
    ]


def test_a_report_counts_each_test_once_and_names_what_failed_and_why_something_was_skipped() -> None:
    report = RunReport()
    for name, when, outcome, reason in (
        ("test_a", "setup", "passed", None),
        ("test_a", "call", "passed", None),
        ("test_b", "call", "failed", "wrong"),
        ("test_c", "setup", "skipped", ("file", 1, "Skipped: needs helm")),
    ):
        where = f"tests/suite/test_x.py::{name}"
        report.pytest_runtest_logreport(
            pytest.TestReport(where, ("file", 1, name), {}, outcome, reason, when, duration=2.0)  # type: ignore[arg-type]
        )
    page = report.render("pytest --all", ["kafka: a broker"])
    assert "`pytest --all`" in page
    assert "**1 passed, 1 failed, 1 skipped**" in page
    assert "- tests/suite/test_x.py::test_b (call)" in page
    assert "- 1: needs helm" in page
    assert "- kafka: a broker" in page
    assert "| suite | 1 | 1 | 1 | 8 |" in page
