"""Record bytes to a Ping or a Reject. Knows JSON and ranges; knows no track, no broker and no clock of its own.

The clock is the record's own timestamp, so that a replay of the log decides as the first pass did. The fast path is
one typed decode and a few comparisons; whatever it refuses is decoded once more, loosely (other spellings of time,
the id taken from the key), and only a record that fails that too is taken apart to find out why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import inf, isfinite
from typing import Annotated, Any, Final, get_args, get_type_hints

import msgspec

from stream.wire import (
    MAX_ATTRS,
    MAX_ENTITY_ID_CHARS,
    MAX_RECORD_BYTES,
    MAX_TEXT_CHARS,
    MAX_TS_MS,
    MIN_TS_MS,
    Ping,
    Record,
    Reject,
    why_unread,
)

MAX_AHEAD_MS: Final = 24 * 3600 * 1000  # a day: local time sent as UTC is off by 14 hours at most
SECONDS_BELOW: Final = 100_000_000_000  # 1e11 s is the year 5138 and 1e11 ms is 1973, so no real time is ambiguous
MAX_NESTING: Final = 64  # fixed, so that the verdict cannot depend on the interpreter's stack
MAX_SHOWN_CHARS: Final = 60  # of a sender's own value inside a message

_REQUIRED: Final = ("entity_id", "ts", "lat", "lon")
_TEXTS: Final = ("trip_id", "category", "source")
_FLOATS: Final = ("lat", "lon", "alt_m", "speed_mps", "heading_deg", "accuracy_m", "hdop")
_TYPES: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    "entity_id": ((str,), "a string"),
    "ts": ((int, float, str), "a number or an RFC 3339 string"),
    **dict.fromkeys(_FLOATS, ((int, float), "a number")),
    **dict.fromkeys(("sats", "received_ts"), ((int,), "an integer")),
    **dict.fromkeys(_TEXTS, ((str,), "a string")),
    "valid": ((bool,), "true or false"),
    "attrs": ((dict,), "an object"),
}
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ZONED: Final[Any] = Annotated[datetime, msgspec.Meta(tz=True)]
_INFINITE_DIGITS: Final = 310  # an integer of more digits is beyond float64


class _Loose(msgspec.Struct, kw_only=True):
    """A ping as senders spell it: everything may be absent, `ts` has several forms."""

    entity_id: str | None = None
    ts: int | float | str | None = None
    lat: float | None = None
    lon: float | None = None
    alt_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None
    accuracy_m: float | None = None
    hdop: float | None = None
    sats: int | None = None
    valid: bool | None = None
    received_ts: int | None = None
    trip_id: str | None = None
    category: str | None = None
    source: str | None = None
    attrs: dict[str, Any] | None = None


_PING_DECODER: Final = msgspec.json.Decoder(Ping)


def _ranges() -> Iterator[tuple[str, float, float]]:
    """The ranges of optional fields, as wire.Ping has them."""
    for name, hint in get_type_hints(Ping, include_extras=True).items():
        for part in get_args(hint):
            for meta in getattr(part, "__metadata__", ()):
                if meta.ge is not None:
                    yield name, meta.ge, meta.le


RANGES: Final = tuple(_ranges())
_LOOSE_DECODER: Final = msgspec.json.Decoder(_Loose)


def parse(record: Record) -> Ping | Reject:
    """The ping that a record holds, or the reason why it holds none. Never raises, whatever the bytes are."""
    value = record.value
    if not value:
        if (reason := why_unread(record)) is not None:
            return Reject("unreadable", f"the batch that it came in was not unpacked: {_shown(reason)}")
        return Reject("empty", "the record has no value")
    if len(value) > MAX_RECORD_BYTES:
        return Reject("too_large", f"{len(value)} bytes, at most {MAX_RECORD_BYTES} are read")
    if not value.isascii():  # checked first: the decoders skip the bytes of fields that they do not know
        try:
            value.decode()
        except UnicodeDecodeError as error:
            return Reject("invalid_utf8", f"the value is not UTF-8: {error.reason} at byte {error.start}")
    if value.count(b"[") + value.count(b"{") > MAX_NESTING and _depth(value) > MAX_NESTING:
        return Reject("too_deep", f"nested deeper than {MAX_NESTING}")
    try:
        ping = _PING_DECODER.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        loose = _parse_loose(value, record.key)
        checked = loose if isinstance(loose, Reject) else _checked(loose, record)
        return checked if isinstance(checked, Reject) else _in_range(checked)
    return _checked(ping, record)


def _checked(ping: Ping, record: Record) -> Ping | Reject:
    """The ping, its time in milliseconds and its heading below 360, or the first rule that it breaks."""
    ts, lat, lon = ping.ts, ping.lat, ping.lon
    if -SECONDS_BELOW < ts < SECONDS_BELOW:
        ts *= 1000
        ping = msgspec.structs.replace(ping, ts=ts)
    if not -90.0 <= lat <= 90.0:
        return Reject("lat_out_of_range", f"lat is {_shown(lat)}, expected -90..90")
    if not -180.0 <= lon <= 180.0:
        return Reject("lon_out_of_range", f"lon is {_shown(lon)}, expected -180..180")
    if lat == 0.0 and lon == 0.0:
        return Reject("null_island", "lat and lon are both exactly 0: does the receiver have a fix?")
    if not MIN_TS_MS <= ts <= MAX_TS_MS or ts > record.timestamp_ms + MAX_AHEAD_MS > MAX_AHEAD_MS:
        return _out_of_time(ts, record)
    if (reject := _owner_reject(ping.entity_id, record.key)) is not None:
        return reject
    if ping.valid is False:
        return Reject("marked_invalid", "the receiver marked the fix invalid")
    return msgspec.structs.replace(ping, heading_deg=0.0) if ping.heading_deg == 360.0 else ping


def _out_of_time(ts: int, record: Record) -> Reject:
    # A record without a timestamp (Kafka writes -1) is held to the absolute bounds alone.
    if ts < MIN_TS_MS:
        return Reject("ts_too_old", f"ts is {_shown(ts)} ms, before the year 2000")
    return Reject("ts_in_future", f"ts is {_shown(ts)} ms, the record was published at {record.timestamp_ms} ms")


def _owner_reject(entity_id: str, key: bytes | None) -> Reject | None:
    """What is wrong with the entity's id or with the key that should carry it."""
    if not entity_id.isprintable() and _CONTROL.search(entity_id):
        return Reject("bad_entity_id", f"entity_id has control characters: {_shown(entity_id)}")
    if not 0 < len(entity_id) <= MAX_ENTITY_ID_CHARS:
        return Reject("bad_entity_id", f"entity_id has {len(entity_id)} characters, expected 1..{MAX_ENTITY_ID_CHARS}")
    if key == entity_id.encode():
        return None
    if key is None:
        return Reject("key_mismatch", f"the record has no key, expected {_shown(entity_id)}")
    text = _text(key)
    if text is None:
        return Reject("invalid_utf8", "the key is not UTF-8")
    return Reject("key_mismatch", f"the key is {_shown(text)}, entity_id is {_shown(entity_id)}")


