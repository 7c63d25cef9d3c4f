"""Makes a version of the atlas from what Redis holds of all partitions, and announces it."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from model.atlas.atlas import version_of
from model.atlas.days import Day
from model.atlas.version import dumps
from stream.atlas.building import Rules, published_of
from stream.atlas.counting.settings import RunSettings
from stream.atlas.kept_days import Days
from stream.kafka.log import bounds_by
from stream.kafka.record_columns import Partition
from stream.store.sums_store import Held, SumsLost, SumsStore
from stream.versions.announcing import Announcer, NotAnnounced
from stream.versions.files import delete_stale, path_of, write_whole

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """A version whose file is written."""

    version: str
    contains: Mapping[str, Any]
    keys: int
    bytes: int


class StoredDays(Days):
    """Days of all partitions, as Redis had them at one moment of each, in a temporary file.

    To read one raises SumsLost if it is damaged.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[int, list[tuple[Partition, Held, int, int]]] = {}
        self.includes: dict[int, int] = {}  # by partition, the offset that follows the last record

    async def read(self, store: SumsStore, partition: Partition) -> None:
        """Takes what Redis holds of a partition. Raises as `SumsStore.snapshot`."""
        held, parts = await store.snapshot(partition)
        if held.next_offset is None:
            return
        self.includes[partition[1]] = held.next_offset
        for day, some in parts.items():
            for raw in some:
                self._places.setdefault(day, []).append((partition, held, self._file.seek(0, os.SEEK_END), len(raw)))
                self._file.write(raw)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._places))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> Day:
        return Day.total(self._parts(number, sums=True))

    def whose(self, number: int) -> Day:
        return Day.total(self._parts(number, sums=False))

    def _parts(self, number: int, *, sums: bool) -> Iterator[Day]:
        for partition, held, at, size in self._places[number]:
            self._file.seek(at)
            try:
                yield Day.loads(self._file.read(size), sums=sums)
            except ValueError as error:
                raise SumsLost(partition, held, f"Redis has damaged some ({error})") from error


@asynccontextmanager
async def stored_days(store: SumsStore, topic: str, partitions: int) -> AsyncIterator[StoredDays]:
    """Yields what Redis holds of all partitions of a topic. Raises as `SumsStore.snapshot`."""
    with tempfile.TemporaryFile() as file:
        days = StoredDays(file)
        for number in range(partitions):
            await days.read(store, (topic, number))
        yield days


def make(days: Days, rules: Rules, folder: Path) -> Made:
    """Makes a version of days, and writes its file, if it is not there. Raises OSError, and as `days`."""
    found, contains = published_of(days, rules)
    raw = dumps(found, contains)
    version = version_of(raw)
    path = path_of(folder, version)
    if not path.exists():
        write_whole(path, raw)
    return Made(version, contains, len(found), len(raw))


class Maker:
    """Makes versions, and brings them into service."""

    def __init__(self, settings: RunSettings, store: SumsStore, consumer: AIOKafkaConsumer) -> None:
        """Takes a consumer, which is asked where logs begin."""
        self._settings = settings
        self._store = store
        self._consumer = consumer
        self._last = ""

    async def version(self, partitions: int) -> None:
        """Makes a version of what Redis holds of so many partitions. Nothing happens if it is the last one again.

        Raises as `SumsStore.snapshot`, `Announcer.opened` and `Announcer.announce`.
        """
        settings = self._settings
        async with stored_days(self._store, settings.topics.pings, partitions) as days:
            made = await asyncio.to_thread(make, days, settings.rules, settings.atlases)
        if made.version == self._last:
            return
        try:
            first = await self._announced(made, days.includes)
        except NotAnnounced:
            path_of(settings.atlases, made.version).unlink(missing_ok=True)
            raise
        self._last = made.version
        pings, entities = made.contains["pings"], made.contains["entities"]
        what = f"{pings:,} pings of {entities:,} entities, {made.keys:,} keys, {made.bytes / 1e6:,.1f} MB"
        log.info("version %s: %s; it answers from %s on", made.version, what, first)

    async def settle(self) -> None:
        """Ends what an announcer left announced, so that no worker waits for it. Raises as `Announcer.opened`."""
        settings = self._settings
        async with Announcer.opened(settings.bootstrap, settings.topics, settings.kafka):
            pass

    async def _announced(self, made: Made, includes: Mapping[int, int]) -> dict[int, int]:
        """Announces a version, and deletes those that no ping in the log may ask for any more, and stale ones that were
        never announced. Returns from where on it answers.
        """
        settings, topic = self._settings, self._settings.topics.pings
        async with Announcer.opened(settings.bootstrap, settings.topics, settings.kafka) as announcer:
            record = await announcer.announce(made.version, includes=includes, contains=made.contains)
            tps = [TopicPartition(topic, number) for number in record.first]
            begins = {number: found.begin for (_, number), found in (await bounds_by(self._consumer, tps)).items()}
            old = announcer.ledger.superseded(begins)
            await announcer.retire(old)
            known = [one.version for one in (*announcer.ledger.serving, *announcer.ledger.announced)]
        await asyncio.to_thread(delete_stale, settings.atlases, known)
        for version in old:
            path_of(settings.atlases, version).unlink(missing_ok=True)
        return record.first


def in_words(error: BaseException) -> str:
    """Returns an error as a part of a line."""
    return str(error) or type(error).__name__
