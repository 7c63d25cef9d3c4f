"""The kinds of members of a consumer group, each with what it is fed and what it must leave, whatever happens to it.
Tests import this; it tests nothing itself. `forked_process` runs one as a process, which a test may kill or stop.

The units are made for these tests: each has a running checksum of all that it has read, so that a record that is lost,
comes twice or comes in another order changes everything after it. `pathcast beside scores` has a life of its own, so
that its member runs with its own records.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar
from zlib import crc32

import aiokafka
import scores_rig
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from stream.config import failpoints
from stream.config.settings import Settings
from stream.kafka import admin
from stream.kafka.log import History, Log, Seen, start_of
from stream.kafka.records.record_columns import Records
from stream.members import storing_member
from stream.members.group_member import GroupMember
from stream.members.inputs import Inputs
from stream.members.pages import MemberPages
from stream.members.running import Running, live
from stream.members.storing_member import StoredHolding, StoringMember
from stream.services import member as services_member
from stream.services.member import Member
from stream.services.plan import Plan, Taken, answer
from stream.services.scores import member as scores_member
from stream.services.scores.owned import Owned as OwnedScores
from stream.services.scores.settings import ScoreSettings
from stream.store.base import Fenced
from stream.store.redis_store import RedisStore
from stream.wire import Outgoing, Record, Topics, dumps_scored

log = logging.getLogger("stream.member_kinds")

PARTITIONS = 3
SLICE = 5  # records of each partition, and no multiple of three: see `Links`
EARLY_SEEDS = (0, 4, 16)  # one per partition, of fleets of which scores are due within 45 records
HEARTBEAT_MS = 200  # how soon a member notices that another one joins; of the real ones 3 s
PAUSE_S = 0.5  # of who was fenced; of the real ones as long as a session
STANDS_STILL = "stands still"


def text(n: int) -> bytes:
    """Returns the value of a partition's n-th record of one input."""
    return b"record %d" % n


class Kind(ABC):
    """One kind of member: its topics on these servers, and what was sent to them."""

    points: ClassVar[tuple[str, ...]]  # where it can be killed
    store_can_be_lost: ClassVar[bool] = False

    def __init__(self, kafka: str, redis_url: str, prefix: str) -> None:
        self.kafka, self.redis_url, self.prefix, self.group = kafka, redis_url, prefix, f"{prefix}-life"
        self.topics = Topics.of(prefix)
        self.sent = 0  # records of each partition of each input
        # Of each partition of each input the offsets and values that were sent, also of those that its log lost since.
        self.logs: dict[tuple[str, int], list[tuple[int, bytes]]] = defaultdict(list)
        self._lost: dict[tuple[str, int], int] = defaultdict(int)  # how much lower offsets are than records are many
        self._producer: KafkaProducer | None = None
        self._reader: KafkaConsumer | None = None
        self._published: list[Any] = []  # what the reader has read

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.topics.forecasts,)

    def create(self) -> None:
        """Creates what it reads and what it writes."""
        with admin.connect(self.kafka) as client:
            for topic in (*self.inputs, self.topics.scores):
                admin.create_other(client, self.topics, topic, partitions=PARTITIONS)

    def send(self, records: int = SLICE) -> None:
        """Sends the next records of each partition of each input."""
        self._producer = self._producer or KafkaProducer(bootstrap_servers=self.kafka)
        for n in range(self.sent, self.sent + records):
            for topic in self.inputs:
                for number in range(PARTITIONS):
                    value, log = self.value(number, n), (topic, number)
                    self._producer.send(topic, partition=number, value=value)
                    self.logs[log].append((n - self._lost[log], value))
        self._producer.flush()
        self.sent += records

    def close(self) -> None:
        for client in (self._producer, self._reader):
            if client is not None:
                client.close()

    @property
    def made_anew(self) -> str:
        """The input that a test may delete and make anew."""
        return self.inputs[-1]

    def cut(self, topic: str, number: int, end: int) -> None:
        """Notes that a log of which all was sent and read ends there now."""
        self._lost[topic, number] = self.sent - end
        if self._producer is not None:  # it may know the log that was
            self._producer.close()
            self._producer = None

    def published(self) -> list[Any]:
        """Returns what a subscriber has seen so far that reads what is committed; of each partition in its order."""
        tps = [TopicPartition(self.topics.scores, number) for number in range(PARTITIONS)]
        if self._reader is None:
            self._reader = KafkaConsumer(
                bootstrap_servers=self.kafka, isolation_level="read_committed", enable_auto_commit=False
            )
            self._reader.assign(tps)
            self._reader.seek_to_beginning()
        ends = self._reader.end_offsets(tps)
        while any(self._reader.position(tp) < end for tp, end in ends.items()):
            for records in self._reader.poll(500).values():
                self._published += records
        return self._published

    def value(self, number: int, n: int) -> bytes:
        return text(n)

    @abstractmethod
    def member(self, *, once: bool = False) -> GroupMember[Any]:
        """Returns a member that has not begun."""

    @abstractmethod
    def expected(self) -> Mapping[Any, Sequence[Any]]:
        """Returns what a member leaves, of what was sent, to which nothing ever happens."""

    @abstractmethod
    def left(self) -> Mapping[Any, Sequence[Any]]:
        """Returns what members have left so far."""

    def differences(self) -> list[str]:
        """Returns what is there, and should not be, or is not there."""
        expected, left = self.expected(), self.left()
        return [
            f"{key}: {len(left.get(key, ()))} of {len(all_of_it)}, the first that is wrong: {wrong}"
            for key, all_of_it in expected.items()
            if (wrong := _first_difference(all_of_it, left.get(key, ()))) is not None
        ] + [f"{key} is not expected" for key in left.keys() - expected.keys()]


