"""`pathcast arrivals` on real servers: a bus that is sent somewhere arrives; after a kill, too, all is told once."""

from __future__ import annotations

import csv
import gzip
import json
import math
import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import arrivals_rig
import bus_feed
import pytest
from dead_members import bury
from kafka import KafkaProducer
from pathcast_process import COMMAND, environment
from typer.testing import CliRunner
from worker_process import Worker, assert_all_live

from stream.commands.main import build
from stream.config.security import PLAIN_KAFKA
from stream.kafka import admin
from stream.kafka.records.record_columns import Records
from stream.services.arrivals.cli import app
from stream.services.arrivals.destinations import InForce
from stream.services.arrivals.setting import put
from stream.services.arrivals.unit import ArrivalUnit
from stream.wire import Record, Topics, dumps
from stream.wire.arrivals import (
    Arrival,
    ArrivalRecord,
    Arrived,
    Destination,
    destination_key,
    dumps_arrivals,
    loads_arrival,
    reached_key,
)
from stream.wire.positions import offset_en_m

PARTITIONS = 2
BUSES, RADIUS_M, AHEAD_S = 12, 150.0, 1_200
Row = dict[str, str]


def member(log: Path, kafka: str, prefix: str, *more: str, **env: str) -> Worker:
    options = ("beside", "arrivals", "--bootstrap", kafka, "--prefix", prefix, *more)
    return Worker(log, program=COMMAND, command=options, environment=environment(**env))


def told(kafka: str, topics: Topics) -> list[ArrivalRecord]:
    """What a subscriber sees that reads what is committed."""
    records = bus_feed.read(kafka, topics.arrivals, isolation_level="read_committed")
    return [loads_arrival(record.value or b"") for record in records]


