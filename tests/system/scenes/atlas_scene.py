"""Workers that ask atlases, versions that come while pings flow, and what came of it. Tests import this; it tests
nothing itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import bus_feed
import msgspec
from atlas_rig import version_of
from worker_process import Worker, assert_all_live

from model.api import Atlas
from stream.config import failpoints
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.announcing import Announcer
from stream.versions.ledger import Ledger
from stream.wire import Forecast, Ping, Topics, VersionRecord, loads_forecast

PARTITIONS: Final = 4
EVERY_S, SOME = 0.1, 60  # pings: some 600 a second
MORE: Final = 1_500


class Scene(NamedTuple):
    kafka: str
    prefix: str
    folder: Path
    options: dict[str, Any]

    @classmethod
    def made(cls, kafka: str, redis_url: str, prefix: str, folder: Path) -> Scene:
        """With topics, and a folder for the atlases within this one."""
        atlases = folder / "atlases"
        atlases.mkdir()
        options = {"bootstrap": kafka, "redis": redis_url, "weights": "small", "prefix": prefix, "group": prefix}
        options |= {"session_timeout_s": 6, "max_batch": 64, "atlases": atlases}
        bus_feed.create_topics(kafka, Topics.of(prefix), partitions=PARTITIONS)
        return cls(kafka, prefix, atlases, options)

    @property
    def topics(self) -> Topics:
        return Topics.of(self.prefix)

    def worker(self, name: str, **more: object) -> Worker:
        return Worker(self.folder.parent / f"{name}.log", **{**self.options, **more})

    @contextmanager
    def crash(self, records: Sequence[bus_feed.Raw], *, delivery: str, kill_at: int) -> Iterator[tuple[Worker, Worker]]:
        """Two workers at work, while pings come as long as this lasts. The first kills itself in its batch `kill_at`,
        with answers out that are not committed. At the end the other has answered everything, and is stopped."""
        announced = threading.Event()
        pings = slowly(records, announced)
        feed = threading.Thread(target=bus_feed.send, args=(self.kafka, self.topics.pings, pings), daemon=True)
        kill = {failpoints.VARIABLE: f"after_publish:{kill_at}"}
        with (
            self.worker("victim", delivery=delivery, environment=kill) as victim,
            self.worker("other", delivery=delivery) as other,
        ):
            other.wait_until_ready()
            victim.wait_until_ready()
            feed.start()
            try:
                yield victim, other
            finally:
                announced.set()
                feed.join()
            self.wait_until_consumed(other)
            assert other.stop() == 0

    def put(self, raw: bytes) -> str:
        version = Atlas.of(raw).version
        (self.folder / f"{version}.atlas").write_bytes(raw)
        return version

    def announce(self, version: str) -> VersionRecord:
        async def announced() -> VersionRecord:
            async with Announcer.open(self.kafka, self.topics, lead_s=0.5, sample_s=0.3) as announcer:
                return await announcer.announce(version, includes={}, contains={})

        return asyncio.run(announced())

    def ledger(self) -> Ledger:
        return ledger_of(self.kafka, self.topics)

    def forecasts(self) -> list[Forecast]:
        return [loads_forecast(one.value or b"") for one in bus_feed.read(self.kafka, self.topics.forecasts)]

    def wait_until_asked(self, version: str, check: Callable[[], None]) -> None:
        """Until a forecast asks it: on a busy machine an announcement is withdrawn, and made once more for later pings.
        `check` raises if waiting has no point any more."""
        deadline = time.monotonic() + bus_feed.QUIET_S
        while not any(one.atlas and one.atlas.version == version for one in self.forecasts()):
            check()
            assert time.monotonic() < deadline, f"no forecast asks version {version}"
            time.sleep(0.5)

    def wait_until_consumed(self, *workers: Worker) -> None:
        bus_feed.wait_until_consumed(self.kafka, self.prefix, self.topics.pings, partial(assert_all_live, *workers))


def atlases(records: Sequence[bus_feed.Raw]) -> list[bytes]:
    """Three, of more and more of the fleet's pings."""
    decoder = msgspec.json.Decoder(Ping)
    pings = []
    for _, value, _ in records:
        try:
            pings.append(decoder.decode(value or b""))
        except ValueError:
            continue
    return [version_of(pings[: len(pings) * part // 4]) for part in (1, 2, 3)]


def slowly(records: Iterable[bus_feed.Raw], announced: threading.Event) -> Iterator[bus_feed.Raw]:
    """Pings until all is announced, however long that takes, and some more, which the last version answers."""
    coming = iter(records)
    while not announced.is_set() and (some := list(islice(coming, SOME))):
        time.sleep(EVERY_S)
        yield from some
    yield from islice(coming, MORE)


def ledger_of(kafka: str, topics: Topics) -> Ledger:
    """What the models topic says now."""

    async def heard() -> Ledger:
        async with AnnouncementReader.open(kafka, topics) as announcements:
            await announcements.look()
            return announcements.ledger

    return asyncio.run(heard())
