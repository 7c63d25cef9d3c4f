"""Writes rows of numbers and texts as JSON through a template, in compiled code.

A number is given as an integer and a count of decimals: 1234 with 2 decimals is written as 12.34, and 1200 as 12.0.
Python and msgspec write the rounded float in the same way, but this module never writes an exponent. It writes the
thirty numbers of one forecast in half a microsecond; an encoder of Python objects took fifteen.

Short pieces are written in words of eight bytes, whatever their length is. The next piece overwrites the bytes beyond
the end of a piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from model.jit import compiled
from stream.kafka.records.columns import I64, BytesColumn, copy_bytes

TEXT: Final = -1  # stands in the place of the decimals for a hole that takes text
MOST_DECIMALS: Final = 7  # these and one digit before the point fill one word
_MOST_CHARS: Final = 21  # characters of a number: sign, 19 digits, point
_WORD: Final = 8  # bytes
_ZEROS: Final = np.uint64(0x3030303030303030)  # "00000000"
_MINUS, _POINT = (np.uint8(ord(c)) for c in "-.")
_ONE, _EIGHT, _BITS = np.uint64(1), np.uint64(_WORD), np.uint64(8 * _WORD)
_TEN, _HUNDRED, _MYRIAD, _WORDFUL = (np.uint64(10**n) for n in (1, 2, 4, _WORD))


class Template:
    """Holds constant texts with holes between them: `texts` has one element more than `holes`.

    A hole is the number of decimals of the number that fills it, at most MOST_DECIMALS, or TEXT.
    """

    def __init__(self, texts: Sequence[str], holes: Sequence[int]) -> None:
        if len(texts) != len(holes) + 1:
            raise ValueError(f"{len(holes)} holes have {len(holes) + 1} texts around them, got {len(texts)}")
        if wrong := [hole for hole in holes if hole != TEXT and not 0 <= hole <= MOST_DECIMALS]:
            raise ValueError(f"a number has 0 to {MOST_DECIMALS} decimals, not {wrong[0]}")
        pieces = [text.encode() for text in texts]
        counts = [-(-len(piece) // _WORD) for piece in pieces]
        padded = [piece.ljust(_WORD * count, b"\0") for piece, count in zip(pieces, counts, strict=True)]
        self._words = np.frombuffer(b"".join(padded), np.uint64)
        self._cuts = np.cumsum([0, *counts])  # where the words of each piece begin
        self._sizes = np.array([len(piece) for piece in pieces], np.uint64)
        self._holes = np.array(holes, np.int64)
        self._numbers = sum(hole != TEXT for hole in holes)
        self._row_bytes = int(self._sizes.sum()) + _MOST_CHARS * self._numbers

    def render(self, numbers: I64, texts: Sequence[BytesColumn]) -> BytesColumn:
        """Returns N rows. `numbers` is [numeric holes, N]; `texts` has one column of N texts for each hole that takes
        text.

        Raises ValueError if these shapes do not fit the template.
        """
        given, n = numbers.shape
        columns = len(self._holes) - self._numbers
        if given != self._numbers or len(texts) != columns or any(len(one.start) != n for one in texts):
            raise ValueError(f"{given} numbers a row and {len(texts)} texts for {n} rows do not fit")
        raw = np.concatenate([one.raw for one in texts] or [np.empty(0, np.uint8)])
        shifts = np.cumsum([0, *(len(one.raw) for one in texts)])
        spans = np.empty((columns, 2, n), np.int64)
        for column, one, shift in zip(spans, texts, shifts, strict=False):
            column[0], column[1] = one.start + shift, one.end + shift
        room = n * self._row_bytes + sum(int(one.lengths.sum()) for one in texts)
        out, end = np.empty(room + _WORD, np.uint8), np.empty(n, np.int64)
        _write(self._words, self._cuts, self._sizes, self._holes, np.ascontiguousarray(numbers), raw, spans, out, end)
        return BytesColumn(out, np.append(0, end[:-1])[:n], end)


@compiled
def _write(words, cuts, sizes, holes, numbers, raw, spans, out, end):  # type: ignore[no-untyped-def]
    at = np.uint64(0)
    for i in range(len(end)):
        number, text = 0, 0
        for piece in range(len(sizes)):
            to = at
            for word in range(cuts[piece], cuts[piece + 1]):
                _put(words[word], out, to)
                to += _EIGHT
            at += sizes[piece]
            if piece == len(holes):
                break
            if holes[piece] == TEXT:
                at = np.uint64(copy_bytes(raw, spans[text, 0, i], spans[text, 1, i], out, at))
                text += 1
            else:
                at = _number(numbers[number, i], np.uint64(holes[piece]), out, at)
                number += 1
        end[i] = at


@compiled
def _number(number, decimals, out, at):  # type: ignore[no-untyped-def]
    """Writes one number and returns the position after it."""
    out[at] = _MINUS  # overwritten if the number is not negative: a processor cannot predict a branch on the sign
    at += np.uint64(number < 0)
    rest = np.uint64(abs(number))
    high = rest // _WORDFUL
    low = _digits(rest - high * _WORDFUL)
    if high:
        at = _whole(high, out, at)
        _put(low | _ZEROS, out, at)
        at += _EIGHT - decimals
    else:
        at = _strip_zeros(low << (_EIGHT * decimals), out, at)
    if decimals:
        fraction = low >> (_BITS - _EIGHT * decimals)
        out[at] = _POINT
        _put(fraction | _ZEROS, out, at + _ONE)
        while decimals > 1 and not fraction >> (_EIGHT * (decimals - _ONE)):  # drops zeros at the end, keeps one digit
            decimals -= _ONE
        at += _ONE + decimals
    return at


@compiled
def _whole(number, out, at):  # type: ignore[no-untyped-def]
    """Writes an integer above 0 that fits in two words, and returns the position after it."""
    high = number // _WORDFUL
    if not high:
        return _strip_zeros(_digits(number), out, at)
    at = _strip_zeros(_digits(high), out, at)
    _put(_digits(number - high * _WORDFUL) | _ZEROS, out, at)
    return at + _EIGHT


@compiled
def _strip_zeros(digits, out, at):  # type: ignore[no-untyped-def]
    """Writes eight digits without their leading zeros, but always the last digit. Returns the position after them."""
    skipped, rest = np.uint64(0), digits
    while skipped < _EIGHT - _ONE and not rest & np.uint64(0xFF):
        rest >>= _EIGHT
        skipped += _ONE
    _put(rest | (_ZEROS >> (_EIGHT * skipped)), out, at)
    return at + _EIGHT - skipped


@compiled
def _digits(number):  # type: ignore[no-untyped-def]
    """Returns the digits of a number below 10^8, the first digit in the lowest byte.

    It splits the number in halves three times, each time all parts at once.
    """
    high = number // _MYRIAD
    x = high | ((number - high * _MYRIAD) << np.uint64(32))
    high = ((x * np.uint64(10486)) >> np.uint64(20)) & np.uint64(0x7F0000007F)  # x // 100, for x < 10^4
    x = high | ((x - high * _HUNDRED) << np.uint64(16))
    high = ((x * np.uint64(103)) >> np.uint64(10)) & np.uint64(0x000F000F000F000F)  # x // 10, for x < 100
    return high | ((x - high * _TEN) << _EIGHT)


@compiled
def _put(word, out, at):  # type: ignore[no-untyped-def]
    """Writes eight bytes, the lowest byte first. LLVM compiles this loop to one store."""
    for byte in range(np.uint64(_WORD)):
        out[at + byte] = np.uint8(word >> (_EIGHT * byte))