def _first_difference(expected: Sequence[Any], found: Sequence[Any]) -> str | None:
    for n in range(max(len(expected), len(found))):
        wanted, got = (all_of_it[n] if n < len(all_of_it) else None for all_of_it in (expected, found))
        if wanted != got:
            return f"number {n} is {got!r} and not {wanted!r}"
    return None


# -- one that makes records of records, in transactions


@dataclass
class Links:
    """One input's records, three of which make a link of a chain. Those of a link that is not whole are nowhere but in
    memory, so that whoever takes over has to fold them again."""

    links: int = 0
    checksum: int = 0
    begun: list[tuple[int, bytes]] = field(default_factory=list)  # offsets and values

    def add(self, offset: int, value: bytes) -> list[str]:
        """Takes the next record, and returns the link that it ends, if it ends one."""
        self.begun.append((offset, value))
        if len(self.begun) < 3:
            return []
        self.checksum = crc32(repr(self.begun).encode(), self.checksum)
        self.links += 1
        self.begun = []
        return [f"{self.links}:{self.checksum}"]


class LinkUnit:
    """The `Unit` of one partition number."""

    def __init__(self, kind: Transactional, taken: Taken) -> None:
        self._kind, self._number = kind, taken.number
        before = json.loads(taken.metadata or "{}")
        self._links = {topic: Links(*before.get(topic, ())) for topic in kind.inputs}
        self._made: list[Outgoing] = []

    @property
    def waiting(self) -> int:
        return len(self._made)

    @property
    def counts(self) -> Mapping[str, int]:
        return {}

    @property
    def needed(self) -> Mapping[str, int]:
        return {topic: one.begun[0][0] for topic, one in self._links.items() if one.begun}

    def fold(self, records: Records) -> None:
        for one in records:
            for link in self._links[one.topic].add(one.offset, one.value or b""):
                self._made.append(answer(self._kind.topics.scores, self._number, one.topic, link.encode()))

    def take_outgoing(self, quiet_ms: int | None) -> list[Outgoing]:
        made, self._made = self._made, []
        return made

    def metadata(self) -> str:
        return json.dumps({topic: (one.links, one.checksum) for topic, one in self._links.items()})


