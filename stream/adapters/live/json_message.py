"""Decodes a JSON message of a live source, whatever the bytes are."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from stream.adapters.live.parsed import reject
from stream.wire.escape import shown

_DECODER: Final = msgspec.json.Decoder()


def decoded(raw: bytes) -> Any:
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


def kind(value: Any) -> str:
    """Returns what a JSON value is, for people."""
    names = {dict: "an object", list: "an array", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
