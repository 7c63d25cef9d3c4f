"""Every promise of the pages names a test that is there, and the default selection has just those that are named."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults_all import SELECTION
from promises import Promise, parse, read
from selection import TESTS, WHOLE_COMMANDS, name_of

CHAOS = "chaos/test_chaos.py::test_nothing_is_lost_and_no_state_is_wrong_after"
PAGES = (
    "README.md",
    "stream/delivery/README.md",
    "deploy/SECURITY.md",
    "deploy/PRIVACY.md",
    "stream/client/README.md",
    "stream/ingest/README.md",
    "stream/ingest/README-feeds.md",
)


def marked() -> set[tuple[str, str]]:
    """Returns all marks `promise`: FILE::TEST, or FILE if all of its tests are marked, and the text. The marks of
    faults stand in their own table."""
    marks = {(CHAOS, text) for texts in SELECTION.values() for text in texts.values()}
    for path in sorted(TESTS.rglob("test_*.py")):
        if "mark.promise(" in (text := path.read_text()):
            marks |= {(f"{name_of(path)}{test}", promise) for test, promise in promises_in(ast.parse(text))}
    return marks


def promises_in(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Yields each mark of a module: `::TEST`, or nothing if it is `pytestmark`, and its text."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            marks, test = node.decorator_list, f"::{node.name}"
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            marks, test = [node.value], ""
        else:
            continue
        for call in marks:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.promise":
                yield test, ast.literal_eval(call.args[0])


def files_of(promise: Promise) -> Iterator[tuple[Path, str]]:
    """Yields file and name of each test; no name, where all tests of the file stand for the promise."""
    for test in promise.tests:
        file, _, name = test.partition("::")
        yield TESTS / file, name


PROMISES = read()


@pytest.mark.parametrize("promise", PROMISES, ids=[one.text[:60] for one in PROMISES])
def test_a_promise_names_tests_that_are_there(promise: Promise) -> None:
    assert promise.pages, "where is it made?"
    assert promise.tests, "what fails if it is broken?"
    for path, name in files_of(promise):
        assert path.is_file(), f"there is no {path}"
        assert f"def {name}(" in path.read_text() or not name, f"{name_of(path)} has no test {name}"


def test_each_test_of_a_whole_command_in_the_default_selection_is_in_the_table_and_no_other() -> None:
    in_table = {
        (test, promise.text)
        for promise in PROMISES
        if promise.always
        for test in promise.tests
        if any(folder in (TESTS / test).parents for folder in WHOLE_COMMANDS)
    }
    in_code = marked()
    assert in_code - in_table == set(), "marked as a promise, and not in the table of tests/README.md"
    assert in_table - in_code == set(), "in the table of what always runs, and not marked as that promise"


def test_no_promise_stands_in_the_tables_twice() -> None:
    texts = [promise.text for promise in PROMISES]
    assert len(texts) == len(set(texts)), sorted(text for text in texts if texts.count(text) > 1)


def test_every_page_that_promises_something_is_in_the_tables() -> None:
    named = {(TESTS / link.partition("#")[0]).resolve() for promise in PROMISES for link in promise.pages}
    assert [page for page in PAGES if (TESTS.parent / page).resolve() not in named] == []


def test_rows_of_other_tables_are_no_promises() -> None:
    page = (
        "| room | what |\n|---|---|\n| a | b |\n\n"
        "| promise | made in | test |\n|---|---|---|\n| holds | [page](../p.md#x) | `system/test_a.py::test_b` |\n"
    )
    assert list(parse(page)) == [Promise("holds", ("../p.md#x",), ("system/test_a.py::test_b",), always=True)]
