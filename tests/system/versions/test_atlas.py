"""An atlas from a topic is that of the file which was fed into it."""

from __future__ import annotations

import csv
import gzip
import json
from itertools import islice
from pathlib import Path

import bus_feed
from bus_feed import SAMPLE
from kafka import KafkaProducer
from pathcast_process import pathcast

from stream.kafka import admin

PINGS = 2_000
NAMES = {"entity_id": "van", "ts": "at", "lat": "y", "lon": "x"}
MAP = """
name = "fleet"
[fields]
entity_id = "van"
ts = {path = "at", unit = "ms"}
lat = "y"
lon = "x"
speed_mps = {path = "speed_mps", unit = "m/s"}
trip_id = "trip_id"
"""


def test_an_atlas_from_a_topic_is_that_of_the_file(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    assert (
        pathcast(
            "dev", "topics", "--create", "--partitions", 3, "--bootstrap", kafka, "--prefix", topic_prefix
        ).returncode
        == 0
    )
    fed = pathcast("feed", SAMPLE, "--speedup", 0, "--bootstrap", kafka, "--prefix", topic_prefix)
    assert fed.returncode == 0, fed.stderr
    of_file, of_topic = tmp_path / "file.atlas", tmp_path / "topic.atlas"
    told = pathcast("train", "atlas", "--data", SAMPLE, "--out", of_file, "--json")
    assert told.returncode == 0, told.stderr
    source = ("--from-topic", f"{topic_prefix}.pings.v1", "--bootstrap", kafka)
    again = pathcast("train", "atlas", *source, "--out", of_topic, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(told.stdout) == json.loads(again.stdout)
    assert of_file.read_bytes() == of_topic.read_bytes()


def test_an_atlas_of_a_topic_in_another_form_is_that_of_the_same_pings(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    ours, theirs, map_ = tmp_path / "ours.atlas", tmp_path / "theirs.atlas", tmp_path / "fleet.toml"
    map_.write_text(MAP)
    with admin.connected(kafka) as client:
        made = {"num_partitions": 2, "replication_factor": 1}
        client.create_topics({f"{topic_prefix}.{name}": made for name in ("ours", "theirs")})
    producer = KafkaProducer(bootstrap_servers=kafka)
    with gzip.open(SAMPLE, "rt", newline="") as file:
        for row in islice(csv.DictReader(file), PINGS):
            key, value, _ = bus_feed._record(row, 0)
            fields = json.loads(value or b"")
            renamed = {NAMES.get(name, name): one for name, one in fields.items()}
            producer.send(f"{topic_prefix}.ours", key=key, value=value)
            producer.send(f"{topic_prefix}.theirs", key=key, value=json.dumps(renamed).encode())
    producer.flush()
    producer.close()

    def built(topic: str, out: Path, *more: object) -> dict[str, object]:
        source = ("--from-topic", f"{topic_prefix}.{topic}", "--bootstrap", kafka, "--min-entities", 1)
        told = pathcast("train", "atlas", *source, "--out", out, "--json", *more)
        assert told.returncode == 0, told.stderr
        found: dict[str, object] = json.loads(told.stdout)
        return found

    assert built("theirs", theirs)["pings"] == 0
    assert built("theirs", theirs, "--map", map_) == built("ours", ours)
    assert theirs.read_bytes() == ours.read_bytes()
