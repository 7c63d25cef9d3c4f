"""`pathcast worker --metrics`: what is scraped adds up to what was sent, and the probes tell when Redis is away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import bus_feed
import pytest
import redis
import redis_server
from kafka import KafkaProducer
from pathcast_process import PATIENCE_S, VERIFY, environment, eventually
from worker_pages import Scrape, ask, base_of, readiness
from worker_process import Worker, assert_all_live

from stream.config.http_access import TOKEN
from stream.wire import Ping, Topics, dumps

PINGS = 3_000
SEED = 23
SECRET = "0123456789abcdef"
TWICE = ("two", "both", "split")  # entities whose pings come by two partitioners


@pytest.fixture(scope="module")
def own_redis() -> Iterator[str]:
    """One that may be stopped."""
    with redis_server.running(lambda line: None) as url:
        yield url


@contextmanager
def stopped(url: str) -> Iterator[None]:
    """Redis hangs: connections stand, and nothing answers."""
    with redis.Redis.from_url(url) as client:
        pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_worker_accounts_for_every_record_and_says_when_redis_is_away(
    kafka: str, own_redis: str, topic_prefix: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, SECRET)
    topics, names = Topics.of(topic_prefix), {"prefix": topic_prefix, "group": topic_prefix}
    records = bus_feed.fleet(PINGS + 500, seed=SEED)
    with Worker(
        tmp_path / "log", bootstrap=kafka, redis=own_redis, weights=weights, partitions=2, metrics=0, **names
    ) as worker:
        base = base_of(worker)
        scrape = partial(Scrape, base, token=SECRET)
        assert ask(f"{base}/healthz")[0] == 200
        worker.wait_until_ready()
        assert ask(f"{base}/readyz") == (200, '{"ok":true,"reasons":[]}\n')
        for wrong in (None, "", f"{SECRET}0"):
            assert ask(f"{base}/metrics", token=wrong)[0] == 401
        assert ask(f"{base}/metrics", token=SECRET, method="POST")[0] == 405
        assert ask(f"{base}/debug", token=SECRET)[0] == 404

        def consumed() -> None:
            bus_feed.wait_until_consumed(kafka, topic_prefix, topics.pings, partial(assert_all_live, worker))

        bus_feed.send(kafka, topics.pings, islice(records, PINGS))
        consumed()
        assert eventually(lambda: scrape().sum("records_in_flight") == 0)
        assert_adds_up(scrape(), kafka, topics)

        with stopped(own_redis):
            bus_feed.send(kafka, topics.pings, records)
            assert eventually(lambda: ask(f"{base}/readyz")[0] == 503), worker.log()
            _, why = readiness(base)
            assert [reason.startswith("Redis is away") for reason in why] == [True]
            assert ask(f"{base}/healthz")[0] == 200, "a new worker would find the same Redis"
            assert scrape().values("store_away") == {1}
            assert scrape().values("unaccounted_records") == {0}
        assert eventually(lambda: ask(f"{base}/readyz")[0] == 200), worker.log()
        consumed()
        assert eventually(lambda: scrape().sum("checkpoint_behind_records") == 0)
        assert_adds_up(scrape(), kafka, topics)

        assert scrape().sum("entities_misplaced_total") == 0
        assert "murmur2" not in worker.log()
        send_to_both(kafka, topics.pings)
        consumed()
        assert eventually(lambda: scrape().sum("entities_misplaced_total") == len(TWICE))
        assert worker.stop() == 0, worker.log()
        assert SECRET not in worker.log()
        assert worker.log().count("murmur2 gives partition") == 1
    names["redis"] = own_redis
    command = [*VERIFY, "--json", f"--bootstrap={kafka}", *(f"--{name}={value}" for name, value in names.items())]
    run = subprocess.run(
        [*command, f"--weights={weights}"], capture_output=True, timeout=PATIENCE_S, env=environment(), check=False
    )
    report = json.loads(run.stdout)
    assert (run.returncode, report["ok"]) == (0, True), report["examples"]
    assert report["entities"]["in_several_partitions"] == len(TWICE)
    assert report["entities"]["elsewhere_than_murmur2"] == 0


def send_to_both(bootstrap: str, topic: str) -> None:
    """Pings of entities into both partitions, as kcat and a client of Java do: each becomes two."""
    with KafkaProducer(bootstrap_servers=bootstrap) as producer:
        for name in TWICE:
            for number in range(2):
                ping = Ping(entity_id=name, ts=1_700_000_000_000 + number, lat=30.0, lon=-97.0)
                producer.send(topic, key=name.encode(), value=dumps(ping), partition=number)


def assert_adds_up(scrape: Scrape, kafka: str, topics: Topics) -> None:
    """To what the topics hold."""
    sent = list(bus_feed.read(kafka, topics.pings))
    due = bus_feed.expected(sent, window_fixes=10**6, version="any")
    outcomes = scrape.outcomes()
    assert scrape.sum("records_in_total") == len(sent) == outcomes.total()
    assert outcomes["forecast"] + outcomes["late"] == len(due.windows)
    assert outcomes["rejected"] + outcomes["quarantined"] == len(due.rejects)
    assert outcomes["duplicate"] == len(sent) - len(due.windows) - len(due.rejects)
    assert min(outcomes[kind] for kind in ("forecast", "late", "rejected", "duplicate")) > 0, (
        "the feed has some of each"
    )
    assert scrape.values("unaccounted_records") == {0}
    assert scrape.sum("lag_records") == 0
    assert scrape.sum("ping_to_forecast_seconds_count") == len(sent)
