"""Reads members of messages that are one JSON object, for the formats that have code of their own."""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

from stream.adapters.live.json_message import decoded, kind
from stream.adapters.live.parsed import reject
from stream.wire import MAX_TEXT_CHARS, Reject

_MOST: Final = 1 << 63  # an integer beyond 64 bits is no measurement, and few programs could read it


def object_of(raw: bytes) -> dict[str, Any] | Reject:
    """Returns the members of the JSON object in the bytes, or why they are none. Never raises."""
    found = decoded(raw)
    if isinstance(found, dict | Reject):
        return found
    return reject("invalid_json", f"JSON, but {kind(found)}: expected is one object")


def number(value: object) -> float | None:
    """Returns a finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if isfinite(found) else None


def unless_zero(value: object) -> float | None:
    """Returns a number that is not 0, for fields in which the source writes 0 for what it does not know."""
    return number(value) or None


def is_plain(value: object) -> bool:
    """Returns whether a value may be an attribute of a ping: a flag, a number of 64 bits or a short text."""
    if isinstance(value, str):
        return len(value) <= MAX_TEXT_CHARS
    if isinstance(value, int):
        return -_MOST <= value < _MOST
    return isinstance(value, float) and isfinite(value)
