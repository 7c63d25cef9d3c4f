"""`pathcast beside atlas` against real servers: what it counts is what the log has, also after a kill."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from atlas_scene import ledger_of
from bus_feed import create_topics, sample, send
from dead_members import bury
from pathcast_process import PATIENCE_S, environment, eventually, pathcast
from service_pages import free_door, serves
from worker_pages import Scrape, readiness
from worker_process import PATHCAST, Worker

from model.atlas.atlas import Atlas
from stream.atlas.counting import member
from stream.atlas.counting.settings import RunSettings
from stream.kafka import admin
from stream.members.running import serve
from stream.store.days_store import DaysStore
from stream.versions.announcing import Announcer, NotAnnounced
from stream.versions.ledger import Ledger
from stream.wire import Topics, VersionRecord, dumps

PARTITIONS = 3
PINGS = 6_724  # in the sample
NEVER_D = 20_000  # no version comes by itself: the next multiple of it is in 2079
NEVER = ("--atlas-every", f"{NEVER_D}d")


class Fleet:
    """The sample's buses in a topic of their own, with a Redis and a directory of versions."""

    def __init__(self, kafka: str, redis_url: str, prefix: str, folder: Path) -> None:
        self.kafka, self.redis_url, self.prefix, self.folder = kafka, redis_url, prefix, folder
        self.atlases = folder / "atlases"
        self.topics = Topics.of(prefix)
        self.servers = ("--bootstrap", kafka, "--prefix", prefix)
        create_topics(kafka, self.topics, partitions=PARTITIONS)
        with admin.connect(kafka) as client:
            admin.create_models(client, self.topics)

    def feed(self, low: int, high: int) -> None:
        send(self.kafka, self.topics.pings, iter(SAMPLE_PINGS[low:high]))

    def built(self) -> bytes:
        """The atlas of the log."""
        out = self.folder / "built.atlas"
        told = pathcast("train", "atlas", "--from-topic", self.topics.pings, "--bootstrap", self.kafka, "--out", out)
        assert told.returncode == 0, told.stderr
        return out.read_bytes()

    def settings(self, **more: Any) -> RunSettings:
        """Of a member in this process."""
        self.atlases.mkdir(exist_ok=True)
        where = {"bootstrap": self.kafka, "prefix": self.prefix, "group": f"{self.prefix}-atlas"}
        return RunSettings(self.atlases, redis_url=self.redis_url, **where, **more)

    def options(self, *more: object) -> list[str]:
        given = ("--atlases", self.atlases, "--redis", self.redis_url, *self.servers, *more)
        return ["beside", "atlas", *map(str, given)]

    def once(self, *more: object) -> str:
        """Counts up to the end, and returns the version that was made."""
        done = pathcast(*self.options("--once", *more))
        assert done.returncode == 0, done.stderr.decode()
        (line,) = [line for line in done.stderr.decode().splitlines() if " version " in line]
        return line.split(" version ")[1].split(":")[0]

    @contextmanager
    def running(self, name: str, *more: object) -> Iterator[Worker]:
        program = [PATHCAST, *self.options(*more)]
        with Worker(self.folder / f"{name}.log", program=program, command=(), environment=environment()) as process:
            yield process

    def ledger(self) -> Ledger:
        return ledger_of(self.kafka, self.topics)

    def offsets(self) -> dict[int, int]:
        """Up to where Redis has each partition."""
        with redis.Redis.from_url(self.redis_url) as client:
            keys = {n: f"pathcast:{{{self.prefix}-atlas|{self.topics.pings}|{n}}}:sums" for n in range(PARTITIONS)}
            return {n: int(client.hget(key, "next_offset") or 0) for n, key in keys.items()}  # type: ignore[arg-type]


SAMPLE_PINGS = sample()


@pytest.fixture
def fleet(apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path) -> Fleet:
    return Fleet(apache_kafka, redis_url, topic_prefix, tmp_path)


def test_a_version_is_that_of_the_log_although_its_maker_was_killed(fleet: Fleet) -> None:
    """What else can happen to a member is tested in tests/system/members."""
    fleet.feed(0, 2_000)
    first = fleet.once()
    assert (fleet.atlases / f"{first}.atlas").read_bytes() == fleet.built()
    assert sum(fleet.offsets().values()) == 2_000
    fleet.feed(2_000, 5_000)
    base, door = free_door()
    with fleet.running("killed", *NEVER, "--metrics", door.address) as one:
        assert eventually(lambda: sum(fleet.offsets().values()) == 5_000)
        fleet.feed(5_000, PINGS)  # it counts these, and has not written them
        assert eventually(lambda: Scrape(base).sum("atlas_records_read_total") == PINGS - 2_000)
        one.kill()
    bury(fleet.kafka, f"{fleet.prefix}-atlas")
    assert sum(fleet.offsets().values()) == 5_000
    last = fleet.once()
    path = fleet.atlases / f"{last}.atlas"
    assert path.read_bytes() == fleet.built()
    assert Atlas.load(path).version == last
    ledger = fleet.ledger()
    record = ledger.get(last)
    assert record is not None
    assert (record.state, sum(record.includes.values())) == ("serving", PINGS)
    assert record.contains["pings"] == PINGS
    assert [one.version for one in ledger.serving] == [first, last]


