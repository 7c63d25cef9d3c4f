"""Every door of `pathcast ingest` over its real transport, through one Kafka and one worker, into forecasts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import re
import socket
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import bus_feed
import feed_sources
import ingest_process
import ingest_rig
import mosquitto_server
import pytest
from feed_sources import ais_line, gtfs_feed, ingest, rmc
from missing_servers import skip_unless_required
from pathcast_process import PATIENCE_S, eventually
from worker_process import Worker, assert_all_live

from stream.up.embedded import HOST, free_port
from stream.wire import ERROR_HEADER_PREFIX, Forecast, Ping, Topics, loads_forecast

pytestmark = pytest.mark.promise("each door leads to forecasts")

COUNT = 4  # pings of each vehicle
STEP_S = 10
SECRET = "d9d36bea41c44ae49d1bfc4a48ba2abe"


class Scene(NamedTuple):
    kafka: str
    prefix: str
    worker: Worker

    def forecasts_of(
        self, *entities: str, live: Sequence[Worker] = (), count: int = COUNT
    ) -> dict[str, list[Forecast]]:
        """So many forecasts of each, in the order of their anchors. The processes that must `live` on meanwhile."""
        topic, found = Topics.of(self.prefix).forecasts, {}

        def all_there() -> bool:
            assert_all_live(self.worker, *live)
            nonlocal found
            forecasts = [loads_forecast(one.value or b"") for one in bus_feed.read(self.kafka, topic)]
            found = {who: [one for one in forecasts if one.entity_id == who] for who in entities}
            return all(len(of) >= count for of in found.values())

        assert eventually(all_there), {who: len(of) for who, of in found.items()}
        return {who: sorted(of, key=lambda one: one.anchor.ts) for who, of in found.items()}

    def ping_of(self, entity: str) -> Ping:
        """The last one."""
        found: Ping = feed_sources.pings_by_entity(bus_feed.read(self.kafka, Topics.of(self.prefix).pings))[entity][-1]
        return found


@pytest.fixture(scope="module")
def scene(apache_kafka: str, redis_base_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    prefix = f"t{uuid.uuid4().hex[:12]}"
    bus_feed.create_topics(apache_kafka, Topics.of(prefix), partitions=2)
    options = {"bootstrap": apache_kafka, "prefix": prefix, "redis": redis_base_url, "group": prefix}
    with Worker(tmp_path_factory.mktemp("worker") / "log", **options) as worker:
        worker.wait_until_ready()
        yield Scene(apache_kafka, prefix, worker)


@pytest.fixture
def start(scene: Scene, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts `pathcast ingest` with these arguments, and ends it by SIGTERM, cleanly."""
    started: list[Worker] = []

    def run(*command: object, **environment: str) -> Worker:
        log = tmp_path / f"{len(started)}.log"
        started.append(ingest(log, *command, kafka=scene.kafka, prefix=scene.prefix, **environment))
        return started[-1]

    yield run
    for process in started:
        with process:
            print(process.log())
            assert process.status == 0 or process.stop() == 0


def has_opened(process: Worker, path: str) -> bool:
    return any(str(one.readlink()) == path for one in Path(f"/proc/{process.pid}/fd").iterdir())


def t0_s() -> int:
    """A minute ago, in whole minutes: no feed may be of the future."""
    return int(time.time()) // 60 * 60 - 120


def assert_moving(forecasts: list[Forecast], north_deg: float) -> None:
    """They were made of the pings, whose vehicle goes north."""
    assert len(forecasts) == COUNT
    assert [round(one.anchor.lat, 4) for one in forecasts] == [round(north_deg + n * 0.001, 4) for n in range(COUNT)]
    assert forecasts[-1].horizons[0].lat > forecasts[-1].anchor.lat


def test_gtfs_realtime_becomes_forecasts(scene: Scene, start: Callable[..., Worker]) -> None:
    began_s = t0_s()

    def snapshot(number: int) -> bytes:
        n = min(number, COUNT - 1)  # then it stays as it is
        return gtfs_feed(began_s + n * STEP_S, [("bus-1", n), ("bus-2", n)])

    with feed_sources.HttpFeed(snapshot) as feed:
        process = start("gtfs-rt", "--url", feed.url, "--every", "1s")
        found = scene.forecasts_of("bus-1", "bus-2", live=[process])
        assert eventually(lambda: len(feed.served) > COUNT + 1)
        assert process.stop() == 0
    for forecasts in found.values():
        assert_moving(forecasts, 30.0)
    assert f"{2 * COUNT} pings" in process.log(), "what did not change was not sent again"
    ping = scene.ping_of("bus-1")
    assert (ping.trip_id, ping.attrs) == ("trip-bus-1", {"route_id": "801"})


