"""Texts in columns: which are alike, and the same ones by themselves."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.records.columns import BytesColumn

some_text = st.none() | st.binary(max_size=3) | st.sampled_from([b"bus-1", b"bus-2", b"x" * 40, b"x" * 39 + b"y"])


@given(st.lists(st.tuples(some_text, st.integers(0, 2), st.booleans()), max_size=60))
def test_texts_are_alike_that_are_the_same_of_one_number(of: list[tuple[bytes | None, int, bool]]) -> None:
    texts, numbers = (
        BytesColumn.of_some([text for text, _, _ in of]),
        np.array([number for _, number, _ in of], np.int64),
    )
    rows = np.flatnonzero(np.array([asked for _, _, asked in of], np.bool_))
    first, like = texts.distinct(numbers, rows)
    known: dict[tuple[bytes | None, int], int] = {}
    for row, one in zip(rows.tolist(), like.tolist(), strict=True):
        text, number, _ = of[row]
        if len(known) == one:
            assert first[one] == row
        assert known.setdefault((text, number), len(known)) == one
    assert len(first) == len(known)


@given(st.lists(some_text, max_size=20))
def test_texts_by_themselves_are_the_same_bytes_one_behind_the_other(texts: list[bytes | None]) -> None:
    rows = np.arange(len(texts))[::-2]
    alone = BytesColumn.of_some(texts).at(rows).alone()
    assert alone.each() == [texts[row] or b"" for row in rows]
    assert alone.raw.tobytes() == b"".join(texts[row] or b"" for row in rows)
