"""A flood of made-up ids through a real worker: they become dead letters, and real vehicles are forecast."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path

import bus_feed
import redis
from pathcast_process import PATIENCE_S, VERIFY, environment
from worker_process import Worker, assert_all_live

from stream.wire import ERROR_HEADER_PREFIX, Ping, Topics, dumps

QUOTA = 10
MADE_UP = 200
T0 = 1_700_000_000_000


def pings(names: list[str], seconds: range) -> list[bus_feed.Raw]:
    made = [
        Ping(entity_id=name, ts=T0 + 1000 * second, lat=30 + second * 1e-5, lon=-97.0)
        for second in seconds
        for name in names
    ]
    return [(ping.entity_id.encode(), dumps(ping), ()) for ping in made]


def test_made_up_ids_take_no_place_of_real_vehicles(
    kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    topics = Topics.of(topic_prefix)
    bus_feed.create_topics(kafka, topics, partitions=1)
    real, made_up = [f"bus-{n}" for n in range(QUOTA)], [f"made-up-{n}" for n in range(MADE_UP)]
    sent = [*pings(real, range(0, 50, 10)), *pings(made_up, range(1)), *pings(real, range(50, 100, 10))]
    options = {"bootstrap": kafka, "redis": redis_url, "prefix": topic_prefix, "group": topic_prefix}
    with Worker(tmp_path / "log", max_stored_entities=QUOTA, **options) as worker:
        bus_feed.send(kafka, topics.pings, iter(sent))
        bus_feed.wait_until_consumed(kafka, topic_prefix, topics.pings, partial(assert_all_live, worker))
        assert worker.stop() == 0, worker.log()
    forecast = Counter((record.key or b"").decode() for record in bus_feed.read(kafka, topics.forecasts))
    assert forecast == dict.fromkeys(real, 10)
    letters = list(bus_feed.read(kafka, topics.dead_letters))
    assert {(letter.key or b"").decode() for letter in letters} == set(made_up)
    assert {dict(letter.headers)[f"{ERROR_HEADER_PREFIX}code"] for letter in letters} == {b"entity_quota_exceeded"}
    with redis.Redis.from_url(redis_url) as client:
        assert len(list(client.scan_iter(match=f"*{topic_prefix}*:e:*"))) == QUOTA
    command = [*VERIFY, "--json", *(f"--{name}={value}" for name, value in options.items())]
    run = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, env=environment(), check=False)
    report = json.loads(run.stdout)
    assert report["ok"], report["examples"]
    assert (report["total"]["quarantined"], report["total"]["states"]) == (MADE_UP, QUOTA)
