"""Any bytes as a record: a ping within its documented ranges, or a reject with a code of the table. See fuzzing.py."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fuzzing

CORPUS = Path(__file__).parent / "corpus" / "clean"
KEY_ENDS = b"\xff"  # in no UTF-8: an input may be a key, this, and a value; else the key is bus-1
TS = 1_700_000_000_000
TOKENS = [
    *(b'"entity_id":"bus-1"', b'"ts":1700000000000', b'"ts":"2023-11-14T22:13:20.5Z"', b'"lat":30.25', b'"lon":-97.75'),
    *(b'"alt_m":', b'"speed_mps":', b'"heading_deg":360', b'"accuracy_m":', b'"hdop":', b'"sats":', b'"valid":false'),
    *(
        b'"received_ts":',
        b'"trip_id":"',
        b'"category":',
        b'"source":',
        b'"attrs":{"a":',
        b'"colour":',
        b"null",
        b"true",
    ),
    *(b"1e999", b"-1e308", b"1e-400", b"NaN", b"-Infinity", b"9" * 320, b"-0.0", b"00", b"18446744073709551616"),
    *(
        b"\\ud800",
        b"\\udc00",
        b"\\u0000",
        b'\\"',
        b"\\\\",
        b"\xef\xbb\xbf",
        b"\x00",
        b"[[[[[[[[",
        b"]]]]]]]]",
        KEY_ENDS,
    ),
]


def checker() -> fuzzing.Check:
    from stream.tracks.clean import examine, parse
    from stream.wire import CODES, MAX_RECORD_BYTES, Ping, Record, Reject, dead_letter, dumps
    from stream.wire.ping_rules import event_time_ms

    def check(data: bytes) -> None:
        key, found, value = data.rpartition(KEY_ENDS)
        record = Record("pathcast.pings.v1", 0, 7, TS, key if found else b"bus-1", value)
        made, dropped = examine(record)
        if isinstance(made, Reject):
            assert not dropped
            assert made.code in CODES, made
            assert made.message.isprintable(), made
            assert len(made.message) < 250, made
            letter = dead_letter("pathcast.pings.v1.dlq", record, made, version="1")
            assert (letter.key, letter.value) == (record.key, record.value)
        else:
            assert isinstance(made, Ping)
            _assert_ping(made, record.key)
            _assert_optional(made, dropped, value)
            again = dumps(made)
            if len(again) <= MAX_RECORD_BYTES:
                assert parse(record._replace(value=again)) == made, again
        _assert_time(value, event_time_ms)

    return check


def _assert_ping(ping: Any, key: bytes | None) -> None:
    """Holds a ping to the bounds that `wire.Ping` and stream/wire/README.md state."""
    assert ping.entity_id.encode() == key
    assert 1 <= len(ping.entity_id) <= 128
    assert type(ping.ts) is int
    assert 946_684_800_000 <= ping.ts <= TS + 24 * 3_600_000
    assert -90 <= ping.lat <= 90
    assert -180 <= ping.lon <= 180
    assert (ping.lat, ping.lon) != (0, 0)
    assert ping.valid is not False
    for name, (low, high) in LIMITS.items():
        number = getattr(ping, name)
        assert number is None or (low <= number <= high and (name, number) != ("heading_deg", 360)), (name, number)
    assert all(len(text or "") <= 256 for text in (ping.trip_id, ping.category, ping.source))
    assert len(ping.attrs or ()) <= 32
    assert _finite(ping.attrs)


LIMITS = {"alt_m": (-12e3, 1e5), "speed_mps": (0, 1e3), "heading_deg": (0, 360), "accuracy_m": (0, 1e7)}
LIMITS |= {"hdop": (0, 1e3), "sats": (0, 1e3), "received_ts": (946_684_800_000, 4_102_444_800_000)}
TEXTS = ("trip_id", "category", "source")
VALID: dict[Any, bool] = {True: True, False: False, "true": True, "false": False}


def _assert_optional(ping: Any, dropped: Sequence[str], value: bytes) -> None:
    """Each optional field is what Python's json reads, or it is dropped, as the docstring of `wire` has it."""
    try:
        row = json.loads(value.decode())
    except ValueError:  # a number of more digits than Python reads
        return
    for name in (*LIMITS, *TEXTS, "valid", "attrs"):
        given = row.get(name)
        expected = None if given is None else _expected(name, given)
        assert getattr(ping, name) == expected, (name, given)
        assert (name in dropped) == (given is not None and expected is None), (name, given)


def _expected(name: str, given: Any) -> Any:
    if name in TEXTS:
        return given if isinstance(given, str) and len(given) <= 256 and _encodable(given) else None
    if name == "attrs":
        return given if isinstance(given, dict) and len(given) <= 32 and _finite(given) and _encodable(given) else None
    if name == "valid":
        return VALID.get(given) if isinstance(given, bool | int | float | str) else None
    if isinstance(given, bool) or not isinstance(given, int | float) or not LIMITS[name][0] <= given <= LIMITS[name][1]:
        return None
    if name in ("sats", "received_ts") and given != int(given):
        return None
    return 0.0 if name == "heading_deg" and given == 360 else given


def _encodable(item: Any) -> bool:
    try:
        return bool(json.dumps(item, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return False


def _finite(item: Any) -> bool:
    if isinstance(item, dict):
        return all(map(_finite, item.values()))
    if isinstance(item, list):
        return all(map(_finite, item))
    return not isinstance(item, float) or math.isfinite(item)


def _assert_time(value: bytes, event_time_ms: Any) -> None:
    """What orders a file reads the same fields from rows that were never parsed."""
    try:
        row = json.loads(value.decode())
    except (ValueError, RecursionError):
        return
    found = event_time_ms(row.get("ts") if isinstance(row, dict) else row)
    assert found is None or type(found) is int


if __name__ == "__main__":
    fuzzing.run(checker, CORPUS, ["stream.tracks.clean", "stream.wire", "json"], TOKENS)
