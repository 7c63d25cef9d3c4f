"""Counts how large pathcast is, beside the last release.

    python tests/suite/size.py             prints a table; CI shows it at its end
    python tests/suite/size.py release   adds what it counted to `sizes.tsv`, when a release is made

Lines and files are of Python outside tests. Rooms are the packages of `stream`, and an arrow goes from one to another
that it imports. Commands are what `pathcast --help` and the help of each group show. The manual is every page of
Markdown that users read: all but those of tests, `reports` folders and the changelog.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

import click
import grimp
import typer.main
from seconds import read as read_seconds

from stream.commands.main import build
from stream.commands.names import WithCommandsBelow

ROOT: Final = Path(__file__).parents[2]
RELEASES: Final = Path(__file__).with_name("sizes.tsv")
NOT_THE_MANUAL: Final = re.compile(r"(^|/)(tests|reports)/|^CHANGELOG\.md$")


class Size(NamedTuple):
    """Holds what was counted, by the names that the table shows."""

    product_lines: int
    product_files: int
    test_lines: int
    rooms_of_stream: int
    arrows_of_stream: int
    commands: int  # that do something: groups are none
    commands_at_the_top: int
    words_of_the_manual: int
    seconds_of_the_default_suite: int  # in sum, of all its processes; 0 where nobody counted


def measure_size() -> Size:
    """Counts the tree that this file lies in."""
    python, pages = _tracked("*.py"), [page for page in _tracked("*.md") if not NOT_THE_MANUAL.search(page)]
    tests = [file for file in python if file.startswith("tests/")]
    product = [file for file in python if not file.startswith("tests/")]
    top = typer.main.get_command(build())
    return Size(
        _count_lines(product),
        len(product),
        _count_lines(tests),
        *_measure_rooms(),
        sum(1 for _ in _leaves(top)),
        sum(1 for _ in _shown(top)),
        sum(len((ROOT / page).read_text().split()) for page in pages),
        round(sum(entry.seconds for entry in read_seconds().values())),
    )


def _tracked(pattern: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, check=True, capture_output=True, text=True)
    return [file for file in listed.stdout.splitlines() if (ROOT / file).is_file()]


def _count_lines(files: Sequence[str]) -> int:
    return sum((ROOT / file).read_bytes().count(b"\n") for file in files)


def _measure_rooms() -> tuple[int, int]:
    graph = grimp.build_graph("stream", cache_dir=None)
    rooms = {room for room in graph.find_children("stream") if graph.find_children(room)}
    arrows = {
        (_room_of(module), _room_of(other))
        for module in graph.modules
        for other in graph.find_modules_directly_imported_by(module)
    }
    return len(rooms), sum(one != other and {one, other} <= rooms for one, other in arrows)


def _room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _shown(command: click.Command) -> Iterator[click.Command]:
    subcommands = getattr(command, "commands", {})  # of a group; Typer has its own class for that
    return (one for one in subcommands.values() if not one.hidden)


def _leaves(command: click.Command) -> Iterator[click.Command]:
    subcommands = list(_shown(command))
    if not subcommands or isinstance(command, WithCommandsBelow):  # which does something itself, too
        yield command
    for one in subcommands:
        yield from _leaves(one)


def read_releases() -> dict[str, Size]:
    """Returns the sizes of releases, by version, the newest last."""
    rows = [line.split("\t") for line in RELEASES.read_text().splitlines()[1:]]
    return {name: Size(*map(int, numbers)) for name, *numbers in rows}


def render(now: Size, release: str, before: Size) -> str:
    """Returns the table."""
    lines = [f"{'':32}{release:>12}{'now':>12}{'change':>10}"]
    for name, was, is_now in zip(Size._fields, before, now, strict=True):
        change = f"{100 * (is_now - was) / was:+.0f} %" if was else ""
        lines.append(f"{name.replace('_', ' '):32}{was:>12,}{is_now:>12,}{change:>10}")
    return "\n".join(lines)


if __name__ == "__main__":
    size, known = measure_size(), read_releases()
    if sys.argv[1:] == ["release"]:
        with RELEASES.open("a") as file:
            file.write("\t".join([version("pathcast"), *map(str, size)]) + "\n")
    print(render(size, *list(known.items())[-1]))
