"""How a fleet went earlier, from what the pings topic still has, or from an archive."""

from __future__ import annotations

import json
from pathlib import Path

import arrivals_rig
import bus_feed
import pytest
from kafka import KafkaProducer
from pathcast_process import pathcast

from stream.config.security import PLAIN_KAFKA
from stream.kafka import admin
from stream.services.arrivals.setting import put
from stream.wire import Ping, Topics, dumps
from stream.wire.arrivals import Arrival, Destination, destination_key, dumps_arrivals, loads_arrival

VANS, PINGS, EVERY_S, MPS = 6, 120, 30, 8.0
AWAY_M = 3_000.0
MAP = """
name = "fleet"
[fields]
entity_id = "van"
ts = {path = "at", unit = "s"}
lat = "where.lat"
lon = "where.lon"
"""


def earlier() -> list[Ping]:
    """Vans that went to the east yesterday, each a little later than the one before."""
    found = []
    for van in range(VANS):
        for number in range(PINGS):
            lat, lon = arrivals_rig.place(EVERY_S * MPS * number - 500)
            ts = arrivals_rig.NOON_MS - 86_400_000 + 1_000 * (EVERY_S * number + 7 * van)
            found.append(Ping(entity_id=f"van-{van}", ts=ts, lat=lat, lon=lon))
    return found


def others(ping: Ping) -> bytes:
    """The same in the form of another system."""
    return json.dumps(
        {"van": ping.entity_id, "at": ping.ts / 1000, "where": {"lat": ping.lat, "lon": ping.lon}}
    ).encode()


class Scene:
    """One van that is to go where the others went, and one forecast of it."""

    def __init__(self, kafka: str, prefix: str, *, mapped: bool = False) -> None:
        self.kafka, self.topics = kafka, Topics.of(prefix)
        self.servers = ("--bootstrap", kafka, "--prefix", prefix)
        with admin.connect(kafka) as client:
            admin.create(client, self.topics, partitions=2)
        lat, lon = arrivals_rig.place(AWAY_M)
        goal = Destination(entity_id="12", destination_id="there", lat=lat, lon=lon, radius_m=150.0, set_ts=10**12)
        put(kafka, self.topics, PLAIN_KAFKA, {destination_key("12", "there"): dumps_arrivals(goal)})
        one = arrivals_rig.forecast("12", mps=MPS)
        producer = KafkaProducer(bootstrap_servers=kafka)
        producer.send(self.topics.forecasts, key=b"12", value=dumps(one))
        for ping in earlier():
            producer.send(self.topics.pings, key=ping.entity_id.encode(), value=others(ping) if mapped else dumps(ping))
        producer.flush()
        producer.close()

    def estimate(self, *options: object) -> tuple[Arrival, str]:
        """What is told of the van, and the log."""
        ran = pathcast("beside", "arrivals", "--once", *options, *self.servers)
        assert ran.returncode == 0, ran.stderr.decode()
        found = [loads_arrival(one.value or b"") for one in bus_feed.read(self.kafka, self.topics.arrivals)]
        assert isinstance(found[-1], Arrival)
        return found[-1], ran.stderr.decode()


@pytest.mark.parametrize("history", ["topic", "topic of another form", "archive"])
def test_earlier_passages_are_those_of_the_topic_or_the_archive(
    kafka: str, topic_prefix: str, tmp_path: Path, history: str
) -> None:
    scene = Scene(kafka, topic_prefix, mapped=history == "topic of another form")
    options: tuple[object, ...] = ("--history", "topic")
    if history == "archive":
        pytest.importorskip("pyarrow")
        landing = ("--once", "--late=forever", "--archive-retention=forever", "--archive", tmp_path / "pings")
        landed = pathcast("beside", "archive", *landing, *scene.servers)
        assert landed.returncode == 0, landed.stderr.decode()
        options = ("--history", tmp_path / "pings")
    elif history == "topic of another form":
        map_ = tmp_path / "fleet.toml"
        map_.write_text(MAP)
        options += ("--map", map_)
    told, log = scene.estimate(*options)
    assert told.passages > 0
    assert told.in_s == pytest.approx((AWAY_M - 150) / MPS, rel=0.25)
    assert " points of earlier tracks" in log


def test_without_a_history_and_with_one_of_another_form_nothing_is_known(kafka: str, topic_prefix: str) -> None:
    scene = Scene(kafka, topic_prefix, mapped=True)
    told, log = scene.estimate("--history", "topic")
    assert told.passages == 0
    assert "topic: 0 points of earlier tracks" in log


def test_an_archive_in_which_nothing_has_landed_yet_is_waited_for(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    """As `pathcast up` starts both at once."""
    scene = Scene(kafka, topic_prefix)
    told, log = scene.estimate("--history", f"archive:{tmp_path}?since=7d")
    assert told.passages == 0
    assert "0 points of earlier tracks" in log
