"""A worker that is too slow for its pings lags, which a real Prometheus tells; and then it keeps up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bus_feed
from prometheus_server import Prometheus
from steady_feed import feeding
from worker_pages import base_of
from worker_process import Worker

from stream.wire import Topics

MANY = 2_000_000
PER_S = 1_500.0
WORKS_S, RESTS_S = 0.05, 0.6


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
