"""One member of the group that counts a topic's pings.

Members share the partitions. Each counts its own and writes what it counted to Redis, with the offset up to which it
did. Who has partition 0 makes the versions, of what Redis holds of all partitions.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from redis.exceptions import RedisError

from stream.adapters.live.on_topic import reader_of
from stream.atlas.counting.history import HISTORY, HistoryReader, forget_in_history
from stream.atlas.counting.making import Announced, Maker
from stream.atlas.counting.owned import Owned
from stream.atlas.counting.pages import ROWS
from stream.atlas.counting.settings import RunSettings
from stream.config.security import in_words, shown
from stream.kafka.records.record_columns import Records
from stream.members import group_member
from stream.members.group_member import RETRY_S
from stream.members.running import Running, Service, running_member
from stream.members.storing_member import StoredHolding, StoringMember
from stream.store.base import Fenced
from stream.store.days_store import DaysLost, DaysStore
from stream.versions.announcing import NotAnnounced


async def reach(store: DaysStore, settings: RunSettings) -> None:
    """Raises ConnectionError if Redis does not answer, Refused if it refuses."""
    try:
        await store.read_held((settings.topics.pings, 0))
    except (RedisError, OSError) as error:
        where = shown(settings.redis_url)
        raise ConnectionError(f"no Redis answers at {where} ({error}): is it up, is --redis right?") from error


log: Final = logging.getLogger(__name__)

WRITE_S: Final = 30.0  # between two writes to Redis; after a crash, what came since is counted again
WRITING_SHARE: Final = 0.05  # of the time: where a write takes long, because a partition has many entities, it is rarer
MOST_PASSAGES: Final = 500_000  # that are not written yet, some 70 MB
AGAIN_S: Final = 30.0  # from a version that failed to the next try
SETTLE_S: Final = 5.0  # from an announcement that failed to the try to end it, for which workers wait
EARLY_S: Final = (120.0, 300.0, 900.0, 1_800.0)  # from the first pings to the versions before the hourly ones
MOST_EVERY_S: Final = 86_400.0  # who wants versions more rarely than this wants no early ones, too
LOOK_S: Final = 5.0  # between two looks at what other members have counted
NEVER_S: Final = -math.inf
AWAY: Final = (RedisError, *group_member.AWAY)


class Runner(StoringMember[Owned]):
    """One member of the group."""

    MOST_POLLED = 50_000
    FOLDS = "counted"
    FENCED: ClassVar[tuple[type[Exception], ...]] = (Fenced,)  # also if Redis has lost its data
    AWAY: ClassVar[tuple[type[Exception], ...]] = AWAY

    def __init__(self, settings: RunSettings, store: DaysStore, consumer: AIOKafkaConsumer) -> None:
        super().__init__(settings.reads, consumer)
        self._maker = Maker(settings, store, consumer)
        self._settings = settings
        self._store = store
        self._topic = settings.topics.pings
        self._anew: set[int] = set()  # numbers to be forgotten when they are taken over
        self._written_s = time.monotonic()
        self._began_s: float | None = None  # when the fleet's pings began to come; None: not known yet
        self._due_s = next_due(time.time(), settings.every_s)
        self._settle_s = 0.0  # when to end what an announcer left
        self._caught_up_to: Mapping[TopicPartition, int] | None = None  # the topic's end, if that is the history
        self._looked_s = NEVER_S  # when we looked last at what others have counted, by the monotonic clock
        self._history = None if settings.history is None else HistoryReader(settings.history, store, settings)

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            if self._history is not None:
                self._history.close()

    async def _work(self) -> None:
        await super()._work()
        if self._settings.once and not self._stopping.is_set():
            await self._version_of_all(self._until or {})

    async def _version_of_all(self, ends: Mapping[TopicPartition, int]) -> None:
        """Makes the version of `once`, when all members have counted up to these ends."""
        await self._write_all()
        if not self._makes_versions:
            log.info("counted up to the end; the member with partition 0 makes the version")
            return
        while self._history is not None and not self._history.is_topic and not self._stopping.is_set():
            if await self._look_at_history() is not None:
                self._history = None
            else:
                await self._step()
        while not self._stopping.is_set():
            held = {tp: await self._store.read_held((tp.topic, tp.partition)) for tp in ends}
            if all((held[tp].next_offset or 0) >= end for tp, end in ends.items()):
                if await self._version():
                    return
                raise RuntimeError("the version could not be made: see above")
            await self._step()

    async def _begin(self, number: int) -> StoredHolding[Owned]:
        tp = TopicPartition(self._topic, number)
        how: dict[str, Any] = {"without": self._settings.without, "anew": number in self._anew}
        how["foreign"] = reader_of(self._settings.map)
        if number == 0 and how["anew"] and (await self._store.read_held((self._topic, HISTORY))).parts:
            await self._store.discard((self._topic, HISTORY))
        owned, start = await Owned.take_over(self._store, (self._topic, number), partial(self._start, tp), **how)
        self._anew.discard(number)
        if number == 0:
            self._settle_s = 0.0
        return StoredHolding({self._topic: start}, owned)

    async def _fold(self, number: int, held: StoredHolding[Owned], records: Records) -> None:
        await held.owned.add(records)

    async def _after(self) -> None:
        passages = sum(held.owned.fresh_passages for held in self._holdings.values())
        pause_s = max(WRITE_S, self._took_s / WRITING_SHARE)
        if passages >= MOST_PASSAGES or time.monotonic() - self._written_s >= pause_s:
            await self._write_until_done()
        if self._settings.once:
            return
        if not self._makes_versions:
            return
        if time.time() >= self._settle_s:
            await self._settle()
        await self._look_for_pings()
        if self._history is not None and (is_new := await self._look_at_history()) is not None:
            self._history, self._due_s = None, time.time() if is_new else self._due_s
        if time.time() >= self._due_s:
            is_early = self._due_s % self._settings.every_s != 0
            self._due_s = next_due(time.time(), self._settings.every_s, self._began_s)
            await self._version(is_early=is_early)

    async def _look_for_pings(self) -> None:
        """Finds out when the fleet's pings began to come: now, if there is one; or, if versions are recent that an
        owner before us announced, so long before the first of them as the first comes after the pings."""
        if self._began_s is not None or self._settle_s != math.inf:
            return
        now_s = time.time()
        try:
            if self._is_recent():
                self._began_s = self._maker.issued_s[0] - EARLY_S[0]
            elif await self._has_pings():
                self._began_s = now_s
        except AWAY as error:
            log.warning("it is not known yet whether there are pings: %s", in_words(error))
        if self._began_s is not None:
            self._due_s = min(self._due_s, next_due(now_s, self._settings.every_s, self._began_s))

    def _is_recent(self) -> bool:
        """Returns whether an owner before us made a version in the time in which one is due."""
        issued_s = self._maker.issued_s
        return bool(issued_s) and time.time() - issued_s[-1] < self._settings.every_s

    async def _has_pings(self) -> bool:
        """Returns whether any partition has a ping that is counted."""
        if any(held.owned.has_pings for held in self._holdings.values()):
            return True
        numbers = self._numbers() - self._holdings.keys() if self._may_look() else set[int]()
        return any([(await self._store.read_held((self._topic, number))).parts for number in numbers])

    def _numbers(self) -> set[int]:
        return set(self._consumer.partitions_for_topic(self._topic) or ())

    def _may_look(self) -> bool:
        """Returns whether it is time to look again at what other members have counted."""
        if time.monotonic() - self._looked_s < LOOK_S:
            return False
        self._looked_s = time.monotonic()
        return True

    async def _look_at_history(self) -> bool | None:
        """Returns None while the history is brought in, and then whether a version is due for that."""
        assert self._history is not None
        try:
            if not self._history.is_topic:
                return await self._history.read(self._numbers())
            if self._began_s is None or not await self._has_caught_up():
                return None
            return not self._is_recent()
        except (Fenced, *AWAY) as error:
            log.warning("the history is not brought in yet: %s", in_words(error))
            return None

    async def _has_caught_up(self) -> bool:
        """Returns whether all members have counted up to the end that the topic had when this was first asked."""
        if self._caught_up_to is None:
            self._caught_up_to = await self._ends()
        await self._move()
        counted = {number: held.folded[self._topic] for number, held in self._holdings.items()}
        others = {tp.partition: end for tp, end in self._caught_up_to.items() if tp.partition not in counted}
        if any(counted.get(tp.partition, end) < end for tp, end in self._caught_up_to.items()):
            return False
        if others and not self._may_look():
            return False
        stored = {number: await self._store.read_held((self._topic, number)) for number in others}
        return all((stored[number].next_offset or 0) >= end for number, end in others.items())

    async def _write(self, number: int, owned: Owned) -> bool:
        try:
            if number == 0 and len(owned.forgotten):  # each partition has the record that asks for it
                if self._history is not None:
                    self._history.forget(owned.forgotten)
                await forget_in_history(self._store, self._topic, owned.forgotten)
            return await owned.write(self._settings.retention_days)
        except DaysLost as error:
            await self._discard(error)
            return False

    async def _discard(self, error: DaysLost) -> None:
        """Lets a partition be counted anew, by us or by the member that owns it."""
        await self._lose(error.partition[1], error, RETRY_S)
        try:
            await self._store.discard(error.partition)
        except (Fenced, *AWAY) as failed:
            log.warning("%s/%d is not discarded yet: %s", *error.partition, in_words(failed))

    # -- the group

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        if self._settings.anew and not self.joined:
            self._anew = {tp.partition for tp in assigned}
        await super().on_partitions_assigned(assigned)

    # -- versions

    @property
    def _makes_versions(self) -> bool:
        return 0 in self._holdings

    async def _version(self, *, is_early: bool = False) -> bool:
        """Makes a version, and announces it, as `Maker.version`. Returns whether that was possible."""
        await self._write_all()
        try:
            await self._maker.version(len(self._numbers()), is_early=is_early)
        except DaysLost as error:  # the last version serves on while it is counted anew
            await self._discard(error)
            return False
        except (*AWAY, NotAnnounced, RuntimeError) as error:
            log.warning("no version was made: %s; again in %g s", in_words(error), AGAIN_S)
            self.failures += 1
            self._settle_s = time.time() + SETTLE_S
            self._due_s = min(self._due_s, time.time() + AGAIN_S)
            return False
        return True

    async def _settle(self) -> None:
        try:
            await self._maker.settle()
            self._settle_s = math.inf
        except (*AWAY, RuntimeError) as error:
            log.warning("what was announced is not ended yet: %s; again in %g s", in_words(error), SETTLE_S)
            self._settle_s = time.time() + SETTLE_S

    # -- where it stands

    @property
    def announced(self) -> Announced | None:
        """The newest version that we have brought into service."""
        return self._maker.last

    def waiting(self) -> dict[int, int]:
        """Returns how many passages of each of our partitions are not written yet."""
        return {number: held.owned.fresh_passages for number, held in sorted(self._holdings.items())}

    def _describe(self) -> str:
        return f"{sum(self.waiting().values())} passages wait"


def service(settings: RunSettings) -> Service:
    """Returns one member.

    It raises ConnectionError if Kafka or Redis does not answer, ValueError if there is no such topic, Refused.
    """

    @asynccontextmanager
    async def open_service() -> AsyncIterator[Running]:
        await asyncio.to_thread(settings.reads.partitions)
        store = DaysStore(settings.redis_url, settings.group, settings.retention_days * 86_400, settings.redis)
        try:
            await reach(store, settings)
            async with running_member("atlas", Runner(settings, store, settings.reads.consumer()), ROWS) as running:
                yield running
        finally:
            await store.close()

    return Service("atlas", open_service)


def next_due(now_s: float, every_s: float, began_s: float | None = None) -> float:
    """Returns when the next version is due: at a multiple of `every_s`, or before that EARLY_S after the fleet's pings
    began to come."""
    early_s = [] if began_s is None or every_s > MOST_EVERY_S else [began_s + one for one in EARLY_S]
    return min([(now_s // every_s + 1) * every_s, *(one for one in early_s if one > now_s)])
