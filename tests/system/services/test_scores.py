"""`pathcast beside scores` against a real Kafka: its scores, what shows them, and how it goes on after a kill."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import bus_feed
import msgspec
import pytest
import scores_rig
from aiokafka.errors import KafkaTimeoutError
from dead_members import bury
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from pathcast_process import COMMAND, environment, pathcast
from worker_process import Worker, assert_all_live

from stream.kafka import admin
from stream.kafka.producer import Publisher
from stream.kafka.records.encoded_batches import Answers
from stream.kafka.records.record_columns import Records
from stream.members.running import serve
from stream.services.scores import member
from stream.services.scores.owned import CommitMetadata, Owned
from stream.services.scores.settings import ScoreSettings
from stream.up.embedded import free_port
from stream.wire import Record, Score, Topics, dumps_scored, loads_scored

PARTITIONS = 3


class Feed:
    """Made-up forecasts in a topic of their own, and what must come of them."""

    def __init__(self, kafka: str, prefix: str, folder: Path, entities: int = 24) -> None:
        self.kafka, self.topics, self.folder, self.prefix = kafka, Topics.of(prefix), folder, prefix
        self.settings = ScoreSettings(bootstrap=kafka, prefix=prefix, group=f"{prefix}-scores")
        self.logs = {n: scores_rig.records(n, entities=entities, minutes=240) for n in range(PARTITIONS)}
        with admin.connect(kafka) as client:
            admin.create(client, self.topics, partitions=PARTITIONS)

    def send(self) -> None:
        producer = KafkaProducer(bootstrap_servers=self.kafka)
        for number, log in self.logs.items():
            for raw in log:
                producer.send(self.topics.forecasts, partition=number, value=raw)
        producer.flush()
        producer.close()

    def undisturbed(self) -> tuple[dict[int, list[bytes]], dict[int, Owned]]:
        """What one member publishes that nothing ever happens to, by partition; and what it then knows."""
        found, owners = {}, {}
        for number, log in self.logs.items():
            partition = self.topics.forecasts, number
            owned = owners[number] = Owned(partition, self.settings, None, None)
            rows = [Record(*partition, offset, 0, None, raw) for offset, raw in enumerate(log)]
            found[number] = [dumps_scored(one.record) for one in owned.fold(Records.of(rows))]
        return found, owners

    def published(self) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {number: [] for number in self.logs}
        for record in bus_feed.read(self.kafka, self.topics.scores):
            found[record.partition].append(record.value or b"")
        return found

    def member(self, name: str, *more: str, **env: str) -> Worker:
        options = ("beside", "scores", "--bootstrap", self.kafka, "--prefix", self.prefix, *more)
        return Worker(self.folder / f"{name}.log", program=COMMAND, command=options, environment=environment(**env))

    def wait_until_scored(self, *members: Worker) -> None:
        check = partial(assert_all_live, *members)
        bus_feed.wait_until_consumed(self.kafka, self.settings.group, self.topics.forecasts, check)

    def committed(self) -> dict[int, CommitMetadata]:
        consumer = KafkaConsumer(bootstrap_servers=self.kafka, group_id=self.settings.group, enable_auto_commit=False)
        tps = {n: TopicPartition(self.topics.forecasts, n) for n in self.logs}
        found = {n: consumer.committed(tp, metadata=True).metadata for n, tp in tps.items()}
        consumer.close()
        return {n: msgspec.json.decode(text, type=CommitMetadata) for n, text in found.items()}


@pytest.fixture
def feed(kafka: str, topic_prefix: str, tmp_path: Path) -> Feed:
    return Feed(kafka, topic_prefix, tmp_path)


def test_a_score_can_be_shown_watched_and_asked_for(feed: Feed) -> None:
    feed.send()
    port = free_port()
    with feed.member("run", "--metrics", str(port)) as member:
        feed.wait_until_scored(member)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            metrics = dict(_lines(page.read().decode()))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as page:
            assert page.status == 200
        assert member.stop() == 0, member.log()
    expected = [loads_scored(raw) for part in feed.undisturbed()[0].values() for raw in part]
    judged = [one for one in expected if isinstance(one, Score) and one.status == "ok"]
    mine = [one for one in judged if one.model.version == "m2"]
    scored = [one.horizons[0] for one in mine if one.horizons[0].error_m is not None]
    labels = '{atlas="asked",horizon="60",model="m2"}'
    assert metrics[f"pathcast_scores_scored_total{labels}"] == len(scored)
    assert metrics[f"pathcast_scores_unscored_total{labels}"] == len(mine) - len(scored)
    assert metrics[f"pathcast_scores_error_metres_total{labels}"] == pytest.approx(sum(one.error_m for one in scored))
    assert metrics[f"pathcast_scores_inside90_total{labels}"] == sum(bool(one.inside90) for one in scored)
    assert metrics['pathcast_scores_ready{partition="0"}'] == 1
    assert metrics['pathcast_scores_forecasts_total{status="ok"}'] == len(judged)

    servers = ("--bootstrap", feed.kafka, "--prefix", feed.prefix)
    told = json.loads(_ran("show", "--json", "--compare", "m1", "m2", *servers))
    (row,) = [one for one in told["scores"] if (one["model"], one["horizon"]) == ("m2", "60")]
    assert row["n"] == len(scored)
    assert row["mean_m"]["value"] == pytest.approx(sum(one.error_m for one in scored) / len(scored))
    assert told["paired"]["n"] > 1_000
    table = _ran("show", "--since", "1h", *servers)
    assert "median m" in table
    assert "m2" in table
    assert len(table.splitlines()) >= 9
    shown = json.loads(pathcast("dev", "topics", "--json", *servers).stdout)
    assert {one["name"]: one["partitions"] for one in shown}[feed.topics.scores] == PARTITIONS


@pytest.mark.usefixtures("apache_kafka")
def test_once_scores_up_to_the_present_end_and_again_goes_on_from_there_also_after_a_kill(feed: Feed) -> None:
    """What can happen to its member is tested in tests/system/members; here are more records, and what it commits."""
    expected, owners = feed.undisturbed()
    logs = feed.logs
    for low, high, point in ((0, 3, ""), (3, 4, ""), (4, 4, ""), (4, 6, "after_publish"), (6, 8, "")):
        feed.logs = {n: log[len(log) * low // 8 : len(log) * high // 8] for n, log in logs.items()}
        feed.send()
        with feed.member(f"from{low}to{high}", "--once", PATHCAST_KILL_POINT=point) as member:
            assert member.wait() == (-signal.SIGKILL if point else 0), member.log()
        bury(feed.kafka, feed.settings.group)
    published = feed.published()
    copies = sum(map(len, published.values())) - sum(map(len, expected.values()))
    assert copies > 0, "after_publish leaves copies: else this shows nothing"
    for number, scores in expected.items():
        assert len(scores) > 1_000
        assert list(dict.fromkeys(published[number])) == scores
    for number, kept in feed.committed().items():
        watches = owners[number]._watches
        assert watches is not None
        assert kept.watches == watches.states()


async def test_scores_that_kafka_did_not_acknowledge_are_published_again(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A Kafka that was away for two minutes ended the member."""
    await asyncio.to_thread(feed.send)
    publish, tries = Publisher.publish, 0

    async def away_once(publisher: Publisher, answers: Answers) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise KafkaTimeoutError("no acknowledgement")
        await publish(publisher, answers)

    monkeypatch.setattr(Publisher, "publish", away_once)
    monkeypatch.setattr(member, "RETRY_S", 0.2)
    monkeypatch.setattr(member, "COMMIT_S", 5.0)  # all is read before the first is published
    await serve([member.service(replace(feed.settings, once=True))], stopped_by=())
    assert tries > 1
    assert "taken over again" in caplog.text
    assert await asyncio.to_thread(feed.published) == (await asyncio.to_thread(feed.undisturbed))[0]


def _ran(*arguments: str) -> str:
    done = subprocess.run(
        [*COMMAND, "scores", *arguments], capture_output=True, text=True, timeout=120, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _lines(text: str) -> Iterator[tuple[str, float]]:
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            yield name, float(value)
