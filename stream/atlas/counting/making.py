"""Makes a version of the atlas from what Redis holds of all partitions, and announces it."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from model.api import Predictor
from model.atlas.atlas import version_of
from model.atlas.days import Day
from model.atlas.version import pieces
from model.files import write_whole
from stream.atlas.building import Rules, choose_publishable
from stream.atlas.counting.history import HISTORY, has_history
from stream.atlas.counting.settings import RunSettings
from stream.atlas.growing import NoGrowth, PartitionGrowth
from stream.atlas.growing_days import GrowingDays
from stream.config import failpoints
from stream.kafka.reading import bounds_by
from stream.kafka.records.record_columns import Partition
from stream.store.days_store import DaysLost, DaysStore
from stream.versions.announcing import Announcer, NotAnnounced
from stream.versions.files import delete_stale, path_of
from stream.wire import VersionRecord

log: Final = logging.getLogger(__name__)

_Place = tuple[int, int]  # of bytes in a file: where they begin, and how many they are


@dataclass(frozen=True)
class Made:
    """A version whose file is written."""

    version: str
    contains: Mapping[str, Any]
    passages: int
    bytes: int


class Announced(NamedTuple):
    """A version that was brought into service."""

    made: Made
    at_s: float  # UTC
    versions: int  # announced by this process, with this one


class StoredDays(GrowingDays):
    """Days of all partitions, as Redis had them at one moment of each."""

    def __init__(self) -> None:
        super().__init__()
        self.includes: dict[int, int] = {}  # by partition, the offset that follows the last record

    async def read(self, store: DaysStore, partition: Partition, *, so_far: bool = False) -> None:
        """Adds what Redis holds of a partition, or of the history; with `so_far` also passages that are not over.
        Raises DaysLost if it is damaged, and as `DaysStore.snapshot`."""
        with tempfile.TemporaryFile() as file:  # as a moment is over when all is read
            held, places = await store.snapshot(partition, partial(_put, file))
            if held.next_offset is None:
                return
            if partition[1] != HISTORY:
                self.includes[partition[1]] = held.next_offset
            try:
                await asyncio.to_thread(self._add_all, file, places)
            except ValueError as error:
                raise DaysLost(partition, held, f"Redis has damaged some ({error})") from error
        if so_far and (growth := await store.growth(partition)) is not None:
            # It may be newer than the days: a passage that is in both is the same one, and counts once.
            with suppress(NoGrowth):  # another program's: its next owner counts it anew
                self.add(await asyncio.to_thread(lambda: PartitionGrowth.loads(growth).known_so_far()))

    def _add_all(self, file: IO[bytes], places: Mapping[int, list[_Place]]) -> None:
        for day, some in places.items():
            for begin, size in some:
                file.seek(begin)
                self.add([(day, Day.loads(file.read(size)))])


def _put(file: IO[bytes], raw: bytes) -> _Place:
    begin = file.tell()
    file.write(raw)
    return begin, len(raw)


async def read_stored_days(store: DaysStore, topic: str, partitions: int, *, so_far: bool = False) -> StoredDays:
    """Returns what Redis holds of all partitions of a topic, and of a history. Raises as `StoredDays.read`."""
    days = StoredDays()
    history = [HISTORY] if await has_history(store, (topic, HISTORY)) else []
    for number in [*history, *range(partitions)]:
        await days.read(store, (topic, number), so_far=so_far)
    return days


def make(days: GrowingDays, rules: Rules, folder: Path, predictor: Predictor | None = None) -> Made:
    """Makes a version of days, and writes its file, if it is not there. Raises OSError."""
    found = choose_publishable(days, rules, predictor)
    raw = pieces(*found)
    version = version_of(raw[-1])
    path = path_of(folder, version)
    if not path.exists():
        write_whole(path, raw)
    return Made(version, found.contains, len(found.passages.known), sum(map(len, raw)))


class Maker:
    """Makes versions, and brings them into service."""

    def __init__(self, settings: RunSettings, store: DaysStore, consumer: AIOKafkaConsumer) -> None:
        """Takes a consumer, which is asked where logs begin."""
        self._settings = settings
        self._store = store
        self._consumer = consumer
        self._predictor: Predictor | None = None
        self.last: Announced | None = None
        self.issued_s: list[float] = []  # when the versions that serve were announced, as `settle` found them

    async def version(self, partitions: int, *, is_early: bool = False) -> None:
        """Makes a version of what Redis holds of so many partitions. Nothing happens if it is the last one again. An
        early one has passages that are not over, too, as far as they are known; without any, nothing happens.

        Raises as `DaysStore.snapshot`, `Announcer.open` and `Announcer.announce`; NotAnnounced also while what the last
        version has of some partition is being counted anew.
        """
        settings = self._settings
        made, includes = await self._make_version(partitions, so_far=is_early)
        if self.last is not None and made.version == self.last.made.version:
            return
        if is_early and not made.passages:
            path_of(settings.atlases, made.version).unlink(missing_ok=True)
            log.info("no version yet: %s pings show no way that may be published", f"{made.contains['pings']:,}")
            return
        failpoints.reach("after_version")
        try:
            first = await self._announce(made, includes)
        except NotAnnounced:
            path_of(settings.atlases, made.version).unlink(missing_ok=True)
            raise
        self.last = Announced(made, time.time(), 1 if self.last is None else self.last.versions + 1)
        pings, entities = made.contains["pings"], made.contains["entities"]
        what = f"{pings:,} pings of {entities:,} entities, {made.passages:,} passages, {made.bytes / 1e6:,.1f} MB"
        log.info("version %s: %s; it answers from %s on", made.version, what, first)

    async def _make_version(self, partitions: int, *, so_far: bool) -> tuple[Made, dict[int, int]]:
        """Makes a version, and returns up to which offsets of partitions it was counted. Afterwards no day is kept."""
        settings = self._settings
        days = await read_stored_days(self._store, settings.topics.pings, partitions, so_far=so_far)
        if self._predictor is None:
            self._predictor = await asyncio.to_thread(Predictor.load, settings.weights)
        work = partial(make, days, settings.rules, settings.atlases, self._predictor)
        return await asyncio.to_thread(work), days.includes

    async def settle(self) -> None:
        """Ends what an announcer left announced, so that no worker waits for it. Raises as `Announcer.open`."""
        settings = self._settings
        async with Announcer.open(settings.bootstrap, settings.topics, settings.kafka) as announcer:
            self.issued_s = sorted(one.issued_ts / 1000 for one in announcer.ledger.serving)

    async def _check_whole(self, includes: Mapping[int, int], serving: Sequence[VersionRecord]) -> None:
        """Raises NotAnnounced if a version would have less of a partition than the last one that serves: Redis has lost
        its days, and they are counted anew. Where the log itself is shorter than that, it was cut or made anew."""
        before, topic = (serving[-1].includes if serving else {}), self._settings.topics.pings
        there = self._consumer.partitions_for_topic(topic) or set[int]()
        less = [number for number in before if number in there and includes.get(number, 0) < before[number]]
        tps = [TopicPartition(topic, number) for number in less]
        for (_, number), found in (await bounds_by(self._consumer, tps) if tps else {}).items():
            if before[number] <= found.end:
                raise NotAnnounced(
                    f"partition {number} is counted anew, up to {includes.get(number, 0)} so far, and the version that "
                    f"serves has it up to {before[number]}"
                )

    async def _announce(self, made: Made, includes: Mapping[int, int]) -> dict[int, int]:
        """Announces a version, and deletes those that no ping in the log may ask for any more, and stale ones that were
        never announced. Returns from where on it answers.
        """
        settings, topic = self._settings, self._settings.topics.pings
        async with Announcer.open(settings.bootstrap, settings.topics, settings.kafka) as announcer:
            if announcer.ledger.get(made.version) is None:
                await self._check_whole(includes, announcer.ledger.serving)
            record = await announcer.announce(made.version, includes=includes, contains=made.contains)
            tps = [TopicPartition(topic, number) for number in record.first]
            begins = {number: found.begin for (_, number), found in (await bounds_by(self._consumer, tps)).items()}
            old = announcer.ledger.list_superseded(begins)
            await announcer.retire(old)
            known = [one.version for one in (*announcer.ledger.serving, *announcer.ledger.announced)]
        await asyncio.to_thread(delete_stale, settings.atlases, known)
        for version in old:
            path_of(settings.atlases, version).unlink(missing_ok=True)
        return record.first
