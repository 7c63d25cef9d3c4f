"""Foreign text on its way to a terminal or a log: one line, and nothing that steers."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.wire.escape import escaped, escaped_json, shown

# What each does to a terminal, or to a reader.
STEERS = {
    "\x1b[2J": "\\x1b[2J",  # clears the screen
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "\x9b2J": "\\x9b2J",  # the same as ESC [, in one C1 character
    "a\nERROR forged": "a\\nERROR forged",
    "a\rERROR forged": "a\\rERROR forged",
    "a\x85b": "a\\x85b",  # a line end, too
    "a\u2028b": "a\\u2028b",
    "\u202egpj.exe": "\\u202egpj.exe",  # shown from right to left
    "\u2066a\u2069": "\\u2066a\\u2069",
    "\u200bzero width": "\\u200bzero width",
    "\x7f\x08": "\\x7f\\x08",
    "\ud800": "\\ud800",
    "a\x00b": "a\\x00b",
    "\U000e0041": "\\U000e0041",  # a tag, which is invisible
}


@pytest.mark.parametrize("text", STEERS)
def test_what_steers_a_terminal_or_forges_a_line_is_escaped(text: str) -> None:
    assert escaped(text) == STEERS[text]


@pytest.mark.parametrize("text", ["bus-7", "straße 7", "漢字", "🚌", "Δ σ −", "a b", "\\x1b", ""])
def test_what_can_be_printed_stays(text: str) -> None:
    assert escaped(text) == text


@given(st.text(st.characters()))
def test_any_text_becomes_one_line_that_can_be_printed(text: str) -> None:
    assert escaped(text).isprintable()
    escaped(text).encode()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_means_the_same_and_can_be_printed(text: str) -> None:
    raw = msgspec.json.encode({text: [text, "漢\x9b\U000e0041"]})
    made = escaped_json(raw)
    assert made.decode().isprintable()
    assert json.loads(made) == json.loads(raw)


def test_bytes_that_are_no_json_can_be_printed_all_the_same() -> None:
    assert escaped_json(b"\xff\x1b[2J\n").decode().isprintable()


@given(st.recursive(st.text(st.characters()) | st.integers() | st.floats(), st.lists, max_leaves=5))
def test_a_value_in_a_message_is_short_and_can_be_printed(value: object) -> None:
    assert shown(value).isprintable()
    assert shown(value).isascii(), "what is printable is not the same in all releases of Python"
    assert len(shown(value)) <= 62


def test_a_number_that_would_take_long_to_write_is_not_written() -> None:
    assert shown(10**4_000) == "an enormous integer"
