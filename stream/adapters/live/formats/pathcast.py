"""Reads pings of ours, as the pings topic has them (stream/wire/README.md): one, an array of them, or one a line.

Fields, spellings and ranges are those of the pings topic. A ping without `entity_id` is a reject, as no record's key
says whose it is. Of lines (NDJSON) each is read alone, so that a bad one costs no other.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from stream.adapters.live.json_messages import decode_json, decode_object, describe_kind
from stream.adapters.live.parsed import Parsed, ping_of, reject
from stream.wire import MAX_RECORD_BYTES, Ping, Reject, dumps
from stream.wire.ping_rules import MAX_NESTING

NAME: Final = "pathcast"
LINES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")


def read(raw: bytes, came_ms: int) -> list[Parsed]:
    """Returns a ping or a reject for each of them. Never raises."""
    found = decode_json(raw)
    if isinstance(found, Reject):
        lines = [decode_object(line) for line in raw.split(b"\n") if line.strip()]
        if found.code != "invalid_json" or not any(isinstance(one, dict) for one in lines):
            return [found]
        found = lines
    return [_ping(one, came_ms) for one in (found if isinstance(found, list) else [found])]


def _ping(given: Any, came_ms: int) -> Parsed:
    if isinstance(given, Reject):
        return given
    if not isinstance(given, dict):
        return reject("invalid_json", f"JSON, but {describe_kind(given)}: expected is one object, which is one ping")
    if _nests(given, MAX_NESTING):
        return reject("too_deep", f"it nests deeper than any ping: {MAX_NESTING} at most")
    found = ping_of(given, came_ms)
    if not isinstance(found, Ping) or found.attrs is None:
        return found
    try:
        size = len(dumps(found))
    except OverflowError:  # a number in `attrs` of more than 64 bits, which few programs could read
        return msgspec.structs.replace(found, attrs=None)
    if size > MAX_RECORD_BYTES:
        return reject("too_large", f"{size} bytes, expected at most {MAX_RECORD_BYTES}")
    return found


def _nests(value: object, most: int) -> bool:
    """Returns whether brackets in a value nest deeper than `most`."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (most == 0 or any(_nests(one, most - 1) for one in inner))
