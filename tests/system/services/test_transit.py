"""`pathcast beside transit` against a real Kafka: pings in, trips out, whoever dies and whatever schedule comes.

Its page is stream/transit/README.md.
"""

from __future__ import annotations

import signal
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import bus_feed
import pytest
from dead_members import bury, members_of
from kafka import KafkaProducer
from kafka.errors import KafkaError
from pathcast_process import COMMAND, environment, eventually
from trips_rig import AUSTIN, PARTITIONS, fold, partition_of, pings, swapped_feed
from worker_process import Worker

from stream.kafka import admin
from stream.services.transit.feeds import read_feed
from stream.services.transit.fleet import Fleet
from stream.services.transit.records import key_parts
from stream.transit.schedule import Schedule
from stream.up.embedded import free_port
from stream.wire import Ping, Topics, dumps
from stream.wire.trips import TripUnderWay, loads_trip, trip_key

HEARD_MS = 300_000  # the test may take so long: a vehicle that was heard that late is on its trip still


class Scene:
    """Topics of their own, the pings that were sent, and a fleet that has folded them all in their order."""

    def __init__(self, kafka: str, prefix: str, folder: Path) -> None:
        self.kafka, self.prefix, self.folder, self.topics = kafka, prefix, folder, Topics.of(prefix)
        self.zip = folder / "feed.zip"
        self.zip.write_bytes(AUSTIN.read_bytes())
        self.fleet = Fleet(read_feed(self.zip))
        self.schedules = {self.fleet.feed.hash: self.fleet.feed.predictor.schedule}
        self.newest: dict[str, Ping] = {}
        with admin.connect(kafka) as client:
            admin.create(client, self.topics, partitions=PARTITIONS)

    @property
    def group(self) -> str:
        return f"{self.prefix}-transit"

    @property
    def members(self) -> int:
        try:
            return len(members_of(self.kafka, self.group))
        except KafkaError:  # the brokers have no place for the group yet
            return 0

    def member(self, name: str, *more: str) -> Worker:
        options = ("--bootstrap", self.kafka, "--prefix", self.prefix, "--gtfs", str(self.zip), "--transit-look", "1s")
        state = ("--transit-state", str(self.folder / "state"))
        command = ("beside", "transit", *options, *state, *more)
        return Worker(self.folder / f"{name}.log", program=COMMAND, command=command, environment=environment())

    def send(self, some: Iterable[Ping]) -> None:
        producer = KafkaProducer(bootstrap_servers=self.kafka)
        for ping in some:
            number = partition_of(ping.entity_id)
            producer.send(self.topics.pings, partition=number, key=ping.entity_id.encode(), value=dumps(ping))
            fold(self.fleet, [ping])
            self.newest[ping.entity_id] = ping
        producer.flush()
        producer.close()

    def replace_zip(self, path: Path) -> None:
        path.replace(self.zip)
        feed = read_feed(self.zip)
        self.schedules[feed.hash] = feed.predictor.schedule
        self.fleet.adopt(feed)

    def values(self) -> dict[str, TripUnderWay]:
        """What a subscriber that reads committed records finds."""
        found: dict[str, TripUnderWay] = {}
        for one in bus_feed.read(self.kafka, self.topics.trips, isolation_level="read_committed"):
            key = (one.key or b"").decode()
            found.pop(key, None)
            if one.value is not None:
                found[key] = loads_trip(one.value)
                assert one.partition == partition_of(found[key].entity_id)
        return found

    def faults(self) -> list[str]:
        """What is wrong with the topic, as far as the pings tell that were sent."""
        found = self.values()
        now_ms = self.fleet.look()
        under_way = {
            trip_key(*key_parts(one)): one for number in range(PARTITIONS) for one in self.fleet.under_way(number)
        }
        heard = {key for key, one in under_way.items() if now_ms - one.vehicle.ping_ms < HEARD_MS}
        faults = [f"{key} is under way, and has no record" for key in heard - found.keys()]
        faults += [f"{key} is over, and has one" for key in found.keys() - under_way.keys()]
        for key, one in found.items():
            stops = self._stops(self.schedules[one.feed], one.trip_id)
            if {stop.stop_id for stop in one.stops} - stops:
                faults.append(f"{key} has stops of another trip")
            if one.trip_id != self.newest[one.entity_id].trip_id:
                faults.append(f"{key} is not the trip that the vehicle names")
            if key in under_way and one.feed != under_way[key].vehicle.feed.hash:
                faults.append(f"{key} is of another feed")
            if key in heard and one.ping_ts != under_way[key].vehicle.ping_ms:
                faults.append(f"{key} is of an earlier ping")
        return faults

    def _stops(self, schedule: Schedule, trip_id: str) -> set[str]:
        return {*schedule.trips[trip_id].stops_N}


@pytest.fixture
def scene(apache_kafka: str, topic_prefix: str, tmp_path: Path) -> Scene:
    return Scene(apache_kafka, topic_prefix, tmp_path)


def test_no_trip_is_lost_or_left_after_a_kill_nor_mixed_up_by_a_new_feed(scene: Scene) -> None:
    third = len(pings()) // 3
    port = free_port()
    scene.send(pings()[:third])
    with scene.member("two", "--metrics", str(port)) as two, scene.member("one") as one:
        assert eventually(lambda: scene.members == 2), one.log()
        _expect_no_faults(scene, one, two)
        before = set(scene.values())
        assert len(before) > 10
        one.send_signal(signal.SIGKILL)
        scene.send(pings()[third : 2 * third])  # most trips of both members end before anybody has the partitions
        bury(scene.kafka, scene.group)  # also the other one, which joins again at once
        _expect_no_faults(scene, two)
        assert before - set(scene.values())
        scene.replace_zip(swapped_feed(scene.folder))
        two.wait_for("new feed", 120.0)
        scene.send(pings()[2 * third :])
        _expect_no_faults(scene, two)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            lines = dict(line.rpartition(" ")[::2] for line in page.read().decode().splitlines() if line[0] != "#")
        assert lines['pathcast_transit_pings_total{outcome="on_path"}'] != "0.0"
        assert lines["pathcast_transit_catching_up"] == "0.0"
        assert lines[f'pathcast_transit_feed_info{{feed="{scene.fleet.feed.hash}",of="new_trips"}}'] == "1.0"
        assert two.stop() == 0, two.log()
    with scene.member("three", "--once") as three:
        assert three.wait() == 0, three.log()
        assert "all of it" in three.log(), three.log()
    assert not scene.faults()


def _expect_no_faults(scene: Scene, *members: Worker) -> None:
    assert eventually(lambda: not scene.faults(), 150.0), "\n".join([*scene.faults(), *(one.log() for one in members)])