def recorded() -> tuple[list[Row], list[Row]]:
    """The demo's buses: what is known before, and what comes then."""
    with gzip.open(bus_feed.SAMPLE, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    half = sorted(int(row["t"]) for row in rows)[len(rows) * 6 // 10]
    return [row for row in rows if int(row["t"]) < half], [row for row in rows if int(row["t"]) >= half]


def goals(rows: list[Row]) -> Iterator[Destination]:
    """Where buses do go, which are well away from there at first."""
    for bus in sorted({row["entity_id"] for row in rows}):
        mine = [row for row in rows if row["entity_id"] == bus]
        start_ms = int(mine[0]["t"])
        there = next((row for row in mine if int(row["t"]) >= start_ms + 1000 * AHEAD_S), None)
        if there is None:
            continue
        lat, lon = float(there["lat"]), float(there["lon"])
        off = [math.hypot(*offset_en_m(lat, lon, float(row["lat"]), float(row["lon"]), lat)) for row in mine[:5]]
        if min(off) > 5 * RADIUS_M:
            yield Destination(
                entity_id=bus, destination_id="stop", lat=lat, lon=lon, radius_m=RADIUS_M, set_ts=start_ms
            )


@pytest.mark.promise("arrivals are estimated and told")
def test_a_bus_that_is_sent_somewhere_gets_estimates_and_arrives(
    apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    topics = Topics.of(topic_prefix)
    bus_feed.create_topics(apache_kafka, topics, partitions=PARTITIONS)
    before, live = recorded()
    with (tmp_path / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["entity_id", "t", "lat", "lon"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(before)
    sent = list(islice(goals(live), BUSES))
    assert len(sent) >= 6
    servers = ["--bootstrap", apache_kafka, "--prefix", topic_prefix]
    first, *others = sent
    where = ["--lat", str(first.lat), "--lon", str(first.lon), "--radius", str(RADIUS_M), "--id", "stop"]
    set_ = CliRunner().invoke(app, ["set", first.entity_id, *where, "--by", "2017-03-21T23:00", *servers])
    assert set_.exit_code == 0, set_.output
    records = {destination_key(one.entity_id, one.destination_id): dumps_arrivals(one) for one in others}
    put(apache_kafka, topics, PLAIN_KAFKA, records)
    options = {"bootstrap": apache_kafka, "redis": redis_url, "prefix": topic_prefix, "group": topic_prefix}
    with (
        Worker(tmp_path / "worker.log", **options) as worker,
        member(
            tmp_path / "arrivals.log", apache_kafka, topic_prefix, "--history", str(tmp_path / "history.csv")
        ) as one,
    ):
        one.wait_for("is ours", 180)
        fleet = (bus_feed._record(row, 0) for row in live)
        bus_feed.send(apache_kafka, topics.pings, (_named(raw) for raw in fleet))
        check = partial(assert_all_live, worker, one)
        bus_feed.wait_until_consumed(apache_kafka, topic_prefix, topics.pings, check)
        bus_feed.wait_until_consumed(apache_kafka, f"{topic_prefix}-arrivals", topics.forecasts, check)
        assert one.stop() == 0, one.log()
        assert worker.stop() == 0
    found = told(apache_kafka, topics)
    arrived = {one.entity_id: one for one in found if isinstance(one, Arrived)}
    assert sorted(arrived) == sorted(one.entity_id for one in sent), "each bus arrives, and no other"
    assert Counter(type(one) for one in found)[Arrived] == len(sent)
    assert len({one.arrival_id for one in found}) == len(found)
    estimates = [one for one in found if isinstance(one, Arrival)]
    assert len(estimates) > 10 * len(sent)
    held = [one.early_s <= (arrived[one.entity_id].ts - one.anchor_ts) / 1000 <= one.late_s for one in estimates]
    print(f"{len(estimates)} estimates, {sum(held) / len(held):.3f} of the intervals hold the arrival")
    assert sum(held) / len(held) > 0.7  # of 90 % intervals, and few buses
    assert sum(one.passages > 0 for one in estimates) > len(estimates) / 3, "earlier buses went there, too"
    assert all(one.chance_by_deadline is not None for one in estimates if one.entity_id == first.entity_id)
    last = max((one for one in estimates if one.entity_id == first.entity_id), key=lambda one: one.anchor_ts)
    arrivals = ["tail", "arrivals", "--from", "earliest", "--no-follow", *servers]
    shown = CliRunner().invoke(build(), [*arrivals, "--entity", first.entity_id])
    assert "nine times in ten" in shown.output
    assert "stop reached" in shown.output.splitlines()[-1]
    as_json = CliRunner().invoke(build(), [*arrivals, "--json"])
    assert last.arrival_id in {json.loads(line)["arrival_id"] for line in as_json.output.splitlines()}


def _named(raw: bus_feed.Raw) -> bus_feed.Raw:
    """The same ping under the bus's own id."""
    assert raw[1] is not None
    ping = json.loads(raw[1])
    ping["entity_id"] = ping["entity_id"].removesuffix("-0")
    return ping["entity_id"].encode(), json.dumps(ping).encode(), ()


class Feed:
    """Made-up forecasts of entities that are to go somewhere, and what must come of them."""

    def __init__(self, kafka: str, prefix: str) -> None:
        self.kafka, self.prefix, self.topics = kafka, prefix, Topics.of(prefix)
        self.asked: dict[str, bytes | None] = {}
        self.logs: dict[int, list[tuple[bytes, bytes]]] = {number: [] for number in range(PARTITIONS)}
        lat, lon = arrivals_rig.place(3_000)
        for number in range(40):
            entity = f"van{number}"
            goal = Destination(
                entity_id=entity, destination_id="depot", lat=lat, lon=lon, radius_m=150.0, set_ts=10**12
            )
            if number % 4:  # to every fourth nothing is said
                self.asked[destination_key(entity, "depot")] = dumps_arrivals(goal)
        for step in range(100):
            for number in range(40):
                one = arrivals_rig.forecast(
                    f"van{number}", at_m=40.0 * step - 20 * number, ts_ms=arrivals_rig.NOON_MS + 15_000 * step
                )
                self.logs[number % PARTITIONS].append((one.entity_id.encode(), dumps(one)))
        with admin.connected(kafka) as client:
            admin.create(client, self.topics, partitions=PARTITIONS)
        put(kafka, self.topics, PLAIN_KAFKA, self.asked)

    def send(self, low: int, high: int) -> None:
        """Sends these quarters of the logs."""
        producer = KafkaProducer(bootstrap_servers=self.kafka)
        for number, log in self.logs.items():
            for key, raw in log[low * len(log) // 4 : high * len(log) // 4]:
                producer.send(self.topics.forecasts, partition=number, key=key, value=raw)
        producer.flush()
        producer.close()

    def expected(self) -> list[ArrivalRecord]:
        """What one member tells that nothing ever happens to."""
        found = []
        for number, log in self.logs.items():
            known = InForce()
            for asked, value in self.asked.items():
                known.put(asked.encode(), value)
            unit = ArrivalUnit(number, self.topics, known, None, 0.0)
            unit.fold(Records.of([Record("f", number, n, arrivals_rig.NOON_MS, *pair) for n, pair in enumerate(log)]))
            found += [
                loads_arrival(one.value or b"") for one in unit.take_outgoing(None) if one.topic == self.topics.arrivals
            ]
        return found


def test_what_is_told_is_that_of_an_undisturbed_run_although_a_member_was_stopped_and_one_killed(
    apache_kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    """What can happen to a member is tested in tests/system/members; here it writes to two topics."""
    feed = Feed(apache_kafka, topic_prefix)
    for low, high, point in ((0, 2, ""), (2, 3, "after_publish:2"), (3, 4, "")):
        feed.send(low, high)
        log, env = tmp_path / f"from{low}.log", {"PATHCAST_KILL_POINT": point}
        with member(log, apache_kafka, topic_prefix, "--once", "--arrivals-every", "0", **env) as one:
            assert one.wait() == (-signal.SIGKILL if point else 0), one.log()
        bury(apache_kafka, f"{topic_prefix}-arrivals")
    found, expected = told(apache_kafka, feed.topics), feed.expected()
    counts = Counter(one.arrival_id for one in found)
    assert [one for one, count in counts.items() if count > 1] == [], "told twice"
    by_id = {one.arrival_id: one for one in found}
    assert by_id == {one.arrival_id: one for one in expected}
    assert sum(isinstance(one, Arrived) for one in expected) > 20


def test_who_is_sent_again_arrives_again_and_who_is_called_back_does_not(
    apache_kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    topics = Topics.of(topic_prefix)
    with admin.connected(apache_kafka) as client:
        admin.create(client, topics, partitions=1)
    lat, lon = arrivals_rig.place(0)
    servers = ["--bootstrap", apache_kafka, "--prefix", topic_prefix]
    where = ["--lat", str(lat), "--lon", str(lon), "--radius", "150"]

    def command(*arguments: str) -> None:
        ran = CliRunner().invoke(app, [*arguments, *servers])
        assert ran.exit_code == 0, ran.output

    def ping(entity: str, number: int) -> None:
        producer = KafkaProducer(bootstrap_servers=apache_kafka)
        one = arrivals_rig.forecast(entity, ts_ms=arrivals_rig.NOON_MS + 1000 * number)
        producer.send(topics.forecasts, key=entity.encode(), value=dumps(one)).get(30)
        producer.close()
        with member(tmp_path / f"{entity}-{number}.log", apache_kafka, topic_prefix, "--once") as once:
            assert once.wait() == 0, once.log()

    command("set", "a", *where)
    command("set", "b", *where)
    command("clear", "b")
    ping("a", 1)
    ping("a", 2)
    ping("b", 3)
    assert [one.entity_id for one in told(apache_kafka, topics)] == ["a"]
    notes = [
        record
        for record in bus_feed.read(apache_kafka, topics.destinations)
        if record.key == reached_key("a", "destination").encode()
    ]
    assert len(notes) == 1
    command("set", "a", *where)
    ping("a", 4)
    assert [one.entity_id for one in told(apache_kafka, topics)] == ["a", "a"]
