"""What `pathcast --help` and each command's say: whole, and as wide as the terminal is."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from stream.commands.main import build

TAG = re.compile(r"(?<!\\)\[[a-z#/@][^\[\]]*\]")  # what Rich takes for markup, and does not show


def _texts(command: object, name: str) -> Iterator[tuple[str, str]]:
    """The help of a command, of its options, and of the commands below it, each with whose it is."""
    yield name, getattr(command, "help", None) or ""
    for parameter in getattr(command, "params", ()):
        yield f"{name} {parameter.name}", getattr(parameter, "help", None) or ""
    for below, its in getattr(command, "commands", {}).items():
        yield from _texts(its, f"{name} {below}")


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return dict(_texts(typer.main.get_command(build()), "pathcast"))


def test_nothing_in_a_help_text_is_lost_as_markup(texts: dict[str, str]) -> None:
    """--tensorboard was said to need `pathcast`, for `pathcast[train]`."""
    assert {name: tags for name, text in texts.items() if (tags := set(TAG.findall(text)) - {"[bold]", "[/]"})} == {}
    shown = CliRunner().invoke(build(), ["train", "--help"], env={"COLUMNS": "200"}).stdout
    assert "write event files there: pathcast[train]" in shown


def test_paragraphs_are_broken_by_the_terminal_alone(texts: dict[str, str]) -> None:
    """Lines of 110 characters left half lines on a terminal of 80. Examples keep their lines."""
    for name, text in texts.items():
        assert all(one.startswith(" ") or "\n" not in one for one in text.split("\n\n")), name
    train = texts["pathcast train"]
    assert "\n  pathcast train --data austin.parquet --out runs/austin --minutes 20\n" in train
    assert "pathcast dlq replay" in texts["pathcast dlq replay"]
