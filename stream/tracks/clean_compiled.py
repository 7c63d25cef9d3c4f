"""Reads pings from their bytes straight into fixes, in compiled code, for the spelling that most senders use.

This is the fast version of `stream.tracks.clean.examine`; tests/stream/tracks/test_clean_compiled.py holds it to that
function. Most pings are one flat JSON object of ASCII without escapes, whose numbers have no exponent. This module
reads those without a Python object for each. It marks every other record as not read and gives no reason; `clean`
decides on it. If you add a rule to `clean` or a field to `wire.Ping`, add it here, too.

Shapes: N records, F fields of a ping.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, nan
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import FIX
from stream.tracks.fix import ABSENT
from stream.tracks.json_values import (
    CLOSE,
    COLON,
    COMMA,
    COUNT,
    ESCAPE,
    NULL,
    NUMBER,
    ONE,
    OPEN,
    OTHER,
    QUOTE,
    SPACE,
    TEXT,
    TRUE,
    behind_spaces,
    exactly,
    scalar,
    string_end,
)
from stream.wire import E7, MAX_ENTITY_ID_CHARS, MAX_RECORD_BYTES, MAX_TEXT_CHARS, MAX_TS_MS, MIN_TS_MS, Ping
from stream.wire.ping_rules import MAX_AHEAD_MS, RANGES, SECONDS_BELOW, WHOLE

I64 = NDArray[np.int64]

_ANY: Final = TEXT | COUNT | NUMBER | NULL | TRUE | OTHER
# Kinds with a measure that has a range: the length of the text, or the number itself.
_MEASURED: Final = TEXT | COUNT | NUMBER

_TAKEN: Final = {
    "entity_id": TEXT,  # COUNT is handled separately, and so is NUMBER for sats and received_ts
    "ts": COUNT,
    **dict.fromkeys(("lat", "lon"), COUNT | NUMBER),
    **dict.fromkeys(("alt_m", "speed_mps", "heading_deg", "accuracy_m", "hdop"), COUNT | NUMBER | NULL),
    **dict.fromkeys(WHOLE, COUNT | NULL),
    **dict.fromkeys(("trip_id", "category", "source"), TEXT | NULL),
    "valid": TRUE | NULL,
    "attrs": NULL,
}
# A field that this table lacks would be taken for an unknown one, with any value.
assert set(_TAKEN) == set(Ping.__struct_fields__)
FIELDS: Final = sorted(_TAKEN, key=len)  # the names with n letters are FIELDS[_CUTS[n] : _CUTS[n + 1]]
_LETTERS: Final = range(len(FIELDS[-1]) + 2)
_CUTS: Final = np.array([sum(len(name) < n for name in FIELDS) for n in _LETTERS], np.uint64)
_NAMES: Final = np.array([list(name.encode().ljust(len(FIELDS[-1]))) for name in FIELDS], np.uint8)  # [F, letters]
_ENTITY_ID, _TS, _LAT, _LON = (FIELDS.index(name) for name in ("entity_id", "ts", "lat", "lon"))
_SPEED, _HEADING, _UNKNOWN = FIELDS.index("speed_mps"), FIELDS.index("heading_deg"), len(FIELDS)
_REQUIRED: Final = np.int64(1 << _ENTITY_ID | 1 << _TS | 1 << _LAT | 1 << _LON)
_WHOLE: Final = np.int64(sum(1 << FIELDS.index(name) for name in WHOLE))
_LEFT: Final = np.int64(-1)  # stands in the place of the dropped fields for a record that is not read


def _limits() -> Iterator[tuple[float, float, int]]:
    """Yields the least and greatest measure of each field, and its kinds of value. Unknown fields come last."""
    limits = {name: (low, high) for name, low, high in RANGES} | {"lat": (-90.0, 90.0), "lon": (-180.0, 180.0)}
    limits |= {"entity_id": (1, MAX_ENTITY_ID_CHARS), "ts": (max(MIN_TS_MS, SECONDS_BELOW), MAX_TS_MS)}
    for name in FIELDS:
        yield *limits.get(name, (0, MAX_TEXT_CHARS)), int(_TAKEN[name])
    yield -inf, inf, int(_ANY)


# These are arguments of the kernel. A constant in it would keep its old value in the compiled-code cache when the
# module that defines it changes.
_LOW, _HIGH, _KINDS = (np.array(column) for column in zip(*_limits(), strict=True))


PLAIN: Final = np.uint8(ord("~") - ord(" "))


class Read(NamedTuple):
    """Holds what `read` found in N records."""

    fixes: NDArray[Any]  # FIX [N]
    done: NDArray[np.bool_]  # [N]: which were read
    dropped: I64  # [N]: which optional fields were dropped, bit f for FIELDS[f]


def read(
    raw: NDArray[np.uint8], value_start: I64, value_end: I64, key_start: I64, key_end: I64, timestamp_ms: I64
) -> Read:
    """Returns what N records hold.

    Their values and keys are spans of the bytes `raw`; a span that ends before it starts is None. A record that was not
    read is not wrong: `clean.examine` decides on it. For a record that was read, `clean.examine` would give the same
    result: the ping's entity_id is the record's key, its fix is `fix.packed([ping])[0]`, and the same fields are
    dropped.
    """
    n = len(value_start)
    made = Read(np.zeros(n, FIX), np.zeros(n, np.bool_), np.zeros(n, np.int64))
    limits = _LOW, _HIGH, _KINDS, MAX_RECORD_BYTES, MAX_AHEAD_MS
    _read(raw, value_start, value_end, key_start, key_end, timestamp_ms, limits, *made)
    return made


@exactly
def _read(  # type: ignore[no-untyped-def]
    raw, value_start, value_end, key_start, key_end, timestamp_ms, limits, fixes, done, dropped
):
    low, high, kinds, max_bytes, ahead_ms = limits
    found = np.empty(len(low))
    for i in range(len(value_start)):
        if not 0 < value_end[i] - value_start[i] <= max_bytes:
            continue
        start, end = np.uint64(value_start[i]), np.uint64(value_end[i]) - ONE
        found[_SPEED] = found[_HEADING] = nan
        if not _is_plain(raw, start, end):
            continue
        while end > start and raw[end] == SPACE:
            end -= ONE
        # Every loop that looks for the end of spaces, digits or a word stops at this brace.
        if raw[end] != CLOSE:
            continue
        without = _members(raw, start, end, key_start[i], key_end[i], low, high, kinds, found)
        if without < 0:
            continue
        ts, lat, lon = np.int64(found[_TS]), found[_LAT], found[_LON]
        if (lat == 0.0 and lon == 0.0) or (timestamp_ms[i] > 0 and ts - ahead_ms > timestamp_ms[i]):
            continue
        _pack(fixes[i], ts, lat, lon, found[_SPEED], found[_HEADING])
        done[i], dropped[i] = True, without


@exactly
def _pack(fix, ts, lat, lon, speed, heading):  # type: ignore[no-untyped-def]
    """Packs a fix as `stream.tracks.fix.pack_many` does."""
    fix.ts_ms, fix.lat_e7, fix.lon_e7 = ts, np.int64(np.rint(lat * E7)), np.int64(np.rint(lon * E7))
    fix.speed_cms = ABSENT if np.isnan(speed) else min(np.int64(np.rint(speed * 100)), ABSENT - 1)
    fix.heading_cdeg = ABSENT if np.isnan(heading) else np.int64(np.rint(heading * 100)) % 36_000


@exactly
def _is_plain(raw, start, end):  # type: ignore[no-untyped-def]
    """Returns whether raw[start] to raw[end], inclusive, is printable ASCII without escapes."""
    odd = np.uint8(0)
    for place in range(end + ONE - start):
        c = raw[start + place]
        odd |= np.uint8(np.uint8(c - SPACE) > PLAIN) | np.uint8(c == ESCAPE)
    return odd == 0


@exactly
def _members(raw, at, end, key_start, key_end, low, high, kinds, found):  # type: ignore[no-untyped-def]
    """Returns which fields are dropped, as bits; _LEFT if the record is not read.

    A record is read if raw[at:end] and the brace at `end` are an object that has everything a ping must have. The
    function puts the measure of each field into `found` [F + 1]: NaN for null and for a value out of range.
    """
    at = behind_spaces(raw, at)
    if raw[at] != OPEN:
        return _LEFT
    seen = dropped = np.int64(0)
    while True:
        name = behind_spaces(raw, at + ONE)
        if raw[name] != QUOTE:
            return _LEFT
        name += ONE
        at = string_end(raw, name, end)
        if at == end:
            return _LEFT
        field = _field(raw, name, at)
        at = behind_spaces(raw, at + ONE)
        if raw[at] != COLON:
            return _LEFT
        first = behind_spaces(raw, at + ONE)
        kind, at, measure = scalar(raw, first, end)
        bit = np.int64(1 << field)
        quote = ONE
        if not kinds[field] & kind:
            if field == _ENTITY_ID and kind == COUNT:  # an integer stands for its decimal text
                quote, measure = np.uint64(0), np.float64(at - first)
            elif bit & _WHOLE and kind == NUMBER:
                if measure != np.rint(measure):
                    dropped |= bit
            else:
                return _LEFT
        if kind & _MEASURED and not low[field] <= measure <= high[field]:
            if bit & _REQUIRED:
                return _LEFT
            dropped |= bit
            measure = nan
        if field != _UNKNOWN and seen & bit:  # a repeated name is rare, and `clean` takes the last value
            return _LEFT
        if field == _ENTITY_ID and not _are_same(raw, first + quote, at - quote, key_start, key_end):
            return _LEFT
        found[field] = measure
        seen |= bit
        at = behind_spaces(raw, at)
        if raw[at] != COMMA:
            return dropped if at == end and seen & _REQUIRED == _REQUIRED else _LEFT


@exactly
def _field(raw, start, end):  # type: ignore[no-untyped-def]
    letters = end - start
    if letters < np.uint64(len(_CUTS) - 1):
        for field in range(_CUTS[letters], _CUTS[letters + ONE]):
            place = np.uint64(0)
            while place < letters and _NAMES[field, place] == raw[start + place]:
                place += ONE
            if place == letters:
                return np.int64(field)
    return np.int64(_UNKNOWN)


@exactly
def _are_same(raw, start, end, key_start, key_end):  # type: ignore[no-untyped-def]
    """Returns whether a text equals the key. A key of None ends before it starts, which no text does."""
    if np.int64(end - start) != key_end - key_start:
        return False
    key = np.uint64(key_start)
    while start < end and raw[start] == raw[key]:
        start, key = start + ONE, key + ONE
    return start == end
