"""Numbers and texts through a template: the JSON that decodes to the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.engine.json_template import TEXT, Template
from stream.kafka.records.columns import BytesColumn

wide = st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-1_000, 1_000)


@given(st.lists(st.tuples(wide, wide, wide, st.text()), max_size=8))
def test_what_is_written_is_read_back(rows: list[tuple[int, int, int, str]]) -> None:
    template = Template(['{"a":', ',"b":', ',"c":', ',"d":', "}"], [0, 2, TEXT, 7])
    numbers = np.array([row[:3] for row in rows], np.int64).reshape(-1, 3).T
    texts = BytesColumn.of([json.dumps(row[3]).encode() for row in rows])
    for raw, (a, b, c, d) in zip(template.render(numbers, [texts]).each(), rows, strict=True):
        assert json.loads(raw) == {"a": a, "b": float(f"{b}e-2"), "c": d, "d": float(f"{c}e-7")}


@pytest.mark.parametrize(
    ("number", "decimals", "text"),
    [(0, 0, b"0"), (0, 2, b"0.0"), (5, 7, b"0.0000005"), (-5, 1, b"-0.5"), (1200, 2, b"12.0"), (-1, 0, b"-1")],
)
def test_numbers_are_written_as_msgspec_writes_them_but_for_exponents(number: int, decimals: int, text: bytes) -> None:
    assert Template(["", ""], [decimals]).render(np.array([[number]]), []).each() == [text]


def test_pieces_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 holes have 3 texts"):
        Template(["a", "b"], [0, 0])
    with pytest.raises(ValueError, match="do not fit"):
        Template(["a", "b"], [TEXT]).render(np.zeros((0, 2), np.int64), [BytesColumn.of([b"x"])])


@pytest.mark.parametrize("decimals", [-2, 8])
def test_decimals_beyond_a_word_are_refused(decimals: int) -> None:
    with pytest.raises(ValueError, match="0 to 7 decimals"):
        Template(["a", "b"], [decimals])


@given(st.lists(st.tuples(st.integers(0, 7), wide), max_size=5), st.lists(st.text(max_size=20), min_size=6, max_size=6))
def test_every_piece_stands_where_it_belongs(numbers: list[tuple[int, int]], pieces: list[str]) -> None:
    """Words of eight bytes write beyond what they say, and the next ones over it."""
    pieces = pieces[: len(numbers) + 1]
    column = np.array([[number] * 3 for _, number in numbers], np.int64).reshape(-1, 3)
    text = pieces[0] + "".join(
        plainly(number, decimals) + piece for (decimals, number), piece in zip(numbers, pieces[1:], strict=True)
    )
    assert Template(pieces, [decimals for decimals, _ in numbers]).render(column, []).each() == [text.encode()] * 3


def plainly(number: int, decimals: int) -> str:
    digits = str(abs(number)).zfill(decimals + 1)
    whole, fraction = digits[: len(digits) - decimals], digits[len(digits) - decimals :].rstrip("0")
    return "-" * (number < 0) + (f"{whole}.{fraction or 0}" if decimals else whole)
