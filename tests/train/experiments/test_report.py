"""A report's head: which code, which command, which machine."""

from __future__ import annotations

import json
import pkgutil
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

import train.experiments
from train.experiments import cli, questions
from train.experiments.lab.report import Finding, Table, describe_code, write_report

ROOM = Path(train.experiments.__file__).parent
REPORTS = Path(__file__).parents[3] / "reports" / "experiments"
INSTALLED = f"pathcast {version('pathcast')}, installed"


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    told = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return told.stdout.strip()


def refuse(what: str) -> None:
    raise AssertionError(f"{what} is no JSON")


def test_every_question_is_an_experiment_with_its_report_and_its_row_in_the_page() -> None:
    asked = {module.name for module in pkgutil.iter_modules(questions.__path__)}
    assert asked == set(cli.EXPERIMENTS), "the table of the command"
    page = (ROOM.parent / "README.md").read_text()
    for name in asked:
        assert f"| [`{name}`](../reports/experiments/{name}.md) |" in page
        assert (REPORTS / f"{name}.md").exists()
        report = (REPORTS / f"{name}.json").read_text()
        assert json.loads(report, parse_constant=refuse)["name"] == name


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A file of code in a checkout of one commit, and a report beside it."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    (tmp_path / "code").mkdir()
    for name in ("code/report.py", "report.md"):
        (tmp_path / name).write_text("as it was")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_a_report_says_which_code_it_was_made_from(tmp_path: Path) -> None:
    """So that whoever reads it later sees how old it is."""
    finding = Finding("why?", "so", [Table("numbers", ("n",), [(1,)])], [], "It is.")
    head = write_report(finding, "name", "command", tmp_path, cpu_s=1.0, cores=1, code="commit 1234567").read_text()
    assert "\n- Code: commit 1234567\n" in head
    assert '"code": "commit 1234567"' in (tmp_path / "name.json").read_text()
    head = write_report(finding, "name", "command", tmp_path, cpu_s=1.0, cores=1).read_text()
    assert f"\n- Code: {describe_code()}\n" in head


def test_a_number_that_is_none_becomes_no_report(tmp_path: Path) -> None:
    """A bare NaN is no JSON, and one that is not known is None."""
    for wrong in (float("nan"), float("inf")):
        finding = Finding("why?", "so", [Table("numbers", ("n",), [(1.0,), (wrong,)])], [], "It is.")
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_report(finding, "name", "command", tmp_path / "out", cpu_s=1.0, cores=1)
        assert not (tmp_path / "out").exists()


def test_the_code_of_a_checkout_is_its_commit_and_what_was_changed_since(checkout: Path) -> None:
    code = checkout / "code" / "report.py"
    commit = f"commit {git(checkout, 'rev-parse', '--short=7', 'HEAD')}"
    (checkout / "report.md").write_text("run again")  # which changes no number
    assert describe_code(code) == commit
    code.write_text("as it is now")
    assert describe_code(code) == f"{commit}, changed since"
    git(checkout, "checkout", "-q", "code")
    (checkout / "new.py").touch()
    assert describe_code(code) == f"{commit}, changed since"


def test_the_code_of_an_installed_package_is_its_version(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also where the environment lies in a checkout of something else, and where there is no git."""
    (checkout / ".gitignore").write_text(".venv")
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "report.py").touch()
    assert describe_code(checkout / ".venv" / "report.py") == INSTALLED
    assert describe_code(tmp_path_factory.mktemp("alone") / "report.py") == INSTALLED
    monkeypatch.setenv("PATH", "")
    assert describe_code(checkout / "code" / "report.py") == INSTALLED
