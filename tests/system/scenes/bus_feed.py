"""Real pings for the workers, what must come of them, and what came. Tests import this; it tests nothing itself."""

from __future__ import annotations

import csv
import gzip
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, NoError
from kafka.structs import OffsetAndMetadata

import stream
from stream.kafka import admin
from stream.tracks.clean import parse
from stream.tracks.fix import first_ts_ms, pack
from stream.tracks.track import Accepted, Late, Policy, Rejected, Track, observe
from stream.wire import ERROR_HEADER_PREFIX, Ping, Record, Reject, Topics, Window, dumps
from stream.wire.ids import forecast_id, gap_id

SAMPLE = Path(stream.__file__).parent / "demo" / "sample" / "austin_buses.csv.gz"
DAY_MS = 86_400_000
QUIET_S = 300.0  # without any progress of the group: something hangs; a worker may have to start in it

Key = bytes | None
Raw = tuple[Key, bytes | None, tuple[tuple[str, bytes], ...]]  # key, value, headers

BAD: tuple[Raw, ...] = (
    (b"1", b"not JSON", ()),
    (b"1", None, (("kept", b"as it came"),)),
    (b"1", b"\xff\xfe\x00", (("binary", b"\x00\xff"),)),
    (None, b'{"entity_id":"1","ts":1490094006000,"lat":91,"lon":0}', ()),
    (b"1", b'{"entity_id":"1","ts":1490094006000,"lat":30.2,"lon":NaN}', ()),
    (b"2", b'{"entity_id":"1","ts":1490094006000,"lat":30.2,"lon":-97.7}', ()),
    (b"1", b'{"entity_id":"1","lat":30.2,"lon":-97.7}', ()),
    (b"1", b"{" + b" " * 100_000 + b"}", ()),
)


def fleet(count: int, *, seed: int) -> Iterator[Raw]:
    """`count` records: the sample's buses, many days side by side; and a few late, repeated and broken ones."""
    print(f"feed seed {seed}")
    return islice(_endless(count, random.Random(seed)), count)


def _endless(count: int, rng: random.Random) -> Iterator[Raw]:
    with gzip.open(SAMPLE, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    days = count // len(rows) + 1  # each under its own ids, all at once: one day alone has 36 buses
    held: list[Raw] = []  # pings on a detour: they come some hundred records late
    for row in rows:
        for day in range(days):
            record = _record(row, day)
            chance = rng.random()
            if chance < 0.005:
                held.append(record)
                continue
            yield record
            if chance > 0.995:
                yield record  # as a producer's retry does it
            elif chance > 0.994:
                yield rng.choice(BAD)
            if held and rng.random() < 0.01:
                yield held.pop(0)


def sample() -> list[Raw]:
    """The sample's pings, in its order."""
    with gzip.open(SAMPLE, "rt", newline="") as file:
        return [_record(row, 0) for row in csv.DictReader(file)]


def _record(row: dict[str, str], day: int) -> Raw:
    ping = Ping(
        entity_id=f"{row['entity_id']}-{day}",
        ts=int(row["t"]) + day * DAY_MS,
        lat=float(row["lat"]),
        lon=float(row["lon"]),
        speed_mps=float(row["speed_mps"]),
        trip_id=row["trip_id"],
    )
    return ping.entity_id.encode(), dumps(ping), ()


def send(bootstrap: str, topic: str, records: Iterator[Raw]) -> int:
    """Publish all; the count."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, batch_size=256 * 1024)
    count = 0
    for key, value, headers in records:
        producer.send(topic, key=key, value=value, headers=list(headers))
        count += 1
    producer.flush()
    producer.close()
    return count


def create_topics(bootstrap: str, topics: Topics, partitions: int = 8) -> None:
    with admin.connect(bootstrap) as client:
        admin.create(client, topics, partitions=partitions)


def commit(bootstrap: str, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Commits these offsets by partition for a group that has no members. A broker that never had a group makes its
    topic for them first."""
    if not offsets:
        return
    wanted = {TopicPartition(topic, number): OffsetAndMetadata(at, "", -1) for number, at in offsets.items()}
    deadline = time.monotonic() + QUIET_S
    with KafkaAdminClient(bootstrap_servers=bootstrap) as client:
        while True:
            with suppress(KafkaError):
                if set(client.alter_group_offsets(group, wanted).values()) == {NoError}:
                    return
            assert time.monotonic() < deadline, f"no offsets of {group}"
            time.sleep(0.1)


def partitions_of(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]


def wait_for_records(bootstrap: str, topic: str, at_least: int, check: Callable[[], None]) -> int:
    """Until the topic holds so many records; how many it has. `check` raises if waiting has no point any more."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    tps = partitions_of(consumer, topic)
    deadline = time.monotonic() + QUIET_S
    while (found := sum(consumer.end_offsets(tps).values())) < at_least:
        check()
        assert time.monotonic() < deadline, f"{found} records in {topic}, not {at_least}, after {QUIET_S} s"
        time.sleep(0.2)
    consumer.close()
    return int(found)


def read(bootstrap: str, topic: str, *, isolation_level: str = "read_uncommitted") -> Iterator[Record]:
    """Everything that the topic holds now, partition by partition in offset order."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level=isolation_level,
    )
    for tp in partitions_of(consumer, topic):
        end = consumer.end_offsets([tp])[tp]
        consumer.assign([tp])
        consumer.seek_to_beginning(tp)
        while consumer.position(tp) < end:
            for raw in consumer.poll(timeout_ms=1_000).get(tp, ()):
                yield Record(
                    raw.topic, raw.partition, raw.offset, raw.timestamp, raw.key, raw.value, tuple(raw.headers)
                )
    consumer.close()