def test_several_share_the_partitions_and_a_signal_ends_them_with_all_written(fleet: Fleet) -> None:
    fleet.feed(0, 3_000)
    with fleet.running("a", "--atlas-every", "5s") as a, fleet.running("b", "--atlas-every", "5s") as b:
        for one in (a, b):
            one.wait_for("is ours", PATIENCE_S)
        assert eventually(lambda: " version " in a.log() + b.log())
        fleet.feed(3_000, PINGS)

        def counted() -> bool:
            """Together they say so; or a version was made of all, where one was thrown out meanwhile, on a busy
            machine, and another counted its records once more."""
            said = (re.findall(r"(\d+) records counted", one.log()) for one in (a, b))
            return sum(int(one[-1]) for one in said if one) == PINGS or sum(fleet.offsets().values()) == PINGS

        assert eventually(counted)
        for one in (a, b):
            one.send_signal(signal.SIGTERM)
            assert one.wait() == 0, one.log()
    assert sum(fleet.offsets().values()) == PINGS
    assert (fleet.atlases / f"{fleet.once()}.atlas").read_bytes() == fleet.built()


async def test_while_redis_is_full_nothing_is_lost_and_it_goes_on_when_there_is_room(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(member, "WRITE_S", 0.2)
    settings = fleet.settings(every_s=1.0)
    store, consumer = DaysStore(fleet.redis_url, settings.group, 3_600), settings.reads.consumer()
    runner = member.Runner(settings, store, consumer)
    running = asyncio.create_task(runner.run())
    with redis.Redis.from_url(fleet.redis_url) as client:
        try:
            client.config_set("maxmemory", 1)
            await asyncio.to_thread(fleet.feed, 0, PINGS)
            assert await asyncio.to_thread(eventually, lambda: "again" in caplog.text)
        finally:
            client.config_set("maxmemory", 0)
    assert await asyncio.to_thread(eventually, lambda: sum(fleet.offsets().values()) == PINGS)
    runner.stop()
    await running
    await store.close()
    version = await asyncio.to_thread(fleet.once)
    assert (fleet.atlases / f"{version}.atlas").read_bytes() == await asyncio.to_thread(fleet.built)


async def test_what_another_announcer_left_is_ended_and_a_version_that_failed_is_tried_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member, "AGAIN_S", 0.2)
    await asyncio.to_thread(fleet.feed, 0, 2_000)
    first = dict.fromkeys(range(PARTITIONS), 100_000)
    left = VersionRecord(
        version="0" * 16,
        state="announced",
        first=first,
        topic=fleet.topics.pings,
        includes={},
        contains={},
        issued_ts=1,
    )
    async with Announcer.open(fleet.kafka, fleet.topics) as announcer:
        await announcer._publish({left.key: dumps(left)})
    settings = fleet.settings(every_s=NEVER_D * 86_400.0)
    store, consumer = DaysStore(fleet.redis_url, settings.group, 3_600), settings.reads.consumer()
    runner = member.Runner(settings, store, consumer)
    running = asyncio.create_task(runner.run())
    served = await asyncio.to_thread(eventually, lambda: [one.version for one in fleet.ledger().serving] == ["0" * 16])
    assert served
    version, tries = runner._maker.version, 0

    async def failing(partitions: int, *, is_early: bool) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise NotAnnounced("too fast")
        await version(partitions, is_early=is_early)

    monkeypatch.setattr(runner._maker, "version", failing)
    runner._due_s = 0.0
    assert await asyncio.to_thread(eventually, lambda: tries == 2 and list(fleet.atlases.iterdir()))
    runner.stop()
    await running
    await store.close()


async def test_its_pages_say_which_version_serves_and_how_far_behind_it_is(fleet: Fleet) -> None:
    await asyncio.to_thread(fleet.feed, 0, 2_000)
    base, door = free_door()
    began_s = time.time()
    running = asyncio.create_task(serve([member.service(fleet.settings(every_s=1.0))], door, ()))
    assert await asyncio.to_thread(eventually, lambda: serves(base) and Scrape(base).sum("atlas_versions_total"))
    made = "atlas_version_pings"
    assert await asyncio.to_thread(eventually, lambda: Scrape(base).sum(made) == 2_000)
    page = await asyncio.to_thread(Scrape, base)
    assert page.sum("atlas_records_read_total") == 2_000
    assert page.by_partition("atlas_lag_records") == dict.fromkeys(range(PARTITIONS), 0)
    assert page.by_partition("atlas_waiting_passages") == dict.fromkeys(range(PARTITIONS), 0)
    assert page.sum("atlas_failures_total") == 0
    assert page.sum("atlas_version_timestamp_seconds") >= began_s
    sizes = {path.stat().st_size for path in fleet.atlases.iterdir()}
    assert page.values("atlas_version_bytes") <= sizes
    assert page.sum("atlas_version_passages") > 0
    assert (await asyncio.to_thread(readiness, base))[0] == 200
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_the_versions_are_listed_and_compared(fleet: Fleet) -> None:
    fleet.feed(0, 4_000)
    first = fleet.once()
    fleet.feed(4_000, PINGS)
    last = fleet.once()
    listed = json.loads(pathcast("models", "atlas", "--atlases", fleet.atlases, "--json").stdout)
    assert [(one["version"], one["contains"]["pings"]) for one in listed] == [(first, 4_000), (last, PINGS)]