def test_adsb_becomes_forecasts(scene: Scene, start: Callable[..., Worker]) -> None:
    began_s = t0_s()

    def snapshot(number: int) -> bytes:
        n = min(number, COUNT - 1)
        now = began_s + n * STEP_S + (number - n)  # the clock goes on when nothing is heard
        one = {
            "hex": "3c6dd2",
            "lat": 50.0 + n * 0.001,
            "lon": 8.57,
            "seen_pos": 0.5 + number - n,
            "gs": 150,
            "alt_geom": 1000,
        }
        return json.dumps({"now": now, "messages": 1, "aircraft": [one, {"hex": "4ca87d", "seen": 1}]}).encode()

    with feed_sources.HttpFeed(snapshot) as feed:
        process = start("adsb", "--url", feed.url)
        found = scene.forecasts_of("3c6dd2", live=[process])
        assert eventually(lambda: len(feed.served) > COUNT + 1)
        assert process.stop() == 0
    assert_moving(found["3c6dd2"], 50.0)
    assert f"{COUNT} pings" in process.log()
    assert scene.ping_of("3c6dd2").alt_m == pytest.approx(304.8)


def test_ais_over_tcp_becomes_forecasts(scene: Scene, start: Callable[..., Worker]) -> None:
    """As a client of a receiver, and as a server that receivers connect to."""
    began_s, at = t0_s(), f"{HOST}:{free_port()}"
    with feed_sources.tcp_peer() as (address, accept):
        client = start("ais", "--tcp", address)
        server = start("ais", "--listen-tcp", at)
        with accept() as peer:
            for n in range(COUNT):
                peer.sendall(ais_line(366_000_001, began_s + n * STEP_S, n))
            server.wait_for("listening on TCP", PATIENCE_S)
            with socket.create_connection(at.split(":")) as receiver:
                for n in range(COUNT):
                    receiver.sendall(ais_line(366_000_002, began_s + n * STEP_S, n))
            found = scene.forecasts_of("366000001", "366000002", live=[client, server])
    for forecasts in found.values():
        assert_moving(forecasts, 29.0)


def test_ais_over_udp_becomes_forecasts(scene: Scene, start: Callable[..., Worker]) -> None:
    began_s, port = t0_s(), free_port()
    start("ais", "--listen-udp", port).wait_for("listening on UDP", PATIENCE_S)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        for n in range(COUNT):
            receiver.sendto(ais_line(366_000_003, began_s + n * STEP_S, n), (HOST, port))
        assert_moving(scene.forecasts_of("366000003")["366000003"], 29.0)


def test_a_serial_port_becomes_forecasts(scene: Scene, start: Callable[..., Worker]) -> None:
    began_s = t0_s()
    with feed_sources.serial_line() as (line, path):
        process = start("nmea", "--serial", path, "--entity", "van-7")
        process.wait_for("nmea: to", PATIENCE_S)
        assert eventually(lambda: has_opened(process, path)), "the port is opened after that line"
        time.sleep(0.2)  # and emptied at once
        os.write(line, b"24,A,half a sentence*00\r\n")
        for n in range(COUNT):
            os.write(line, rmc(began_s + n * STEP_S, n))
        found = scene.forecasts_of("van-7", live=[process])
    assert_moving(found["van-7"], 37.5)
    assert scene.ping_of("van-7").speed_mps == pytest.approx(11.112)


def test_trackers_that_connect_here_and_datagrams_become_forecasts(scene: Scene, start: Callable[..., Worker]) -> None:
    began_s, port = t0_s(), free_port()
    server = start("nmea", "--listen-tcp", port, "--entity", f"{HOST}=van-8")
    datagrams = start("nmea", "--listen-udp", port, "--entity", "ferry")
    server.wait_for("listening on TCP", PATIENCE_S)
    datagrams.wait_for("listening on UDP", PATIENCE_S)
    with socket.create_connection((HOST, port)) as van, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as boat:
        for n in range(COUNT):
            van.sendall(rmc(began_s + n * STEP_S, n))
            boat.sendto(rmc(began_s + n * STEP_S, n), (HOST, port))
        found = scene.forecasts_of("van-8", "ferry", live=[server, datagrams])
    for forecasts in found.values():
        assert_moving(forecasts, 37.5)


