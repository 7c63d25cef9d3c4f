"""What a feed can send. No server fails; one of two workers is killed, so that a window has to be read back, too."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from bus_feed import BAD, Raw
from chaos_rig import PARTITIONS, Rig
from faults import fault

DAY: Final = 86_400  # seconds
BUFFER: Final = 400  # records that change places


@fault
def duplicates(rig: Rig) -> None:
    """Every third record comes again: at once, or up to 400 records later, as a producer's retries do it."""
    _through(rig, _repeated(rig.fleet(), rig.rng))


@fault
def reordered(rig: Rig) -> None:
    """Records come in random order within 400 of the feed, so that most pings of an entity overtake others."""
    _through(rig, _shuffled(rig.fleet(), rig.rng))


@fault
def late_pings(rig: Rig) -> None:
    """One ping in five takes a detour and comes 2,000 records late, behind many newer ones of its entity."""
    _through(rig, _detoured(rig.fleet(), rig.rng, share=0.2, behind=2_000))


@fault
def day_late_burst(rig: Rig) -> None:
    """A fifth of the entities were out of reach: what they sent comes in one burst after all else, a day late."""
    _through(rig, _burst(rig.fleet()))


@fault
def poison_records(rig: Rig) -> None:
    """One record in five is broken: no JSON, no value, wrong bytes, impossible places, half a ping, random bytes."""
    _through(rig, _poisoned(rig.fleet(), rig.rng))


@fault
def idle_partitions(rig: Rig) -> None:
    """All pings go to one partition, the others stay empty. Each of two workers is killed, busy or idle."""
    rig.start(2)
    rig.feed(rig.fleet(), over_s=20, partition=rig.rng.randrange(PARTITIONS))
    for share in (0.2, 0.6):
        rig.reach(share)
        rig.kill(rig.workers[0])
        rig.start()


def _through(rig: Rig, records: Iterable[Raw]) -> None:
    rig.start(2)
    rig.feed(islice(records, rig.pings), over_s=10)
    rig.reach(0.3)
    rig.kill(rig.rng.choice(rig.workers))
    rig.start()


def _repeated(records: Iterable[Raw], rng: random.Random) -> Iterator[Raw]:
    held: list[Raw] = []
    for record in records:
        yield record
        chance = rng.random()
        if chance < 1 / 6:
            yield record
        elif chance < 1 / 3:
            held.append(record)
        if held and (len(held) > BUFFER or rng.random() < 0.1):
            yield held.pop(rng.randrange(len(held)))


def _shuffled(records: Iterable[Raw], rng: random.Random) -> Iterator[Raw]:
    held: list[Raw] = []
    for record in records:
        held.append(record)
        if len(held) > BUFFER:
            yield held.pop(rng.randrange(len(held)))
    rng.shuffle(held)
    yield from held


def _detoured(records: Iterable[Raw], rng: random.Random, *, share: float, behind: int) -> Iterator[Raw]:
    held: list[tuple[int, Raw]] = []
    for at, record in enumerate(records):
        if rng.random() < share:
            held.append((at + behind, record))
        else:
            yield record
        while held and held[0][0] <= at:
            yield held.pop(0)[1]
    for _, record in held:
        yield record


def _burst(records: Iterable[Raw]) -> Iterator[Raw]:
    held: list[Raw] = []
    for record in records:
        key, value, headers = record
        if key is not None and sum(key) % 5 == 0:
            held.append((key, _a_day_earlier(value), headers))
        else:
            yield record
    yield from held


def _a_day_earlier(value: bytes | None) -> bytes | None:
    """The ping at its own time of the day before, so that it is a day behind the newest of its fleet."""
    try:
        ping = json.loads(value or b"")
        ping["ts"] -= DAY * 1000
    except (ValueError, TypeError, KeyError):
        return value  # one of the broken records
    return json.dumps(ping).encode()


def _poisoned(records: Iterable[Raw], rng: random.Random) -> Iterator[Raw]:
    for record in records:
        yield record
        if rng.random() < 0.25:
            yield rng.choice((*BAD, (record[0], rng.randbytes(rng.randrange(200)), ()), (record[0], _half(record), ())))


def _half(record: Raw) -> bytes:
    value = record[1] or b""
    return value[: len(value) // 2]


def split(records: Iterable[Raw]) -> tuple[Sequence[Raw], Sequence[Raw]]:
    """The first and the second half."""
    whole = list(records)
    return whole[: len(whole) // 2], whole[len(whole) // 2 :]
