"""Members of `beside transit` without a broker: pings of a morning in Austin, and what lies in the trips topic. Tests
import this; it tests nothing itself.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final
from zlib import crc32

import pyarrow.parquet as pq

from stream.services.transit.feeds import read_feed
from stream.services.transit.fleet import Feed, Fleet
from stream.services.transit.unit import Published, TransitUnit, take
from stream.transit.predicting import Predictor
from stream.transit.schedule import Schedule
from stream.wire import Outgoing, Ping, Record, Topics
from stream.wire.trips import TripUnderWay, loads_trip

AUSTIN: Final = Path(__file__).parents[2] / "transit" / "austin.zip"
TOPICS: Final = Topics.of("t")
PARTITIONS: Final = 3


@cache
def schedule() -> Schedule:
    return read_feed(AUSTIN).predictor.schedule


def new_fleet(hash_: str = "austin") -> Fleet:
    fleet = Fleet(Feed(hash_, Predictor(schedule())))
    fleet.caught_up = True
    return fleet


@cache
def pings() -> tuple[Ping, ...]:
    """Returns pings in the order of their times, one of each bus every half minute or so: the first 80 minutes."""
    with zipfile.ZipFile(AUSTIN) as file:
        table = pq.read_table(io.BytesIO(file.read("pings.parquet")))
    rows = sorted(zip(*(table[name].to_pylist() for name in ("t", "entity_id", "trip_id", "lat", "lon")), strict=True))
    some = rows[: len(rows) // 3]
    return tuple(Ping(entity_id=one, ts=ts, lat=lat, lon=lon, trip_id=trip) for ts, one, trip, lat, lon in some)


def partition_of(entity_id: str) -> int:
    return crc32(entity_id.encode()) % PARTITIONS


def minutes(some: Iterable[Ping]) -> Iterator[tuple[int, list[Ping]]]:
    """Yields the pings of each full minute, and its end in ms UTC."""
    end, found = 0, list[Ping]()
    for ping in some:
        if ping.ts >= end and found:
            yield end, found
            found = []
        end = max(end, (ping.ts // 60_000 + 1) * 60_000)
        found.append(ping)
    yield end, found


def swapped_feed(folder: Path) -> Path:
    """Writes a feed in which each trip of the fixture's has the id of another one."""
    path = folder / "swapped.zip"
    with zipfile.ZipFile(AUSTIN) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            if name.endswith(("trips.txt", "stop_times.txt")):
                text = b"\n".join(_swap(line) for line in text.splitlines()) + b"\n"
            if name.endswith(".txt"):
                new.writestr(name, text)
    return path


def _swap(line: bytes) -> bytes:
    ids = sorted(schedule().trips)
    other = dict(zip(ids, ids[::-1], strict=True))
    return b",".join(other.get(part.decode(), part.decode()).encode() for part in line.split(b","))


class Topic:
    """The trips topic, as its subscribers see it."""

    def __init__(self) -> None:
        self.logs: dict[int, list[Outgoing]] = {number: [] for number in range(PARTITIONS)}
        self.values: dict[int, dict[str, TripUnderWay]] = {number: {} for number in range(PARTITIONS)}

    def add(self, number: int, outgoing: list[Outgoing]) -> None:
        self.logs[number] += outgoing
        for one in outgoing:
            key = (one.key or b"").decode()
            self.values[number].pop(key, None)
            if one.value is not None:
                self.values[number][key] = loads_trip(one.value)

    def all_values(self) -> dict[str, TripUnderWay]:
        return {key: one for values in self.values.values() for key, one in values.items()}

    def published(self, number: int) -> dict[str, Published]:
        """Returns what a takeover reads."""
        found: dict[str, Published] = {}
        for offset, one in enumerate(self.logs[number]):
            take(Record(TOPICS.trips, number, offset, -1, one.key, one.value), found)
        return found


def unit(topic: Topic, number: int, fleet: Fleet, *, every_s: float = 30.0, needs: int = 0) -> TransitUnit:
    return TransitUnit(TOPICS, number, fleet, every_s, topic.published(number), needs)


def play(fleet: Fleet, units: dict[int, TransitUnit], topic: Topic, some: Iterable[Ping]) -> None:
    """Folds pings, and lets the units publish at the end of each minute."""
    for _, each in minutes(some):
        fold(fleet, each)
        for number, one in units.items():
            topic.add(number, one.take_outgoing(None))


def fold(fleet: Fleet, some: Iterable[Ping]) -> None:
    for ping in some:
        number = partition_of(ping.entity_id)
        fleet.fold(number, ping, -1)
        fleet.offsets[number] = fleet.offsets.get(number, 0) + 1
