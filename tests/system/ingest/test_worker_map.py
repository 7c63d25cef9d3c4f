"""`pathcast worker --map`: messages of another system in the pings topic, through a crash, and for a verifier."""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import bus_feed
from dead_members import bury
from pathcast_process import VERIFY, environment
from worker_process import Worker, assert_all_live

from stream.wire import ERROR_HEADER_PREFIX, Ping, Topics, dumps, loads_forecast

T0_S = 1_764_489_600
VEHICLES, EACH = 12, 60
KILL_AFTER = 200  # forecasts
MAP = """
name = "mine"
[fields]
entity_id = "vehicle"
ts = {path = "when", unit = "s"}
lat = {path = "y", unit = "1e-7 deg"}
lon = {path = "x", unit = "1e-7 deg"}
speed_mps = {path = "kn", unit = "knots", absent = [511]}
"""


def feed() -> Iterator[bus_feed.Raw]:
    """Half of the vehicles send pings of ours, half send another form; and some records that are neither."""
    rng = random.Random(35)
    for number in range(EACH):
        for vehicle in range(VEHICLES):
            name, lat, lon = f"v{vehicle}", 47.0 + number * 8e-4, 8.0 + vehicle / 100
            ts_s = T0_S + 10 * number + vehicle
            ours = Ping(entity_id=name, ts=ts_s * 1000, lat=lat, lon=lon, speed_mps=8.9)
            theirs = {"vehicle": name, "when": ts_s, "y": round(lat * 1e7), "x": round(lon * 1e7), "kn": 17.3}
            yield name.encode(), dumps(ours) if vehicle % 2 else json.dumps(theirs).encode(), ()
            chance = rng.random()
            if chance < 0.01:
                yield b"another", json.dumps(theirs).encode(), ()
            elif chance < 0.02:
                yield name.encode(), json.dumps([theirs, theirs]).encode(), ()
            elif chance < 0.03:
                yield name.encode(), b'{"neither": 1}', ()


def verified(kafka: str, prefix: str, *more: str) -> dict[str, Any]:
    options = [f"--bootstrap={kafka}", f"--prefix={prefix}", f"--group={prefix}", "--json", *more]
    ran = subprocess.run([*VERIFY, *options], capture_output=True, env=environment(), timeout=300, check=False)
    assert ran.stdout, ran.stderr
    report: dict[str, Any] = json.loads(ran.stdout)
    return report


def test_other_forms_are_forecast_through_a_crash_and_a_verifier_with_the_map_agrees(
    apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    topics = Topics.of(topic_prefix)
    (tmp_path / "mine.toml").write_text(MAP)
    given = f"--map={tmp_path / 'mine.toml'}"
    bus_feed.create_topics(apache_kafka, topics, partitions=2)
    count = bus_feed.send(apache_kafka, topics.pings, feed())
    options: dict[str, object] = {"bootstrap": apache_kafka, "redis": redis_url, "prefix": topic_prefix}
    options |= {"group": topic_prefix, "session_timeout_s": 6, "max_batch": 32, "map": tmp_path / "mine.toml"}
    with Worker(tmp_path / "victim.log", **options) as victim:
        bus_feed.wait_for_records(apache_kafka, topics.forecasts, KILL_AFTER, partial(assert_all_live, victim))
        victim.kill()
    bury(apache_kafka, topic_prefix)
    with Worker(tmp_path / "next.log", **options) as worker:
        worker.wait_until_ready()  # where the victim had answered everything, it would be stopped as it starts
        bus_feed.wait_until_consumed(apache_kafka, topic_prefix, topics.pings, partial(assert_all_live, worker))
        assert worker.stop() == 0
    assert f"read by the map {tmp_path / 'mine.toml'}" in worker.log()

    newest = {}
    for record in bus_feed.read(apache_kafka, topics.forecasts):
        forecast = loads_forecast(record.value or b"")
        newest[forecast.entity_id] = max(forecast.anchor.ts, newest.get(forecast.entity_id, 0))
    assert newest == {f"v{n}": (T0_S + 10 * (EACH - 1) + n) * 1000 for n in range(VEHICLES)}
    codes = Counter(
        dict(one.headers)[ERROR_HEADER_PREFIX + "code"] for one in bus_feed.read(apache_kafka, topics.dead_letters)
    )
    assert set(codes) == {b"key_mismatch", b"several_positions", b"missing_field"}

    report = verified(apache_kafka, topic_prefix, given, f"--redis={redis_url}")
    assert report["ok"], report["examples"]
    total = report["total"]
    assert total["records"] == count == total["forecasts"] + total["dead_letters"] + total["input_duplicates"]
    assert (total["open"], total["unjudged"]) == (0, 0)

    without = verified(apache_kafka, topic_prefix)
    assert not without["ok"], "without the map these forecasts answer records that are no pings"
