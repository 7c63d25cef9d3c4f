"""Which tests `pytest` runs when nothing is named, in which order, and what only `pytest --all` adds.

Tests of whole commands take long, so of `tests/system` and `tests/chaos` the default selection has only those that are
marked with the promise that they stand for:

    @pytest.mark.promise("a ping that breaks the model becomes a dead letter, and the others are answered")

Every promise is a row of the table in `tests/README.md`. Of all other folders it has what is not marked `slow`.
Whoever names a file, a folder or a test gets all tests of it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parent.parent
WHOLE_COMMANDS: Final = tuple(TESTS / name for name in ("system", "chaos"))

UNKNOWN_S: Final = 60.0  # of what a file has beyond the default selection

# What shares the stack and the browser of a session runs in one process: else each would start them.
TOGETHER: Final = ("tests/system/api/", "tests/system/map/test_page")


def names_a_part(config: pytest.Config) -> bool:
    """Returns whether the command line names files, folders or tests."""
    return {Path(argument.partition("::")[0]).resolve() for argument in config.args} != {TESTS}


def is_default(item: pytest.Item) -> bool:
    """Returns whether a test runs when nothing is named."""
    if item.get_closest_marker("slow") is not None:
        return False
    whole = any(folder in item.path.parents for folder in WHOLE_COMMANDS)
    return not whole or item.get_closest_marker("promise") is not None


def is_everything(config: pytest.Config) -> bool:
    """Returns whether nothing is left out, because everything was asked for, or a part was named."""
    return bool(config.option.all or config.option.chaos_all or names_a_part(config))


def has_none(path: Path, config: pytest.Config) -> bool:
    """Returns whether the text of a test file shows that the default selection has nothing of it, so that it need not
    be imported: half of all files."""
    if is_everything(config) or not path.name.startswith("test_"):
        return False
    text = path.read_text()
    if any(folder in path.parents for folder in WHOLE_COMMANDS):
        return "promise" not in text
    return "\npytestmark = pytest.mark.slow\n" in text


def choose(items: list[pytest.Item], config: pytest.Config) -> None:
    """Leaves only the default selection in `items`, unless more was asked for."""
    if is_everything(config):
        return
    left_out = [item for item in items if not is_default(item)]
    items[:] = [item for item in items if is_default(item)]
    config.hook.pytest_deselected(items=left_out)


def name_of(path: Path) -> str:
    """Returns a test file's name below `tests`, as `seconds.tsv` and reports have it."""
    return path.relative_to(TESTS).as_posix()


def scope_of(nodeid: str) -> str:
    """Returns what runs in one process: the test's file, or all files that share a stack."""
    return TOGETHER[0] if nodeid.startswith(TOGETHER) else nodeid.partition("::")[0]


def order(items: list[pytest.Item], seconds: Mapping[str, float], seed: int | None) -> None:
    """Sorts the files: what takes longest begins first, so that at the end no process waits long for another. What is
    trained comes before it, because it needs none of the kernels that one process of a fresh clone compiles meanwhile.
    Of what only `--all` runs no time is recorded, and it is long. With a seed the order is random."""
    longer = {item.path for item in items if not is_default(item)}

    def weight_s(path: Path) -> float:
        known_s = seconds.get(name_of(path), 0.0) * (2.0 if TESTS / "train" in path.parents else 1.0)
        return known_s + UNKNOWN_S * (path in longer)

    files = list(dict.fromkeys(item.path for item in items))
    if seed is None:
        files.sort(key=weight_s, reverse=True)
    else:
        random.Random(seed).shuffle(files)
    place = {path: number for number, path in enumerate(files)}
    items.sort(key=lambda item: place[item.path])
