"""`pathcast feed`, `tail` and `dev topics` against a real broker, as processes."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from bus_feed import SAMPLE, create_topics, read, send
from forecast_rig import forecast_of
from kafka.admin import ConfigResource, ConfigResourceType
from pathcast_process import COMMAND, PATIENCE_S, environment, eventually, pathcast

from stream.kafka import admin
from stream.tracks.clean import parse
from stream.wire import (
    Anchor,
    Forecast,
    GapFill,
    GapPoint,
    Horizon,
    ModelRef,
    NextStep,
    Ping,
    Record,
    Reject,
    Topics,
    dead_letter,
    dumps,
)

LINES = [
    b'{"entity_id":"a","ts":1490094006000,"lat":30.5,"lon":-97.8}',
    b'{"entity_id":"b","ts":1490094007000,"lat":30.5,"lon":-97.8, "unknown": [1]}',
    b'{"entity_id":"a","ts":1490094008000,"lat":91,"lon":-97.8}',
    b"not JSON \xff",
]


@pytest.fixture
def topics(kafka: str, topic_prefix: str) -> Topics:
    made = Topics.of(topic_prefix)
    create_topics(kafka, made, partitions=3)
    return made


def test_topics_are_shown_absent_then_created_then_present(kafka: str, topic_prefix: str) -> None:
    """Those of services, too. Versions and destinations have one partition, whatever is asked for; newest forecasts and
    arrivals as many as the forecasts, from which they are made. Three are compacted."""
    where, names = ("--bootstrap", kafka, "--prefix", topic_prefix, "--json"), Topics.of(topic_prefix)
    for create, partitions, created in ((), None, False), (("--create", "--partitions", 5), 5, True), ((), 5, False):
        rows = json.loads(pathcast("dev", "topics", *create, *where).stdout)
        assert [row["name"] for row in rows] == [*names, *names.of_services]
        one = {names.destinations, names.models}
        assert {row["name"]: row["partitions"] for row in rows} == {
            name: partitions and (1 if name in one else partitions) for name in (*names, *names.of_services)
        }
        assert {row["created"] for row in rows} == {created}
    compacted = (names.models, names.latest, names.destinations)
    asked = [
        ConfigResource(ConfigResourceType.TOPIC, name, {"cleanup.policy": None})
        for name in (*compacted, names.arrivals)
    ]
    with admin.connected(kafka) as client:
        found = client.describe_configs(asked, config_filter="all")["topic"]
    policies = {name: settings["cleanup.policy"]["value"] for name, settings in found.items()}
    assert policies == {**dict.fromkeys(compacted, "compact"), names.arrivals: "delete"}


def test_what_is_made_of_forecasts_gets_their_number_of_partitions(kafka: str, topic_prefix: str) -> None:
    """Else `beside latest` would refuse to start, beside topics that `--create` had just made."""
    where, names = ("--bootstrap", kafka, "--prefix", topic_prefix, "--json"), Topics.of(topic_prefix)
    with admin.connected(kafka) as client:
        admin.create_other(client, names, names.forecasts, partitions=3)
    made = json.loads(pathcast("dev", "topics", "--create", "--partitions", 7, *where).stdout)
    partitions = {row["name"]: row["partitions"] for row in made}
    assert (partitions[names.pings], partitions[names.latest], partitions[names.arrivals]) == (7, 3, 3)


def test_a_table_becomes_pings_keyed_by_entity_in_event_order(kafka: str, topics: Topics, topic_prefix: str) -> None:
    options = ("--speedup", 0, "--limit", 500, "--json", "--bootstrap", kafka, "--prefix", topic_prefix)
    fed = pathcast("feed", SAMPLE, *options)
    assert fed.returncode == 0, fed.stderr
    summary = json.loads(fed.stdout)
    assert (summary["sent"], summary["odd"], summary["oversized"]) == (500, 0, 0)

    records = list(read(kafka, topics.pings))
    pings = [parse(record) for record in records]
    assert len(pings) == 500
    assert not [ping for ping in pings if isinstance(ping, Reject)]
    latest: dict[str, int] = {}
    for ping in pings:
        assert isinstance(ping, Ping)
        assert ping.ts >= latest.get(ping.entity_id, 0), "an entity's pings keep their order"
        latest[ping.entity_id] = ping.ts
    partitions: dict[bytes | None, set[int]] = {}
    for record in records:
        partitions.setdefault(record.key, set()).add(record.partition)
    assert all(len(found) == 1 for found in partitions.values()), "an entity stays in one partition"


def test_ndjson_on_stdin_goes_out_byte_for_byte_bad_lines_too(kafka: str, topics: Topics, topic_prefix: str) -> None:
    where = ("--bootstrap", kafka, "--prefix", topic_prefix)
    fed = pathcast("feed", "-", "--json", *where, stdin=b"\n".join(LINES))
    assert fed.returncode == 0, fed.stderr
    assert json.loads(fed.stdout)["odd"] == 1, "the line that is not JSON"
    records = {record.value: record.key for record in read(kafka, topics.pings)}
    assert records == {LINES[0]: b"a", LINES[1]: b"b", LINES[2]: b"a", LINES[3]: None}


def test_columns_are_mapped_and_an_archive_is_fed_with_what_it_leaves_out(
    kafka: str, topics: Topics, topic_prefix: str, tmp_path: Path
) -> None:
    where = ("--speedup", 0, "--json", "--bootstrap", kafka, "--prefix", topic_prefix)
    (tmp_path / "a.csv").write_text("car,when,y,x\n7,1490094006,30.5,-97.8\n")
    fed = pathcast("feed", tmp_path / "a.csv", "--columns", "entity_id=car,t:s=when,lat=y,lon=x", *where)
    assert fed.returncode == 0, fed.stderr
    lines = ["MMSI,BaseDateTime,LAT,LON,SOG,COG", *(f"8,2017-03-21T11:00:0{n},{n * 30}.5,1,1,1" for n in range(4))]
    (tmp_path / "ais.csv").write_text("\n".join(lines))
    fed = pathcast("feed", f"ais:{tmp_path / 'ais.csv'}", *where)
    assert (fed.returncode, json.loads(fed.stdout)["sent"]) == (0, 3), fed.stderr
    assert b"left out: 1 at an impossible position" in fed.stderr
    pings = [parse(record) for record in read(kafka, topics.pings)]
    assert sorted((ping.entity_id, ping.ts, ping.lat) for ping in pings if isinstance(ping, Ping)) == [
        ("7", 1_490_094_006_000, 30.5),
        *(("8", 1_490_094_000_000 + 1000 * n, n * 30 + 0.5) for n in range(3)),
    ]


def test_ctrl_c_ends_a_paced_feed_with_its_summary(kafka: str, topics: Topics, topic_prefix: str) -> None:
    options = ["--speedup", "1", "--json", "--bootstrap", kafka, "--prefix", topic_prefix]
    feeding = subprocess.Popen([*COMMAND, "feed", str(SAMPLE), *options], stdout=subprocess.PIPE, env=environment())
    assert eventually(lambda: any(read(kafka, topics.pings)))
    feeding.send_signal(signal.SIGINT)
    out, _ = feeding.communicate(timeout=PATIENCE_S)
    assert feeding.returncode == 0
    assert json.loads(out)["sent"] == len(list(read(kafka, topics.pings))), "what it says it sent is there"


def test_tail_shows_forecasts_of_one_entity(kafka: str, topics: Topics, topic_prefix: str) -> None:
    values = [(name.encode(), dumps(forecast(name)), ()) for name in ("a", "b", "a")]
    send(kafka, topics.forecasts, iter(values))
    options = ("--from", "earliest", "--no-follow", "--bootstrap", kafka, "--prefix", topic_prefix)
    assert len(pathcast("tail", "forecasts", "--json", *options).stdout.splitlines()) == 3
    shown = pathcast("tail", "forecasts", "--json", "--entity", "a", *options)
    assert shown.stdout.splitlines() == [dumps(forecast("a"))] * 2, "the bytes as they are in the topic"
    assert len(pathcast("tail", "forecasts", "--json", "--limit", 1, *options).stdout.splitlines()) == 1
    (line,) = pathcast("tail", "forecasts", "--entity", "b", *options).stdout.decode().splitlines()
    assert line.startswith("2017-03-21 11:00:06  b ")
    assert "  next in 60 s: 100 m NE ±10 m  5 min: 30.60000,-97.70000 ±20 m  ok hit n=8" in line


def test_tail_shows_gap_fills(kafka: str, topics: Topics, topic_prefix: str) -> None:
    send(kafka, topics.gapfills, iter([(b"a", dumps(gapfill()), ())]))
    options = ("--from", "earliest", "--no-follow", "--bootstrap", kafka, "--prefix", topic_prefix)
    assert pathcast("tail", "gapfills", "--json", *options).stdout.splitlines() == [dumps(gapfill())]
    assert b"5 min of silence: 1 point over 1200 m" in pathcast("tail", "gapfills", *options).stdout


def test_tail_shows_why_a_dead_letter_is_dead(kafka: str, topics: Topics, topic_prefix: str) -> None:
    came = Record("in", 2, 7, 1_490_094_006_000, b"a", b"not JSON \xff", ())
    letter = dead_letter(topics.dead_letters, came, Reject("invalid_json", "not JSON at byte 0"), version="1")
    send(kafka, topics.dead_letters, iter([(letter.key, letter.value, letter.headers)]))
    options = ("--from", "earliest", "--no-follow", "--bootstrap", kafka, "--prefix", topic_prefix)
    (row,) = map(json.loads, pathcast("tail", "dead-letters", "--json", *options).stdout.splitlines())
    assert (row["code"], row["topic"], row["partition"], row["offset"]) == ("invalid_json", "in", 2, 7)
    assert (row["key"], row["value_base64"]) == ("a", "bm90IEpTT04g/w==")
    assert b"invalid_json: not JSON at byte 0" in pathcast("tail", "dead-letters", *options).stdout


def test_tail_follows_what_comes_later(kafka: str, topics: Topics, topic_prefix: str) -> None:
    send(kafka, topics.forecasts, iter([(b"a", dumps(forecast("a")), ())]))
    options = ["--from", "earliest", "--limit", "2", "--json", "--bootstrap", kafka, "--prefix", topic_prefix]
    tail = subprocess.Popen([*COMMAND, "tail", "forecasts", *options], stdout=subprocess.PIPE, env=environment())
    assert tail.stdout is not None
    assert tail.stdout.readline().strip() == dumps(forecast("a"))
    send(kafka, topics.forecasts, iter([(b"b", dumps(forecast("b")), ())]))
    assert tail.stdout.readline().strip() == dumps(forecast("b"))
    assert tail.wait(PATIENCE_S) == 0
    tail.stdout.close()


def test_tail_ends_quietly_when_its_reader_does(kafka: str, topics: Topics, topic_prefix: str) -> None:
    # 2,000 are more than a pipe holds, so that tail must write again after its reader has gone.
    send(kafka, topics.forecasts, ((b"a", dumps(forecast(f"a{n}")), ()) for n in range(2_000)))
    options = ["--from", "earliest", "--json", "--bootstrap", kafka, "--prefix", topic_prefix]
    tail = subprocess.Popen(
        [*COMMAND, "tail", "forecasts", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert tail.stdout is not None
    assert tail.stderr is not None
    assert tail.stdout.readline()
    tail.stdout.close()  # as `head -1` does
    assert tail.wait(PATIENCE_S) == 0
    assert tail.stderr.read() == b""
    tail.stderr.close()


def forecast(entity_id: str) -> Forecast:
    step = NextStep(dt_s=60, d_east_m=70.7, d_north_m=70.7, d_lat=0.001, d_lon=0.001, cov_m2=(100.0, 0.0, 100.0))
    ahead = [Horizon(300.0, 30.6, -97.7, (400.0, 0.0, 400.0))]
    return forecast_of(entity_id, Anchor(1_490_094_006_000, 30.5, -97.8), step, ahead)


def gapfill() -> GapFill:
    return GapFill(
        gap_id="g",
        entity_id="a",
        revision=1,
        status="provisional",
        start=Anchor(1_490_094_000_000, 30.5, -97.8),
        end=Anchor(1_490_094_300_000, 30.51, -97.8),
        reason="silence",
        method="model",
        points=(GapPoint(1_490_094_150_000, 30.505, -97.8, (100.0, 0.0, 100.0)),),
        length_m=1200.0,
        max_sigma_m=10.0,
        model=ModelRef("m", "v"),
        issued_ts=1_490_094_301_000,
    )