def test_gpsd_becomes_forecasts(scene: Scene, start: Callable[..., Worker], tmp_path: Path) -> None:
    """Debian's gpsd, which reads a receiver at a pseudo terminal; it needs some sentences to know what it is."""
    began_s, ended = t0_s(), threading.Event()

    def drive(line: int) -> None:
        for n in range(100):
            os.write(line, rmc(began_s + n, n))
            if ended.wait(0.1):
                return

    with feed_sources.serial_line() as (line, path):
        try:
            with feed_sources.real_gpsd(path, tmp_path) as port:
                start("gpsd", "--port", port, "--entity", "boat").wait_for("gpsd: to", PATIENCE_S)
                driver = threading.Thread(target=drive, args=(line,))
                driver.start()
                try:
                    forecasts = scene.forecasts_of("boat")["boat"]
                finally:
                    ended.set()
                    driver.join()
        except FileNotFoundError as reason:
            skip_unless_required(reason)
    places = [one.anchor.lat for one in forecasts]
    assert places == sorted(places)
    assert places[-1] > places[0] >= 37.5
    ping = scene.ping_of("boat")
    assert ping.speed_mps == pytest.approx(11.112, abs=0.01)
    assert ping.attrs == {"device": path}


def test_files_become_forecasts(scene: Scene, start: Callable[..., Worker], tmp_path: Path) -> None:
    began_s = t0_s()
    rows = [
        {"entity_id": "truck", "ts": (began_s + n * STEP_S) * 1000, "lat": 45.0 + n * 0.001, "lon": 7.0}
        for n in range(COUNT)
    ]
    (tmp_path / "whole.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    process = start("files", tmp_path / "whole.ndjson")
    assert process.wait() == 0
    assert_moving(scene.forecasts_of("truck")["truck"], 45.0)

    path = tmp_path / "grows.csv"
    path.write_text("vehicle,when,y,x\n")
    columns = "t:s=when,lat=y,lon=x,entity_id=vehicle"
    start("files", path, "--follow", "--columns", columns)
    with path.open("a") as file:
        for n in range(COUNT):
            print(f"trailer,{began_s + n * STEP_S},{46 + n * 0.001},7", file=file, flush=True)
            time.sleep(0.1)
    assert_moving(scene.forecasts_of("trailer")["trailer"], 46.0)


def test_phones_and_trackers_become_forecasts(scene: Scene, start: Callable[..., Worker], tmp_path: Path) -> None:
    """OwnTracks over MQTT and HTTP, and Traccar over Kafka."""
    with mosquitto_server.running(tmp_path) as broker:
        mqtt = start("mqtt", "--broker", broker.broker, "--topic", "owntracks/+/+")
        tracker = start("traccar", "--from-topic", f"{scene.prefix}-positions")
        http = start("http", "--map", "owntracks", "--listen", "127.0.0.1:0")
        mqtt.wait_for("connected to the MQTT broker", PATIENCE_S)
        with mosquitto_server.Publisher(broker) as phones:
            phones.publish_all([ingest_rig.owntracks(number, t0_s()) for number in range(5)])
        positions = (ingest_rig.traccar(number, t0_s()) for number in range(5))
        bus_feed.send(scene.kafka, f"{scene.prefix}-positions", ((key, value, ()) for key, value in positions))
        http.wait_for("listening at ", PATIENCE_S)
        url = re.findall(r"listening at (\S+)", http.log())[0]
        headers = {"X-Limit-U": "jane", "X-Limit-D": "tablet", "Content-Type": "application/json"}
        _, payload = ingest_rig.owntracks(0, t0_s())
        asked = urllib.request.Request(url, payload, headers)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert (answer.status, json.loads(answer.read())) == (200, [])
        expected = [*(f"u{number}/phone" for number in range(5)), *map(ingest_rig.imei, range(5)), "jane/tablet"]
        scene.forecasts_of(*expected, live=[mqtt, tracker, http], count=1)
        assert mqtt.stop() == 0


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


async def test_webhooks_become_forecasts_and_what_is_no_ping_a_dead_letter(scene: Scene, tmp_path: Path) -> None:
    count, secrets = 20, {"PATHCAST_INGEST_HMAC_MOTIVE": SECRET}
    door = partial(ingest_process.http, kafka=scene.kafka, prefix=scene.prefix, environment=secrets)
    with door(tmp_path / "ingest.log", "samsara", "motive") as ingest:
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
        found = await asyncio.to_thread(scene.forecasts_of, "a", "b", "4213", live=[ingest.process], count=count)
        assert ingest.process.stop() == 0
    assert f"{3 * count} pings, 1 rejects (missing_field 1)" in ingest.process.log()
    assert {who: len(of) for who, of in found.items()} == {"a": count, "b": count, "4213": count}
    last = found["a"][-1]
    assert last.window.n == count
    assert last.horizons[0].lat > last.anchor.lat, "it goes north"
    letters = bus_feed.read(scene.kafka, Topics.of(scene.prefix).dead_letters)
    (letter,) = [one for one in letters if dict(one.headers)[ERROR_HEADER_PREFIX + "adapter"] == b"samsara"]
    headers = dict(letter.headers)
    assert headers[ERROR_HEADER_PREFIX + "topic"] == b"http:/webhook/samsara"
    assert json.loads(letter.value or b"")["data"][0]["id"] == "c", "the message as it came"
