"""The sink and a real Kafka that is killed under it: what `take` returned for is in the topic."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable

import pytest
from bus_feed import create_topics
from mortal_kafka import MortalKafka, values_of

from stream.adapters.live.parsed import reject
from stream.ingest.publishing.sink import Sink, Unavailable
from stream.wire import Ping, Topics

ACK_S = 3.0  # shorter than the ten seconds of the sink, so that the test does not wait for these
TAKERS = 50


def ping(number: int) -> Ping:
    return Ping(entity_id=f"bus-{number % 97}", ts=1_764_489_600_000 + number, lat=30.2, lon=-97.7)


def times_of(kafka: MortalKafka, topics: Topics) -> Counter[int]:
    return Counter(json.loads(value)["ts"] - 1_764_489_600_000 for _, value in values_of(kafka.bootstrap, topics.pings))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110  # what it waits for tells nobody
            await asyncio.sleep(0.01)


class Load:
    """Many callers at once, each of which waits for its ping before it takes the next one."""

    def __init__(self, sink: Sink) -> None:
        self.taken: list[int] = []  # whose `take` has returned
        self.refused = 0
        self._sink = sink
        self._next = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._take()) for _ in range(TAKERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, taken: int) -> None:
        """Waits until so many are taken. Raises what a caller raised."""
        async with asyncio.timeout(120):
            while len(self.taken) < taken:
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)

    async def until_refused(self, more: int) -> None:
        wanted = self.refused + more
        await until(lambda: self.refused >= wanted)

    async def _take(self) -> None:
        while True:
            number, self._next = self._next, self._next + 1
            while True:
                try:
                    await self._sink.take([ping(number)], b"", "test")
                    break
                except Unavailable:
                    self.refused += 1
                    await asyncio.sleep(0.1)
            self.taken.append(number)


async def test_what_take_returned_for_is_there_after_kafka_was_killed_under_load(
    mortal: MortalKafka, topic_prefix: str
) -> None:
    topics = Topics.of(topic_prefix)
    create_topics(mortal.bootstrap, topics, partitions=4)
    async with Sink(mortal.bootstrap, topics, "test", ack_s=ACK_S) as sink, Load(sink) as load:
        await load.until(2_000)
        await asyncio.to_thread(mortal.kill)
        await load.until_refused(TAKERS)  # all have failed, and some have tried again
        assert not sink.is_available
        await asyncio.to_thread(mortal.start)
        async with asyncio.timeout(60):
            await sink.wait_until_available()
        await load.until(len(load.taken) + 2_000)
        taken = list(load.taken)
        counted = sink.taken.pings
    found = times_of(mortal, topics)
    assert len(taken) >= 4_000
    assert counted >= len(taken) == len(set(taken))
    lost = set(taken) - set(found)
    assert not lost, f"{len(lost)} of {len(taken)} that were acknowledged are not there"
    print(f"{len(taken)} taken, {load.refused} refused meanwhile, {found.total() - len(found)} twice")


async def test_nothing_piles_up_and_nothing_comes_late_while_kafka_is_away(
    mortal: MortalKafka, topic_prefix: str
) -> None:
    topics = Topics.of(topic_prefix)
    create_topics(mortal.bootstrap, topics, partitions=4)
    async with Sink(mortal.bootstrap, topics, "test", ack_s=5.0) as sink:  # a slow machine answers within that
        await sink.take([ping(0)], b"", "test")
        await asyncio.to_thread(mortal.kill)
        for number in range(1, 2_001):  # a caller that does not wait
            with pytest.raises(Unavailable):
                await sink.take([ping(number)], b"", "test")
        assert sink.waiting == 0
        await asyncio.to_thread(mortal.start)
        await sink.wait_until_available()
        await sink.take([ping(10_000), reject("null_island", "no fix")], b"as it came", "test:1")
    found = times_of(mortal, topics)
    # The first one of the outage was on its way when Kafka was found to be away.
    assert set(found) - {1} == {0, 10_000}
    ((_, letter),) = values_of(mortal.bootstrap, topics.dead_letters)
    assert letter == b"as it came"


async def test_it_closes_at_once_while_kafka_is_dead(mortal: MortalKafka, topic_prefix: str) -> None:
    topics = Topics.of(topic_prefix)
    create_topics(mortal.bootstrap, topics, partitions=1)
    async with asyncio.timeout(120):  # far less than it would wait for Kafka
        async with Sink(mortal.bootstrap, topics, "test", ack_s=3_600.0) as sink:
            await sink.take([ping(0)], b"", "test")
            await asyncio.to_thread(mortal.kill)
            waiting = asyncio.create_task(sink.take([ping(1)], b"", "test"))
            await until(lambda: sink.waiting > 0)
        with pytest.raises(Unavailable, match="this process ends"):
            await waiting


async def test_a_sink_says_in_one_line_that_no_broker_answers(topic_prefix: str) -> None:
    with pytest.raises(ConnectionError, match=r"no Kafka broker answers at 127\.0\.0\.1:1 "):
        async with Sink("127.0.0.1:1", Topics.of(topic_prefix), "test"):
            raise AssertionError("it was not to begin")


async def test_missing_topics_are_named(mortal: MortalKafka, topic_prefix: str) -> None:
    with pytest.raises(ValueError, match=rf"there is no topic {topic_prefix}\.pings\.v1 at "):
        async with Sink(mortal.bootstrap, Topics.of(topic_prefix), "test"):
            raise AssertionError("it was not to begin")
