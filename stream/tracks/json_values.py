"""Reads JSON values from bytes, in compiled code: texts, numbers, words, but no arrays or objects.

A number is the double nearest to its decimal, as Python reads it, or its kind is OTHER.
"""

from __future__ import annotations

from functools import partial
from math import nan
from typing import Final

import numpy as np

from model.jit import compiled

# The kinds of a value, a bit for each. COUNT is an integer without a sign, OTHER a number that is not known exactly, or
# false.
TEXT, COUNT, NUMBER, NULL, TRUE, OTHER = (np.int64(1 << bit) for bit in range(6))
NO_VALUE: Final = np.int64(0)  # not a value that is read here

ONE, _TEN = np.uint64(1), np.uint64(10)
QUOTE, COMMA, COLON, OPEN, CLOSE = (np.uint8(ord(c)) for c in '",:{}')
SPACE, ESCAPE, MINUS, POINT, ZERO = (np.uint8(ord(c)) for c in " \\-.0")

exactly: Final = partial(compiled, maths=())  # the double nearest to a decimal takes a true division

# A fraction of more digits than a double holds is compared in integers, which then stay below 2^63.
_MOST_DIGITS: Final = np.uint64(19)
_EXACT: Final = np.uint64(1 << 53)
_TENS: Final = np.array([10**n for n in range(19)], np.uint64)
# Bits of a double's fraction, and the leading bit that it does not store.
_FRACTION, _HIDDEN = np.uint64(52), np.uint64(1 << 52)
_SCALE: Final = np.uint64(1075)  # a double is its 53 bits times 2^(exponent - 1075)


@exactly
def behind_spaces(raw, at):  # type: ignore[no-untyped-def]
    while raw[at] == SPACE:
        at += ONE
    return at


@exactly
def string_end(raw, at, end):  # type: ignore[no-untyped-def]
    """Returns where the next quote is; `end` if there is none."""
    while at < end and raw[at] != QUOTE:
        at += ONE
    return at


@exactly
def scalar(raw, at, end):  # type: ignore[no-untyped-def]
    """Returns the kind of the value at `at`, where it ends, and its measure; NO_VALUE if it is an array, an object, or
    no JSON."""
    c = raw[at]
    if c == QUOTE:
        to = string_end(raw, at + ONE, end)
        return (NO_VALUE if to == end else TEXT), to + ONE, np.float64(to - at - ONE)
    if c == MINUS or _is_digit(c):
        return _number(raw, at)
    if _is_word(raw, at, end, b"null"):
        return NULL, at + np.uint64(4), nan
    if _is_word(raw, at, end, b"true"):
        return TRUE, at + np.uint64(4), nan
    if _is_word(raw, at, end, b"false"):
        return OTHER, at + np.uint64(5), nan
    return NO_VALUE, at, nan


@exactly
def _is_word(raw, at, end, word):  # type: ignore[no-untyped-def]
    if end - at < np.uint64(len(word)):
        return False
    place = 0
    while place < len(word) and raw[at + np.uint64(place)] == word[place]:
        place += 1
    return place == len(word)


@exactly
def _is_digit(c):  # type: ignore[no-untyped-def]
    return np.uint8(c - ZERO) < np.uint8(10)


@exactly
def _digits(raw, at, number):  # type: ignore[no-untyped-def]
    """Returns where the digits at `at` end, and the number that they continue. For more than 19 digits it is wrong."""
    while _is_digit(raw[at]):
        number = number * _TEN + np.uint64(raw[at] - ZERO)
        at += ONE
    return at, number


@exactly
def _number(raw, at):  # type: ignore[no-untyped-def]
    """Returns the same as `scalar`, for a number, in the grammar of RFC 8259, section 6."""
    negative = raw[at] == MINUS
    first = at + np.uint64(negative)
    at, digits = _digits(raw, first, np.uint64(0))
    if at == first or (raw[first] == ZERO and at > first + ONE):
        return NO_VALUE, at, nan
    kind, count, decimals = (NUMBER if negative else COUNT), at - first, np.uint64(0)
    if raw[at] == POINT:
        point = at + ONE
        at, digits = _digits(raw, point, digits)
        kind, decimals = NUMBER, at - point
        if at == point:
            return NO_VALUE, at, nan
    if raw[at] | np.uint8(32) == np.uint8(101):  # e or E
        at += ONE
        first = at + np.uint64(raw[at] == MINUS or raw[at] == np.uint8(43))
        at, _ = _digits(raw, first, np.uint64(0))
        return (NO_VALUE if at == first else OTHER), at, nan
    if count + decimals > _MOST_DIGITS:
        return OTHER, at, nan
    number = _decimal(digits, decimals)
    return (OTHER if np.isnan(number) else kind), at, (-number if negative else number)


@exactly
def _decimal(digits, decimals):  # type: ignore[no-untyped-def]
    """Returns the double nearest to digits / 10^decimals, of at most 19 digits in all; NaN if two are equally near, or
    nearly.

    If both are doubles themselves, their quotient is the answer (Clinger, "How to read floating point numbers
    accurately", 1990). Otherwise it is off by less than three units in its last place, which exact integers correct:
    the dividend minus the divisor times the quotient, all times 2^shift. This is small, so it may be computed modulo
    2^64.
    """
    if digits <= _EXACT:
        return np.float64(np.int64(digits)) / np.float64(np.int64(_TENS[decimals]))
    divisor = _TENS[decimals]
    bits = np.float64(np.float64(digits) / np.float64(divisor)).view(np.uint64)
    shift = _SCALE - (bits >> _FRACTION)
    if shift > np.uint64(63):  # beyond every range here
        return nan
    mantissa = (bits & (_HIDDEN - ONE)) | _HIDDEN
    rest, unit = np.int64((digits << shift) - divisor * mantissa), np.int64(divisor)
    for _ in range(2):
        step = np.int64(2 * rest > unit) - np.int64(2 * rest < -unit)
        rest -= step * unit
        mantissa += np.uint64(step)
    # At a power of two the doubles below are closer together: an inexact result there is left unknown, as ties are.
    if abs(2 * rest) >= unit or mantissa >= _HIDDEN << ONE or (mantissa <= _HIDDEN and rest):
        return nan
    return np.uint64(((bits >> _FRACTION) << _FRACTION) | (mantissa & (_HIDDEN - ONE))).view(np.float64)
