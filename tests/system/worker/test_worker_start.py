"""What a worker says at its start, what it waits for, and that nothing is created before all else is sound. If it
cannot start, it says so in one line with the address and the likely cause, and ends with 1."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from worker_process import READY_S, Worker

from model.config import ModelConfig
from model.network.checkpoint import save_pretrained
from model.network.network import build
from stream.demo import embedded
from stream.kafka import admin
from stream.wire import Topics

UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nothing answers: the port is taken, so that nothing else can, but nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def refusal(log: Path, **options: object) -> str:
    with Worker(log, **options) as worker:
        assert worker.wait(READY_S) == 1, worker.log()
        return worker.log().strip()


def assert_one_line(text: str, *parts: str) -> None:
    line = text.splitlines()[-1]
    assert line.startswith("error: ")
    assert "Traceback" not in text
    for part in parts:
        assert part in line


def topics_at(kafka: str, prefix: str) -> dict[str, tuple[int | None, int | None]]:
    """Partitions and copies of our topics that exist."""
    with admin.connected(kafka) as client:
        found = admin.describe(client, Topics.of(prefix))
    return {topic.name: (topic.partitions, topic.replication) for topic in found if topic.partitions is not None}


def test_no_broker(redis_url: str, nobody: str, tmp_path: Path) -> None:
    text = refusal(tmp_path / "log", bootstrap=nobody, redis=redis_url)
    assert_one_line(text, nobody, "PATHCAST_BOOTSTRAP")
    assert {line.split()[1] for line in text.splitlines()[:-1]} == {"INFO"}, "the client's own words are not shown"


def test_no_redis(kafka: str, nobody: str, tmp_path: Path) -> None:
    text = refusal(tmp_path / "log", bootstrap=kafka, redis=f"redis://{nobody}/0")
    assert_one_line(text, nobody, "PATHCAST_REDIS")


def test_no_weights(kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path) -> None:
    text = refusal(tmp_path / "log", bootstrap=kafka, redis=redis_url, prefix=topic_prefix, weights=tmp_path / "none")
    assert_one_line(text, "none", "weights")


def test_cut_weights(kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path) -> None:
    for path in weights.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[: 2000 if path.suffix == ".safetensors" else None])
    text = refusal(tmp_path / "log", bootstrap=kafka, redis=redis_url, prefix=topic_prefix, weights=tmp_path)
    assert_one_line(text, str(tmp_path))


@pytest.mark.parametrize(("way", "why"), [({"patch": 2}, "patch of 2 pings"), ({"positions": "learned"}, "512 pings")])
def test_weights_that_no_stream_can_be_served_with(
    kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path, way: dict[str, Any], why: str
) -> None:
    save_pretrained(build(ModelConfig(name="odd", d=16, heads=2, window=8, **way), 0), tmp_path / "odd", "card")
    text = refusal(tmp_path / "log", bootstrap=kafka, redis=redis_url, prefix=topic_prefix, weights=tmp_path / "odd")
    assert_one_line(text, "'odd' cannot be served", why)


@pytest.mark.parametrize(
    ("options", "said"), [({"horizons": "60,soon"}, "--horizons"), ({"max_batch": 0}, "--max-batch")]
)
def test_bad_usage_is_exit_2(options: dict[str, object], said: str, tmp_path: Path) -> None:
    with Worker(tmp_path / "log", **options) as worker:
        assert worker.wait(READY_S) == 2
        assert said in worker.log()


# -- topics come last -------------------------------------------------------------------------------------------------


def test_weights_that_cannot_be_used_leave_no_topics(
    kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    refusal(tmp_path / "log", bootstrap=kafka, redis=redis_url, prefix=topic_prefix, weights=tmp_path / "none")
    assert topics_at(kafka, topic_prefix) == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_metrics_port_that_is_taken_leaves_no_topics(
    kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path, workers: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        where = {"bootstrap": kafka, "redis": redis_url, "prefix": topic_prefix, "weights": weights}
        text = refusal(tmp_path / "log", **where, metrics=port, workers=workers)
    assert_one_line(text, f"cannot serve metrics at 127.0.0.1:{port}", "is the port taken?")
    assert topics_at(kafka, topic_prefix) == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_no_create_names_what_is_missing_and_creates_nothing(
    kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path, workers: int
) -> None:
    names = Topics.of(topic_prefix)
    with Worker(
        tmp_path / "log",
        **{"bootstrap": kafka, "redis": redis_url, "prefix": topic_prefix, "weights": weights, "workers": workers},
        environment={"PATHCAST_CREATE": "0"},
    ) as worker:
        assert worker.wait(READY_S) == 1, worker.log()
        assert_one_line(worker.log().strip(), *names, "--no-create", "PATHCAST_PREFIX")
    assert topics_at(kafka, topic_prefix) == {}


def test_no_create_is_content_with_topics_that_are_there(
    kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path
) -> None:
    with admin.connected(kafka) as client:
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


def test_a_wait_that_is_over_is_one_line(redis_url: str, nobody: str, weights: Path, tmp_path: Path) -> None:
    with Worker(tmp_path / "log", bootstrap=nobody, redis=redis_url, weights=weights, wait_s=15) as worker:
        assert worker.wait(READY_S) == 1, worker.log()
        assert worker.log().count("waiting up to") == worker.log().count(f"s for Kafka at {nobody}") == 1
        assert_one_line(worker.log().strip(), "no Kafka broker answers", nobody)


@pytest.mark.parametrize("server", ["bootstrap", "redis"])
def test_an_unknown_host_is_called_that(
    kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path, server: str
) -> None:
    given = {"bootstrap": kafka, "redis": redis_url, "prefix": topic_prefix, "weights": weights}
    wrong = {"bootstrap": "nobody.invalid:9092", "redis": "redis://:secret@nobody.invalid:6379/0"}
    with Worker(tmp_path / "log", **{**given, server: wrong[server]}) as worker:
        assert worker.wait(READY_S) == 1, worker.log()
        assert_one_line(worker.log().strip(), "unknown host nobody.invalid", f"PATHCAST_{server.upper()}")
        assert "secret" not in worker.log()


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
