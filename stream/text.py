"""Rows of numbers and texts into JSON, through a template, compiled. Knows digits; knows no field's meaning.

A number comes as an integer and the count of its decimals: 1234, 2 is written 12.34, and 1200, 2 is 12.0: as Python
and msgspec write the rounded float, but never with an exponent. Writing a forecast's thirty numbers one after the
other takes a microsecond; as Python objects through an encoder they took fifteen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.api import compiled
from stream.columns import I64, Texts, copied

TEXT: Final = -1  # the "decimals" of a hole that takes text
MOST_CHARS: Final = 21  # of a number: sign, 19 digits, point


class Template:
    """Constant text with holes between: `texts` has one piece more than `holes`.

    A hole is the number of decimals of the number that fills it, or TEXT.
    """

    def __init__(self, texts: Sequence[str], holes: Sequence[int]) -> None:
        if len(texts) != len(holes) + 1:
            raise ValueError(f"{len(holes)} holes have {len(holes) + 1} texts around them, got {len(texts)}")
        pieces = [text.encode() for text in texts]
        self._constant = np.frombuffer(b"".join(pieces), np.uint8)
        self._cuts = np.cumsum([0, *map(len, pieces)])
        self._holes = np.array(holes, np.int64)
        self._numbers = sum(hole != TEXT for hole in holes)
        self._row_bytes = len(self._constant) + MOST_CHARS * self._numbers

    def written(self, numbers: I64, texts: Sequence[Texts]) -> Texts:
        """N rows: `numbers` is [N, numeric holes], `texts` has N for each hole that takes text."""
        n = len(numbers)
        columns = len(self._holes) - self._numbers
        if numbers.shape[1] != self._numbers or len(texts) != columns or any(len(one.start) != n for one in texts):
            raise ValueError(f"{numbers.shape[1]} numbers a row and {len(texts)} texts for {n} rows do not fit")
        raw = np.concatenate([one.raw for one in texts] or [np.empty(0, np.uint8)])
        shifts = np.cumsum([0, *(len(one.raw) for one in texts)])
        spans = np.empty((n, columns, 2), np.int64)
        for column, (one, shift) in enumerate(zip(texts, shifts, strict=False)):
            spans[:, column, 0], spans[:, column, 1] = one.start + shift, one.end + shift
        room = n * self._row_bytes + sum(int(one.lengths.sum()) for one in texts)
        out, end = np.empty(room, np.uint8), np.empty(n, np.int64)
        _write(self._constant, self._cuts, self._holes, np.ascontiguousarray(numbers), raw, spans, out, end)
        return Texts(out, np.append(0, end[:-1])[:n], end)


@compiled
def _write(constant, cuts, holes, numbers, raw, spans, out, end):  # type: ignore[no-untyped-def]
    at = np.int64(0)
    scratch = np.empty(MOST_CHARS + 8, np.uint8)
    for i in range(len(numbers)):
        number, text = 0, 0
        for hole in range(len(cuts) - 1):
            at = copied(constant, cuts[hole], cuts[hole + 1], out, at)
            if hole == len(holes):
                break
            if holes[hole] == TEXT:
                at = copied(raw, spans[i, text, 0], spans[i, text, 1], out, at)
                text += 1
            else:
                first = _digits(numbers[i, number], holes[hole], scratch)
                at = copied(scratch, first, len(scratch), out, at)
                number += 1
        end[i] = at


@compiled
def _digits(number, decimals, scratch):  # type: ignore[no-untyped-def]
    """Write one number to the end of `scratch`; returns where it begins."""
    at, rest = np.uint64(len(scratch)), np.uint64(abs(number))
    one, ten = np.uint64(1), np.uint64(10)
    if decimals:
        shown = False
        for place in range(decimals):
            whole = rest // ten
            digit = rest - whole * ten
            rest = whole
            if digit or shown or place == decimals - 1:  # no zeros at the end, but one digit at least
                shown = True
                at -= one
                scratch[at] = 48 + digit
        at -= one
        scratch[at] = 46  # .
    while True:
        whole = rest // ten
        at -= one
        scratch[at] = 48 + (rest - whole * ten)
        rest = whole
        if not rest:
            break
    if number < 0:
        at -= one
        scratch[at] = 45  # -
    return np.int64(at)


def fixed(values: NDArray[Any], decimals: int) -> I64:
    """Values rounded to that many decimals, as integers. Raises ValueError for what no such integer can hold."""
    scaled = np.rint(values * 10.0**decimals)
    if not bool((np.abs(scaled) < 9e18).all()):  # false for NaN, too
        raise ValueError("a number is not finite, or too large to be published")
    return np.asarray(scaled.astype(np.int64))