class Transactional(Kind):
    """`stream.services.member.Member`: it publishes and commits in one transaction."""

    points = ("before_publish", "after_publish", "before_end", "after_commit")

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.topics.forecasts, self.topics.gapfills

    def member(self, *, once: bool = False) -> Member:
        async def begin(taken: Taken) -> LinkUnit:
            return LinkUnit(self, taken)

        return Member(Plan("links", self.inputs, self.group, self.kafka, every_s=0.0, once=once), begin)

    def expected(self) -> dict[tuple[int, str], list[str]]:
        found = {}
        for (topic, number), log in self.logs.items():
            links = Links()
            found[number, topic] = [link for offset, value in log for link in links.add(offset, value)]
        return found

    def left(self) -> dict[tuple[int, str], list[str]]:
        found = defaultdict(list)
        for one in self.published():
            found[one.partition, one.key.decode()].append(one.value.decode())
        return found


# -- one whose own store says where it goes on


@dataclass
class OwnedSum:
    """A partition that is ours: how many records it had, and their checksum."""

    epoch: int
    next_offset: int | None
    records: int = 0
    checksum: int = 0
    seen: Seen = field(default_factory=Seen)
    written: int | None = None  # the offset of the last write


class SumMember(StoringMember[OwnedSum]):
    FENCED = (Fenced,)

    def __init__(self, kind: Storing, inputs: Inputs) -> None:
        super().__init__(inputs, inputs.consumer())
        (self._topic,) = inputs.topics
        self._store = kind.store()
        self.published = 0

    async def _begin(self, number: int) -> StoredHolding[OwnedSum]:
        tp = aiokafka.TopicPartition(self._topic, number)
        claim = await self._store.claim(tp)
        raw, seen = await self._store.get_many(tp, ["sum", "seen"])
        before = json.loads(raw) if raw else (0, 0)
        start = await self._start(tp, claim.next_offset, Seen.of((seen or b"").decode()))
        written = None if start.is_cut else claim.next_offset
        return StoredHolding({self._topic: start}, OwnedSum(claim.epoch, start.offset, *before, written=written))

    async def _fold(self, number: int, held: StoredHolding[OwnedSum], records: Records) -> None:
        for one in records:
            held.owned.records += 1
            held.owned.checksum = crc32(one.value or b"", held.owned.checksum)
        held.owned.next_offset = records.next_offset

    async def _after(self) -> None:
        await self._write_until_done()

    async def _write(self, number: int, owned: OwnedSum) -> bool:
        if owned.next_offset == owned.written:
            return False
        failpoints.reach("before_write")
        item = json.dumps((owned.records, owned.checksum)).encode()
        items = {"sum": item, "seen": owned.seen.text.encode()}
        await self._store.put_many((self._topic, number), owned.epoch, owned.next_offset, items)
        failpoints.reach("after_write")
        owned.written = owned.next_offset
        return True

    async def _commit(self, number: int, offset: int | None) -> None:
        await super()._commit(number, offset)
        failpoints.reach("after_commit")

    def _describe(self) -> str:
        return "summed"


class Storing(Kind):
    """A `StoringMember`: it writes the records' sum and the offset that follows to Redis, in one step."""

    points = ("before_write", "after_write", "after_commit")
    store_can_be_lost = True

    def store(self) -> RedisStore:
        return RedisStore(Settings(redis_url=self.redis_url, group=self.group))

    def member(self, *, once: bool = False) -> SumMember:
        return SumMember(self, Inputs(self.inputs, self.kafka, once=once, group=self.group))

    def expected(self) -> dict[int, list[int]]:
        return {
            number: [len(log), crc32(b"".join(value for _, value in log))] for (_, number), log in self.logs.items()
        }

    def left(self) -> dict[int, list[int]]:
        async def ask() -> dict[int, list[int]]:
            store = self.store()
            try:
                found = {n: (await store.get_many((self.inputs[0], n), ["sum"]))[0] for n in range(PARTITIONS)}
            finally:
                await store.close()
            return {number: json.loads(raw) for number, raw in found.items() if raw}

        return asyncio.run(ask())


