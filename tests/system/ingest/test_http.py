"""`pathcast ingest http` with a real Kafka: webhooks in and forecasts out, and Kafka killed under it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import bus_feed
import ingest_process
from mortal_kafka import MortalKafka, values_of
from worker_process import Worker, assert_all_live

from stream.wire import ERROR_HEADER_PREFIX, Topics, loads_forecast

T0_S = 1_764_489_600
SECRET = "d9d36bea41c44ae49d1bfc4a48ba2abe"
SENDERS = 20


def samsara(number: int) -> dict[str, Any]:
    """Two vehicles at 20 mph, as a poll of Samsara's feed finds them every ten seconds."""
    time = f"2025-11-30T08:{number * 10 // 60:02}:{number * 10 % 60:02}Z"
    gps = {"time": time, "latitude": 37.38 + number * 8e-4, "speedMilesPerHour": 20, "headingDegrees": 0}
    data = [
        {"id": name, "name": name, "gps": [{**gps, "longitude": lon}]} for name, lon in (("a", -122.05), ("b", -122.4))
    ]
    return {"data": data, "pagination": {"endCursor": "x", "hasNextPage": False}}


def motive(number: int) -> dict[str, Any]:
    time = f"2025-11-30T08:{number * 10 // 60:02}:{number * 10 % 60:02}Z"
    place = {"lat": 32.77 + number * 8e-4, "lon": -96.79, "bearing": 0.0, "speed": 20.0}
    return {"action": "vehicle_location_updated", "vehicle_id": 4213, "located_at": time, **place}


async def sent(client: aiohttp.ClientSession, url: str, message: Any, secret: str | None = None) -> tuple[int, Any]:
    body = json.dumps(message).encode()
    headers = {"Content-Type": "application/json"}
    if secret is not None:
        headers["X-KT-Webhook-Signature"] = hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()
    async with client.post(url, data=body, headers=headers) as said:
        text = await said.text()
        return said.status, json.loads(text) if text.startswith("{") else text


async def test_webhooks_become_forecasts_and_what_is_no_ping_a_dead_letter(
    apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    topics, count = Topics.of(topic_prefix), 20
    bus_feed.create_topics(apache_kafka, topics, partitions=2)
    options = {"bootstrap": apache_kafka, "prefix": topic_prefix, "redis": redis_url, "group": topic_prefix}
    door = partial(ingest_process.http, kafka=apache_kafka, prefix=topic_prefix)
    secrets = {"PATHCAST_INGEST_HMAC_MOTIVE": SECRET}
    with (
        Worker(tmp_path / "worker.log", **options) as worker,
        door(tmp_path / "ingest.log", "samsara", "motive", environment=secrets) as ingest,
    ):
        async with aiohttp.ClientSession() as client:
            for number in range(count):
                assert await sent(client, f"{ingest.url}/samsara", samsara(number)) == (
                    200,
                    {"pings": 2, "rejects": 0, "skips": {}, "reasons": []},
                )
                assert (await sent(client, f"{ingest.url}/motive", motive(number)))[0] == 401
                assert (await sent(client, f"{ingest.url}/motive", motive(number), SECRET))[0] == 200
            status, told = await sent(client, f"{ingest.url}/samsara", {"data": [{"id": "c", "gps": {"time": "now"}}]})
            assert (status, told["rejects"]) == (200, 1)
        check = partial(assert_all_live, worker, ingest.process)
        await asyncio.to_thread(bus_feed.wait_for_records, apache_kafka, topics.forecasts, 3 * count, check)
        assert ingest.process.stop() == 0
        assert worker.stop() == 0
    assert f"{3 * count} pings, 1 rejects (missing_field 1)" in ingest.process.log()
    forecasts = [loads_forecast(one.value or b"") for one in bus_feed.read(apache_kafka, topics.forecasts)]
    assert Counter(one.entity_id for one in forecasts) == {"a": count, "b": count, "4213": count}
    last = max((one for one in forecasts if one.entity_id == "a"), key=lambda one: one.anchor.ts)
    assert last.window.n == count
    assert last.horizons[0].lat > last.anchor.lat, "it goes north"
    (letter,) = bus_feed.read(apache_kafka, topics.dead_letters)
    headers = dict(letter.headers)
    assert headers[ERROR_HEADER_PREFIX + "adapter"] == b"samsara"
    assert headers[ERROR_HEADER_PREFIX + "topic"] == b"http:/webhook/samsara"
    assert json.loads(letter.value or b"")["data"][0]["id"] == "c", "the message as it came"


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
                status, _ = await sent(client, self._url, message)
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
