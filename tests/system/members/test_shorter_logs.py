"""A log gets shorter, or its topic is made anew, under members: once for each kind of member. What is
new is folded once, and nothing of another partition or input is lost."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import mortal_kafka
import pytest
from forked_process import ForkedProcess
from kafka import KafkaConsumer, TopicPartition
from member_kinds import KINDS, PARTITIONS, Kind, run
from mortal_kafka import MortalKafka
from pathcast_process import PATIENCE_S

from stream.kafka import admin

BEFORE = 30  # records of each partition, in several batches; no link is open then
AFTER = 36  # more than the log has lost, so that it grows past what was read
NO_AUTO = "auto.create.topics.enable=false"  # else a member would make a topic that was deleted, with one partition
CUT = 1  # the partition whose log gets shorter
SAID = {"shortened": "the log was shortened to", "made anew": "the topic was made anew"}


@dataclass
class Row:
    """One member, and what happens to its input."""

    kind: Kind
    name: str
    fate: str
    folder: Path
    member: ForkedProcess | None = None

    def start(self, stack: ExitStack) -> None:
        given = (self.name, (self.kind.kafka, self.kind.redis_url, self.kind.prefix))
        self.member = stack.enter_context(ForkedProcess(self.folder / f"{self.kind.prefix}.log", run, *given))

    def log(self) -> str:
        assert self.member is not None
        return self.member.log()

    def wrong(self) -> list[str]:
        """Waits until everything that was sent is there, and returns what is not. What is there too often stays so."""
        deadline = time.monotonic() + PATIENCE_S
        while wrong := self.kind.differences():
            assert self.member is not None
            if time.monotonic() > deadline or not self.member.running():
                return wrong
            time.sleep(0.2)
        return []


@pytest.fixture(scope="module")
def rows(
    say: Callable[[str], None], redis_base_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Row]]:
    """All happens to all of them at once, because a broker of its own takes longer than the rest."""
    with mortal_kafka.running(say, NO_AUTO) as kafka, ExitStack() as stack:
        found = [
            Row(
                KINDS[name](kafka.bootstrap, redis_base_url, f"t{uuid.uuid4().hex[:8]}"),
                *(name, fate, tmp_path_factory.mktemp("row")),
            )
            for name in KINDS
            for fate in SAID
        ]
        for row in found:
            row.kind.create()
            stack.callback(row.kind.close)
            row.start(stack)
        for _ in range(BEFORE // 5):
            for row in found:
                row.kind.send(5)
        for row in found:
            assert row.wrong() == [], row.log()
        happen(kafka, found)
        for row in found:
            row.kind.send(AFTER)
        yield found


def happen(kafka: MortalKafka, rows: list[Row]) -> None:
    shortened = [(row, topic) for row in rows if row.fate == "shortened" for topic in row.kind.inputs]
    kafka.kill()
    for _, topic in shortened:
        kafka.cut_log(topic, CUT)
    kafka.start()
    wait_for_leaders(kafka.bootstrap, {topic for row in rows for topic in row.kind.inputs})
    for row, topic in shortened:
        end = ends(kafka.bootstrap, topic)[CUT]
        assert 0 < end < BEFORE
        row.kind.cut(topic, CUT, end)
    for row in rows:
        if row.fate == "made anew":
            make_anew(kafka.bootstrap, row.kind)
    wait_for_leaders(kafka.bootstrap, {topic for row in rows for topic in row.kind.inputs})


def wait_for_leaders(bootstrap: str, topics: Collection[str]) -> None:
    """A topic that was just made, and a broker that was just started, have none for a moment."""
    deadline, led = time.monotonic() + PATIENCE_S, 0
    while led < len(topics) * PARTITIONS:
        assert time.monotonic() < deadline, f"{led} partitions have a leader"
        with admin.connect(bootstrap) as client:
            parts = [part for one in client.describe_topics(list(topics)) for part in one["partitions"]]
        led = sum(part["leader_id"] >= 0 for part in parts)


def ends(bootstrap: str, topic: str) -> dict[int, int]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    tps = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    try:
        return {tp.partition: end for tp, end in consumer.end_offsets(tps).items()}
    finally:
        consumer.close()


def make_anew(bootstrap: str, kind: Kind) -> None:
    topic, deadline = kind.made_anew, time.monotonic() + PATIENCE_S
    with admin.connect(bootstrap) as client:
        client.delete_topics([topic])
        while not admin.absent(client, [topic]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        admin.create_other(client, kind.topics, topic, partitions=PARTITIONS)
    for number in range(PARTITIONS):
        kind.cut(topic, number, 0)


@pytest.mark.parametrize("fate", SAID)
@pytest.mark.parametrize("name", KINDS)
def test_what_is_new_is_folded_once(rows: list[Row], name: str, fate: str) -> None:
    (row,) = [row for row in rows if (row.name, row.fate) == (name, fate)]
    assert row.wrong() == [], row.log()
    row.kind.send()
    assert row.wrong() == [], row.log()
    assert all(row.kind.expected().values()), "nothing is due that could be wrong"
    if fate == "shortened":
        lines = [line for line in row.log().splitlines() if SAID[fate] in line]
        assert len(lines) == len(row.kind.inputs), row.log()
