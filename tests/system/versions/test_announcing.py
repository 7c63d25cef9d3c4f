"""Versions are brought in as the ledger wants it, also where pings burst in and announcers die half-way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerFenced
from kafka.admin import ConfigResource, ConfigResourceType

from stream.kafka import admin
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.announcing import Announcer, NotAnnounced
from stream.versions.ledger import MIN_MARGIN, Ledger
from stream.wire import Topics, VersionRecord, dumps

PARTITIONS = 3
QUICK = {"sample_s": 0.05, "lead_s": 1.0}
V1, V2 = "1" * 16, "2" * 16


@pytest.fixture
def topics(kafka: str, topic_prefix: str) -> Topics:
    names = Topics.of(topic_prefix)
    with admin.connect(kafka) as client:
        admin.create(client, names, partitions=PARTITIONS)
    return names


async def send(kafka: str, topics: Topics, number: int, pings: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    for _ in range(pings):
        await producer.send(topics.pings, b"{}", partition=number)
    await producer.stop()


def after_publishing(announcer: Announcer, what: Callable[[int], Awaitable[None]]) -> None:
    """Calls `what` with 1, 2, ... after each of the announcer's records is in the log."""
    publish, calls = announcer._publish, 0

    async def then(records: dict[bytes, bytes | None]) -> None:
        nonlocal calls
        await publish(records)
        calls += 1
        await what(calls)

    announcer._publish = then  # type: ignore[method-assign, assignment]


async def heard(kafka: str, topics: Topics) -> Ledger:
    async with AnnouncementReader.open(kafka, topics) as announcements:
        await announcements.look()
        await announcements.look()
        return announcements.ledger


async def test_a_version_answers_from_behind_the_ends_of_its_moment_on(kafka: str, topics: Topics) -> None:
    await send(kafka, topics, 1, 40)
    async with Announcer.open(kafka, topics, **QUICK) as announcer:
        record = await announcer.announce(V1, includes={0: 0}, contains={"pings": 3})
        assert record.first == {0: MIN_MARGIN, 1: 40 + MIN_MARGIN, 2: MIN_MARGIN}
        assert (record.state, record.topic, record.contains) == ("serving", topics.pings, {"pings": 3})
        assert await announcer.announce(V1, includes={}, contains={}) == record, "a version serves once"
        later = await announcer.announce(V2, includes={}, contains={})
    found = await heard(kafka, topics)
    assert found.serving == [record, later]
    assert found.announced == []
    with admin.connect(kafka) as client:
        (info,) = admin.describe(client, [topics.models])
        asked = [ConfigResource(ConfigResourceType.TOPIC, topics.models, {"cleanup.policy": None})]
        policy = client.describe_configs(asked, config_filter="all")["topic"][topics.models]["cleanup.policy"]["value"]
    assert (info.partitions, policy) == (1, "compact")


async def test_pings_that_come_between_the_steps_withdraw_a_version_and_the_next_try_has_room(
    kafka: str, topics: Topics
) -> None:
    async with Announcer.open(kafka, topics, **QUICK) as announcer:

        async def burst(step: int) -> None:
            if step == 1:
                await send(kafka, topics, 2, 30)

        after_publishing(announcer, burst)
        record = await announcer.announce(V1, includes={}, contains={})
    assert record.first[2] > 30 + MIN_MARGIN, "what the burst shows of the rate counts"
    assert (await heard(kafka, topics)).serving == [record]


async def test_pings_that_always_come_faster_are_an_error_and_nothing_is_left_open(kafka: str, topics: Topics) -> None:
    async with Announcer.open(kafka, topics, sample_s=0.01, lead_s=0.0) as announcer:
        after_publishing(announcer, lambda step: send(kafka, topics, 0, 20))
        with pytest.raises(NotAnnounced, match="was announced 6 times"):
            await announcer.announce(V1, includes={}, contains={})
    found = await heard(kafka, topics)
    assert (found.serving, found.announced) == ([], [])


@pytest.mark.parametrize(("pings", "serves"), [(0, True), (20, False)])
async def test_a_new_announcer_ends_what_another_began_and_that_one_writes_no_more(
    kafka: str, topics: Topics, pings: int, serves: bool
) -> None:
    """The first stands still between its steps. Were it not fenced, it might confirm a version late, after pings of its
    range were answered."""
    async with Announcer.open(kafka, topics, **QUICK) as first:

        async def replaced(step: int) -> None:
            await send(kafka, topics, 0, pings)
            async with Announcer.open(kafka, topics, **QUICK) as second:
                assert [one.version for one in second.ledger.serving] == [V1] * serves
                assert second.ledger.announced == []

        after_publishing(first, replaced)
        with pytest.raises(ProducerFenced):
            await first.announce(V1, includes={}, contains={})
    assert [one.version for one in (await heard(kafka, topics)).serving] == [V1] * serves


async def test_a_version_that_names_a_partition_that_is_not_there_is_withdrawn(kafka: str, topics: Topics) -> None:
    record = VersionRecord(
        version=V1, state="announced", first={0: 50, PARTITIONS: 50, -1: 50}, topic=topics.pings, includes={},
        contains={}, issued_ts=0,
    )  # fmt: skip
    async with Announcer.open(kafka, topics, **QUICK) as first:
        await first._publish({record.key: dumps(record)})
    async with Announcer.open(kafka, topics, **QUICK) as second:
        assert (list(second.ledger.announced), list(second.ledger.serving)) == ([], [])
        assert (await second.announce(V1, includes={}, contains={})).first.keys() == set(range(PARTITIONS))


async def test_a_retired_version_answers_no_more(kafka: str, topics: Topics) -> None:
    async with Announcer.open(kafka, topics, **QUICK) as announcer:
        for version in (V1, V2):
            await announcer.announce(version, includes={}, contains={})
        old = announcer.ledger.list_superseded(dict.fromkeys(range(PARTITIONS), 10**6))
        await announcer.retire(old)
        assert [one.version for one in announcer.ledger.serving] == [V2]
    assert [one.version for one in (await heard(kafka, topics)).serving] == [V2]
