"""A real Prometheus tells when a worker or its Redis hangs, or senders send what is no ping; and when it is over."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import bus_feed
import pytest
import redis
import redis_server
from prometheus_server import Prometheus
from steady_feed import feeding
from worker_pages import base_of
from worker_process import Worker

from stream.wire import Topics

PREFIX = "alerts"
MANY = 200_000  # pings: more than are sent
PER_S = 100.0


class Scene(NamedTuple):
    prometheus: Prometheus
    worker: Worker
    instance: str
    bootstrap: str
    topic: str
    redis: str


@pytest.fixture(scope="module")
def scene(
    apache_kafka: str, prometheus: Prometheus, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """A worker that is watched, with a Redis of its own."""
    log = tmp_path_factory.mktemp("alerts") / "worker.log"
    prefix = f"{PREFIX}{os.getpid()}"
    how = {"bootstrap": apache_kafka, "weights": weights, "prefix": prefix, "group": prefix}
    with (
        redis_server.running(lambda line: None) as url,
        Worker(log, redis=url, partitions=2, metrics=0, **how) as worker,
    ):
        worker.wait_until_ready()
        instance = prometheus.watch("worker", base_of(worker))
        yield Scene(prometheus, worker, instance, apache_kafka, Topics.of(prefix).pings, url)
        assert worker.stop() == 0, worker.log()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """It hangs: its connections stand, and nothing answers."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_worker_that_hangs_is_down_until_it_goes_on(scene: Scene) -> None:
    one = {"instance": scene.instance, "process": "worker", "severity": "page"}
    scene.prometheus.wait_until_over("PathcastDown")  # as after scrapes that took too long
    scene.worker.send_signal(signal.SIGSTOP)
    try:
        scene.prometheus.wait_until_fires("PathcastDown", **one)
    finally:
        scene.worker.send_signal(signal.SIGCONT)
    scene.prometheus.wait_until_over("PathcastDown", **one)


def test_a_worker_whose_redis_hangs_is_not_ready_until_it_answers(scene: Scene) -> None:
    with redis.Redis.from_url(scene.redis) as client:
        pid = client.info("server")["process_id"]
    records = bus_feed.fleet(MANY, seed=1)
    with feeding(scene.bootstrap, scene.topic, records, per_s=PER_S):
        with stopped(pid):
            for name in ("PathcastRedisAway", "PathcastNotReady"):
                scene.prometheus.wait_until_fires(name, instance=scene.instance, severity="page")
        for name in ("PathcastRedisAway", "PathcastNotReady"):
            scene.prometheus.wait_until_over(name, instance=scene.instance)


def test_a_sender_of_what_is_no_ping_is_told_until_it_is_mended(scene: Scene) -> None:
    good = bus_feed.fleet(MANY, seed=2)
    with feeding(scene.bootstrap, scene.topic, good, per_s=PER_S):
        with feeding(scene.bootstrap, scene.topic, cycle(bus_feed.BAD), per_s=PER_S / 4):
            scene.prometheus.wait_until_fires("PathcastDeadLetters", severity="ticket")
        scene.prometheus.wait_until_over("PathcastDeadLetters")
    outcomes = 'sum(pathcast_records_total{outcome="rejected"}) / sum(pathcast_records_in_total)'
    (share,) = scene.prometheus.query(outcomes)
    assert float(share["value"][1]) > 0.01
