"""The models topic: what a look takes, whatever lies in it, and when an announcer takes the second step."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from atlas_world import TOPIC, Entry, entry, name

from stream.config.security import PLAIN_KAFKA
from stream.kafka import log_facts
from stream.kafka.records.record_columns import Records
from stream.versions import announcement_reader, announcing
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.announcing import Announcer, NotAnnounced
from stream.versions.ledger import MIN_MARGIN
from stream.wire import Record, Topics, WeightsRecord, dumps

TOPICS = Topics.of("pathcast")


class Log:
    """The models topic of a broker."""

    def __init__(self) -> None:
        self.entries: list[tuple[bytes | None, bytes | None]] = []
        self.topic_id = "first"

    async def ask_id(self, asker: AIOKafkaConsumer, topic: str) -> str:
        return self.topic_id

    async def end_offsets(self, tps: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(tps, len(self.entries))

    async def reread(
        self, servers: Sequence[str], partition: tuple[str, int], start: int, end: int, **more: Any
    ) -> AsyncIterator[Records]:
        yield Records.of([Record(*partition, at, 0, *self.entries[at]) for at in range(start, end)])


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log()
    monkeypatch.setattr(announcement_reader, "reread", made.reread)
    monkeypatch.setattr(log_facts, "ask_id", made.ask_id)
    return made


@pytest.fixture
def reader(log: Log) -> AnnouncementReader:
    return AnnouncementReader(["nobody:1"], TOPICS, PLAIN_KAFKA, cast(AIOKafkaConsumer, log))


def weights(serial: int, first: int, **more: Any) -> Entry:
    given: dict[str, Any] = {"role": "all", "first": {0: first}, "ramp": {}, "issued_ts": 0, **more}
    fixed: dict[str, Any] = {"kind": "weights", "name": "n", "parts": 10_000, "state": "serving", "reason": ""}
    record = WeightsRecord(**fixed, **given, serial=serial, version=name(serial), topic=TOPIC)
    return record.key, dumps(record)


def version_at(reader: AnnouncementReader, offset: int) -> str | None:
    rules = reader.weights.rules(0)
    at = int(rules.at(np.array([offset]), np.zeros(1, np.uint32))[0])
    return None if at < 0 else rules.rules[at].version


HOSTILE: list[tuple[bytes | None, bytes | None]] = [
    *((None, b"x"), (None, None), (b"", b""), (b"\xff\xfe", b"\xff"), (b"weights:", b"{}"), (b"atlas:", b"null")),
    *((b"weights:" + b"9" * 5_000, b"x"), (b"weights:" + b"9" * 5_000, None), (b"weights:-1", b"1e400")),
    *((b"atlas:../../etc/passwd", b"{}"), (b"atlas:\x1b[2J\r\n", b'"x"'), (b"atlas:" + b"x" * 900_000, b"[]")),
    *((b"weights:0000000007", b"[" * 300_000), (f"atlas:{name(7)}".encode(), b'{"a":' * 100_000)),
    weights(8, 2**63 - 1, ramp={0: 5}),
    weights(9, 2**63 - 3, ramp={0: 2**31 - 1}),
    weights(10, 10, role="canary", until={0: 0}),
    weights(11, 10**9, until={1: 5}, ramp={1: 5}),
    weights(12, 10, issued_ts=-(10**18)),
    weights(2**31 - 1, 10, role="canary", until={0: 10}),
]


async def test_no_record_stops_a_look_or_the_choice_after_it(
    reader: AnnouncementReader, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    """A number of 5,000 digits in a key, and a ramp at the end of all offsets, ended each worker at its start."""
    log.entries = [weights(1, 3), entry(1, "serving", {0: 3}), *HOSTILE]
    await reader.look()
    assert reader.next_offset == len(log.entries)
    assert version_at(reader, 2) is None
    assert version_at(reader, 5) == name(1), "the version that was there serves on"
    assert reader.ledger.version_at(0, 5) == name(1)
    assert reader.weights.rules(0).among(0, 10**9)


async def test_records_that_say_nothing_are_counted_and_told_in_one_line_of_plain_text(
    reader: AnnouncementReader, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    log.entries = [weights(1, 3), (b"weights:0000000002", None), (b"\x1b[2J" + b"x" * 10**6, b"{}"), (b"b\n", b"{}")]
    await reader.look()
    assert reader.refused == 2
    (line,) = caplog.messages
    assert line.isprintable()
    assert "2 records of pathcast.models.v1 are refused" in line
    log.entries.append((b"\x1b[2J" + b"x" * 10**6, b"{}"))
    await reader.look()
    assert (reader.refused, len(caplog.messages[-1]) < 400) == (3, True)
    await reader.look()
    assert len(caplog.messages) == 2


async def test_a_topic_that_was_made_anew_is_read_from_its_beginning(
    reader: AnnouncementReader, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    log.entries = [weights(1, 3), entry(1, "serving", {0: 3}), weights(2, 6)]
    await reader.look()
    assert version_at(reader, 7) == name(2)
    log.entries = [weights(3, 4)]
    await reader.look()
    assert (version_at(reader, 3), version_at(reader, 7)) == (None, name(3)), "nothing of the former topic counts"
    assert reader.ledger.serving == []
    assert (reader.next_offset, "it is another one" in caplog.text) == (1, True)


@pytest.mark.parametrize("more", [0, 1])
async def test_a_topic_that_was_made_anew_is_known_by_its_id_though_it_is_as_long(
    reader: AnnouncementReader, log: Log, caplog: pytest.LogCaptureFixture, more: int
) -> None:
    """Who announces the same weights for later pings makes it as long as the former one, or longer."""
    log.entries = [weights(1, 3), weights(2, 6)]
    await reader.look()
    log.entries, log.topic_id = [weights(1, 3), *[weights(3, 9)] * (1 + more)], "second"
    await reader.look()
    assert (version_at(reader, 7), version_at(reader, 9)) == (name(1), name(3)), "nothing of the former topic counts"
    assert (reader.next_offset, caplog.text.count("it is another one")) == (2 + more, 1)
    log.entries.append(weights(4, 12))
    await reader.look()
    assert (version_at(reader, 12), caplog.text.count("it is another one")) == (name(4), 1)


async def test_brokers_without_ids_of_topics_are_asked_for_the_end_alone(reader: AnnouncementReader, log: Log) -> None:
    log.topic_id, log.entries = "", [weights(1, 3)]
    await reader.look()
    log.entries.append(weights(2, 6))
    await reader.look()
    assert (version_at(reader, 3), version_at(reader, 7), reader.next_offset) == (name(1), name(2), 2)


# -- announcers -------------------------------------------------------------------------------------------------------


class Producer:
    """Writes to the log at once."""

    def __init__(self, log: Log) -> None:
        self._log = log

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        yield

    async def send_and_wait(self, topic: str, value: bytes | None, key: bytes, partition: int) -> Any:
        self._log.entries.append((key, value))
        return SimpleNamespace(offset=len(self._log.entries) - 1)


class Pings:
    """A broker that says where the pings' logs end: so many later at each time that it is asked."""

    def __init__(self, faster: int) -> None:
        self._end, self._faster = 100, faster

    async def end_offsets(self, tps: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._end += self._faster
        return dict.fromkeys(tps, self._end)

    async def beginning_offsets(self, tps: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(tps, 0)


@pytest.fixture
def announcer(log: Log, reader: AnnouncementReader, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Announcer]:
    """An announcer, with a lead of no time, for pings that come so fast."""
    monkeypatch.setattr(announcing, "retrieve_end", lambda producer: None)
    monkeypatch.setattr(announcing, "_partitions", lambda *of: 1)

    def made(faster: int) -> Announcer:
        servers = reader, cast(Any, Producer(log)), cast(Any, Pings(faster))
        return Announcer("nobody:1", TOPICS, PLAIN_KAFKA, *servers, 0.0, 0.0)

    return made


async def test_a_version_serves_if_the_pings_are_still_before_it(announcer: Callable[[int], Announcer]) -> None:
    served = await announcer(0).announce(name(1), includes={}, contains={})
    assert (served.state, served.first) == ("serving", {0: 100 + MIN_MARGIN})


async def test_a_version_is_withdrawn_if_pings_came_to_it_between_the_two_steps(
    announcer: Callable[[int], Announcer], log: Log, reader: AnnouncementReader
) -> None:
    with pytest.raises(NotAnnounced):
        await announcer(MIN_MARGIN).announce(name(1), includes={}, contains={})
    assert log.entries[-1] == (f"atlas:{name(1)}".encode(), None)
    assert reader.ledger.get(name(1)) is None


async def test_after_the_last_number_nothing_is_announced_that_nobody_would_read(
    announcer: Callable[[int], Announcer], log: Log
) -> None:
    log.entries = [weights(2**31 - 1, 10)]
    with pytest.raises(NotAnnounced, match="write a null value for its key, weights:2147483647"):
        await announcer(0).announce_weights(name(1), "n", role="all", reason="")
    assert len(log.entries) == 1
