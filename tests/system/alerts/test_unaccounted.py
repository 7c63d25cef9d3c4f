"""A worker that loses an answer is told by a real Prometheus, until another one works in its place."""

from __future__ import annotations

import sys
from functools import partial
from itertools import islice
from pathlib import Path

import bus_feed
from prometheus_server import Prometheus
from worker_pages import base_of
from worker_process import Worker, assert_all_live

from stream.wire import Topics

PINGS = 400
# A fault that no worker should have, in one that is otherwise as it is: the first answer of each batch is lost.
LEAKY = """
from stream.commands.main import main
from stream.engine.engine import Engine
from stream.kafka.records.encoded_batches import Answers

process = Engine.process

async def leaky(self, records, **how):
    answers = await process(self, records, **how)
    return Answers(others=list(enumerate(list(answers)[1:])))

Engine.process = leaky
main()
"""


def test_an_answer_that_is_lost_is_told_until_another_worker_takes_over(
    apache_kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path, prometheus: Prometheus
) -> None:
    topics, records = Topics.of(topic_prefix), bus_feed.fleet(2 * PINGS, seed=4)
    how = {"bootstrap": apache_kafka, "redis": redis_url, "weights": weights, "metrics": 0, "partitions": 1}
    names = {"prefix": topic_prefix, "group": topic_prefix, "session_timeout_s": 6}
    with Worker(tmp_path / "leaky", program=(sys.executable, "-c", LEAKY), **how, **names) as worker:
        worker.wait_until_ready()
        instance = prometheus.watch("worker", base_of(worker))
        assert not prometheus.is_firing("PathcastRecordsUnaccounted")
        bus_feed.send(apache_kafka, topics.pings, islice(records, PINGS))
        bus_feed.wait_until_consumed(apache_kafka, topic_prefix, topics.pings, partial(assert_all_live, worker))
        prometheus.wait_until_fires("PathcastRecordsUnaccounted", instance=instance, partition="0", severity="page")
        assert "records are lost; please report it" in worker.log()
        worker.kill()
    prometheus.forget(instance)
    with Worker(tmp_path / "plain", **how, **names) as worker:
        worker.wait_until_ready()
        again = prometheus.watch("worker", base_of(worker))
        bus_feed.send(apache_kafka, topics.pings, records)
        bus_feed.wait_until_consumed(apache_kafka, topic_prefix, topics.pings, partial(assert_all_live, worker))
        prometheus.wait_until_over("PathcastRecordsUnaccounted")
        assert not prometheus.is_firing("PathcastRecordsUnaccounted", instance=again)
        assert worker.stop() == 0, worker.log()
