"""`pathcast ingest http` with a real Kafka that is killed under it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import bus_feed
import ingest_process
import pytest
from mortal_kafka import MortalKafka, values_of

from stream.wire import Topics

T0_S = 1_764_489_600
SENDERS = 20


async def sent(client: aiohttp.ClientSession, url: str, message: Any) -> int:
    async with client.post(url, json=message) as said:
        return said.status


class Load:
    """Senders that send each message until it is acknowledged, and count the answers."""

    def __init__(self, url: str) -> None:
        self.answers: Counter[int] = Counter()
        self.acknowledged: list[int] = []
        self._url = url
        self._next = 0
        self.stopping = False

    async def run(self) -> None:
        async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as tasks:
            for _ in range(SENDERS):
                tasks.create_task(self._send(client))

    async def _send(self, client: aiohttp.ClientSession) -> None:
        while not self.stopping:
            number, self._next = self._next, self._next + 1
            message = [{"ident": f"v{number % 97}", "timestamp": T0_S + number, "position.latitude": 30.2}]
            message[0]["position.longitude"] = -97.7
            while not self.stopping:
                status = await sent(client, self._url, message)
                self.answers[status] += 1
                if status == 200:
                    self.acknowledged.append(number)
                    break
                await asyncio.sleep(0.2)

    async def until(self, status: int, more: int) -> None:
        """Returns once so many more were answered so."""
        wanted = self.answers[status] + more
        async with asyncio.timeout(120):
            while self.answers[status] < wanted:  # noqa: ASYNC110 - a count, and not an event
                await asyncio.sleep(0.05)


@pytest.mark.promise("what was acknowledged is in Kafka, although that was killed")
async def test_what_was_acknowledged_is_there_after_kafka_was_killed(
    mortal: MortalKafka, topic_prefix: str, tmp_path: Path
) -> None:
    topics = Topics.of(topic_prefix)
    bus_feed.create_topics(mortal.bootstrap, topics, partitions=4)
    with ingest_process.http(tmp_path / "log", "flespi", kafka=mortal.bootstrap, prefix=topic_prefix) as ingest:
        load = Load(f"{ingest.url}/flespi")
        running = asyncio.create_task(load.run())
        await load.until(200, 500)
        await asyncio.to_thread(mortal.kill)
        await load.until(503, 2 * SENDERS)  # they are told, and are told again at once
        await asyncio.to_thread(mortal.start)
        await load.until(200, 500)
        load.stopping = True
        await running
        assert ingest.process.stop() == 0
    assert set(load.answers) == {200, 503}, load.answers
    found = Counter(json.loads(value)["ts"] // 1000 - T0_S for _, value in values_of(mortal.bootstrap, topics.pings))
    lost = set(load.acknowledged) - set(found)
    print(f"{len(load.acknowledged)} acknowledged, {load.answers[503]} times 503, {found.total() - len(found)} twice")
    assert len(load.acknowledged) >= 1_000
    assert not lost, f"{len(lost)} of {len(load.acknowledged)} that were acknowledged are not there"
