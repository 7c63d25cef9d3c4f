"""What a worker says at its start, what it waits for, and that nothing is created before all else is sound. In what
words it says that it cannot start is in the tables of tests/test_one_line_errors.py and system/commands."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from worker_process import READY_S, Worker

from stream.kafka import admin
from stream.up import embedded
from stream.wire import Topics

UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nothing answers: the port is taken, so that nothing else can, but nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def topics_at(kafka: str, prefix: str) -> dict[str, tuple[int | None, int | None]]:
    """Partitions and copies of our topics that exist."""
    with admin.connect(kafka) as client:
        found = admin.describe(client, Topics.of(prefix))
    return {topic.name: (topic.partitions, topic.replication) for topic in found if topic.partitions is not None}


# -- topics come last -------------------------------------------------------------------------------------------------


def test_no_create_names_what_is_missing_and_creates_nothing(
    kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path
) -> None:
    """As a process, for all those in the tables: that it ends with this code, and that nothing comes after the line."""
    with Worker(
        tmp_path / "log",
        **{"bootstrap": kafka, "redis": redis_url, "prefix": topic_prefix, "weights": weights},
        environment={"PATHCAST_CREATE": "0"},
    ) as worker:
        assert worker.wait(READY_S) == 1, worker.log()
        lines = worker.log().splitlines()
    assert lines[-1].startswith(f"error: there is no topic {', '.join(Topics.of(topic_prefix))} at {kafka}, ")
    assert {line.split()[1] for line in lines[:-1]} == {"INFO"}, "the clients' own words are not shown"
    assert topics_at(kafka, topic_prefix) == {}


def test_no_create_is_content_with_topics_that_are_there(
    kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path
) -> None:
    with admin.connect(kafka) as client:
        admin.create(client, Topics.of(topic_prefix), partitions=2, replication=1)
    with Worker(
        tmp_path / "log",
        **{"bootstrap": kafka, "redis": redis_url, "prefix": topic_prefix, "group": topic_prefix, "weights": weights},
        environment={"PATHCAST_CREATE": "false"},
    ) as worker:
        worker.wait_until_ready()
        assert worker.stop() == 0


# -- waiting for servers ----------------------------------------------------------------------------------------------


def test_a_worker_waits_for_servers_that_come_later(
    topic_prefix: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka_port, redis_port = embedded.free_port(), embedded.free_port()
    where = {"bootstrap": f"127.0.0.1:{kafka_port}", "redis": f"redis://127.0.0.1:{redis_port}/0"}
    with Worker(tmp_path / "log", **where, prefix=topic_prefix, weights=weights, wait_s=READY_S) as worker:
        worker.wait_for("for Redis at redis://127.0.0.1", READY_S)
        monkeypatch.setattr(embedded, "free_port", lambda: redis_port)
        with embedded.store():
            worker.wait_for("for Kafka at 127.0.0.1", READY_S)
            monkeypatch.setattr(embedded, "free_port", lambda: kafka_port)
            with embedded.broker():
                worker.wait_until_ready()
                assert worker.stop() == 0, worker.log()
        assert worker.log().count("waiting up to") == 2, "one line for each server, however long it takes"


# -- what it says -----------------------------------------------------------------------------------------------------


def test_a_healthy_start_says_what_runs_in_utc_and_no_error(
    kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path
) -> None:
    with Worker(
        tmp_path / "log",
        **{"bootstrap": kafka, "redis": redis_url, "prefix": topic_prefix, "group": "g", "weights": weights},
        **{"delivery": "exactly_once", "partitions": 3, "replication": 1},
        environment={"TZ": "Asia/Kathmandu", "PATHCAST_BOOTSTARP": "x"},
    ) as worker:
        worker.wait_until_ready()
        assert worker.stop() == 0, worker.log()
        lines = worker.log().splitlines()
    assert all(UTC.match(line) for line in lines), lines
    levels = {line.split()[1] for line in lines if "PATHCAST_BOOTSTARP" not in line}
    assert levels == {"INFO"}, lines
    said = "\n".join(lines)
    for part in (
        "WARNING the environment variable PATHCAST_BOOTSTARP is no setting of pathcast",
        f"INFO pathcast {version('pathcast')}, Python 3.",
        f"Kafka {kafka} (PLAINTEXT), group g, topics {topic_prefix}.*, delivery exactly_once",
        f"Redis {redis_url}, weights {weights}",
        f"loading weights {weights}",
        "CPU vectors: ",
        f"created {', '.join(Topics.of(topic_prefix))} (partitions: 3, replication: 1)",
        "ready: partitions 0, 1, 2",
    ):
        assert part in said


def test_in_json_every_line_is_an_object_and_silence_is_said_once(
    kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path
) -> None:
    with Worker(
        tmp_path / "log",
        **{"bootstrap": kafka, "redis": redis_url, "prefix": topic_prefix, "group": topic_prefix, "weights": weights},
        **{"workers": 2, "log_format": "json", "partitions": 2},
    ) as worker:
        worker.wait_for("no pings on", READY_S)
        assert worker.stop() == 0, worker.log()
        lines = [json.loads(line) for line in worker.log().splitlines()]
    assert all(UTC.fullmatch(line["time"]) and line["logger"] and line["message"] for line in lines)
    assert {line.get("worker") for line in lines} == {None, 1, 2}
    silences = [line for line in lines if line["message"].startswith(f"no pings on {topic_prefix}.pings.v1 for 30 s")]
    assert {line["level"] for line in lines} == {"info", "warning"}, lines
    assert silences
    assert len({line["worker"] for line in silences}) == len(silences), "each says it once"


def test_in_json_the_last_line_says_why_a_worker_ends(
    nobody: str, redis_url: str, weights: Path, tmp_path: Path
) -> None:
    options = {"bootstrap": nobody, "redis": redis_url, "weights": weights, "log_format": "json"}
    with Worker(tmp_path / "log", **options) as worker:
        assert worker.wait(READY_S) == 1
        last = json.loads(worker.log().splitlines()[-1])
    assert last["level"] == "error"
    assert last["message"].startswith(f"no Kafka broker answers at {nobody}")
