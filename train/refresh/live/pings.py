"""Writes the fleet's newest days as one Parquet file: what the archive has, and the topic from where that ends.

The archive states up to which offset each partition has landed; the topic is read from there on, or from the first
record of those days, so that no ping is in the file twice. The end of each partition is queried once, at the start.
The file appears whole or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import pyarrow.compute as pc
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from model.files import writing_whole
from stream.adapters.archived.catalog import Catalog, files_of, open_archive
from stream.adapters.archived.manifest import File, Manifest
from stream.adapters.archived.reading import read_batches
from stream.adapters.live.on_topic import reader_of
from stream.config.security import PLAIN_KAFKA, KafkaSecurity, kafka_refusal
from stream.kafka import admin, log_facts
from stream.kafka.log import Log
from stream.kafka.reading import INPUT_ISOLATION, reader, reread
from train.data.topic import COLUMNS, PingWriter


class PingTopic(NamedTuple):
    """A topic, and how to reach it."""

    topic: str
    bootstrap: str
    security: KafkaSecurity = PLAIN_KAFKA
    map: str | None = None  # a preset or a file, as the workers have it


class OffsetRange(NamedTuple):
    """The offsets [begin, end) of a partition that are read."""

    partition: int
    begin: int
    end: int


@dataclass(frozen=True)
class ArchiveState:
    """The state of an archive that is read, all of it known before the first file is opened."""

    catalog: Catalog
    manifests: Mapping[int, Manifest]
    files: tuple[File, ...]
    forgotten: Collection[str]

    @classmethod
    def opened(cls, url: str, topic: str, since_ms: int) -> Self:
        """Raises FileNotFoundError if there is no archive, ValueError for one of another topic, OSError."""
        catalog = open_archive(url)
        if catalog.head.topic != topic:
            raise ValueError(f"{url} is an archive of {catalog.head.topic}, and not of {topic}")
        manifests = catalog.manifests()
        files = tuple(file for file in files_of(manifests) if file.to_ms >= since_ms)
        return cls(catalog, manifests, files, catalog.forgotten())

    def next_offset(self, partition: int, log: Log) -> int:
        """Returns the first offset of this log that is not in the archive."""
        manifest = self.manifests.get(partition)
        if manifest is None or manifest.next_offset is None:
            return 0
        is_another = bool(manifest.topic_id and log.topic_id and manifest.topic_id != log.topic_id)
        return 0 if is_another or manifest.next_offset > log.end else manifest.next_offset

    def has_forgotten(self, entity_id: str) -> bool:
        return bool(self.forgotten) and self.catalog.hash_of(entity_id) in self.forgotten


def write_pings(
    where: PingTopic,
    path: Path,
    since_ms: int,
    *,
    archive: str | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> int:
    """Writes the pings since then to `path`, and returns their number. Of the topic, the time of a record counts; of
    the archive, that of the ping.

    Raises ValueError if there is none, or no such topic; Refused; KafkaError, OSError, TimeoutError.
    """
    archived = None if archive is None else ArchiveState.opened(archive, where.topic, since_ms)
    with writing_whole(path) as part:
        forgotten = (lambda entity_id: False) if archived is None else archived.has_forgotten
        with PingWriter(part, reader_of(where.map), forgotten) as writer:
            try:
                asyncio.run(_write(writer, where, since_ms, archived, progress))
            except KafkaError as error:
                raise kafka_refusal(where.bootstrap, where.security, error) or error from error
        if not writer.pings:
            where_, dropped = f"topic {where.topic} at {where.bootstrap}", writer.describe_dropped()
            raise ValueError(f"{where_} holds no ping that is new enough{dropped}")
    return writer.pings


async def _write(
    writer: PingWriter,
    where: PingTopic,
    since_ms: int,
    archived: ArchiveState | None,
    progress: Callable[[float], None],
) -> None:
    stretches = await _find_ranges(where, since_ms, archived)
    files = () if archived is None else archived.files
    total = max(1, sum(file.rows for file in files) + sum(one.end - one.begin for one in stretches))
    done = 0
    for file in files:
        assert archived is not None
        for batch in read_batches(archived.catalog.storage, file, list(COLUMNS)):
            writer.add(batch.filter(pc.greater_equal(batch.column("t"), since_ms)))
            progress((done := done + batch.num_rows) / total)
    servers, access = where.bootstrap.split(","), where.security.arguments()
    for number, begin, end in stretches:
        async for records in reread(servers, (where.topic, number), begin, end, access=access):
            values = zip(records.values.each(), records.timestamps_ms.tolist(), strict=True)
            writer.add_records((value, ts_ms) for value, ts_ms in values if ts_ms >= since_ms)
            progress((done + int(records.offsets[-1]) - begin) / total)
        done += end - begin
    progress(1.0)


async def _find_ranges(where: PingTopic, since_ms: int, archived: ArchiveState | None) -> list[OffsetRange]:
    with admin.connected(where.bootstrap, where.security) as client:
        count = admin.partitions_of(client, where.topic)
    tps = [TopicPartition(where.topic, number) for number in range(count)]
    async with reader(where.bootstrap.split(","), where.security.arguments(), INPUT_ISOLATION) as consumer:
        # None of a partition without a newer record, and of brokers that do not know offsets by time. Then records are
        # read whose time says that they are too old.
        by_time = await consumer.offsets_for_times(dict.fromkeys(tps, since_ms))
        logs = {tp: await log_facts.ask(consumer, tp, log_facts.UNDEFINED) for tp in tps}
    found = []
    for tp, log in logs.items():
        at = by_time.get(tp)
        begin = max(log.begin, 0 if at is None else at.offset)
        if archived is not None:
            begin = max(begin, archived.next_offset(tp.partition, log))
        found.append(OffsetRange(tp.partition, min(begin, log.end), log.end))
    return found
