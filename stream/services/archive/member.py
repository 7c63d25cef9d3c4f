"""One member of the group that archives a topic's pings.

Members share the partitions, and each lands its own. Where a partition goes on is what its manifest says. After a
landing there may be files to merge or to delete, which is done between two polls, a step at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import ClassVar, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.adapters.archived.catalog import Catalog, of_topic
from stream.kafka.reading import SESSION_S
from stream.kafka.records.record_columns import Records
from stream.members.group_member import RETRY_S
from stream.members.running import Running, Service, running_member
from stream.members.storing_member import StoredHolding, StoringMember
from stream.services.archive.changes import Outrun
from stream.services.archive.landing import Fenced, Owned, read_seen
from stream.services.archive.pages import ROWS
from stream.services.archive.settings import ArchiveSettings

log: Final = logging.getLogger(__name__)

TRIES: Final = 10  # to take a partition over


class Runner(StoringMember[Owned]):
    """One member of the group."""

    MOST_POLLED = 10_000
    FOLDS = "taken"
    FENCED: ClassVar[tuple[type[Exception], ...]] = (Fenced,)

    def __init__(self, settings: ArchiveSettings, catalog: Catalog, consumer: AIOKafkaConsumer) -> None:
        super().__init__(settings.reads, consumer)
        self.landed = 0  # pings
        self._settings = settings
        self._catalog = catalog
        self._topic = settings.topics.pings
        self._written_s = time.monotonic()

    async def _work(self) -> None:
        await super()._work()
        if not self._settings.once:
            return
        await self._write_until_done()
        while not self._stopping.is_set() and await self._tidy():
            pass
        log.info("archived up to the end: %d pings have landed", self.landed)

    async def _begin(self, number: int) -> StoredHolding[Owned]:
        tp = TopicPartition(self._topic, number)
        for _ in range(TRIES):
            base = await asyncio.to_thread(self._catalog.manifest, number)
            start = await self._start(tp, base.next_offset, read_seen(base))
            async with self._lock:  # so that a takeover that has begun ends before the group gives the partition away
                self._check_assigned(number)
                take = partial(Owned.take_over, self._catalog, base, start, self._settings.rules)
                with suppress(Outrun):  # another member, or `forget --archive`, has changed the partition meanwhile
                    return StoredHolding({self._topic: start}, await asyncio.to_thread(take))
        raise Fenced(f"{self._topic}/{number} changes hands too often")

    async def _fold(self, number: int, held: StoredHolding[Owned], records: Records) -> None:
        await asyncio.to_thread(held.owned.add, records)

    async def _after(self) -> None:
        if self._is_due():
            await self._write_until_done()
        if not self._settings.once:
            await self._tidy()

    def _is_due(self) -> bool:
        parts = [held.owned for held in self._holdings.values()]
        late = time.monotonic() - self._written_s >= self._settings.every_s
        return late or sum(one.rows for one in parts) >= self._settings.rows or any(one.is_due for one in parts)

    async def _write(self, number: int, owned: Owned) -> bool:
        pings = await asyncio.to_thread(owned.land, _now_ms())
        if pings is None:
            return False
        self.landed += pings
        return True

    async def _write_some(self, numbers: Collection[int]) -> None:
        before = self.landed
        await super()._write_some(numbers)
        if landed := self.landed - before:
            log.info("%s: %d pings landed, of %d partitions", self._topic, landed, len(numbers))

    async def _tidy(self) -> bool:
        """Does one step for one partition, so that records do not wait for long. Returns whether there was any."""
        async with self._lock:
            for number, held in list(self._holdings.items()):
                try:
                    if await asyncio.to_thread(held.owned.tidy, _now_ms()):
                        return True
                except Fenced as error:
                    await self._lose(number, error, SESSION_S)
                except self.AWAY as error:
                    await self._lose(number, error, RETRY_S)
        return False

    # -- where it stands

    def standings(self) -> Mapping[int, Owned]:
        """Returns our partitions."""
        return {number: held.owned for number, held in sorted(self._holdings.items())}

    def _describe(self) -> str:
        waiting = sum(held.owned.rows for held in self._holdings.values())
        return f"{waiting} pings wait, {self.landed} landed"


def service(settings: ArchiveSettings) -> Service:
    """Returns one member.

    It raises ConnectionError if Kafka does not answer, ValueError if there is no such topic or the archive's URL is of
    a kind that cannot be written to, Refused, ArchiveDamaged, OSError.
    """

    @asynccontextmanager
    async def open_service() -> AsyncIterator[Running]:
        await asyncio.to_thread(settings.reads.partitions)
        catalog = await asyncio.to_thread(of_topic, settings.archive, settings.topics.pings)
        async with running_member("archive", Runner(settings, catalog, settings.reads.consumer()), ROWS) as running:
            yield running

    return Service("archive", open_service)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
