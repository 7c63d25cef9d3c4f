"""`pathcast beside archive` against a real Kafka: what has landed is what the log has, whatever dies."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from bus_feed import create_topics
from dead_members import bury
from forked_process import ForkedProcess
from kafka import KafkaProducer
from pathcast_process import PATIENCE_S, environment, eventually, pathcast
from service_pages import archive, free_door, serves
from worker_pages import Scrape, readiness
from worker_process import PATHCAST, Worker

from stream.adapters.archived.catalog import files_of, open_archive
from stream.adapters.archived.reading import read_batches
from stream.adapters.recorded import recording
from stream.config import failpoints
from stream.members import group_member
from stream.services.archive import member
from stream.services.archive.settings import ArchiveSettings
from stream.services.archive.tidying import SPARE_FILES
from stream.wire import Ping, Topics, dumps

PARTITIONS = 3
DAY_MS = 86_400_000
BUSES = 40  # over all partitions
SLOTS, SLOT_MS = 4_096, 127_000  # six days


class Fleet:
    """Buses of six days, in a topic of their own, and where they are archived."""

    def __init__(self, kafka: str, prefix: str, folder: Path) -> None:
        self.kafka, self.prefix, self.folder = kafka, prefix, folder
        self.topics = Topics.of(prefix)
        self.archive = folder / "pings"
        self.servers = ("--bootstrap", kafka, "--prefix", prefix)
        self.sent: list[tuple[str, int]] = []
        self._end_ms = time.time_ns() // 1_000_000
        create_topics(kafka, self.topics, partitions=PARTITIONS)

    def feed(self, pings: int, *, in_order: bool = False) -> None:
        """Sends pings, each with a time that no other has, and some records that are none."""
        producer = KafkaProducer(bootstrap_servers=self.kafka)
        for _ in range(pings):
            number = len(self.sent)
            # Every day comes again and again, as with late pings.
            slot = number if in_order else number * 1_117 % SLOTS
            entity, ts = f"bus-{number % BUSES}", self._end_ms - 13 * DAY_MS // 2 + slot * SLOT_MS
            producer.send(self.topics.pings, key=entity.encode(), value=dumps(_ping(entity, ts)))
            self.sent.append((entity, ts))
            if number % 100 == 0:
                producer.send(self.topics.pings, key=entity.encode(), value=b"no ping")
        producer.flush()
        producer.close()

    def options(self, *more: object) -> list[str]:
        return ["beside", "archive", "--archive", str(self.archive), *self.servers, *map(str, more)]

    def settings(self, **more: Any) -> ArchiveSettings:
        where = {"bootstrap": self.kafka, "prefix": self.prefix, "group": f"{self.prefix}-archive"}
        return ArchiveSettings(str(self.archive), **where, **more)

    def once(self, **more: Any) -> None:
        """In this process: one that is to die has its own, see `killed`."""
        asyncio.run(archive(self.settings(once=True, **more)))

    @contextmanager
    def running(self, name: str, *more: object) -> Iterator[Worker]:
        program = [PATHCAST, *self.options(*more)]
        with Worker(self.folder / f"{name}.log", program=program, command=(), environment=environment()) as process:
            yield process

    def killed(self, point: str) -> None:
        """Runs members with new pings, of which one must die there."""
        for number in range(2 * SPARE_FILES):  # merges are due when some have landed
            self.feed(150)
            ours = self.settings(rows=1_000, once=True)
            log = self.folder / f"{point}-{number}.log"
            with ForkedProcess(log, archive, ours, kill_point=point) as victim:
                status = victim.wait()
                assert status in (0, -signal.SIGKILL), victim.log()
            if status:
                bury(self.kafka, f"{self.prefix}-archive")
                return
        raise AssertionError(f"nobody comes to {point}")

    def landed(self) -> list[tuple[str, int]]:
        """What a reader finds, also twice what is there twice."""
        return sorted((entity, t) for entity, t, *_ in self.rows())

    def landed_now(self) -> list[tuple[str, int]]:
        """The same, while members rewrite files: nothing, where one was deleted after its manifest was read."""
        try:
            return self.landed()
        except FileNotFoundError:
            return []

    def rows(self) -> list[tuple[str, int, int, int]]:
        names = ("entity_id", "t", "partition", "offset")
        found: list[tuple[str, int, int, int]] = []
        catalog = open_archive(self.archive)
        for file in files_of(catalog.manifests()):
            for batch in read_batches(catalog.storage, file, names):
                found += zip(*(batch.column(name).to_pylist() for name in names), strict=True)
        return found

    def assert_whole(self, without: Sequence[str] = ()) -> None:
        """Every ping is there once, and nothing besides what manifests name."""
        assert self.landed() == sorted(ping for ping in self.sent if ping[0] not in without)
        assert len({row[2:] for row in self.rows()}) == len(self.rows())
        root = self.archive / self.topics.pings
        there = {str(path.relative_to(root)) for path in root.glob("day=*/*")} | {
            str(path.relative_to(root)) for path in root.glob("day=*/.*")
        }
        named = {name for one in open_archive(self.archive).manifests().values() for name in one.names}
        assert there <= named
        assert not list(root.glob("landed/.*"))


def _ping(entity: str, ts: int) -> Ping:
    return Ping(entity_id=entity, ts=ts, lat=30.0 + ts % 1000 * 1e-5, lon=-97.7, speed_mps=5.0)


POINTS_OF_FORGETTING = [name for name in failpoints.OF_ARCHIVE if name.endswith(("tombstone", "forgotten"))]
POINTS = [name for name in failpoints.OF_ARCHIVE if name not in POINTS_OF_FORGETTING]


@pytest.fixture
def fleet(apache_kafka: str, topic_prefix: str, tmp_path: Path) -> Fleet:
    return Fleet(apache_kafka, topic_prefix, tmp_path)


@pytest.mark.promise("the archive has every ping once, although a member was killed at a write")
def test_killed_at_a_write_it_goes_on_and_every_ping_has_landed_once(fleet: Fleet) -> None:
    """The writes are its own; what else can happen to a member is tested in tests/system/members."""
    fleet.feed(600)
    for point in POINTS:
        if point == "within_clearing":
            fleet.killed("before_landed")  # leaves files of several days
        fleet.killed(point)
        fleet.once()
        print(f"killed at {point}")
        fleet.assert_whole()
    shown = json.loads(pathcast("dev", "archive", "--archive", fleet.archive, "--check", "--json").stdout)
    assert shown["damaged"] == []
    left_out = sum(one["left_out"].get("invalid_json", 0) for one in shown["partitions"])
    assert left_out == len(fleet.sent[::100])


def test_forgetting_that_was_killed_is_ended_by_a_member(fleet: Fleet) -> None:
    fleet.feed(1_000)
    fleet.once()
    forgotten: list[str] = []
    for number, point in enumerate(POINTS_OF_FORGETTING):
        forgotten.append(f"bus-{number}")
        command = ("forget", forgotten[-1], "--archive", fleet.archive, "--archive-only")
        died = pathcast(*command, env=environment(**{failpoints.VARIABLE: point}))
        assert died.returncode == -signal.SIGKILL, point
        fleet.feed(200)
        fleet.once()
        print(f"killed at {point}")
        fleet.assert_whole(without=forgotten)
    told = json.loads(pathcast(*command, "--json").stdout)
    assert (told["entity_id"], told["places"][0]["found"][:11]) == (forgotten[-1], "0 pings in ")


def test_members_that_come_and_die_share_the_partitions_and_an_entity_is_forgotten_meanwhile(fleet: Fleet) -> None:
    often = ("--archive-every", "1s")
    with fleet.running("a", *often) as a, fleet.running("b", *often) as b:
        a.wait_for("is ours", PATIENCE_S)
        b.wait_for("is ours", PATIENCE_S)
        for _ in range(5):
            fleet.feed(300)
            time.sleep(0.5)
        told = pathcast("forget", "bus-3", "--archive", fleet.archive, "--archive-only")
        assert told.returncode == 0, told.stderr.decode()
        a.kill()
        with fleet.running("c", *often) as c:
            c.wait_for("is ours", PATIENCE_S)
            for _ in range(5):
                fleet.feed(300)
                time.sleep(0.5)
            expected = sorted(ping for ping in fleet.sent if ping[0] != "bus-3")
            assert eventually(lambda: fleet.landed_now() == expected)
            for one in (b, c):
                one.send_signal(signal.SIGTERM)
                assert one.wait() == 0, one.log()
    fleet.once()
    fleet.assert_whole(without=["bus-3"])


async def test_a_member_whose_partitions_were_taken_while_it_stood_still_lands_nothing(fleet: Fleet) -> None:
    """It has records in memory, and does not know yet that the group has gone on without it."""
    await asyncio.to_thread(fleet.feed, 600)
    settings = fleet.settings()
    catalog = await asyncio.to_thread(member.of_topic, settings.archive, settings.topics.pings)
    zombie = member.Runner(settings, catalog, settings.reads.consumer())
    running = asyncio.create_task(zombie.run())
    assert await asyncio.to_thread(eventually, lambda: sum(one.owned.rows for one in zombie._holdings.values()) == 600)
    other = replace(fleet.settings(once=True), group=f"{fleet.prefix}-other")
    await archive(other)  # of another group, as if Kafka had given it the partitions
    assert await asyncio.to_thread(fleet.landed) == sorted(fleet.sent)
    zombie.stop()
    await running
    await asyncio.to_thread(fleet.assert_whole)


async def test_its_pages_say_what_has_landed_and_how_far_behind_it_is(fleet: Fleet) -> None:
    await asyncio.to_thread(fleet.feed, 600)
    settings = fleet.settings(every_s=0.5)
    base, door = free_door()
    running = asyncio.create_task(archive(settings, door))
    began_s = time.time()
    assert await asyncio.to_thread(eventually, lambda: serves(base) and Scrape(base).sum("archive_pings_landed_total"))
    assert await asyncio.to_thread(eventually, lambda: Scrape(base).sum("archive_records_total") == 606)
    page = await asyncio.to_thread(Scrape, base)
    assert page.sum("archive_records_read_total") == 606
    assert page.sum("archive_pings_landed_total") == 600
    assert page.sum("archive_landed_offset") == 606
    assert page.by_partition("archive_lag_records") == dict.fromkeys(range(PARTITIONS), 0)
    assert page.by_partition("archive_waiting_pings") == dict.fromkeys(range(PARTITIONS), 0)
    assert page.sum("archive_failures_total") == 0
    assert min(page.values("archive_landed_timestamp_seconds")) >= began_s - 1
    assert page.sum("ready") == 1
    assert (await asyncio.to_thread(readiness, base))[0] == 200
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not await asyncio.to_thread(serves, base)


async def test_a_disk_that_is_full_is_waited_for(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(group_member, "RETRY_S", 0.2)
    write, tries = pq.write_table, []

    def full(*arguments: Any, **options: Any) -> None:
        tries.append(arguments)
        if len(tries) < 5:
            raise OSError(28, "No space left on device")
        write(*arguments, **options)

    monkeypatch.setattr(pq, "write_table", full)
    await asyncio.to_thread(fleet.feed, 500)
    settings = fleet.settings(every_s=0.5)
    catalog = await asyncio.to_thread(member.of_topic, settings.archive, settings.topics.pings)
    runner = member.Runner(settings, catalog, settings.reads.consumer())
    running = asyncio.create_task(runner.run())
    assert await asyncio.to_thread(eventually, lambda: fleet.landed() == sorted(fleet.sent))
    runner.stop()
    await running
    assert "No space left on device" in caplog.text


def test_what_has_landed_is_read_as_the_topic_is(fleet: Fleet) -> None:
    """The same atlas, byte for byte, and the same pings in training's corpus and for `replay`."""
    import numpy as np

    from train.data.corpus import load
    from train.data.topic import snapshot

    fleet.feed(3_000, in_order=True)
    fleet.once(rows=1_000)
    atlases = []
    for name, source in {
        "topic": ("--from-topic", fleet.topics.pings, "--bootstrap", fleet.kafka),
        "archive": ("--data", f"archive:{fleet.archive}"),
    }.items():
        out = fleet.folder / f"{name}.atlas"
        told = pathcast("train", "atlas", *source, "--out", out, "--min-entities", 1)
        assert told.returncode == 0, told.stderr.decode()
        atlases.append(out.read_bytes())
    assert atlases[0] == atlases[1]
    of_topic = load([snapshot(fleet.topics.pings, fleet.kafka, fleet.folder, lambda share: None)], fleet.folder)
    of_archive = load([f"archive:{fleet.archive}"], fleet.folder)
    for name in ("ts_ms", "lat", "lon", "speed_mps", "tracks"):
        np.testing.assert_array_equal(getattr(of_topic, name), getattr(of_archive, name))
    assert of_archive.names == of_topic.names
    rows = recording(f"archive:{fleet.archive}").in_order()
    assert [(row.key, row.ts_ms) for row in rows] == [(entity.encode(), ts) for entity, ts in fleet.sent]
