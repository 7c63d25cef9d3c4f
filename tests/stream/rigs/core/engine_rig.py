"""A rig around one engine: a partition's log, and what a worker does with it. And how to compare answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import strategies as st

from model.api import Predictor
from stream.config.settings import Settings
from stream.engine.assignment import NOTHING
from stream.engine.counts import Counts
from stream.engine.engine import Engine
from stream.engine.entities import stored_entity
from stream.engine.entities.snapshot import Snapshot
from stream.kafka.records.encoded_batches import Answers
from stream.store.base import MemoryStore, Partition, Store
from stream.tracks.track import Policy, Track
from stream.tracks.track_table import TrackTable
from stream.wire import Outgoing, Ping, Record, dumps

T0 = 1_700_000_000_000
A: Partition = ("pathcast.pings.v1", 0)
B: Partition = ("pathcast.pings.v1", 1)
SETTINGS = Settings()
CRASH = "crash"
CHECKPOINT = "checkpoint"
DUMP = "dump"  # the next leg of a checkpoint that is made while the engine works on; begins one, if there is none
WRITE = "write"  # what was dumped, if anything was
FAIL = "fail"  # as WRITE, but the store never gets it
M_PER_DEG = 111_195.0


def ping(entity_id: str, seconds: float, north_m: float | None = None, **more: Any) -> Ping:
    """A ping `seconds` after T0; by default the entity goes north at 8 m/s, swaying east and west."""
    north_m = 8 * seconds if north_m is None else north_m
    lon = -97.0 + 40 * math.sin(seconds / 90) / M_PER_DEG
    return Ping(entity_id=entity_id, ts=T0 + round(seconds * 1000), lat=30.0 + north_m / M_PER_DEG, lon=lon, **more)


# Whose ping, how long after its last one, and where if that is impossible; whatever goes wrong is frequent.
STEPS = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from([-400, -30, -10, -5, 0, 1, 10, 10, 10, 10, 20, 70, 200, 4_000]),
    st.sampled_from([None, None, None, None, 90_000.0]),
)


@st.composite
def journeys(draw: st.DrawFn, between: Sequence[Sequence[bytes | str]], most: int = 50) -> list[Ping | bytes | str]:
    """Pings of three entities with everything that goes wrong, and some of `between` behind each."""
    now = dict.fromkeys("abc", 0.0)
    items: list[Ping | bytes | str] = []
    for entity_id, step_s, north_m in draw(st.lists(STEPS, min_size=1, max_size=most)):
        now[entity_id] += step_s
        items += [ping(entity_id, now[entity_id], north_m), *draw(st.sampled_from(between))]
    return items


def flip(raw: bytes, bit: int) -> bytes:
    """The bytes with one bit that is another."""
    flipped = bytearray(raw)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def steady(entity_id: str, count: int, start_s: float = 0.0) -> list[Ping]:
    return [ping(entity_id, start_s + 10 * n) for n in range(count)]


class Sent(NamedTuple):
    """A record's key and value as a sender spells them."""

    key: bytes
    value: bytes


def spelt(entity_id: str, seconds: float, /, **more: str) -> Sent:
    """The ping with more members, whatever JSON their values are."""
    members = "".join(f',"{name}":{text}' for name, text in more.items())
    return Sent(entity_id.encode(), dumps(ping(entity_id, seconds))[:-1] + members.encode() + b"}")


