"""Decodes JSON messages of live sources, whatever the bytes are, and reads their members."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, Final

import msgspec

from stream.adapters.live.parsed import reject
from stream.wire import MAX_TEXT_CHARS, Reject
from stream.wire.escape import shown

_DECODER: Final = msgspec.json.Decoder()


def decode_json(raw: bytes) -> Any:
    """Returns the value, or a Reject. NaN, Infinity and lone surrogates, which some senders write, are accepted.

    A `Reject` is a tuple, which no JSON value is.
    """
    if not raw.strip():
        return reject("empty", "the message has no content")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return reject("invalid_utf8", f"the message is not UTF-8: {error.reason} at byte {error.start}")
    try:
        return _DECODER.decode(raw)
    except RecursionError:
        return reject("too_deep", "it nests deeper than any message with positions")
    except (msgspec.MsgspecError, UnicodeError):
        pass
    try:
        return json.loads(text)
    except RecursionError:
        return reject("too_deep", "it nests deeper than any message with positions")
    except ValueError as error:
        return reject("invalid_json", f"not JSON: {shown(str(error))}")


def describe_kind(value: Any) -> str:
    """Returns what a JSON value is, for people."""
    names = {dict: "an object", list: "an array", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


_MOST: Final = 1 << 63  # an integer beyond 64 bits is no measurement, and few programs could read it


def decode_object(raw: bytes) -> dict[str, Any] | Reject:
    """Returns the members of the JSON object in the bytes, or why they are none. Never raises."""
    found = decode_json(raw)
    if isinstance(found, dict | Reject):
        return found
    return reject("invalid_json", f"JSON, but {describe_kind(found)}: expected is one object")


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
