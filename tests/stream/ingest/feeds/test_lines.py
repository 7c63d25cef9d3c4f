"""A stream becomes the same lines however it is cut, and one without end takes no memory."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from stream.ingest.feeds.lines import Lines


@given(st.lists(st.binary(max_size=30)), st.randoms(use_true_random=False))
def test_lines_do_not_depend_on_how_the_stream_is_cut(given_lines: list[bytes], rng: random.Random) -> None:
    whole = [line.replace(b"\n", b"") for line in given_lines]
    data = b"".join(line + rng.choice([b"\n", b"\r\n"]) for line in whole)
    lines, found = Lines(), []
    while data:
        cut = rng.randint(1, 7)
        found += lines.push(data[:cut])
        data = data[cut:]
    assert found + lines.end() == [line.strip() for line in whole if line.strip()]


def test_a_line_without_end_is_cut_and_its_rest_dropped() -> None:
    lines = Lines(most_bytes=10)
    assert lines.push(b"abc\n" + b"x" * 25) == [b"abc", b"x" * 10]
    for _ in range(1_000):
        assert lines.push(b"x" * 1_000) == []
        assert len(lines._rest) <= 10
    assert lines.push(b"xx\nnext\n") == [b"next"]
    assert lines.push(b"y" * 11 + b"\nz\n") == [b"y" * 10, b"z"]


def test_the_last_line_needs_no_end() -> None:
    lines = Lines()
    assert lines.push(b"a\nb") == [b"a"]
    assert lines.end() == [b"b"]
    assert lines.end() == []