class Rig:
    """One partition's log, the engine on it, and what a worker does around them: commits, checkpoints, crashes."""

    def __init__(self, make: Callable[[], Predictor], store: Store | None = None, partition: Partition = A) -> None:
        self.make = make
        self.max_resident: int | None = None
        self.choice = NOTHING  # which versions each ping asks
        self.stamp_ms = T0 + 10_000_000  # of the records that are made
        self.store = store or MemoryStore()
        self.partition = partition
        self.log: list[Record] = []
        self.out: list[Outgoing] = []
        self.engine = self.started()
        self.epoch = 0
        self.leg: Snapshot | None = None  # under way
        self.dumped = False

    def started(self) -> Engine:
        return Engine(self.make(), self.store, SETTINGS, clock_ms=lambda: 30.0, max_resident=self.max_resident)

    def record(self, item: Ping | Sent | bytes, key: bytes | None = None) -> Record:
        if isinstance(item, Sent):
            key, value = item
        else:
            value = item if isinstance(item, bytes) else dumps(item)
            key = item.entity_id.encode() if isinstance(item, Ping) else key
        made = Record(*self.partition, len(self.log), self.stamp_ms, key, value, (("trace", b"\x00\xff"),))
        self.log.append(made)
        return made

    async def batch(self, *items: Ping | Sent | bytes) -> list[Outgoing]:
        """All items in one batch; its answers."""
        records = [self.record(item) for item in items]
        answers = list(await self.engine.process(records, started_ms=20.0, fetched_ms=10.0, choice=self.choice))
        self.out += answers
        return answers

    async def feed(self, *items: Ping | Sent | bytes | str) -> list[Outgoing]:
        """Each item a batch of its own; CRASH and CHECKPOINT are items, too, as are the parts of a checkpoint."""
        before = len(self.out)
        for item in items:
            if isinstance(item, str):
                await {
                    CRASH: self.crash,
                    CHECKPOINT: self.checkpoint,
                    DUMP: self.dump,
                    WRITE: self.write,
                    FAIL: self.fail,
                }[item]()
            else:
                await self.batch(item)
        return self.out[before:]

    async def checkpoint(self) -> None:
        """At once. One that is under way is given up, as by an owner that leaves."""
        await self.fail()
        await self.engine.checkpoint(self.partition, await self.claimed(), len(self.log))

    async def claimed(self) -> int:
        if not self.epoch:
            self.epoch = (await self.store.claim(self.partition)).epoch
        return self.epoch

    async def dump(self) -> None:
        if not self.dumped:
            if self.leg is None:
                self.leg = self.engine.begin_checkpoint(self.partition, await self.claimed(), len(self.log))
            await self.leg.dump(len(self.log))
            self.dumped = True

    async def write(self) -> None:
        if self.leg is not None and self.dumped:
            await self.leg.write()
            self.leg.settle()
            self.dumped = False
            if self.leg.done:
                self.leg = None

    async def fail(self) -> None:
        if self.leg is not None:
            self.leg.give_up()
        self.leg, self.dumped = None, False

    async def tamper(self, change: Callable[[bytes], bytes]) -> None:
        """A checkpoint, another record of bus-1 in the store, and a crash."""
        await self.checkpoint()
        (raw,) = await self.store.get_many(self.partition, ["bus-1"])
        assert raw is not None
        await self.store.put_many(self.partition, self.epoch, None, {"bus-1": change(raw)})
        await self.crash()

    async def crash(self) -> None:
        """Lose everything in memory; take over as delivery does: claim, replay silently, go on."""
        self.leg, self.dumped = None, False
        self.engine = self.started()
        self.epoch, start = await self.store.claim(self.partition)
        answers = await self.engine.process(self.log[start or 0 :], started_ms=0, fetched_ms=0, silent=True)
        assert not answers

    @property
    def counts(self) -> Counts:
        return self.engine.counts[self.partition]


def one_by_one(outgoing: Iterable[Outgoing]) -> Answers:
    """These as an engine's answers, none of them in a page."""
    return Answers(others=list(enumerate(outgoing)))


def of(topic: str, answers: Iterable[Outgoing]) -> list[Any]:
    return [json.loads(answer.value or b"") for answer in answers if answer.topic == topic]


def forecasts(answers: Iterable[Outgoing]) -> list[Any]:
    return of(SETTINGS.topics.forecasts, answers)


def gap_fills(answers: Iterable[Outgoing]) -> list[Any]:
    return of(SETTINGS.topics.gapfills, answers)


def letters(answers: Iterable[Outgoing]) -> list[Outgoing]:
    return [answer for answer in answers if answer.topic == SETTINGS.topics.dead_letters]


def code_of(letter: Outgoing) -> str:
    return dict(letter.headers)["__pathcast.errors.code"].decode()


def assert_close(one: Any, other: Any, path: str = "") -> None:
    """Equal up to what a filter that began elsewhere moves by 1e-5 and int8 and bfloat16 then round the other way;
    latencies and offsets aside.
    """
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for name in one.keys() - {"latency_ms", "src"}:
            assert_close(one[name], other[name], f"{path}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_close(a, b, f"{path}[{place}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=5e-3, abs=3e-7 if ".l" in path else 0.03), path
    else:
        assert one == other, path


def assert_same_answers(ones: Sequence[Outgoing], others: Sequence[Outgoing]) -> None:
    """The same answers per entity, in the same order: batches mix entities as they like."""

    def sorted_by_entity(answers: Sequence[Outgoing]) -> list[Outgoing]:
        return sorted(answers, key=lambda answer: (answer.key or b"", answer.topic))

    one, other = sorted_by_entity(ones), sorted_by_entity(others)
    assert [(a.topic, a.key, a.headers) for a in one] == [(a.topic, a.key, a.headers) for a in other]
    for a, b in zip(one, other, strict=True):
        if a.topic == SETTINGS.topics.dead_letters:
            assert a.value == b.value
        else:
            assert_close(json.loads(a.value or b""), json.loads(b.value or b""))


def table_with(track: Track, places: int) -> TrackTable:
    """A table of windows of so many fixes, with this track in slot 0."""
    tracks = TrackTable(Policy(places))
    tracks.clear(np.arange(1))
    tracks.write(0, track)
    return tracks


def written(entity_id: str, track: Track, state: bytes, *, of: bytes | None = None, places: int = 12) -> bytes:
    """A sound record of this track and state, as wide as the record `of`, or with so many places."""
    if of is not None:
        places = int(np.frombuffer(of, stored_entity.HEAD, count=1)["places"][0])
    return stored_entity.dumps([entity_id], table_with(track, places), np.array([0]), [state])[0]
