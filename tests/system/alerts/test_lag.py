"""A worker that is too slow for its pings lags, which a real Prometheus tells; and then it keeps up."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bus_feed
import services_rig
from pathcast_process import environment
from prometheus_server import Prometheus
from steady_feed import feeding
from worker_pages import base_of
from worker_process import Worker

from stream.up.embedded import free_port
from stream.wire import Topics

MANY = 2_000_000
PER_S = 1_500.0
WORKS_S, RESTS_S = 0.05, 0.6
START_S = 300.0  # a bound on waiting
T0 = 1_700_000_000_000
FORECASTS_PER_S = 300.0
# A service that is otherwise as it is reads some 30 records a second: fewer than come, however busy the machine is. It
# knows of the log's end what its last fetch said, so that it fetches little at once.
SLOW = """
import asyncio
from aiokafka import AIOKafkaConsumer
from stream.commands.main import main

init, getmany = AIOKafkaConsumer.__init__, AIOKafkaConsumer.getmany

def little(self, *topics, **how):
    init(self, *topics, **{**how, "max_partition_fetch_bytes": 1_000})

async def few(self, *partitions, **how):
    await asyncio.sleep(0.3)
    return await getmany(self, *partitions, **{**how, "max_records": 10})

AIOKafkaConsumer.__init__, AIOKafkaConsumer.getmany = little, few
main()
"""


@contextmanager
def slowed(worker: Worker) -> Iterator[None]:
    """It gets a small part of the processor's time, as on a machine that is far too small."""
    over = threading.Event()

    def slow() -> None:
        while not over.is_set():
            worker.send_signal(signal.SIGSTOP)
            time.sleep(RESTS_S)
            worker.send_signal(signal.SIGCONT)
            time.sleep(WORKS_S)

    thread = threading.Thread(target=slow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_worker_that_is_too_slow_lags_until_it_keeps_up(
    apache_kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path, prometheus: Prometheus
) -> None:
    how = {"bootstrap": apache_kafka, "redis": redis_url, "weights": weights}
    names = {"prefix": topic_prefix, "group": topic_prefix}
    with Worker(tmp_path / "log", partitions=1, metrics=0, **how, **names) as worker:
        worker.wait_until_ready()
        instance = prometheus.watch("worker", base_of(worker))
        records = bus_feed.fleet(MANY, seed=3)
        one = {"instance": instance, "partition": "0"}
        with feeding(apache_kafka, Topics.of(topic_prefix).pings, records, per_s=PER_S), slowed(worker):
            prometheus.wait_until_fires("PathcastLagGrows", **one, severity="page")
        prometheus.wait_until_over("PathcastLagGrows", **one)
        nothing = f'pathcast_lag_records{{instance="{instance}"}} == 0'
        prometheus.wait("nothing waits", lambda: bool(prometheus.query(nothing)))
        assert worker.stop() == 0, worker.log()


def test_a_service_that_is_too_slow_is_told_until_no_more_come(
    apache_kafka: str, topic_prefix: str, tmp_path: Path, prometheus: Prometheus
) -> None:
    topics, port = Topics.of(topic_prefix), free_port()
    bus_feed.create_topics(apache_kafka, topics, partitions=1)
    command = ("beside", "latest", "--bootstrap", apache_kafka, "--prefix", topic_prefix, "--metrics", str(port))
    value = services_rig.forecast("a", T0, 0)  # the same again and again: each is read, and that is what lags
    records = ((b"a", value, ()) for _ in range(MANY))
    program = (sys.executable, "-c", SLOW)
    with Worker(tmp_path / "log", program=program, command=command, environment=environment()) as latest:
        latest.wait_for("is ours", START_S)
        instance = prometheus.watch("latest", f"http://127.0.0.1:{port}")
        one = {"instance": instance, "process": "latest", "partition": "0"}
        assert not prometheus.is_firing("PathcastServiceLagGrows")
        with feeding(apache_kafka, topics.forecasts, records, per_s=FORECASTS_PER_S):
            prometheus.wait_until_fires("PathcastServiceLagGrows", **one, severity="ticket")
        prometheus.wait_until_over("PathcastServiceLagGrows", **one)
        assert latest.stop() == 0, latest.log()
