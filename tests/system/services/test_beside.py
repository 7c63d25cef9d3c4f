"""`pathcast beside` with two services in one process: they leave what they leave alone, and end together."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import bus_feed
import pytest
import services_rig
from dead_members import bury
from kafka import KafkaProducer
from pathcast_process import COMMAND, environment, eventually, pathcast
from prometheus_client.metrics_core import Metric
from worker_pages import Scrape, readiness
from worker_process import Worker

from stream.http.probes import ProbePages
from stream.kafka import admin
from stream.kafka.records.record_columns import Records
from stream.members.running import Running, Service, serve
from stream.services.latest.unit import LatestRules
from stream.services.scores import member as scores_member
from stream.services.scores.owned import Owned
from stream.services.scores.settings import ScoreSettings
from stream.up.embedded import free_port
from stream.wire import Record, Topics, dumps_scored

PARTITIONS = 3
EXPIRE_M = 45


class Fleet:
    """Made-up forecasts and gap fills in topics of their own, and what `scores` and `latest` are to make of them."""

    def __init__(self, kafka: str, prefix: str, folder: Path) -> None:
        self.kafka, self.topics, self.folder, self.prefix = kafka, Topics.of(prefix), folder, prefix
        self.logs = {number: services_rig.logs(number + 7, entities=12) for number in range(PARTITIONS)}
        with admin.connect(kafka) as client:
            admin.create(client, self.topics, partitions=PARTITIONS)

    def send(self, low: int, high: int) -> None:
        """Sends the quarters of each partition from `low` to `high`."""
        ours = {
            services_rig.TOPICS.forecasts: self.topics.forecasts,
            services_rig.TOPICS.gapfills: self.topics.gapfills,
        }
        producer = KafkaProducer(bootstrap_servers=self.kafka)
        for number, log in self.logs.items():
            for one in log[len(log) * low // 4 : len(log) * high // 4]:
                producer.send(ours[one.topic], partition=number, key=b"e", value=one.value)
        producer.flush()
        producer.close()

    def process(self, name: str, *more: str, **env: str) -> Worker:
        options = ("--bootstrap", self.kafka, "--prefix", self.prefix, "--expire", f"{EXPIRE_M}m", *more)
        command = ("beside", "scores,latest", *options)
        return Worker(self.folder / f"{name}.log", program=COMMAND, command=command, environment=environment(**env))

    def bury(self) -> None:
        for name in ("scores", "latest"):
            bury(self.kafka, f"{self.prefix}-{name}")

    def forecasts(self, number: int) -> list[Record]:
        values = [one.value for one in self.logs[number] if one.topic == services_rig.TOPICS.forecasts]
        return [Record(self.topics.forecasts, number, n, 0, None, value) for n, value in enumerate(values)]

    def expected_scores(self) -> dict[int, list[bytes]]:
        """What one member publishes to which nothing ever happens."""
        settings = ScoreSettings(bootstrap=self.kafka, prefix=self.prefix)
        owned = {number: Owned((self.topics.forecasts, number), settings, None, None) for number in self.logs}
        return {
            number: [dumps_scored(one.record) for one in part.fold(Records.of(self.forecasts(number)))]
            for number, part in owned.items()
        }

    def scores(self) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {number: [] for number in self.logs}
        for one in bus_feed.read(self.kafka, self.topics.scores):
            found[one.partition].append(one.value or b"")
        return {number: list(dict.fromkeys(scores)) for number, scores in found.items()}

    def latest(self) -> dict[int, dict[str, bytes]]:
        found: dict[int, dict[str, bytes]] = {number: {} for number in self.logs}
        for one in bus_feed.read(self.kafka, self.topics.latest, isolation_level="read_committed"):
            key = (one.key or b"").decode()
            found[one.partition].pop(key, None)
            if one.value is not None:
                found[one.partition][key] = one.value
        return found


@pytest.fixture
def fleet(apache_kafka: str, topic_prefix: str, tmp_path: Path) -> Fleet:
    return Fleet(apache_kafka, topic_prefix, tmp_path)


def test_whoever_takes_over_from_a_killed_process_leaves_of_both_services_what_nothing_would_have_changed(
    fleet: Fleet,
) -> None:
    """The first point is in the transactions of `latest`, the second follows what `scores` publishes."""
    for low, high, point in ((0, 1, ""), (1, 2, "before_end:2"), (2, 3, "after_publish"), (3, 4, "")):
        fleet.send(low, high)
        with fleet.process(f"from{low}to{high}", "--once", PATHCAST_KILL_POINT=point) as process:
            assert process.wait() == (-signal.SIGKILL if point else 0), process.log()
        fleet.bury()
    assert fleet.scores() == fleet.expected_scores()
    rules = LatestRules(expire_ms=EXPIRE_M * 60_000)
    assert fleet.latest() == {number: services_rig.undisturbed(log, rules) for number, log in fleet.logs.items()}


def test_one_address_has_the_metrics_of_both_and_is_ready_when_both_are(fleet: Fleet) -> None:
    fleet.send(0, 1)
    port = free_port()
    with fleet.process("both", "--metrics", str(port)) as process:
        assert eventually(lambda: process.log().count("is ours") == 2 * PARTITIONS), process.log()
        base = f"http://127.0.0.1:{port}"
        assert eventually(lambda: readiness(base)[0] == 200), process.log()
        read = [len(fleet.forecasts(number)) for number in fleet.logs]
        assert eventually(lambda: Scrape(base).sum("scores_records_total") > 0)
        page = Scrape(base)
        assert page.by_partition("scores_ready") == dict.fromkeys(range(PARTITIONS), 1)
        assert len(page.by_partition("latest_lag_records")) == PARTITIONS
        assert sum(read) >= page.sum("scores_records_read_total") > 0
        assert page.sum("ready") == 1, "one for the process"
        assert process.stop() == 0, process.log()


def test_none_begins_where_one_cannot(fleet: Fleet) -> None:
    with admin.connect(fleet.kafka) as client:
        admin.create_other(client, fleet.topics, fleet.topics.latest, partitions=PARTITIONS + 1)
    fleet.send(0, 1)
    where = ("--bootstrap", fleet.kafka, "--prefix", fleet.prefix)
    ended = pathcast("beside", "scores,latest", "--once", *where)
    assert ended.returncode == 1
    assert fleet.topics.latest.encode() in ended.stderr.splitlines()[-1]
    assert b"is ours" not in ended.stderr


class Broken:
    """A service that fails once it is told to."""

    def __init__(self) -> None:
        self.fails = asyncio.Event()

    async def run(self) -> None:
        await self.fails.wait()
        raise ConnectionError("a store is gone for good")

    def stop(self) -> None: ...


class NoPages(ProbePages):
    def reasons(self) -> list[str]:
        return []

    def collect(self) -> Iterator[Metric]:
        return iter(())


async def test_one_that_fails_ends_the_process_with_its_error_after_the_other_has_committed(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores_member, "COMMIT_S", 3_600.0)  # nothing is published before the end
    await asyncio.to_thread(fleet.send, 0, 4)
    settings = ScoreSettings(bootstrap=fleet.kafka, prefix=fleet.prefix, group=f"{fleet.prefix}-scores")
    broken, members = Broken(), list[Any]()

    @asynccontextmanager
    async def breaking() -> AsyncIterator[Running]:
        yield Running(broken, NoPages())

    @asynccontextmanager
    async def scoring() -> AsyncIterator[Running]:
        async with scores_member.service(settings).begin() as running:
            members.append(running.work)
            yield running

    together = [Service("scores", scoring), Service("broken", breaking)]
    running = asyncio.create_task(serve(together, stopped_by=()))
    total = sum(len(fleet.forecasts(number)) for number in fleet.logs)
    assert await asyncio.to_thread(eventually, lambda: bool(members) and members[0].read == total)
    assert await asyncio.to_thread(fleet.scores) == {number: [] for number in fleet.logs}
    broken.fails.set()
    with pytest.raises(ConnectionError, match="a store is gone for good"):
        await running
    assert "broken has failed, so that the others stop, too" in caplog.text
    assert await asyncio.to_thread(fleet.scores) == await asyncio.to_thread(fleet.expected_scores)
