"""The rules that every ping must follow, whatever format it came in: types, spellings and ranges of its fields.

A record of the pings topic (`stream.tracks.clean`) and a message of another format (`stream.adapters.live`) are read
and checked here alike, so that what an adapter publishes is accepted by a worker. `stream.wire.messages` states the
rules: a bad required field is a Reject, a bad optional field is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf, isfinite
from typing import Annotated, Any, Final, get_args, get_type_hints

import msgspec

from stream.wire.dead_letters import Reject
from stream.wire.escape import shown
from stream.wire.messages import MAX_ATTRS, MAX_TEXT_CHARS, MAX_TS_MS, MIN_TS_MS, OPTIONAL, REQUIRED, Ping
from stream.wire.record import MAX_ENTITY_ID_CHARS

SECONDS_BELOW: Final = 100_000_000_000  # 1e11 s is the year 5138 and 1e11 ms is 1973, so no real time is ambiguous
MAX_AHEAD_MS: Final = 24 * 3600 * 1000  # a day: local time sent as UTC is off by 14 hours at most
MAX_NESTING: Final = 64  # fixed, so that the verdict cannot depend on the interpreter's stack
MARKED_INVALID: Final = Reject("marked_invalid", "the receiver marked the fix invalid")

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ZONED: Final[Any] = Annotated[datetime, msgspec.Meta(tz=True)]
_DIGITS: Final = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,9})?")  # an int64 has 19 digits, and a nanosecond 9
_FLAGS: Final = {True: True, False: False, "true": True, "false": False}  # 1 and 0 are equal to true and false


def _ranges() -> Iterator[tuple[str, float, float]]:
    """Yields the ranges of optional fields, as `wire.Ping` declares them."""
    for name, hint in get_type_hints(Ping, include_extras=True).items():
        for part in get_args(hint):
            for meta in getattr(part, "__metadata__", ()):
                if meta.ge is not None:
                    yield name, meta.ge, meta.le


RANGES: Final = tuple(_ranges())


# -- required ---------------------------------------------------------------------------------------------------------


def read_required(fields: Mapping[str, Any]) -> dict[str, Any] | Reject:
    """Returns the required fields that are present, or what is wrong with the first bad one.

    `lat` and `lon` may be out of range, and a `ts` below SECONDS_BELOW stands for seconds.
    """
    taken = {}
    for name in REQUIRED:
        if fields.get(name) is not None:
            value = _REQUIRED[name](fields[name])
            if isinstance(value, Reject):
                return value
            taken[name] = value
    return taken


def _entity_id(given: object) -> str | Reject:
    if isinstance(given, str):
        return given if _has_utf8(given) else Reject("invalid_utf8", "entity_id has a lone surrogate: it is not UTF-8")
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    return _refuse("entity_id", given, "a string or an integer")


def _ts(given: object) -> int | Reject:
    expected = "ms or s since 1970 or RFC 3339"
    if isinstance(given, bool) or not isinstance(given, int | float | str) or _is_infinite(given):
        return _refuse("ts", given, f"a number or a string: {expected}")
    ts_ms = _milliseconds(given)
    return Reject("bad_timestamp", f"ts is {shown(given)}, expected {expected}") if ts_ms is None else ts_ms


def _degrees(name: str, given: object) -> float | Reject:
    if isinstance(given, bool) or not isinstance(given, int | float):
        return _refuse(name, given, "a number")
    try:
        number = float(given)
    except OverflowError:
        number = inf
    return number if isfinite(number) else _refuse(name, number, "a number")


def _refuse(name: str, given: object, expected: str) -> Reject:
    if _is_infinite(given):
        return Reject("not_finite", f"{name} is not a finite number")
    return Reject("wrong_type", f"{name} is {shown(given)}, expected {expected}")


def _is_infinite(given: object) -> bool:
    """Returns whether a value is an infinite float or NaN."""
    return isinstance(given, float) and not isfinite(given)


_REQUIRED: Final[Mapping[str, Callable[[object], Any]]] = {
    "entity_id": _entity_id,
    "ts": _ts,
    "lat": partial(_degrees, "lat"),
    "lon": partial(_degrees, "lon"),
}


def event_time_ms(ts: object) -> int | None:
    """Returns the milliseconds that `clean.parse` reads in a `ts` of any spelling, for ordering files; None if
    invalid."""
    time = _ts(ts)
    if isinstance(time, Reject):
        return None
    return time if abs(time) >= SECONDS_BELOW else time * 1000


def _milliseconds(ts: int | float | str) -> int | None:
    """Returns milliseconds since 1970 UTC. Whole numbers below 1e11 are returned as they are: they are seconds."""
    if isinstance(ts, str) and _DIGITS.fullmatch(ts):
        ts = float(ts) if "." in ts else int(ts)
    if isinstance(ts, int):
        return ts
    if isinstance(ts, float):
        ms = round(ts * 1000 if abs(ts) < SECONDS_BELOW else ts)
    else:
        try:
            ms = (msgspec.convert(ts, _ZONED) - _EPOCH) // timedelta(milliseconds=1)
        except (msgspec.ValidationError, OverflowError, UnicodeEncodeError):  # the last: a lone surrogate
            return None
    # Milliseconds before 1973 would pass for seconds; they are too old either way.
    return ms if ms >= SECONDS_BELOW else min(ms, 0)


# -- optional ---------------------------------------------------------------------------------------------------------


def read_optional(fields: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the optional fields that are accepted, and the names of those that must be dropped."""
    taken, dropped = {}, []
    for name, read in _OPTIONAL.items():
        given = fields.get(name)
        if given is None:
            continue
        value = read(given)
        if value is None:
            dropped.append(name)
        else:
            taken[name] = value
    return taken, tuple(dropped)