def wait_until_consumed(bootstrap: str, group: str, topic: str, check: Callable[[], None]) -> None:
    """Until the group has committed the end of every partition. `check` raises if waiting has no point any more."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    tps = partitions_of(consumer, topic)
    ends = consumer.end_offsets(tps)
    last, moved_at = -1, time.monotonic()
    while (left := sum(ends[tp] - (consumer.committed(tp) or 0) for tp in tps)) > 0:
        check()
        if left != last:
            last, moved_at = left, time.monotonic()
        assert time.monotonic() - moved_at < QUIET_S, f"{left} records are not consumed, and none in {QUIET_S} s"
        time.sleep(0.2)
    consumer.close()


class Expected(NamedTuple):
    """What the records must lead to, by `clean` and `track` alone: no engine, no broker, no store."""

    windows: dict[str, Window]  # the pings that each forecast stands on, by forecast_id
    gap_ids: set[str]
    rejects: dict[tuple[int, int], Record]  # by partition and offset


def expected(records: Sequence[Record], *, window_fixes: int, version: str) -> Expected:
    policy = Policy(window_fixes=window_fixes)
    tracks: dict[tuple[int, str], Track | None] = {}
    found = Expected({}, set(), {})
    for record in records:
        ping = parse(record)
        if isinstance(ping, Reject):
            found.rejects[record.partition, record.offset] = record
            continue
        key = (record.partition, ping.entity_id)
        track, verdict = observe(tracks.get(key), pack(ping), record.offset, policy)
        tracks[key] = track
        if isinstance(verdict, Rejected):
            found.rejects[record.partition, record.offset] = record
        elif isinstance(verdict, Accepted | Late):
            size = verdict.position + 1 if isinstance(verdict, Late) else track.size
            window = Window(size, first_ts_ms(track.window), ping.ts)
            found.windows[forecast_id(ping.entity_id, ping.ts, version)] = window
            if isinstance(verdict, Accepted) and verdict.gap is not None:
                found.gap_ids.add(gap_id(ping.entity_id, verdict.gap.start.ts_ms))
    return found


def source_of(letter: Record) -> tuple[int, int]:
    """Partition and offset of the record that a dead letter holds."""
    headers = dict(letter.headers)
    return int(headers[f"{ERROR_HEADER_PREFIX}partition"]), int(headers[f"{ERROR_HEADER_PREFIX}offset"])
