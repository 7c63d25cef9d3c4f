"""`pathcast doctor` against a real Kafka and a real Redis: a healthy set, and what is wrong, one thing at a time."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bus_feed
import pytest
import redis
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from pathcast_process import COMMAND, environment, eventually, pathcast

from model.parameters.reading import WEIGHTS_FILE
from stream.kafka import admin
from stream.registry import About, Registry
from stream.registry.golden import make_golden
from stream.up import embedded
from stream.up.embedded import free_port
from stream.wire import Topics

PARTITIONS = 3


class Set:
    """Topics under a prefix of their own, a Redis, weights."""

    def __init__(self, kafka: str, redis_url: str, prefix: str, weights: Path) -> None:
        self.kafka, self.redis_url, self.prefix, self.weights = kafka, redis_url, prefix, weights
        self.topics = Topics.of(prefix)
        bus_feed.create_topics(kafka, self.topics, partitions=PARTITIONS)
        self.client = KafkaAdminClient(bootstrap_servers=kafka)
        admin.create_models(self.client, self.topics)

    def doctor(self, *more: object, **instead: object) -> tuple[int, dict[str, list[dict[str, Any]]]]:
        """The exit code, and the findings by check."""
        options = {
            "bootstrap": self.kafka,
            "redis": self.redis_url,
            "weights": self.weights,
            "group": self.prefix,
            "prefix": self.prefix,
            **instead,
        }
        given = [f"--{name}={value}" for name, value in options.items()]
        run = pathcast("doctor", "--json", *given, *more)
        assert run.returncode in (0, 1), run.stderr.decode()
        found: dict[str, list[dict[str, Any]]] = {}
        for one in json.loads(run.stdout)["findings"]:
            found.setdefault(one["check"], []).append(one)
        return run.returncode, found

    def topics_now(self) -> list[str]:
        """Those of its prefix: other tests write to the same broker."""
        return sorted(name for name in self.client.list_topics() if name.startswith(self.prefix))


def odd(found: dict[str, list[dict[str, Any]]], level: str = "problem") -> dict[str, str]:
    """What was found at this level, and what to do."""
    return {
        one["check"]: f"{one['found']} -> {one['advice']}"
        for ones in found.values()
        for one in ones
        if one["level"] == level
    }


@pytest.fixture(scope="module")
def kernels() -> None:
    """Compiled, as a worker that has run leaves them. That may take minutes on a busy machine."""
    subprocess.run([*COMMAND, "worker", "--warm"], check=True, capture_output=True, timeout=900, env=environment())


@pytest.fixture
def healthy(apache_kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path) -> Iterator[Set]:
    golden = tmp_path / "weights"
    shutil.copytree(weights, golden)
    (golden / "golden.json").write_bytes(make_golden(golden))
    made = Set(apache_kafka, redis_url, topic_prefix, golden)
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("save", "3600 1")
        yield made
        client.config_set("maxmemory", "0")
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("save", "")
    made.client.close()


def test_a_healthy_set_is_all_ok_and_nothing_is_written(healthy: Set, kernels: None, tmp_path: Path) -> None:
    registry, atlases = tmp_path / "registry", tmp_path / "atlases"
    atlases.mkdir()
    Registry.opened(str(registry)).publish_weights(healthy.weights, About())
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with redis.Redis.from_url(healthy.redis_url) as client:
        before = client.info("commandstats"), healthy.topics_now(), _ends(healthy)
        code, found = healthy.doctor(atlases=atlases, registry=registry)
        slow = {"redis"} if "round trip" in odd(found, "warning").get("redis", "") else set()  # of a busy machine
        assert (code, odd(found), set(odd(found, "warning")) - slow, odd(found, "unknown")) == (0, {}, set(), {})
        after = client.info("commandstats"), healthy.topics_now(), _ends(healthy)
        assert client.dbsize() == 0
    assert before[1:] == after[1:]
    asked = {name for name in after[0] if after[0][name]["calls"] != before[0].get(name, {"calls": 0})["calls"]}
    asked = {name.removeprefix("cmdstat_").lower() for name in asked}
    assert asked <= {"ping", "info", "time", "config|get", "client|setinfo", "hello", "select", "dbsize"}
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert set(found) >= {
        *("kafka", "kafka version", "redis", "redis version", "redis maxmemory-policy", "redis memory"),
        *("redis persistence", "clock, by redis", "weights", "kernels", "atlases", "disk", "registry"),
        *("open files", "processor", f"group {healthy.prefix}"),
        *(f"topic {name}" for name in (*healthy.topics, healthy.topics.models)),
    }
    (said,) = found["weights"]
    assert "golden forecasts are the same here" in said["found"]
    shown = pathcast("doctor", "--bootstrap", healthy.kafka, "--prefix", healthy.prefix, "--without", "redis,weights")
    assert b"ok       topic " + healthy.topics.pings.encode() in shown.stdout
    assert shown.stdout.splitlines()[-1].startswith(b"ok: ")


def test_kernels_that_are_not_compiled_are_told_and_not_compiled(healthy: Set, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    run = pathcast(
        *("doctor", "--json", "--without=kafka,redis,machine", f"--weights={healthy.weights}"),
        env=environment(NUMBA_CACHE_DIR=str(kept)),
    )
    findings = {one["check"]: one for one in json.loads(run.stdout)["findings"]}
    assert run.returncode == 0
    assert findings["kernels"]["advice"] == "run pathcast worker --warm"
    assert findings["weights"]["level"] == "unknown"
    assert [path for path in kept.rglob("*") if path.is_file()] == []


def _ends(healthy: Set) -> dict[str, list[int]]:
    """Where the logs of its topics end."""
    found = {}
    for name in healthy.topics_now():
        places = [TopicPartition(name, number) for number in range(admin.partitions_of(healthy.client, name))]
        found[name] = [one.offset for one in healthy.client.list_partition_offsets(dict.fromkeys(places, -1)).values()]
    return found


def test_a_wrong_policy_a_missing_topic_and_other_partitions_are_found(healthy: Set) -> None:
    with redis.Redis.from_url(healthy.redis_url) as client:
        client.config_set("maxmemory", "268435456")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("save", "")
    healthy.client.delete_topics([healthy.topics.gapfills, healthy.topics.models])
    healthy.client.create_partitions({healthy.topics.forecasts: PARTITIONS + 2})
    low = ConfigResource(
        ConfigResourceType.TOPIC, healthy.topics.dead_letters, {"max.message.bytes": "1048588", "retention.ms": "-1"}
    )
    healthy.client.alter_configs([low])
    assert eventually(lambda: admin.absent(healthy.client, [healthy.topics.gapfills]) != [])
    code, found = healthy.doctor("--without=weights,machine")
    problems, warnings = odd(found), odd(found, "warning")
    assert code == 1
    assert set(problems) == {
        "redis maxmemory-policy", f"topic {healthy.topics.gapfills}", f"topic {healthy.topics.dead_letters}",
    }  # fmt: skip
    assert (
        "it deletes states when 268 MB are full -> CONFIG SET maxmemory-policy noeviction"
        in problems["redis maxmemory-policy"]
    )
    assert "it does not exist -> pathcast dev topics --create" in problems[f"topic {healthy.topics.gapfills}"]
    assert "a worker stops at a dead letter" in problems[f"topic {healthy.topics.dead_letters}"]
    assert "5 partitions, and" in warnings[f"topic {healthy.topics.forecasts}"]
    assert "neither AOF nor snapshots" in warnings["redis persistence"]
    assert "pathcast dlq has put back" in warnings[f"topic {healthy.topics.dead_letters}"]


def test_records_that_wait_for_nobody_are_found(healthy: Set) -> None:
    bus_feed.send(healthy.kafka, healthy.topics.pings, list(bus_feed.fleet(50, seed=1)))
    bus_feed.commit(healthy.kafka, healthy.prefix, healthy.topics.pings, dict.fromkeys(range(PARTITIONS), 0))
    code, found = healthy.doctor("--without=redis,weights,machine")
    assert code == 0
    assert "no members, and 50 records wait" in odd(found, "warning")[f"group {healthy.prefix}"]


def test_an_entity_of_two_partitioners_is_found(healthy: Set) -> None:
    """As kcat and a client of Java send it: it lies in two partitions, with half its pings in each."""
    check = f"keys of {healthy.topics.pings}"
    bus_feed.send(healthy.kafka, healthy.topics.pings, list(bus_feed.fleet(50, seed=1)))
    code, found = healthy.doctor("--without=redis,weights,machine")
    assert (code, found[check][0]["level"]) == (0, "ok")
    with KafkaProducer(bootstrap_servers=healthy.kafka) as producer:
        for number in range(PARTITIONS):
            producer.send(healthy.topics.pings, key=b"two", value=b"{}", partition=number)
    code, found = healthy.doctor("--without=redis,weights,machine")
    assert code == 1
    assert "(two in 0, 1, 2) -> give all who send pings one partitioner" in odd(found)[check]


def test_servers_that_are_away_are_found_in_time(healthy: Set) -> None:
    """Each part has twice the time of a server, also on a machine that is slow to begin with it."""
    port = free_port()
    code, found = healthy.doctor(
        "--without=weights,machine",
        "--timeout-s=10",
        bootstrap=f"127.0.0.1:{port}",
        redis=f"redis://127.0.0.1:{port}/0",
    )
    assert code == 1
    assert set(found) == {"kafka", "redis"}
    assert f"no Kafka broker answers at 127.0.0.1:{port}" in odd(found)["kafka"]
    assert "--bootstrap (PATHCAST_BOOTSTRAP)" in odd(found)["kafka"]
    assert f"no Redis answers at redis://127.0.0.1:{port}/0" in odd(found)["redis"]


def test_corrupt_weights_are_found_in_a_folder_and_in_a_registry(healthy: Set, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    version = Registry.opened(str(registry)).publish_weights(healthy.weights, About()).version
    (stored,) = registry.rglob(WEIGHTS_FILE)
    for path in (stored, healthy.weights / WEIGHTS_FILE):
        raw = bytearray(path.read_bytes())
        path.chmod(0o644)
        path.write_bytes(bytes(raw[: len(raw) // 2]) if path == stored else bytes(raw[:-4000]) + b"\xff" * 4000)
    code, found = healthy.doctor("--without=kafka,redis,machine", registry=registry)
    assert code == 1
    assert "cannot be used" in odd(found)["weights"]
    assert "copy it again" in odd(found)["weights"]
    assert f"weights {version} in {registry}" in odd(found)["registry"]
    assert "publish them again" in odd(found)["registry"]


def test_other_weights_beside_golden_forecasts_are_found(healthy: Set, kernels: None) -> None:
    """Numbers that can be read, and are others: only the golden forecasts see that."""
    import numpy as np
    import safetensors.numpy

    path = healthy.weights / WEIGHTS_FILE
    tensors = safetensors.numpy.load_file(path)
    rng = np.random.default_rng(0)
    changed = {name: (one + rng.normal(0, 0.1, one.shape)).astype(one.dtype) for name, one in tensors.items()}
    safetensors.numpy.save_file(changed, path)
    code, found = healthy.doctor("--without=kafka,redis,machine")
    assert code == 1
    assert "golden forecasts deviate" in odd(found)["weights"]


def test_brokers_that_say_less_than_the_newest_are_looked_at_too(
    redis_url: str, topic_prefix: str, weights: Path
) -> None:
    """The embedded broker answers DescribeCluster as brokers older than 3.7 do, which kafka-python cannot read: all
    that doctor said of such Kafkas was a problem called 'endpoint_type'."""
    with embedded.broker() as bootstrap:
        made = Set(bootstrap, redis_url, topic_prefix, weights)
        _, found = made.doctor("--without=redis,weights,machine")
        made.client.close()
    assert odd(found) == {}
    assert found["kafka"][0]["found"] == f"1 broker at {bootstrap}"