# -- one that publishes, and then commits


class Scores(Kind):
    """`pathcast beside scores`: it publishes and then commits, so that a score may come twice, with the same bytes."""

    def __init__(self, kafka: str, redis_url: str, prefix: str) -> None:
        super().__init__(kafka, redis_url, prefix)
        self.settings = ScoreSettings(bootstrap=kafka, prefix=prefix, group=self.group)
        self._owned = [OwnedScores((self.topics.forecasts, n), self.settings, None, None) for n in range(PARTITIONS)]
        self._folded = 0  # records of each partition
        self._decided: dict[int, list[bytes]] = {number: [] for number in range(PARTITIONS)}

    @cached_property
    def _logs(self) -> list[list[bytes]]:
        # Of few entities, because a score is due only when the log is later than its forecast by the longest delay. Of
        # so few, copies of workers would come after what they are copies of is forgotten, and get a score of their own.
        return [scores_rig.records(seed, 2, 4_800, copies=False) for seed in EARLY_SEEDS]

    def value(self, number: int, n: int) -> bytes:
        return self._logs[number][n]

    def member(self, *, once: bool = False) -> scores_member.Runner:
        return scores_member.Runner(self.settings, self.settings.reads.consumer())

    def expected(self) -> dict[int, list[bytes]]:
        news = range(self._folded, self.sent)
        for number, owned in enumerate(self._owned if news else ()):
            sent = self.logs[self.topics.forecasts, number][news.start :]
            log = [Record(self.topics.forecasts, number, offset, 0, None, value) for offset, value in sent]
            self._decided[number] += [dumps_scored(one.record) for one in owned.fold(Records.of(log))]
        self._folded = self.sent
        return self._decided

    def cut(self, topic: str, number: int, end: int) -> None:
        """What waits in the rest of the log is made again of that, as `test_owned.py` has it."""
        self.expected()
        seen = Seen(self.sent, History(leader_epoch=0))
        committed = self.sent, self._owned[number].metadata(self.sent, seen)
        start = start_of(self.sent, seen, Log(0, end, kept=end))
        again = self._owned[number] = OwnedScores.take_over((topic, number), self.settings, committed, start)
        rest = [Record(topic, number, n, 0, None, self.value(number, n)) for n in range(again.begin or 0, end)]
        if rest:
            assert again.fold(Records.of(rest)) == []
        super().cut(topic, number, end)

    def left(self) -> dict[int, list[bytes]]:
        found = defaultdict(list)
        for one in self.published():
            found[one.partition].append(one.value)
        # A copy with other numbers stays, and is not expected; but after a cut a forecast may get another score.
        return {number: list(dict.fromkeys(scores)) for number, scores in found.items()}


KINDS: dict[str, type[Kind]] = {"transactional": Transactional, "storing": Storing, "scores": Scores}


# -- as a process


def stand_still_before(member: GroupMember[Any], work: str) -> None:
    """Lets a member stop its own process before it does this, once it has read something, or without that before a
    takeover. Whoever continues the process finds a member that does not know what happened meanwhile."""
    do, stood = getattr(member, work), False

    async def stop_before(*given: Any) -> Any:
        nonlocal stood
        if not stood and (member.read or work == "_take_over_one"):
            stood = True
            log.info("%s before %s", STANDS_STILL, work)
            os.kill(os.getpid(), signal.SIGSTOP)
        return await do(*given)

    setattr(member, work, stop_before)


async def run(name: str, servers: Sequence[str], stands_still_before: str = "") -> None:
    """Lives as a member of the kind of this name does, until a signal comes."""
    scores_member.COMMIT_S = 0.2  # type: ignore[misc]
    services_member.SESSION_S = storing_member.SESSION_S = PAUSE_S  # type: ignore[misc]
    member = KINDS[name](*servers).member()
    member._consumer._heartbeat_interval_ms = HEARTBEAT_MS
    if stands_still_before:
        stand_still_before(member, stands_still_before)
    await live({name: Running(member, MemberPages("links", member))}, None)
