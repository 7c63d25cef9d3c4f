"""What is wrong with processes beside the workers is told by a real Prometheus, and is over when it is mended:
`latest`, `serve` and `ingest` with a real Kafka and a real Redis.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import bus_feed
import mortal_kafka
import pytest
import redis
import redis_server
import services_rig
from kafka.admin import ConfigResource, ConfigResourceType
from pathcast_process import COMMAND, environment
from prometheus_server import Prometheus
from steady_feed import feeding
from worker_process import Worker

from stream.kafka import admin
from stream.up.embedded import free_port
from stream.wire import Topics

PARTITIONS = 4
START_S = 300.0  # a bound on waiting
PLACES = 5  # of entities, in each partition of `latest`
TOO_FEW_BYTES = 200  # for a forecast; the markers by which the broker ends a transaction must fit
DEFAULT_BYTES = 1_048_588  # Kafka's max.message.bytes
T0 = 1_700_000_000_000
AIS = b"!AIVDM,1,1,,B,177KQJ5000G?tO`K>RA1wUbN0TKH,0*5C\r\n"  # a position that a ship reports


class Scene(NamedTuple):
    prometheus: Prometheus
    bootstrap: str
    topics: Topics
    folder: Path
    redis: str

    def process(self, name: str, *command: str) -> Worker:
        options = (*command, "--bootstrap", self.bootstrap, "--prefix", self.topics.prefix)
        return Worker(self.folder / f"{name}.log", program=COMMAND, command=options, environment=environment())

    @contextmanager
    def watched(self, name: str, *command: str, begins: str = "metrics at") -> Iterator[str]:
        """The instance of a process that has said that it begins."""
        port = free_port()
        with self.process(name, *command, "--metrics", str(port)) as process:
            process.wait_for(begins, START_S)
            instance = self.prometheus.watch(command[0], f"http://127.0.0.1:{port}")
            yield instance
            assert process.running(), process.log()
            self.prometheus.forget(instance)


@pytest.fixture(scope="module")
def scene(apache_kafka: str, prometheus: Prometheus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    topics = Topics.of(f"beside{os.getpid()}")
    bus_feed.create_topics(apache_kafka, topics, partitions=PARTITIONS)
    with redis_server.running(lambda line: None) as url:
        yield Scene(prometheus, apache_kafka, topics, tmp_path_factory.mktemp("beside"), url)


@pytest.fixture(scope="module")
def latest(scene: Scene) -> Iterator[str]:
    command = ("beside", "latest", "--max-rate", "5", "--latest-max-entities", str(PLACES))
    with scene.watched("latest", *command, begins="is ours") as instance:
        lag = f'pathcast_latest_lag_records{{instance="{instance}"}}'
        scene.prometheus.wait("it has its partitions", lambda: len(scene.prometheus.query(lag)) == PARTITIONS)
        yield instance


@pytest.fixture(scope="module")
def serve(scene: Scene, weights: Path) -> Iterator[str]:
    with serving(scene, weights, "serve") as instance:
        yield instance


@contextmanager
def serving(scene: Scene, weights: Path, name: str, *more: str) -> Iterator[str]:
    """The instance of a `pathcast serve` that is watched."""
    command = ("serve", "--listen", "0", "--redis", scene.redis, "--weights", str(weights), *more)
    with scene.process(name, *command) as process:
        process.wait_for("listening at http://", 300)
        found = re.search(r"listening at (http://[^,]+),", process.log())
        assert found is not None
        instance = scene.prometheus.watch("serve", found[1])
        yield instance
        assert process.running(), process.log()
        scene.prometheus.forget(instance)


def forecasts(entities: int) -> Iterator[bus_feed.Raw]:
    """Without an end: of so many entities, one after the other."""
    for number in count():
        entity = f"e{number % entities}"
        yield entity.encode(), services_rig.forecast(entity, T0 + 1_000 * number, number), ()


def test_records_that_are_no_forecasts_are_told(scene: Scene, latest: str, serve: str) -> None:
    nonsense = [(f"{number}".encode(), b"no forecast", ()) for number in range(20)]
    bus_feed.send(scene.bootstrap, scene.topics.forecasts, iter(nonsense))
    for process, instance in (("beside", latest), ("serve", serve)):
        scene.prometheus.wait_until_fires("PathcastForecastsUnreadable", process=process, instance=instance)
    scene.prometheus.wait_until_over("PathcastForecastsUnreadable")


def test_entities_that_latest_has_no_place_for_are_told(scene: Scene, latest: str) -> None:
    some = (next(of) for of in [forecasts(20 * PLACES)] for _ in range(20 * PLACES))
    bus_feed.send(scene.bootstrap, scene.topics.forecasts, some)
    scene.prometheus.wait_until_fires("PathcastLatestEvicts", instance=latest)
    scene.prometheus.wait_until_over("PathcastLatestEvicts")


def test_a_service_that_cannot_publish_is_told(scene: Scene, latest: str) -> None:
    with feeding(scene.bootstrap, scene.topics.forecasts, forecasts(PLACES), per_s=50):
        with _records_of_most(scene, TOO_FEW_BYTES):
            scene.prometheus.wait_until_fires("PathcastServiceFails", process="beside", instance=latest)
        scene.prometheus.wait_until_over("PathcastServiceFails")


@contextmanager
def _records_of_most(scene: Scene, size: int) -> Iterator[None]:
    """The topic of `latest` takes no larger batches."""

    def put(most: int) -> None:
        configs = {"max.message.bytes": str(most), "cleanup.policy": "compact"}
        with admin.connect(scene.bootstrap) as client:
            client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, scene.topics.latest, configs=configs)])

    put(size)
    try:
        yield
    finally:
        put(DEFAULT_BYTES)


def test_an_api_that_cannot_read_redis_is_told(scene: Scene, serve: str) -> None:
    told = ("PathcastServeErrors", "PathcastServeReadsFail", "PathcastNotReady")
    others = count()  # who is asked for again, and is not there, is not looked for
    with _again_and_again(lambda: _ask(f"http://{serve}/v1/entities/nobody{next(others)}/forecast")):
        with redis.Redis.from_url(scene.redis) as client:
            client.execute_command("ACL", "SETUSER", "default", "-@all", "+acl")
            try:
                for name in told:
                    scene.prometheus.wait_until_fires(name, instance=serve)
            finally:
                client.execute_command("ACL", "SETUSER", "default", "+@all")
        for name in told:
            scene.prometheus.wait_until_over(name, instance=serve)


def test_entities_that_the_api_has_no_place_for_are_told(scene: Scene, weights: Path) -> None:
    """They come one after the other for ever, as more vehicles report than may be listed."""
    with serving(scene, weights, "small", "--max-listed-entities", str(PLACES)) as instance:
        assert not scene.prometheus.is_firing("PathcastServeCrowdedOut", instance=instance)
        with feeding(scene.bootstrap, scene.topics.forecasts, forecasts(20 * PLACES), per_s=20):
            scene.prometheus.wait_until_fires("PathcastServeCrowdedOut", instance=instance)
        scene.prometheus.wait_until_over("PathcastServeCrowdedOut", instance=instance)


def _ask(url: str, body: bytes | None = None) -> int:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as said:
            return int(said.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@contextmanager
def _again_and_again(ask: Callable[[], object]) -> Iterator[None]:
    """Asks beside the test, five times a second and more seldom where answers take longer."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.2):
            ask()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


