"""`pathcast forget` with real workers, Kafka, Redis and an archive: what it says is so, it may be given again, and
`pathcast verify` agrees with what the workers then do."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import bus_feed
import pytest
import redis
import typer
from dead_members import bury
from kafka import KafkaProducer
from pathcast_process import COMMAND, eventually
from typer.testing import CliRunner
from worker_process import Worker, assert_all_live

from stream.commands.forget.cli import forget
from stream.kafka import admin
from stream.verify.cli import verify
from stream.wire import Forecast, Ping, Topics, dumps, loads_forecast
from stream.wire.record import FORGET_HEADERS

WHO = "bus-7"
BUSES = ["bus-3", WHO, "bus-9"]
T0 = 1_700_000_000_000
PATIENCE_S = 300  # a bound on waiting

FORGET, VERIFY = (typer.Typer(pretty_exceptions_enable=False) for _ in range(2))
FORGET.command()(forget)
VERIFY.command()(verify)


class Scene(NamedTuple):
    kafka: str
    redis_url: str
    prefix: str
    weights: Path

    @property
    def topics(self) -> Topics:
        return Topics.of(self.prefix)

    @property
    def options(self) -> dict[str, Any]:
        servers = {"bootstrap": self.kafka, "redis": self.redis_url}
        return {**servers, "prefix": self.prefix, "group": self.prefix, "weights": self.weights}

    def feed(self, rounds: range) -> None:
        """Ten seconds between two rounds."""

        def records() -> Iterator[bus_feed.Raw]:
            for one in rounds:
                for n, name in enumerate(BUSES):
                    where = {"lat": 30.0 + n / 100 + one / 10_000, "lon": -97.0}
                    yield name.encode(), dumps(Ping(entity_id=name, ts=T0 + 10_000 * one, **where)), ()

        bus_feed.send(self.kafka, self.topics.pings, records())

    def consumed(self, worker: Worker) -> None:
        check = partial(assert_all_live, worker)
        bus_feed.wait_until_consumed(self.kafka, self.prefix, self.topics.pings, check)

    def forget(self, *more: str, code: int = 0) -> dict[str, dict[str, Any]]:
        """What it says of each place."""
        given = {"bootstrap": self.kafka, "redis": self.redis_url, "prefix": self.prefix, "group": self.prefix}
        options = {**given, "wait-s": PATIENCE_S}
        ran = CliRunner().invoke(FORGET, [WHO, "--json", *(f"--{n}={v}" for n, v in options.items()), *more])
        assert ran.exit_code == code, (ran.output, repr(ran.exception))
        places: list[dict[str, Any]] = json.loads(ran.stdout)["places"]
        return {one["place"]: one for one in places}

    def states(self) -> set[str]:
        """Whose states are in Redis, by key or in an index."""
        with redis.Redis.from_url(self.redis_url) as client:
            keys = [key.decode() for key in client.scan_iter(count=1000)]
            listed = [name.decode() for key in keys if key.endswith(":index") for name in client.zrange(key, 0, -1)]
        return {key.partition(":e:")[2] for key in keys if ":e:" in key} | set(listed)

    def forecasts(self, of: str) -> list[Forecast]:
        found = [loads_forecast(one.value or b"") for one in bus_feed.read(self.kafka, self.topics.forecasts)]
        return sorted((one for one in found if one.entity_id == of), key=lambda one: one.anchor.ts)

    def latest(self, log: Path) -> Worker:
        """A member of `pathcast beside latest`."""
        given = {"bootstrap": self.kafka, "prefix": self.prefix, "max-rate": 5}
        options = [f"--{name}={value}" for name, value in given.items()]
        return Worker(log, program=COMMAND, command=("beside", "latest", *options))

    def newest(self) -> dict[str, bytes | None]:
        """What the latest topic says last of each."""
        topic, committed = self.topics.latest, "read_committed"
        return {
            (one.key or b"").decode(): one.value for one in bus_feed.read(self.kafka, topic, isolation_level=committed)
        }

    def verified(self) -> dict[str, Any]:
        servers = {"bootstrap": self.kafka, "redis": self.redis_url, "weights": self.weights}
        given = {**servers, "prefix": self.prefix, "group": self.prefix, "numbers": "close"}
        ran = CliRunner().invoke(VERIFY, [*(f"--{n}={v}" for n, v in given.items()), "--json"])
        report: dict[str, Any] = json.loads(ran.stdout)
        assert report["ok"], report["examples"]
        return report


@pytest.fixture
def scene(kafka: str, redis_url: str, topic_prefix: str, weights: Path) -> Scene:
    made = Scene(kafka, redis_url, topic_prefix, weights)
    bus_feed.create_topics(kafka, made.topics, partitions=3)
    return made


@pytest.mark.promise("a running worker forgets an entity, and it may come again")
def test_a_running_worker_forgets_and_the_entity_may_come_again(scene: Scene, tmp_path: Path) -> None:
    with Worker(tmp_path / "log", **scene.options) as worker:
        worker.wait_until_ready()
        scene.feed(range(20))
        scene.consumed(worker)

        looked = scene.forget("--dry-run")
        assert "workers' memory" not in looked, "a dry run tells nobody"
        said = scene.forget()
        assert said["states in Redis"]["outcome"] == "removed"
        assert said["workers' memory"]["outcome"] == "sent"
        assert "hours" in said["records in Kafka"]["found"] or "days" in said["records in Kafka"]["found"]
        assert scene.states() == {"bus-3", "bus-9"}

        again = scene.forget()
        assert again["states in Redis"]["outcome"] == "absent"

        scene.feed(range(20, 25))
        scene.consumed(worker)
        assert worker.stop() == 0, worker.log()
    windows = [(one.cache, one.window.n) for one in scene.forecasts(WHO)]
    assert windows[19:21] == [("hit", 20), ("none", 1)]
    assert [one.window.n for one in scene.forecasts("bus-3")] == list(range(1, 26)), "others lose nothing"
    report = scene.verified()
    assert report["total"]["states"] == 3
    letters = list(bus_feed.read(scene.kafka, scene.topics.dead_letters))
    assert len(letters) == 2 * 3, "one for each record and partition"
    assert {one.key for one in letters} == {WHO.encode()}


def test_without_workers_it_says_that_it_waits_and_they_do_it_when_they_come(scene: Scene, tmp_path: Path) -> None:
    with Worker(tmp_path / "first.log", **scene.options) as worker:
        worker.wait_until_ready()
        scene.feed(range(20))
        scene.consumed(worker)
        assert worker.stop() == 0, worker.log()
    assert scene.forget("--dry-run")["states in Redis"]["outcome"] == "found"
    said = scene.forget("--wait-s=0", code=1)
    assert said["states in Redis"]["outcome"] == "waits"
    assert scene.states() == set(BUSES)
    with Worker(tmp_path / "second.log", **scene.options) as worker:
        worker.wait_until_ready()
        assert scene.forget()["states in Redis"]["outcome"] in ("removed", "absent")
        assert worker.stop() == 0, worker.log()
    assert scene.states() == {"bus-3", "bus-9"}
    scene.verified()


def test_a_worker_that_is_killed_forgets_all_the_same(scene: Scene, tmp_path: Path) -> None:
    with Worker(tmp_path / "first.log", checkpoint_ms=600_000, **scene.options) as worker:
        worker.wait_until_ready()
        scene.feed(range(20))
        scene.consumed(worker)
        scene.forget("--wait-s=0", code=1)
        scene.feed(range(20, 22))
        scene.consumed(worker)
        worker.kill()
    with Worker(tmp_path / "second.log", **{**scene.options, "session_timeout_s": 6}) as worker:
        worker.wait_until_ready()
        scene.feed(range(22, 24))
        scene.consumed(worker)
        assert worker.stop() == 0, worker.log()
    assert [one.window.n for one in scene.forecasts(WHO)][20:] == [1, 2, 3, 4]
    scene.verified()


def test_the_newest_forecast_is_cleared(scene: Scene) -> None:
    with admin.connected(scene.kafka) as client:
        admin.create_other(client, scene.topics, scene.topics.latest, partitions=3)
    producer = KafkaProducer(bootstrap_servers=scene.kafka)
    for name in BUSES:
        producer.send(scene.topics.latest, key=name.encode(), value=b"{}").get(30)
    producer.close()
    looked = scene.forget("--dry-run")
    assert looked["newest forecasts"]["outcome"] == "found"
    assert scene.forget()["newest forecasts"]["outcome"] == "removed"
    newest = {one.key: one.value for one in bus_feed.read(scene.kafka, scene.topics.latest)}
    assert newest == {b"bus-3": b"{}", b"bus-9": b"{}", WHO.encode(): None}
    assert scene.forget()["newest forecasts"]["outcome"] == "absent"


@pytest.mark.usefixtures("apache_kafka")
def test_a_latest_run_that_is_stopped_or_killed_does_not_bring_it_back(scene: Scene, tmp_path: Path) -> None:
    """It read the last forecasts later than the null value was written, wrote the entity again, and nobody was told."""
    with admin.connected(scene.kafka) as client:
        admin.create_other(client, scene.topics, scene.topics.latest, partitions=3)
    with Worker(tmp_path / "worker.log", **scene.options) as worker:
        worker.wait_until_ready()
        with scene.latest(tmp_path / "stopped.log") as member:
            scene.feed(range(20))
            scene.consumed(worker)
            assert eventually(lambda: scene.newest().keys() == set(BUSES)), member.log()
            member.send_signal(signal.SIGSTOP)
            scene.feed(range(20, 22))
            said = scene.forget("--wait-s=5", code=1)
            assert said["states in Redis"]["outcome"] == "removed"
            assert said["newest forecasts"]["outcome"] == "waits"
            assert f"(group {scene.prefix}-latest) has not read all" in said["newest forecasts"]["note"]
            assert scene.newest()[WHO] is None, "what is there goes at once"
            member.send_signal(signal.SIGCONT)
            assert scene.forget()["newest forecasts"]["outcome"] == "removed", "it had come back"
            assert scene.newest()[WHO] is None

            scene.feed(range(22, 24))  # of a new entity
            scene.consumed(worker)
            assert eventually(lambda: scene.newest()[WHO] is not None), member.log()
            member.kill()
        bury(scene.kafka, f"{scene.prefix}-latest")
        scene.feed(range(24, 26))
        assert scene.forget("--wait-s=5", code=1)["newest forecasts"]["outcome"] == "waits"
        with scene.latest(tmp_path / "next.log") as member:
            assert scene.forget()["newest forecasts"]["outcome"] == "removed"
            assert member.stop() == 0, member.log()
        assert scene.newest()[WHO] is None
        assert worker.stop() == 0, worker.log()


def test_a_worker_that_is_stopped_is_waited_for(scene: Scene, tmp_path: Path) -> None:
    with Worker(tmp_path / "log", **scene.options) as worker:
        worker.wait_until_ready()
        scene.feed(range(20))
        scene.consumed(worker)
        worker.send_signal(signal.SIGSTOP)
        assert scene.forget("--wait-s=1", code=1)["states in Redis"]["outcome"] == "waits"
        assert scene.states() == set(BUSES)
        worker.send_signal(signal.SIGCONT)
        assert scene.forget()["states in Redis"]["outcome"] in ("removed", "absent")
        assert scene.states() == {"bus-3", "bus-9"}
        assert worker.stop() == 0, worker.log()


def test_a_place_that_is_not_reached_is_named_and_the_others_are_gone_through(scene: Scene, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"redis://127.0.0.1:{taken.getsockname()[1]}/0"
        said = scene.forget(f"--redis={nobody}", f"--archive={tmp_path}", code=1)
    assert said["states in Redis"]["outcome"] == "failed"
    assert said["workers' memory"]["outcome"] == "sent", "workers hear of it all the same"
    assert said["archive"]["outcome"] == "failed"
    letters = bus_feed.read(scene.kafka, scene.topics.pings)
    assert [(one.key, one.value, one.headers) for one in letters] == [(WHO.encode(), None, FORGET_HEADERS)] * 3
