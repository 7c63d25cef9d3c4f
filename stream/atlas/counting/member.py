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
        self._due_s = _next_due(time.time(), settings.every_s)
        self._settle_s = 0.0  # when to end what an announcer left

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
        if time.time() >= self._settle_s and self._makes_versions:
            await self._settle()
        if time.time() >= self._due_s and self._makes_versions:
            self._due_s = _next_due(time.time(), self._settings.every_s)
            await self._version()

    async def _write(self, number: int, owned: Owned) -> bool:
        try:
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

    async def _version(self) -> bool:
        """Makes a version, and announces it. Returns whether that was possible."""
        await self._write_all()
        try:
            await self._maker.version(len(self._consumer.partitions_for_topic(self._topic) or ()))
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


def _next_due(now_s: float, every_s: float) -> float:
    """Returns the next time that is a multiple of `every_s`."""
    return (now_s // every_s + 1) * every_s