def test_what_a_source_sends_and_is_no_ping_is_told(scene: Scene) -> None:
    door = free_port()
    command = ("ingest", "http", "--map", "samsara", "--listen", f"127.0.0.1:{door}")
    with scene.watched("http", *command, begins="listening at") as instance:
        seconds = count(1)

        def sent(lat: float) -> int:
            time = f"2025-11-30T08:{next(seconds) % 3600 // 60:02}:00Z"
            gps = {"time": time, "latitude": lat, "longitude": -122.05, "speedMilesPerHour": 20, "headingDegrees": 0}
            body = {"data": [{"id": "a", "name": "a", "gps": [gps]}]}
            return _ask(f"http://127.0.0.1:{door}/webhook/samsara", json.dumps(body).encode())

        assert sent(37.4) == 200
        with _again_and_again(lambda: sent(37.4)):
            with _again_and_again(lambda: sent(97.4)):
                scene.prometheus.wait_until_fires("PathcastIngestRejects", instance=instance, adapter="samsara")
            scene.prometheus.wait_until_over("PathcastIngestRejects")


def test_a_source_that_is_away_is_told(scene: Scene) -> None:
    port = free_port()
    with scene.watched("ais", "ingest", "ais", "--tcp", f"127.0.0.1:{port}") as instance:
        scene.prometheus.wait_until_fires("PathcastIngestSourceAway", instance=instance, severity="page")
        with socket.create_server(("127.0.0.1", port)):
            scene.prometheus.wait_until_over("PathcastIngestSourceAway")


def test_what_is_lost_of_udp_while_kafka_is_killed_is_told(scene: Scene, say: Callable[[str], None]) -> None:
    door = free_port()
    with mortal_kafka.running(say) as kafka, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        bus_feed.create_topics(kafka.bootstrap, scene.topics, partitions=1)
        command = ("ingest", "ais", "--listen-udp", f"127.0.0.1:{door}", "--hold", "10")
        with (
            scene._replace(bootstrap=kafka.bootstrap).watched("udp", *command, begins="metrics at") as instance,
            _again_and_again(lambda: receiver.sendto(AIS, ("127.0.0.1", door))),
        ):
            taken = f'pathcast_ingest_pings_total{{instance="{instance}"}} > 0'
            scene.prometheus.wait("it takes pings", lambda: bool(scene.prometheus.query(taken)))
            assert not scene.prometheus.is_firing("PathcastIngestLost", instance=instance)
            kafka.kill()
            scene.prometheus.wait_until_fires("PathcastIngestLost", instance=instance, severity="page")
            kafka.start()
            scene.prometheus.wait_until_over("PathcastIngestLost", instance=instance)
