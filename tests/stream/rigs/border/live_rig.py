"""Messages of live formats for the tests: recorded ones, and 10,000 like them with values, names and bytes changed.

Tests import this; it tests nothing itself.
"""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stream.adapters.live.parsed import Parsed, Reader
from stream.tracks.clean import parse
from stream.wire import CODES, MAX_RECORD_BYTES, Ping, Record, Reject, dumps

RECORDED = Path(__file__).parents[2] / "adapters" / "live" / "recorded"
COUNT = 10_000
STRANGE: Sequence[Any] = (
    None, True, False, 0, -1, 1, 0.0, -0.0, 90.0, 91, -181, 1e308, -1e308, 1e-320, 2**53, 2**63, 2**64, -(2**63),
    10**400, "", "0", "12.5", "NaN", "x" * 129, "x" * 5_000, "\x00", "\u2028", "é", "\ud800", "1970-01-01T00:00:00Z",
    "2026-11-30T08:15:02.000+0000", "9999-12-31T23:59:59Z", "2026-02-30T00:00:00Z", [], {}, [[]], [None] * 40,
    {"a": {"b": [1, {"c": None}]}}, {str(number): number for number in range(50)}, float("nan"), float("inf"),
)  # fmt: skip
BYTES = (
    b"",
    b" ",
    b"null",
    b"[]",
    b"{}",
    b"{",
    b'"',
    b"\xff\xfe",
    b"\x00" * 9,
    b"[" * 100_000,
    b'{"a":' * 5_000,
    b"1" * 5_000,
)


def inputs(examples: Sequence[bytes], seed: int, count: int = COUNT) -> Iterator[bytes]:
    """Yields messages like the examples with values, names, members and bytes changed, and some that are none."""
    print(f"fuzz seed {seed}")
    rng = random.Random(seed)
    yield from BYTES
    messages = [json.loads(one) for one in examples]
    for _ in range(count - len(BYTES)):
        message = json.loads(json.dumps(rng.choice(messages)))
        for _ in range(rng.randint(1, 4)):
            message = _changed(message, rng)
        raw = json.dumps(message, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
        yield _damaged(raw, rng) if rng.random() < 0.2 else raw


def _changed(message: Any, rng: random.Random) -> Any:
    if not isinstance(message, dict) or not message or rng.random() < 0.02:
        return copy.deepcopy(rng.choice(STRANGE))
    name = rng.choice(list(message))
    if isinstance(message[name], dict) and rng.random() < 0.8:
        message[name] = _changed(message[name], rng)
    elif rng.random() < 0.2:
        del message[name]
    elif rng.random() < 0.1:
        message[rng.choice(["", "x", name + "x", "lat", "attributes"])] = message.pop(name)
    else:
        message[name] = copy.deepcopy(rng.choice(STRANGE))
    return message


def _damaged(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(raw) + 1)
    how = rng.randrange(3)
    if how == 0:
        return raw[:at]
    if how == 1:
        return raw[:at] + rng.randbytes(rng.randint(1, 3)) + raw[at:]
    return raw[:at] + rng.randbytes(1) + raw[at + 1 :]


def recorded(name: str) -> list[tuple[str, bytes]]:
    """What a file of `recorded` has before the tab and after it, line by line."""
    lines = (RECORDED / name).read_bytes().splitlines()
    return [(before.decode(), after) for before, _, after in (line.partition(b"\t") for line in lines)]


def check_any_bytes(read: Reader, examples: Sequence[bytes], seed: int) -> Counter[str]:
    """Checks a reader with COUNT messages like the examples; counts what came of them."""
    came_ms = 1_796_026_505_000  # 2026-11-30
    counts: Counter[str] = Counter()
    for raw in inputs(examples, seed):
        for one in read(raw, came_ms):
            _check_one(one, came_ms)
            counts[type(one).__name__] += 1
    return counts


def _check_one(one: Parsed, came_ms: int) -> None:
    if isinstance(one, Ping):
        value = dumps(one)
        assert len(value) <= MAX_RECORD_BYTES
        # A worker must take what an adapter publishes, and find every field in it.
        again = parse(Record("pings", 0, 0, came_ms, one.entity_id.encode(), value))
        assert again == one
    elif isinstance(one, Reject):
        assert one.code in CODES
        assert one.stage == "adapter"
        assert one.message.isprintable()
    else:
        assert one.why.isidentifier()
