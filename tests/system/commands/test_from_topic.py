"""`--from-topic` of `pathcast train`, `calibrate` and `evaluate` against a real broker: bounded, counted, the same file
for the same log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from kafka import KafkaProducer
from typer.testing import CliRunner

from stream.kafka import admin
from stream.wire import Ping, dumps
from train.calibration.cli import calibrate
from train.data.corpus import load
from train.data.topic import snapshot
from train.evaluation.cli import evaluate as evaluate_command
from train.fit.cli import train as train_command

START_MS = 1_700_000_000_000
VEHICLES, PINGS = 12, 120

APP = typer.Typer(pretty_exceptions_enable=False)
APP.command(name="train")(train_command)
APP.command(name="evaluate")(evaluate_command)
APP.command(name="calibrate")(calibrate)


@pytest.fixture
def topic(kafka: str, topic_prefix: str) -> str:
    name = f"{topic_prefix}.pings.v1"
    with admin.connect(kafka) as client:
        client.create_topics({name: {"num_partitions": 3, "replication_factor": 1}})
    return name


@pytest.fixture
def producer(kafka: str) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(bootstrap_servers=kafka)
    yield producer
    producer.close()


def ping(vehicle: int, number: int) -> Ping:
    lat, lon = 48.0 + 0.01 * vehicle, 11.0 + 0.0005 * number
    return Ping(entity_id=f"v{vehicle:02}", ts=START_MS + 30_000 * number, lat=lat, lon=lon, speed_mps=1.25)


def publish(producer: KafkaProducer, topic: str, *values: bytes, partition: int = 0) -> None:
    for value in values:
        producer.send(topic, value=value, partition=partition)
    producer.flush()


def fill(producer: KafkaProducer, topic: str) -> None:
    for vehicle in range(VEHICLES):
        publish(producer, topic, *(dumps(ping(vehicle, n)) for n in range(PINGS)), partition=vehicle % 2)


def silent(share: float) -> None:
    """Nobody watches."""


def test_a_topic_is_trained_on_and_its_file_evaluated(
    kafka: str, topic: str, producer: KafkaProducer, tmp_path: Path
) -> None:
    fill(producer, topic)
    bad = [
        b"hello",
        b'{"entity_id":"v01","ts":1700000000,"lat":48,"lon":11}',
        b'{"entity_id":"","ts":1700000000000,"lat":48,"lon":11}',
    ]
    publish(producer, topic, *bad, dumps(Ping(entity_id="v01", ts=START_MS + 1, lat=91.0, lon=11.0)), partition=1)
    where = ["--cache", str(tmp_path / "cache"), "--json"]
    trained = CliRunner().invoke(
        APP,
        ["train", "--from-topic", topic, "--bootstrap", kafka, "--out", str(tmp_path / "run"), "--steps", "2", *where],
    )
    assert trained.exit_code == 0, trained.output
    outcome = json.loads(trained.stdout)
    assert outcome["dropped"] == {
        "no_entity_or_time": 0,
        "impossible_position": 1,
        "repeated_time": 0,
        "no_canonical_ping": 3,
    }
    (file,) = (tmp_path / "cache").glob("*.parquet")
    assert str(file) in trained.stderr
    how = ["--weights", str(tmp_path / "run"), "--no-fit"]
    judged = CliRunner().invoke(APP, ["evaluate", "--data", str(file), *how, *where])
    assert judged.exit_code == 0, judged.output
    assert json.loads(judged.stdout)["data"][0]["anchors"] > 0


def test_weights_are_calibrated_to_a_topic_and_judged_on_it(
    kafka: str, topic: str, producer: KafkaProducer, tmp_path: Path
) -> None:
    fill(producer, topic)
    live = ["--from-topic", topic, "--bootstrap", kafka, "--split", "all", "--cache", str(tmp_path / "cache"), "--json"]
    fitted = CliRunner().invoke(APP, ["calibrate", *live, "--out", str(tmp_path / "now")])
    assert fitted.exit_code == 0, fitted.output
    held = json.loads(fitted.stdout)["fitted_to"][0]
    assert (held["of"], held["entities"]) == ("forecasts", VEHICLES)
    judged = CliRunner().invoke(APP, ["evaluate", *live, "--weights", str(tmp_path / "now")])
    assert judged.exit_code == 0, judged.output
    (report,) = json.loads(judged.stdout)["data"]
    (file,) = (tmp_path / "cache").glob("*.parquet")  # the same log: one file
    assert (report["file"], report["tracks"]) == (file.name, VEHICLES)


def test_the_same_log_is_the_same_file_and_another_log_another(
    kafka: str, topic: str, producer: KafkaProducer, tmp_path: Path
) -> None:
    fill(producer, topic)
    shares: list[float] = []
    first = snapshot(topic, kafka, tmp_path / "one", shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert snapshot(topic, kafka, tmp_path / "two", silent).name == first.name
    corpus = load([first], tmp_path / "cache")
    assert (corpus.pings, len(corpus), len(corpus.names)) == (VEHICLES * PINGS, VEHICLES, VEHICLES)
    assert corpus.ts_ms[:2].tolist() == [START_MS, START_MS + 30_000]
    assert set(corpus.speed_mps.tolist()) == {1.25}
    publish(producer, topic, dumps(ping(0, PINGS)))
    assert snapshot(topic, kafka, tmp_path / "one", silent).name != first.name


FLEET_MAP = """
name = "fleet"
[fields]
entity_id = "van"
ts = {path = "at", unit = "s"}
lat = "where.lat"
lon = "where.lon"
speed_mps = {path = "kmh", unit = "km/h"}
"""


def others(one: Ping) -> bytes:
    """The same ping in the form of another system."""
    where, kmh = {"lat": one.lat, "lon": one.lon}, None if one.speed_mps is None else one.speed_mps * 3.6
    return json.dumps({"van": one.entity_id, "at": one.ts / 1000, "where": where, "kmh": kmh}).encode()


@pytest.fixture
def fleet_map(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET_MAP)
    return path


def test_pings_of_another_form_are_those_of_our_own_by_a_map(
    kafka: str, topic: str, producer: KafkaProducer, fleet_map: Path, tmp_path: Path
) -> None:
    """Beside records that a worker with this map would not take, either: with two positions, and with none."""
    for vehicle in range(VEHICLES):
        form = others if vehicle % 2 else dumps
        publish(producer, topic, *(form(ping(vehicle, n)) for n in range(PINGS)), partition=vehicle % 2)
    publish(producer, topic, b'{"van": "v01"}', b"hello")
    half = load([snapshot(topic, kafka, tmp_path / "ours", silent)], tmp_path / "cache")
    assert half.pings == VEHICLES * PINGS / 2
    file = snapshot(topic, kafka, tmp_path / "all", silent, map_=str(fleet_map))
    corpus = load([file], tmp_path / "cache")
    assert (corpus.pings, len(corpus.names)) == (VEHICLES * PINGS, VEHICLES)
    assert corpus.dropped["no_canonical_ping"] == 2
    np.testing.assert_allclose(corpus.speed_mps, 1.25, rtol=1e-6)
    fleet_map.write_text(FLEET_MAP.replace("speed_mps = ", "hdop = ").replace(', unit = "km/h"', ""))
    assert snapshot(topic, kafka, tmp_path / "all", silent, map_=str(fleet_map)).name != file.name, "other pings"


@pytest.mark.parametrize("command", ["train", "calibrate", "evaluate"])
def test_each_command_reads_a_topic_of_another_form(
    kafka: str, topic: str, producer: KafkaProducer, fleet_map: Path, tmp_path: Path, command: str
) -> None:
    live = ["--from-topic", topic, "--bootstrap", kafka, "--cache", str(tmp_path / "cache"), "--json"]
    more = {
        "train": ["--out", str(tmp_path / "out"), "--steps", "2"],
        "calibrate": ["--out", str(tmp_path / "out"), "--split", "all"],
        "evaluate": ["--split", "all", "--max-anchors", "100"],
    }[command]
    for vehicle in range(VEHICLES):
        publish(producer, topic, *(others(ping(vehicle, n)) for n in range(PINGS)), partition=vehicle % 2)
    plain = CliRunner().invoke(APP, [command, *live, *more])
    assert isinstance(plain.exception, ValueError)
    assert "holds no ping" in str(plain.exception)
    told = CliRunner().invoke(APP, [command, *live, *more, "--map", str(fleet_map)])
    assert told.exit_code == 0, told.output
    assert len(list((tmp_path / "cache").glob(f"{topic}-*.parquet"))) == 1
    wrong = CliRunner().invoke(APP, [command, *live, *more, "--map", "nonsense"])
    assert wrong.exit_code == 2
    assert "'nonsense'" in wrong.output


def test_pings_that_come_while_it_reads_are_not_waited_for(
    kafka: str, topic: str, producer: KafkaProducer, tmp_path: Path
) -> None:
    fill(producer, topic)

    def more(share: float) -> None:  # a live topic: there is always another one
        publish(producer, topic, dumps(ping(0, PINGS + 1)), partition=1)

    assert load([snapshot(topic, kafka, tmp_path, more)], tmp_path / "cache").pings == VEHICLES * PINGS


def test_no_topic_and_no_ping_are_one_clear_line(
    kafka: str, topic: str, producer: KafkaProducer, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"there is no topic {topic}x at {kafka}"):
        snapshot(f"{topic}x", kafka, tmp_path, silent)
    with pytest.raises(ValueError, match="holds no ping"):
        snapshot(topic, kafka, tmp_path, silent)
    publish(producer, topic, b"hello")
    with pytest.raises(ValueError, match="holds no ping; records left out: 1 that are no ping as workers read them"):
        snapshot(topic, kafka, tmp_path, silent)
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1"):
        snapshot(topic, "127.0.0.1:1", tmp_path, silent)
