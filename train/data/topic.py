"""Writes a Kafka topic of canonical pings (`stream.wire`'s Ping) to a Parquet file.

The read is bounded: the end of each partition is queried once, at the start, and later records are not read. Partitions
are read one after another, so that the same log gives the same file, which is named by its contents. The file can be
trained on and evaluated again when the topic has grown, or has deleted its records.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from model.files import writing_whole
from stream.adapters.columns import DROPPED
from stream.adapters.live.on_topic import OneReader, reader_of
from stream.adapters.table_builder import Progress
from stream.adapters.tables import why
from stream.config.security import PLAIN_KAFKA, KafkaSecurity, check_access, in_words, kafka_refusal
from stream.wire import MAX_ENTITY_ID_CHARS, Ping

STALL_S: Final = 60.0  # longest wait for a record that must come: after that the broker is considered unhealthy
CONNECT_S: Final = 15.0
CHUNK: Final = 10_000  # records; some 2 MB
# 2000-01-01, as for `pathcast worker`: smaller values are seconds, or a clock that was never set
MIN_TS_MS: Final = 946_684_800_000
# The columns, in the order of the file
COLUMNS: Final = {
    "entity_id": pa.string(),
    "t": pa.int64(),
    "lat": pa.float64(),
    "lon": pa.float64(),
    "speed_mps": pa.float64(),
    "heading_deg": pa.float64(),
}
Value = tuple[bytes | None, int]  # a record's, and when it was published, in ms since 1970 UTC
_PING: Final = msgspec.json.Decoder(Ping)


def snapshot(
    topic: str,
    bootstrap: str,
    directory: Path,
    progress: Progress,
    security: KafkaSecurity = PLAIN_KAFKA,
    map_: str | None = None,
) -> Path:
    """Reads the topic up to its present end into `<directory>/<topic>-<contents>.parquet`, and returns that path.

    Raises ConnectionError if no broker answers or it stops answering, Refused if one denies access, ValueError if there
    is no such topic or no ping in it. `map_` names the preset or file that reads records of another form. Records that
    hold no ping are counted in the file, and so in the corpus' `dropped`.
    """
    check_access(bootstrap, security)
    found = _Found(reader_of(map_))
    quiet = logging.getLogger("aiokafka")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL + 1)  # errors arrive here as exceptions
    try:
        asyncio.run(_read(found, topic, bootstrap, progress, security))
    except (KafkaError, TimeoutError) as error:
        refusal = kafka_refusal(bootstrap, security, error)
        raise refusal or ConnectionError(f"reading {topic} at {bootstrap} failed: {in_words(error)}") from error
    finally:
        quiet.setLevel(level)
    if found.pings == 0:
        left_out = why(found.dropped)
        raise ValueError(f"topic {topic} at {bootstrap} holds no ping{left_out and f'; records left out: {left_out}'}")
    return found.write(directory, topic)


class _Found:
    """The pings so far, as columns, and a digest of their bytes."""

    def __init__(self, foreign: OneReader | None = None) -> None:
        self.pings = 0
        self.dropped: Counter[str] = Counter()
        self._foreign = foreign
        self._digest = blake2b(digest_size=8)
        self._batches: list[Any] = []

    def add(self, values: Sequence[Value]) -> None:
        pings = []
        for value, published_ms in values:
            ping = ping_of(value, published_ms, self._foreign)
            if ping is None:
                self.dropped["no_canonical_ping"] += 1
            elif ping.valid is False:
                self.dropped["marked_invalid"] += 1
            else:
                # With a map the ping, as another map would read the same record otherwise.
                self._digest.update((value or b"") if self._foreign is None else msgspec.json.encode(ping))
                pings.append((ping.entity_id, ping.ts, ping.lat, ping.lon, ping.speed_mps, ping.heading_deg))
        if pings:
            self.pings += len(pings)
            columns = zip(*pings, strict=True)
            arrays = [pa.array(column, kind) for column, kind in zip(columns, COLUMNS.values(), strict=True)]
            self._batches.append(pa.record_batch(arrays, names=list(COLUMNS)))

    def write(self, directory: Path, topic: str) -> Path:
        """Writes under a temporary name first, so that a killed run leaves no half file under the final one."""
        self._digest.update(json.dumps(self.dropped, sort_keys=True).encode())
        path = directory / f"{topic}-{self._digest.hexdigest()}.parquet"
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            table = pa.Table.from_batches(self._batches)
            table = table.replace_schema_metadata({DROPPED: json.dumps(self.dropped)})
            with writing_whole(path) as part:  # another command may be reading the same log
                pa.parquet.write_table(table, part, compression="zstd")
        return path


def ping_of(value: bytes | None, published_ms: int = 0, foreign: OneReader | None = None) -> Ping | None:
    """Returns the canonical ping that a record holds, or the one that `foreign` reads in it; None if it holds none."""
    try:
        ping = _PING.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        found = None if foreign is None else foreign(value or b"", published_ms)
        if not isinstance(found, Ping):
            return None
        ping = found
    named = 0 < len(ping.entity_id) <= MAX_ENTITY_ID_CHARS
    return ping if named and ping.ts >= MIN_TS_MS else None


async def _read(found: _Found, topic: str, bootstrap: str, progress: Progress, security: KafkaSecurity) -> None:
    access = security.arguments()
    # No consumer group: reading must not take partitions from other consumers, nor commit offsets.
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap.split(","), **access, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        await asyncio.wait_for(consumer.start(), CONNECT_S)
        numbers = await _partitions(consumer, topic, bootstrap, access)
        partitions = sorted(TopicPartition(topic, number) for number in numbers)
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        total, done = max(1, sum(ends.values()) - sum(begins.values())), 0
        for partition in partitions:
            async for values, moved in _values(consumer, partition, begins[partition], ends[partition]):
                found.add(values)
                done += moved
                progress(min(1.0, done / total))
    finally:
        await consumer.stop()


async def _partitions(consumer: Any, topic: str, bootstrap: str, access: dict[str, Any]) -> set[int]:
    # It is looked up among all topics, because asking for one by name may create it.
    if topic not in await consumer.topics():
        raise ValueError(f"there is no topic {topic} at {bootstrap}")
    # From the admin client: after `topics`, the consumer's `partitions_for_topic` knows nothing of Apache Kafka's
    # topics.
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap.split(","), **access)
    await asyncio.wait_for(admin.start(), CONNECT_S)
    try:
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    return {int(each["partition"]) for each in described["partitions"]}


async def _values(
    consumer: Any, partition: TopicPartition, begin: int, end: int
) -> AsyncIterator[tuple[list[Value], int]]:
    """Yields the values of [begin, end) in chunks, each with the number of offsets that it advanced."""
    consumer.assign([partition])
    consumer.seek(partition, begin)
    position, moved_at = begin, time.monotonic()
    # The position is used, not the last record's offset: offsets without a record (markers, compaction) end a log too.
    while position < end:
        polled = await consumer.getmany(partition, timeout_ms=500, max_records=CHUNK)
        now = await consumer.position(partition)
        values = [(record.value, record.timestamp) for record in polled.get(partition, ()) if record.offset < end]
        yield values, now - position
        if now > position:
            position, moved_at = now, time.monotonic()
        elif time.monotonic() - moved_at > STALL_S:
            raise TimeoutError(f"no record for {STALL_S:.0f} s at {position} of {end} in partition {partition[1]}")