def _in_range(ping: Ping) -> Ping | Reject:
    """What the decoder of pings has seen to in all those that it took."""
    for name, low, high in RANGES:
        number = getattr(ping, name)
        if number is not None and not low <= number <= high:
            return Reject("bad_field", f"{name} is {_shown(number)}, expected {low}..{high}")
    for name in _TEXTS:
        text = getattr(ping, name)
        if text is not None and len(text) > MAX_TEXT_CHARS:
            return Reject("bad_field", f"{name} has {len(text)} characters, at most {MAX_TEXT_CHARS}")
    if ping.attrs is not None and len(ping.attrs) > MAX_ATTRS:
        return Reject("bad_field", f"attrs has {len(ping.attrs)} entries, at most {MAX_ATTRS}")
    return ping


def _parse_loose(value: bytes, key: bytes | None) -> Ping | Reject:
    """A Ping whose ranges are not checked yet, from any spelling that we take."""
    try:
        loose = _LOOSE_DECODER.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _diagnose(value)
    fields = msgspec.structs.asdict(loose)
    if loose.entity_id is None and key is not None:
        fields["entity_id"] = _text(key)
        if fields["entity_id"] is None:
            return Reject("invalid_utf8", "the key is not UTF-8")
    absent = [name for name in _REQUIRED if fields[name] is None]
    if absent:
        return Reject("missing_field", f"{' and '.join(absent)} absent")
    ts_ms = _milliseconds(fields["ts"])
    if ts_ms is None:
        return Reject("bad_timestamp", f"ts is {_shown(fields['ts'])}, expected ms or s since 1970 or RFC 3339")
    return Ping(**{**fields, "ts": ts_ms})


