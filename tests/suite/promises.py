"""The tables of promises in `tests/README.md`: where each is made, and which test fails if it is broken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from selection import TESTS

PAGE: Final = TESTS / "README.md"
ALWAYS: Final = ["promise", "made in", "test"]
WITH_ALL: Final = ["promise", "made in", "test, with `--all`"]
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)]+)\)")
_TEST: Final = re.compile(r"`([^`]+)`")


class Promise(NamedTuple):
    """One row of a table."""

    text: str
    pages: tuple[str, ...]  # where it is made, as links from `tests`
    tests: tuple[str, ...]  # FILE::TEST, or a FILE all of whose tests stand for it, below `tests`
    always: bool  # its tests are in the default selection


def read() -> list[Promise]:
    """Returns the rows of both tables, in their order."""
    return list(parse(PAGE.read_text()))


def parse(page: str) -> Iterator[Promise]:
    """Yields the rows of every table with one of the two heads."""
    head: list[str] = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else []
        if cells in (ALWAYS, WITH_ALL) or not cells:
            head = cells
        elif head and not line.startswith("|--"):
            text, pages, tests = cells
            yield Promise(text, tuple(_LINK.findall(pages)), tuple(_TEST.findall(tests)), head == ALWAYS)
