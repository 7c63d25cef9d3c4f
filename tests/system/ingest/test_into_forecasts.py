"""Messages of phones and trackers, by their real transports, become forecasts of a real worker; and the quick start of
the page does what it says."""

from __future__ import annotations

import json
import re
import shlex
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import ingest_rig
import mosquitto_server
import pytest
from bus_feed import create_topics
from kafka import KafkaProducer
from mortal_kafka import MortalKafka, values_of
from pathcast_process import COMMAND, PATIENCE_S, environment, eventually, pathcast
from worker_process import Worker

from stream.wire import Topics, loads_forecast

PAGES = sorted((Path(__file__).parents[3] / "stream" / "ingest").glob("README*.md"))
SINCE_S = int(time.time()) - 3_600


@pytest.fixture
def running(tmp_path: Path) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started(stack: ExitStack, folder: Path, *arguments: str) -> Worker:
    log = folder / f"{'-'.join(arguments[:2])}.log"
    return stack.enter_context(Worker(log, program=[*COMMAND, *arguments], command=(), environment=environment()))


def forward(kafka: MortalKafka, topic: str, count: int) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    for number in range(count):
        key, value = ingest_rig.traccar(number, SINCE_S)
        producer.send(topic, key=key, value=value)
    producer.flush()
    producer.close()


def test_each_transport_leads_to_forecasts(
    mortal: MortalKafka, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path, running: ExitStack
) -> None:
    topics = Topics.of(topic_prefix)
    create_topics(mortal.bootstrap, topics, partitions=2)
    servers = ("--bootstrap", mortal.bootstrap, "--prefix", topic_prefix)
    broker = running.enter_context(mosquitto_server.running(tmp_path))
    worker = running.enter_context(
        Worker(
            tmp_path / "worker.log",
            bootstrap=mortal.bootstrap,
            redis=redis_url,
            weights=weights,
            prefix=topic_prefix,
            group=topic_prefix,
        )
    )
    mqtt = started(running, tmp_path, "ingest", "mqtt", "--broker", broker.broker, "--topic", "owntracks/+/+", *servers)
    tracker = started(running, tmp_path, "ingest", "traccar", "--from-topic", f"{topic_prefix}-positions", *servers)
    http = started(running, tmp_path, "ingest", "http", "--map", "owntracks", "--listen", "127.0.0.1:0", *servers)
    mqtt.wait_for("connected to the MQTT broker", PATIENCE_S)
    with mosquitto_server.Publisher(broker) as phones:
        phones.publish_all([ingest_rig.owntracks(number, SINCE_S) for number in range(5)])
    forward(mortal, f"{topic_prefix}-positions", 5)
    http.wait_for("listening at ", PATIENCE_S)
    url = re.findall(r"listening at (\S+)", http.log())[0]
    headers = {"X-Limit-U": "jane", "X-Limit-D": "tablet", "Content-Type": "application/json"}
    _, payload = ingest_rig.owntracks(0, SINCE_S)
    asked = urllib.request.Request(url, payload, headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert (answer.status, json.loads(answer.read())) == (200, [])
    expected = {f"u{number}/phone" for number in range(5)} | {ingest_rig.imei(number) for number in range(5)}
    expected |= {"jane/tablet"}

    def forecast() -> set[str]:
        return {loads_forecast(value).entity_id for _, value in values_of(mortal.bootstrap, topics.forecasts)}

    worker.wait_until_ready()
    assert eventually(lambda: forecast() >= expected), (forecast(), worker.log(), tracker.log())
    for process in (mqtt, tracker, http):
        assert process.stop() == 0, process.log()


def quick_start() -> list[str]:
    """The commands of the quick start, in their order."""
    for page in PAGES:
        found = re.search(r"Traccar to forecasts in five commands\n.*?```sh\n(.*?)```", page.read_text(), re.DOTALL)
        if found is not None:
            return found[1].splitlines()
    raise AssertionError(f"no quick start in {PAGES}")


def test_the_quick_start_of_traccar_works_as_written(
    mortal: MortalKafka, redis_url: str, tmp_path: Path, running: ExitStack
) -> None:
    install, *commands = quick_start()
    assert len(commands) == 4
    assert "-e '.[ingest]'" in install
    create, worker, ingest, tail = (
        shlex.split(one.replace("localhost:9092", mortal.bootstrap).replace("redis://localhost:6379/0", redis_url))[1:]
        for one in commands
    )
    assert pathcast(*create).returncode == 0
    work = started(running, tmp_path, *worker)
    taking = started(running, tmp_path, *ingest)
    forward(mortal, "positions", 20)
    work.wait_until_ready()
    shown = pathcast(*tail)
    assert shown.returncode == 0, (shown.stderr, work.log(), taking.log())
    assert len(re.findall(rb"35209308\d{7}", shown.stdout)) >= 3, shown.stdout
