"""What every reader of a live format must do with any bytes. Tests import this; it tests nothing itself."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from stream.adapters.live.parsed import STAGE, Parsed
from stream.tracks.clean import parse
from stream.wire import CODES, MAX_RECORD_BYTES, Ping, Record, Reject, dumps

COUNT = 10_000
CAME_MS = 1_764_490_000_000  # 2025-11-30T08:06:40Z
STRANGE = (
    b"",
    b"\x00",
    b"\xff",
    b"\n",
    b",",
    b"*",
    b"\\",
    b"!",
    b"$",
    b"9" * 25,
    b"-1",
    b"1e999",
    b"NaN",
    b'"',
    b"{",
    b"[" * 3_000,
)


def mutated(examples: Sequence[bytes], seed: int, count: int = COUNT) -> Iterator[bytes]:
    """Yields random bytes, and examples with some bytes changed, cut out, doubled or replaced by a part of another."""
    print(f"fuzz seed {seed}")
    rng = random.Random(seed)
    for number in range(count):
        if number % 20 == 0:
            yield rng.randbytes(rng.randrange(200))
            continue
        raw = rng.choice(examples)
        for _ in range(rng.randint(1, 5)):
            raw = _changed(raw, rng, examples)
        yield raw


def _changed(raw: bytes, rng: random.Random, examples: Sequence[bytes]) -> bytes:
    begin = rng.randrange(len(raw) + 1)
    end = min(len(raw), begin + rng.choice((0, 1, 1, 2, 8, 40)))
    part = rng.choice(examples)
    at = rng.randrange(len(part) + 1)
    put = rng.choice(
        (b"", rng.randbytes(1), rng.randbytes(4), rng.choice(STRANGE), part[at : at + 30], raw[begin:end] * 2)
    )
    return raw[:begin] + put + raw[end:]


def check(found: Iterable[Parsed], came_ms: int = CAME_MS) -> Counter[str]:
    """Checks what came of a message, and counts it by kind. A worker must take every ping as it is."""
    counts: Counter[str] = Counter()
    for one in found:
        counts[type(one).__name__] += 1
        if isinstance(one, Ping):
            value = dumps(one)
            assert len(value) <= MAX_RECORD_BYTES
            assert parse(Record("pings", 0, 0, came_ms, one.entity_id.encode(), value)) == one
        elif isinstance(one, Reject):
            assert one.code in CODES, one
            assert one.stage == STAGE, one
            assert one.message.isprintable(), one
            assert len(one.message) < 300, one
        else:
            assert one.why.isidentifier(), one
    return counts


def survives(read: Callable[[bytes, int], list[Parsed]], examples: Sequence[bytes], seed: int) -> Counter[str]:
    """Reads 10,000 inputs, of which none may raise. Returns how many pings, rejects and skips came of them."""
    counts: Counter[str] = Counter()
    for raw in mutated(examples, seed):
        counts += check(read(raw, CAME_MS))
    return counts
