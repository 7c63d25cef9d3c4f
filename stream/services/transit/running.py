"""Prepares a member that publishes trips: its topic, the feed, and the fleet, which tasks of its own keep up to date.

follower     pings of all partitions -> the fleet
zip          a new feed, when `--gtfs` has changed -> the fleet
snapshots    the fleet -> a file, from the member that has partition 0
the member   the trips of its partitions -> the topic (`unit`)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from stream.adapters.live.on_topic import reader_of
from stream.config.security import in_words, kafka_refusal
from stream.kafka import log_facts
from stream.kafka.reading import INPUT_ISOLATION, reader
from stream.members.inputs import MemberSettings
from stream.members.pages import Row, counter, gauge
from stream.members.running import Running, Service, Work
from stream.services.member import creating
from stream.services.member import service as service_of
from stream.services.plan import Plan, Taken
from stream.services.transit.feeds import Zip
from stream.services.transit.fleet import Fleet
from stream.services.transit.following import Follower
from stream.services.transit.snapshot import Snapshots, dump
from stream.services.transit.unit import TransitUnit, take_over
from stream.storage import open_storage

log: Final = logging.getLogger(__name__)

SNAPSHOT_S: Final = 180.0  # between two; after a kill, so many minutes of pings are read again
FIRST_SNAPSHOT_S: Final = 20.0  # after the fleet is known
NO_ID: Final = ""  # of the topic: these brokers have none


@dataclass(frozen=True)
class TransitSettings(MemberSettings):
    """The settings of one member."""

    gtfs: Path
    every_s: float
    since_s: float
    state: str | None
    look_s: float  # between two looks for a new zip
    map: str | None
    assigns: bool = True  # finds the trips of vehicles that name none

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.topics.pings,)


class Transit:
    """Holds what one member keeps beside its units: the feed, the fleet, and its snapshots."""

    def __init__(self, settings: TransitSettings) -> None:
        """Reads the feed and the snapshot. Raises ValueError, OSError in one line."""
        self.settings = settings
        self.zip = Zip(settings.gtfs)
        self.fleet = Fleet(self.zip.feed, assigns=settings.assigns)
        self.snapshots: Snapshots | None = None
        if settings.state is not None:
            self.snapshots = Snapshots(open_storage(settings.state, "the state of transit"), settings.topics.pings)
        self.follower: Follower | None = None
        self._topic_id = NO_ID
        self._units: WeakSet[TransitUnit] = WeakSet()  # of the partitions that are ours
        self._had_first = False  # partition 0 was ours

    async def prepare(self, partitions: int) -> None:
        """Reads the snapshot. Raises as `_id_of_topic`, and OSError if the storage cannot be written."""
        settings = self.settings
        self._topic_id = await self._id_of_topic()
        if self.snapshots is not None:
            await asyncio.to_thread(self._restore, self.snapshots)
        self.follower = Follower(
            settings.bootstrap,
            settings.topics.pings,
            settings.kafka,
            self.fleet,
            partitions,
            int(1000 * settings.since_s),
            reader_of(settings.map),
        )

    def _restore(self, snapshots: Snapshots) -> None:
        snapshots.keep_zip(self.settings.gtfs, self.fleet.feed.hash)  # it may be replaced soon
        if (body := snapshots.read()) is None:
            return
        is_same = body.topic_id == self._topic_id
        goes_on = snapshots.restore(self.fleet, body, with_trips=is_same)
        age_s = time.time() - body.taken_ms / 1000
        what = "all of it" if goes_on else "what was learnt"
        log.info("a snapshot of %.0f s ago, of feed %s, is taken: %s", age_s, body.feed, what)

    async def _id_of_topic(self) -> str:
        """Returns the id of the pings topic. Raises ConnectionError, Refused."""
        settings = self.settings
        try:
            async with reader(settings.bootstrap.split(","), settings.kafka.arguments(), INPUT_ISOLATION) as consumer:
                tp = TopicPartition(settings.topics.pings, 0)
                consumer.assign([tp])
                return (await log_facts.ask(consumer, tp, -1)).topic_id
        except KafkaError as error:
            refusal = kafka_refusal(settings.bootstrap, settings.kafka, error)
            raise refusal or ConnectionError(f"Kafka at {settings.bootstrap} failed: {in_words(error)}") from error

    async def begin(self, plan: Plan, taken: Taken) -> TransitUnit:
        """Returns the unit of a partition. It publishes nothing before the fleet is known; with `--once`, that is
        waited for. Raises as `take_over`."""
        assert self.follower is not None  # `prepare` comes first
        self.follower.add(taken.number)
        if plan.once:
            await self.follower.caught_up.wait()
        unit = await take_over(plan, self.settings.topics, self.fleet, self.settings.every_s, taken)
        self._units.add(unit)
        self._had_first = self._had_first or taken.number == 0
        return unit

    # -- tasks

    async def run_beside(self, work: Work) -> None:
        """Runs the member with all tasks. If one of them fails, the member ends, and the error is raised."""
        assert self.follower is not None
        jobs: list[Coroutine[Any, Any, None]] = [self.follower.run(), self._look_for_feeds(), self._keep_snapshots()]
        tasks = [asyncio.create_task(job) for job in jobs]
        member = asyncio.create_task(work.run())
        try:
            await asyncio.wait([member, *tasks], return_when=asyncio.FIRST_COMPLETED)
            if not member.done():
                work.stop()
            await asyncio.wait([member])
        finally:
            for task in (member, *tasks):
                task.cancel()
            ends = await asyncio.gather(member, *tasks, return_exceptions=True)
        if self._had_first:
            await self._snapshot()
        for error in ends:
            if isinstance(error, Exception):
                raise error

    async def _look_for_feeds(self) -> None:
        while True:
            await asyncio.sleep(self.settings.look_s)
            if (feed := await asyncio.to_thread(self.zip.look)) is not None:
                self.fleet.adopt(feed)
                if self.snapshots is not None:
                    await asyncio.to_thread(self._keep_zip, self.snapshots)

    def _keep_zip(self, snapshots: Snapshots) -> None:
        try:
            snapshots.keep_zip(self.settings.gtfs, self.fleet.feed.hash)
        except OSError as error:
            log.warning("the new zip is not kept, and its trips will not survive a restart: %s", in_words(error))

    async def _keep_snapshots(self) -> None:
        assert self.follower is not None
        await self.follower.caught_up.wait()
        await asyncio.sleep(FIRST_SNAPSHOT_S)
        while True:
            if any(unit.number == 0 for unit in self._units):
                await self._snapshot()
            await asyncio.sleep(SNAPSHOT_S)

    async def _snapshot(self) -> None:
        if self.snapshots is None or not self.fleet.caught_up:
            return
        now_ms = time.time_ns() // 1_000_000
        body = dump(self.fleet, self.settings.topics.pings, self._topic_id, now_ms)
        feeds = {feed.hash for feed in (self.fleet.feed, *self.fleet.older)}
        try:
            await asyncio.to_thread(self._write, self.snapshots, body, now_ms, feeds)
        except OSError as error:
            log.warning("the snapshot is not written: %s", in_words(error))

    def _write(self, snapshots: Snapshots, body: bytes, now_ms: int, feeds: set[str]) -> None:
        snapshots.write(body, now_ms)
        snapshots.drop_zips(feeds)

    # -- where it stands

    def rows(self) -> tuple[Row, ...]:
        """Returns the metrics beside those of the member."""
        fleet = self.fleet

        def of_fleet(read: Callable[[], float | None]) -> Callable[[Any], float | None]:
            return lambda _: read()

        return (
            gauge("trips", "Trips under way, of all partitions.", of_fleet(lambda: fleet.trips)),
            counter("pings", "Pings that were read, by what became of them.", lambda _: fleet.counts, "outcome"),
            gauge("catching_up", "1 until the fleet is known.", of_fleet(lambda: float(not fleet.caught_up))),
            gauge("feed_info", "The schedules in force, by hash.", lambda _: self._feeds(), "feed", "of"),
            gauge("snapshot_age_seconds", "Of the newest one.", of_fleet(self._snapshot_age_s)),
        )

    def _feeds(self) -> dict[tuple[str, str], float]:
        older = {(feed.hash, "trips_under_way"): 1.0 for feed in self.fleet.older}
        return {**older, (self.fleet.feed.hash, "new_trips"): 1.0}

    def _snapshot_age_s(self) -> float | None:
        if self.snapshots is None or self.snapshots.taken_ms is None:
            return None
        return time.time() - self.snapshots.taken_ms / 1000


class _Member:
    """The work of a member with what runs beside it."""

    def __init__(self, transit: Transit, work: Work) -> None:
        self._transit, self._work = transit, work

    async def run(self) -> None:
        await self._transit.run_beside(self._work)

    def stop(self) -> None:
        self._work.stop()


def service(settings: TransitSettings) -> Service:
    """Returns one member. It raises as `Transit`, and as `stream.services.member.service`."""

    @asynccontextmanager
    async def open_service() -> AsyncIterator[Running]:
        transit = await asyncio.to_thread(Transit, settings)
        plan = Plan(
            "transit", settings.inputs, settings.group, settings.bootstrap, once=settings.once, kafka=settings.kafka
        )

        async def begin(taken: Taken) -> TransitUnit:
            return await transit.begin(plan, taken)

        partitions = await asyncio.to_thread(settings.reads.partitions)
        provide = creating(plan, settings.topics, settings.topics.trips)
        async with service_of(plan, begin, provide, transit.rows()).begin() as running:
            await transit.prepare(partitions)
            yield Running(_Member(transit, running.work), running.pages)

    return Service("transit", open_service)