def _number(low: float, high: float, given: object) -> float | None:
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    return float(given) if low <= given <= high else None


def _whole(low: float, high: float, given: object) -> int | None:
    number = _number(low, high, given)
    return int(number) if number is not None and number == int(number) else None


def _text(given: object) -> str | None:
    return given if isinstance(given, str) and len(given) <= MAX_TEXT_CHARS and _has_utf8(given) else None


def _flag(given: object) -> bool | None:
    return _FLAGS.get(given) if isinstance(given, int | float | str) else None


def _attrs(given: object) -> dict[str, Any] | None:
    return given if isinstance(given, dict) and len(given) <= MAX_ATTRS and _is_json(given) else None


def _is_json(value: object) -> bool:
    """Returns whether a decoded value has a form in JSON and UTF-8: no number in it is infinite or NaN, and no text has
    a lone surrogate."""
    if isinstance(value, dict):
        return all(_has_utf8(name) and _is_json(inner) for name, inner in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return isfinite(value) if isinstance(value, float) else not isinstance(value, str) or _has_utf8(value)


def _has_utf8(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _readers() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Yields how each optional field is read: a function that returns None for a value that the field cannot have."""
    limits = {name: (low, high) for name, low, high in RANGES}
    others: dict[str, Callable[[Any], Any]] = {"valid": _flag, "attrs": _attrs}
    for name in OPTIONAL:
        if name in limits:
            yield name, partial(_whole if name in WHOLE else _number, *limits[name])
        else:
            yield name, others.get(name, _text)


WHOLE: Final = ("sats", "received_ts")
_OPTIONAL: Final = dict(_readers())


# -- a whole ping ------------------------------------------------------------------------------------------------------


def check_ping(ping: Ping, published_ms: int) -> Ping | Reject:
    """Returns the ping with its time in milliseconds and its heading below 360, or the first rule that it breaks.

    `published_ms` is when the ping came, in milliseconds since 1970 UTC, or NO_TIME_MS if that is not known: then its
    time is checked against the absolute bounds alone. Whether the receiver marked it invalid is left to the caller.
    """
    ts, lat, lon = ping.ts, ping.lat, ping.lon
    if -SECONDS_BELOW < ts < SECONDS_BELOW:
        ts *= 1000
        ping = msgspec.structs.replace(ping, ts=ts)
    if not -90.0 <= lat <= 90.0:
        return Reject("lat_out_of_range", f"lat is {shown(lat)}, expected -90..90")
    if not -180.0 <= lon <= 180.0:
        return Reject("lon_out_of_range", f"lon is {shown(lon)}, expected -180..180")
    if lat == 0.0 and lon == 0.0:
        return Reject("null_island", "lat and lon are both exactly 0: does the receiver have a fix?")
    if not MIN_TS_MS <= ts <= MAX_TS_MS or ts > published_ms + MAX_AHEAD_MS > MAX_AHEAD_MS:
        return _reject_time(ts, published_ms)
    if (reject := _reject_id(ping.entity_id)) is not None:
        return reject
    return msgspec.structs.replace(ping, heading_deg=0.0) if ping.heading_deg == 360.0 else ping


def _reject_time(ts: int, published_ms: int) -> Reject:
    # A record without a timestamp (Kafka writes -1) is checked against the absolute bounds alone.
    if ts < MIN_TS_MS:
        return Reject(
            "ts_too_old", f"ts is {shown(ts)} ms, before the year 2000 (MIN_TS_MS in stream/wire/messages.py)"
        )
    if ts > MAX_TS_MS:
        return Reject(
            "ts_in_future", f"ts is {shown(ts)} ms, after the year 2099 (MAX_TS_MS in stream/wire/messages.py)"
        )
    published = f"the record was published at {published_ms} ms"
    ahead = f"at most {MAX_AHEAD_MS} ms ahead are taken (MAX_AHEAD_MS in stream/wire/ping_rules.py)"
    return Reject("ts_in_future", f"ts is {shown(ts)} ms, {published}; {ahead}")


def _reject_id(entity_id: str) -> Reject | None:
    if not entity_id.isprintable() and _CONTROL.search(entity_id):
        return Reject("bad_entity_id", f"entity_id has control characters: {shown(entity_id)}")
    if not 0 < len(entity_id) <= MAX_ENTITY_ID_CHARS:
        limit = f"1..{MAX_ENTITY_ID_CHARS} (MAX_ENTITY_ID_CHARS in stream/wire/record.py)"
        return Reject("bad_entity_id", f"entity_id has {len(entity_id)} characters, expected {limit}")
    return None
