"""Changes of messages of live formats, and what every reader must make of any bytes. Tests import this; it tests
nothing itself."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, Final

from stream.adapters.live.parsed import STAGE, Parsed, Skip
from stream.tracks.clean import parse
from stream.wire import CODES, MAX_RECORD_BYTES, Ping, Record, Reject, dumps

CAME_MS: Final = 1_796_029_500_000  # 2026-11-30: no time of an example is in the future
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.0, -0.0, 90.0, 91, -181, 361, 1e-320, 1e30, 1e308, -1e308, 1.7e12),
    *(float("inf"), float("nan"), 10**30, -(10**300), 10**400, -(10**400), 2**53, 2**63, 2**64, -(2**63)),
    *("", "x", " ", "0", "12.5", "-5.5", "1e999", "9" * 400, "NaN", "true", "é", "\ud800", "\x00", "\u2028", "\u202e"),
    *("x" * 129, "é" * 300, "x" * 5_000, "a" * 70_000, "ground", "TPV", "SKY", "1970-01-01T00:00:00Z"),
    *("2026-11-30T08:24:10Z", "2026-11-30T08:15:02.000+0000", "9999-12-31T23:59:59Z", "2026-02-30T00:00:00Z"),
    *("2026-13-45T99:99:99Z", [], {}, [[]], [{}], [1, "x", None], [None] * 40, {"a": {"b": [1, {"c": None}]}}),
    {str(number): number for number in range(50)},
)
TOKENS = (
    *(
        b"",
        b"null",
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"*",
        b"!",
        b"$",
        b"\\",
        b"\\ud800",
        b"\xff",
        b"\x00",
        b"\n",
    ),
    *(b"9" * 25, b"-1", b"1e999", b"NaN", b"[" * 400),
)
NO_MESSAGES = (
    *(b"", b" ", b"null", b"[]", b"{}", b"{", b'"', b"\xff\xfe", b"\x00" * 9, b"1" * 5_000),
    *(b"[" * 100_000, b'{"a":' * 5_000),
)


def changed_bytes(rng: random.Random, examples: Sequence[bytes]) -> bytes:
    """Random bytes, or an example with some changed, cut out, doubled, or replaced by a part of another."""
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(200))
    raw = rng.choice(examples)
    for _ in range(rng.choice((1, 1, 2, 5))):
        begin = rng.randrange(len(raw) + 1)
        end = min(len(raw), begin + rng.choice((0, 1, 1, 2, 8, 40)))
        other = rng.choice(examples)
        at = rng.randrange(len(other) + 1)
        put = (rng.randbytes(1), rng.randbytes(4), rng.choice(TOKENS), other[at : at + 60], raw[begin:end] * 2)
        raw = raw[:begin] + rng.choice((b"", *put)) + (raw[end:] if rng.random() < 0.95 else b"")
    return raw


def changed_values(rng: random.Random, examples: Sequence[bytes]) -> bytes:
    """An example in JSON with members at any depth removed, renamed, or of another value."""
    whole = json.loads(rng.choice(examples))
    root: list[Any] = [deepcopy(whole)]
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        holder, key = rng.choice(list(_places(root)))
        chance = rng.random() if isinstance(holder, dict) else 1.0
        if chance < 0.1:
            del holder[key]
        elif chance < 0.25:
            holder[rng.choice((*holder, "lat", "id", "attributes", "\ud800"))] = holder.pop(key)
        else:
            holder[key] = deepcopy(rng.choice((*ODD, whole)))
    return json.dumps(root[0], ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])


def check(found: list[Parsed], most_chars: int) -> Counter[str]:
    """Counts what came of a message by its kind. A worker must take every ping as it is; a letter, every reject."""
    assert isinstance(found, list)
    for one in found:
        if isinstance(one, Ping):
            value = dumps(one)
            assert len(value) <= MAX_RECORD_BYTES
            assert parse(Record("pings", 0, 0, CAME_MS, one.entity_id.encode(), value)) == one
        elif isinstance(one, Reject):
            assert one.code in CODES, one
            assert one.stage == STAGE, one
            assert one.message.isprintable(), one
            assert len(one.message) < most_chars, one
        else:
            assert isinstance(one, Skip), one
            assert one.why.isidentifier(), one
    return Counter(type(one).__name__ for one in found)
