"""Turns a record's bytes into a Ping or a Reject. It has no clock of its own.

The clock is the record's own timestamp, so that a replay of the log decides as the first pass did. The fast path is one
typed decode and a few comparisons. If that fails, the record is decoded again without types, and its fields are read
one by one (`stream.wire.ping_rules`): other spellings, an id taken from the key, optional fields dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import inf
from typing import Any, Final

import msgspec

from stream.tracks import foreign_formats
from stream.wire import (
    MAX_RECORD_BYTES,
    REQUIRED,
    Ping,
    Record,
    Reject,
    explain_unread,
    ping_rules,
)
from stream.wire.escape import shown
from stream.wire.ping_rules import MAX_NESTING, read_optional, read_required
from stream.wire.record import FORGOTTEN, parse_forget

_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)
_INFINITE_DIGITS: Final = 310  # an integer of more digits is beyond float64
_PING_DECODER: Final = msgspec.json.Decoder(Ping)
_DECODER: Final = msgspec.json.Decoder()


# What is wrong with a record that has not the form of a ping of ours, and may have that of another system.
OTHER_FORM: Final = frozenset({"missing_field", "wrong_type", "bad_timestamp", "invalid_json"})

# A ping, or the reason why a record holds none; and the names of the optional fields that were dropped.
Examined = tuple[Ping | Reject, tuple[str, ...]]
# Reads a record's value in the form of another system; its second argument is when the record was published, in ms
# since 1970 UTC. None: it holds neither a position nor an error (`--map`; stream.adapters.live.on_topic).
Foreign = Callable[[bytes, int], Ping | Reject | None]


def parse(record: Record, foreign: Foreign | None = None) -> Ping | Reject:
    """Returns the ping that a record holds, or the reason why it holds none. Never raises, whatever the bytes are.

    `foreign` reads what has not the form of a ping of ours; a worker and its verifier must have the same.
    """
    return examine(record, foreign)[0]


def examine(record: Record, foreign: Foreign | None = None) -> Examined:
    """Returns the same as `parse`, and the names of the fields that were dropped."""
    found = _examine(record)
    if foreign is None or isinstance(found[0], Ping) or found[0].code not in OTHER_FORM:
        return found
    return _of_others(record, found[0], foreign), ()


def _of_others(record: Record, ours: Reject, foreign: Foreign) -> Ping | Reject:
    """Returns what a record of another system holds. `ours` is what is wrong with it as a ping of ours."""
    found = foreign(record.value or b"", record.timestamp_ms)
    if found is None:
        return Reject("no_position", "it has the form of another system (--map), and holds no position")
    if isinstance(found, Reject):
        if found.code in OTHER_FORM:  # it has neither form: who knows which was meant?
            return ours._replace(message=f"{ours.message}; {found.message}")
        return found
    if (reject := _key_reject(found.entity_id, record.key)) is not None:
        return reject._replace(message=f"{reject.message}; {foreign_formats.REKEYING}")
    return found


def _examine(record: Record) -> Examined:
    value = record.value
    if not value:
        return _nothing(record), ()
    if (reject := _damage(value)) is not None:
        return reject, ()
    try:
        ping = _PING_DECODER.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _examine_loosely(value, record)
    return _check(ping, record), ()


def _nothing(record: Record) -> Reject:
    if (reason := explain_unread(record)) is not None:
        return Reject("unreadable", f"the batch that it came in was not unpacked: {shown(reason)}")
    if parse_forget(record) is not None:
        return Reject(FORGOTTEN, "its entity is forgotten from here on")
    return Reject("empty", "the record has no value")


def _damage(value: bytes) -> Reject | None:
    """Returns why we do not accept the bytes as JSON, as far as that shows without decoding them; None otherwise."""
    if len(value) > MAX_RECORD_BYTES:
        return Reject(
            "too_large", f"{len(value)} bytes; MAX_RECORD_BYTES in stream/wire/record.py is {MAX_RECORD_BYTES}"
        )
    if not value[0] and (framed := foreign_formats.describe_framed_value(value)) is not None:
        return Reject("schema_framed", framed)
    if not value.isascii():  # checked first, because the decoders skip the bytes of unknown fields
        try:
            value.decode()
        except UnicodeDecodeError as error:
            return Reject("invalid_utf8", f"the value is not UTF-8: {error.reason} at byte {error.start}")
    if value.count(b"[") + value.count(b"{") > MAX_NESTING and _depth(value) > MAX_NESTING:
        return Reject(
            "too_deep", f"it nests deeper than MAX_NESTING in stream/wire/ping_rules.py, which is {MAX_NESTING}"
        )
    return None


def _examine_loosely(value: bytes, record: Record) -> Examined:
    """Reads any spelling that we accept, and drops the optional fields that are not accepted."""
    fields = _fields(value)
    if isinstance(fields, Reject):
        return fields, ()
    needed = read_required(fields)
    if isinstance(needed, Reject):
        return needed, ()
    if "entity_id" not in needed and record.key is not None:
        needed["entity_id"] = _text(record.key)
        if needed["entity_id"] is None:
            return Reject("invalid_utf8", "the key is not UTF-8"), ()
    if absent := [name for name in REQUIRED if name not in needed]:
        return Reject("missing_field", foreign_formats.describe_missing(fields, absent)), ()
    others, dropped = read_optional(fields)
    found = _check(Ping(**needed, **others), record)
    return found, () if isinstance(found, Reject) else dropped


def _fields(value: bytes) -> dict[str, Any] | Reject:
    """Returns the members of the JSON object in the bytes.

    NaN, Infinity and lone surrogates, which JSON does not have but some senders write, are accepted here: whether they
    cost the ping depends on the field.
    """
    try:
        found = _DECODER.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        try:
            # As text, because `json` guesses the encoding of bytes. What it takes for UTF-16 may have brackets that we
            # did not count.
            found = json.loads(value.decode(), parse_int=_parse_int)
        except (ValueError, RecursionError) as error:
            return Reject("invalid_json", f"not JSON: {shown(str(error))}")
    if isinstance(found, dict):
        return found
    kind = f"an array of {len(found)}" if isinstance(found, list) else f"a {type(found).__name__}"
    return Reject("invalid_json", f"JSON, but {kind}: expected is one object, which is one ping")


def _check(ping: Ping, record: Record) -> Ping | Reject:
    """Returns the ping with its time in milliseconds and its heading below 360, or the first rule that it breaks."""
    checked = ping_rules.check_ping(ping, record.timestamp_ms)
    if isinstance(checked, Reject):
        return checked
    if (reject := _key_reject(ping.entity_id, record.key)) is not None:
        return reject
    if ping.valid is False:
        return ping_rules.MARKED_INVALID
    return checked


def _key_reject(entity_id: str, key: bytes | None) -> Reject | None:
    """Returns what is wrong with the key that should carry the entity's id."""
    if key == entity_id.encode():
        return None
    if key is None:
        return Reject("key_mismatch", f"the record has no key, expected {shown(entity_id)}")
    if (framed := foreign_formats.describe_framing(key)) is not None:
        return Reject("key_mismatch", f"the key has {framed}; expected is {shown(entity_id)} without framing")
    text = _text(key)
    if text is None:
        return Reject("invalid_utf8", "the key is not UTF-8")
    return Reject("key_mismatch", f"the key is {shown(text)}, entity_id is {shown(entity_id)}")


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) < _INFINITE_DIGITS else inf


def _depth(value: bytes) -> int:
    """Returns the deepest nesting of brackets outside strings.

    It takes linear time: a string without an end is one token, too, or the search for its end would begin again at
    every quote in it.
    """
    depth = deepest = 0
    for token in _TOKEN.finditer(value):
        first = token[0][:1]
        depth += (first in b"[{") - (first in b"]}")
        deepest = max(deepest, depth)
    return deepest


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
