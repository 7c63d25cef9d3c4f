"""Mutations of messages, for readers that must not raise. Tests import it; it tests nothing itself.

Half of them change bytes, half replace a value somewhere in the JSON by an odd one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from stream.adapters.live.parsed import Parsed, Reader, Skip
from stream.tracks.clean import parse
from stream.wire import CODES, Ping, Record, Reject, dumps

INPUTS = 10_000
CAME_MS = 1_796_029_500_000
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.0, -0.0, 1e-320, 1e308, float("inf"), float("nan"), 10**30, -(10**400), 2**63),
    *("", "x", " ", "0", "-5.5", "1e999", "9" * 400, "NaN", "true", "2026-11-30T08:24:10Z", "2026-13-45T99:99:99Z"),
    *("\ud800", "\x00", "\u202e", "é" * 300, "a" * 70_000, [], {}, [[]], [{}], {"a": {"b": []}}, [1, "x", None]),
)
TOKENS = (
    b"null",
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"\\",
    b"\\ud800",
    b"\xff",
    b"\x00",
    b"1e999",
    b"NaN",
    b"[" * 400,
)


def mutated(fixtures: Sequence[bytes], seed: int, count: int = INPUTS) -> Iterator[bytes]:
    """Yields messages, the fixtures themselves first."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    yield from fixtures
    for _ in range(count - len(fixtures)):
        raw = rng.choice(fixtures)
        yield _bytes(rng, raw) if rng.random() < 0.5 else _values(rng, raw)


def check(read: Reader, raw: bytes) -> list[Parsed]:
    """Returns what a reader makes of a message, and raises AssertionError unless that is what the seam promises.

    Each ping has JSON, and a worker accepts it.
    """
    found = read(raw, CAME_MS)
    assert isinstance(found, list)
    for one in found:
        if isinstance(one, Ping):
            value = dumps(one)
            accepted = parse(Record("pathcast.pings.v1", 0, 0, CAME_MS, one.entity_id.encode(), value))
            assert isinstance(accepted, Ping), (accepted, value)
        elif isinstance(one, Reject):
            assert one.code in CODES, one
            assert one.stage == "adapter", one
            assert one.message.isprintable(), one
            one.message.encode()
            assert len(one.message) < 1_000, one
        else:
            assert isinstance(one, Skip), one
            assert one.why.isidentifier(), one
    return found


def _bytes(rng: random.Random, raw: bytes) -> bytes:
    made = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at, kind = rng.randrange(len(made) + 1), rng.randrange(5)
        if kind == 0:
            made[at:at] = rng.choice(TOKENS)
        elif kind == 1:
            del made[at : at + rng.randrange(1, 40)]
        elif kind == 2 and made:
            made[min(at, len(made) - 1)] = rng.randrange(256)
        elif kind == 3:
            made = made[:at]
        else:
            other = rng.randrange(len(made) + 1)
            made[at:at] = made[other : other + rng.randrange(1, 60)]
    return bytes(made)


def _values(rng: random.Random, raw: bytes) -> bytes:
    whole = json.loads(raw)
    root: list[Any] = [deepcopy(whole)]
    for _ in range(rng.choice((1, 1, 2, 5))):
        places = list(_places(root))
        holder, key = rng.choice(places)
        if isinstance(holder, dict) and rng.random() < 0.2:
            holder[rng.choice((*holder, "lat", "id", "\ud800"))] = holder.pop(key)
        else:
            holder[key] = deepcopy(rng.choice((*ODD, whole)))
    return json.dumps(root[0]).encode()


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    for key in keys:
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])
