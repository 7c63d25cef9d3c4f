"""`pathcast export` from topics, and what is chosen there."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import bus_feed
from client_rig import forecast, gap_fill
from kafka import KafkaProducer
from pathcast_process import COMMAND, environment, pathcast

from stream.wire import Topics, dumps


def test_an_export_of_topics_has_tracks_forecasts_and_fills(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    topics = Topics.of(topic_prefix)
    bus_feed.create_topics(kafka, topics, partitions=2)
    now_ms = time.time_ns() // 1_000_000
    producer = KafkaProducer(bootstrap_servers=kafka)
    for bus in range(3):
        for step in range(4):
            one = forecast(f"bus-{bus}", step, lat=30.0 + step / 100)
            producer.send(
                topics.forecasts, dumps(one), key=one.entity_id.encode(), timestamp_ms=now_ms - 600_000 * step
            )
    producer.send(topics.gapfills, dumps(gap_fill()), key=b"bus-1")
    producer.flush()
    producer.close()
    where = ("--bootstrap", kafka, "--prefix", topic_prefix)
    told = pathcast("export", "geojson", "--out", tmp_path / "all", "--json", *where)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) | {"out": ""} == {
        "out": "", "tracks": 3, "forecasts": 3, "gap_fills": 1, "features": 3 + 3 + 1 + 9 + 9,
    }  # fmt: skip
    lately = pathcast("export", "csv", "--since", "15m", "--until", "5m", "--entity", "bus-1", "--no-fills", *where)
    assert lately.returncode == 0, lately.stderr
    kinds = [line.split(",")[:2] for line in lately.stdout.decode().splitlines()[1:]]
    assert kinds == [["track", "bus-1"], ["next", "bus-1"], *[["forecast", "bus-1"]] * 3]


def test_a_reader_that_has_seen_enough_ends_it_without_a_complaint(tmp_path: Path) -> None:
    lines = [dumps(forecast("bus", step, lat=30.0 + step / 1e4)) for step in range(3_000)]
    (tmp_path / "all.ndjson").write_bytes(b"\n".join(lines))  # more than a pipe holds
    command = [*COMMAND, "export", "csv", str(tmp_path / "all.ndjson"), "--out", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as export:
        assert export.stdout is not None
        assert export.stderr is not None
        assert export.stdout.readline().startswith(b"kind,entity_id")
        export.stdout.close()
        assert export.stderr.read() == b""
    assert export.returncode == 0