def event_time_ms(ts: object) -> int | None:
    """The milliseconds that `parse` would read in a `ts` of any spelling; None if it is none. For ordering files."""
    if isinstance(ts, bool) or not isinstance(ts, int | float | str) or (isinstance(ts, float) and not isfinite(ts)):
        return None
    ms = _milliseconds(ts)
    return ms if ms is None or abs(ms) >= SECONDS_BELOW else ms * 1000


def _milliseconds(ts: int | float | str) -> int | None:
    """Milliseconds since 1970 UTC. Whole numbers below 1e11 are left alone: `_checked` reads those as seconds."""
    if isinstance(ts, int):
        return ts
    if isinstance(ts, float):
        ms = round(ts * 1000 if abs(ts) < SECONDS_BELOW else ts)
    else:
        try:
            ms = (msgspec.convert(ts, _ZONED) - _EPOCH) // timedelta(milliseconds=1)
        except (msgspec.ValidationError, OverflowError, UnicodeEncodeError):  # the last: a lone surrogate
            return None
    # Milliseconds before 1973 would pass for seconds in `_checked`; they are too old either way.
    return ms if ms >= SECONDS_BELOW else min(ms, 0)


def _diagnose(value: bytes) -> Reject:
    """Why bytes that no decoder takes are not a ping. Slow, thorough, and free of surprises."""
    try:
        # As text: of bytes `json` guesses the encoding, and what is UTF-16 to it has brackets where we saw none.
        found = json.loads(value.decode(), parse_int=_parse_int)
    except (ValueError, RecursionError) as error:
        return Reject("invalid_json", f"not JSON: {_shown(str(error))}")
    if not isinstance(found, dict):
        return Reject("invalid_json", f"JSON, but a {type(found).__name__} instead of an object")
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Reject("invalid_utf8", "a lone surrogate escape: the text has no UTF-8 form")
    for name, item in found.items():
        if not _is_finite(item):
            return Reject("not_finite", f"{_shown(name)} is not a finite number")
    for name, (types, expected) in _TYPES.items():
        item = found.get(name)
        if item is not None and (not isinstance(item, types) or (isinstance(item, bool) and bool not in types)):
            return Reject("wrong_type", f"{name} is {_shown(item)}, expected {expected}")
    return Reject("invalid_json", "not JSON as RFC 8259 has it")


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) < _INFINITE_DIGITS else inf


def _is_finite(item: object) -> bool:
    if isinstance(item, float):
        return isfinite(item)
    if isinstance(item, dict):
        return all(_is_finite(inner) for inner in item.values())
    return all(_is_finite(inner) for inner in item) if isinstance(item, list) else True


def _depth(value: bytes) -> int:
    """The deepest nesting of brackets outside strings. Linear: a string without an end is one token, too, or the search
    for its end would begin again at every quote in it."""
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


def _shown(item: object) -> str:
    """A sender's value, short and printable: it ends up in a header, a log line and a terminal."""
    if isinstance(item, int) and abs(item) > 10**MAX_SHOWN_CHARS:
        return "an enormous integer"  # str() of it would be quadratic, or refused
    text = item if isinstance(item, str) else repr(item)
    # Cut again once it is escaped: a character may have become ten.
    return ascii(text[:MAX_SHOWN_CHARS])[: MAX_SHOWN_CHARS + 2] if isinstance(item, str) else text[:MAX_SHOWN_CHARS]
