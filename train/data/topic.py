"""Writes pings of a Kafka topic to a Parquet file, which can be trained on again when the topic has grown, or has
deleted its records.

A snapshot is bounded: the end of each partition is queried once, at the start, and later records are not read.
Partitions are read one after another, so that the same log gives the same file, which is named by its contents.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from model.files import writing_whole
from stream.adapters.columns import DROPPED
from stream.adapters.live.on_topic import OneReader, reader_of
from stream.adapters.table_builder import Progress
from stream.adapters.tables import why
from stream.config.options import quiet
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.kafka.reading import to_end
from stream.wire import MAX_ENTITY_ID_CHARS, Ping

# 2000-01-01, as for `pathcast worker`: smaller values are seconds, or a clock that was never set
MIN_TS_MS: Final = 946_684_800_000
ROWS: Final = 131_072  # of a row group, some 10 MB
# The columns, in the order of the file
COLUMNS: Final = {
    "entity_id": pa.string(),
    "t": pa.int64(),
    "lat": pa.float64(),
    "lon": pa.float64(),
    "speed_mps": pa.float64(),
    "heading_deg": pa.float64(),
}
_SCHEMA: Final = pa.schema(list(COLUMNS.items()))
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
    is no such topic or no ping in it. `map_` names the preset or file that reads records of another form.
    """

    async def read(writer: PingWriter) -> None:
        async for chunk in to_end(bootstrap, topic, security):
            writer.add_records(zip(chunk.records.values.each(), chunk.records.timestamps_ms.tolist(), strict=True))
            progress(chunk.done)

    directory.mkdir(parents=True, exist_ok=True)
    named: list[Path] = []
    with writing_whole(directory / f"{topic}.parquet", lambda part, _: part.replace(named[0])) as part:
        with PingWriter(part, reader_of(map_)) as writer, quiet():
            asyncio.run(read(writer))
        if not writer.pings:
            raise ValueError(f"topic {topic} at {bootstrap} holds no ping{writer.describe_dropped()}")
        named.append(directory / f"{topic}-{writer.fingerprint()}.parquet")
    progress(1.0)
    return named[0]


class PingWriter:
    """Writes pings in row groups, so that its memory is that of ROWS pings. Records that hold no ping are counted in
    the file, and so in the corpus' `dropped`.
    """

    def __init__(
        self, path: Path, foreign: OneReader | None = None, leave_out: Callable[[str], bool] = lambda entity_id: False
    ) -> None:
        """`foreign` reads records of another form; pings of entities that `leave_out` names are not written."""
        self.pings = 0
        self.dropped: Counter[str] = Counter()
        self._path, self._foreign, self._leave_out = path, foreign, leave_out
        self._digest = blake2b(digest_size=8)
        self._batches: list[Any] = []
        self._waiting = 0

    def __enter__(self) -> Self:
        # Without Arrow's own schema, so that readers see the metadata that is only known at the end.
        self._file = pq.ParquetWriter(self._path, _SCHEMA, compression="zstd", store_schema=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._file.add_key_value_metadata({DROPPED: json.dumps(self.dropped)})
        self._file.close()

    def add_records(self, records: Iterable[tuple[bytes | None, int]]) -> None:
        """Writes the pings of records: their values, and when they were published, in ms since 1970 UTC."""
        pings = []
        for value, published_ms in records:
            ping = parse_ping(value, published_ms, self._foreign)
            if ping is None:
                self.dropped["no_canonical_ping"] += 1
            elif ping.valid is False:
                self.dropped["marked_invalid"] += 1
            elif not self._leave_out(ping.entity_id):
                # With a map the ping, as another map would read the same record otherwise.
                self._digest.update((value or b"") if self._foreign is None else msgspec.json.encode(ping))
                pings.append((ping.entity_id, ping.ts, ping.lat, ping.lon, ping.speed_mps, ping.heading_deg))
        if pings:
            columns = zip(zip(*pings, strict=True), COLUMNS.values(), strict=True)
            self.add(pa.record_batch([pa.array(column, kind) for column, kind in columns], schema=_SCHEMA))

    def add(self, batch: Any) -> None:
        """Writes the pings of a record batch with these columns."""
        self.pings += batch.num_rows
        self._waiting += batch.num_rows
        self._batches.append(batch)
        if self._waiting >= ROWS:
            self._flush()

    def fingerprint(self) -> str:
        """Returns a hash of the records so far, and of the counts of those that hold no ping."""
        digest = self._digest.copy()
        digest.update(json.dumps(self.dropped, sort_keys=True).encode())
        return digest.hexdigest()

    def describe_dropped(self) -> str:
        """Returns why records hold no ping, as text to be appended to a sentence."""
        left_out = why(self.dropped)
        return left_out and f"; records left out: {left_out}"

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pa.Table.from_batches([batch.cast(_SCHEMA) for batch in self._batches]))
        self._batches, self._waiting = [], 0


def parse_ping(value: bytes | None, published_ms: int = 0, foreign: OneReader | None = None) -> Ping | None:
    """Returns the canonical ping that a record holds, or the one that `foreign` reads in it; None if it holds none."""
    try:
        ping = _PING.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        other = None if foreign is None else foreign(value or b"", published_ms)
        if not isinstance(other, Ping):
            return None
        ping = other
    has_id = 0 < len(ping.entity_id) <= MAX_ENTITY_ID_CHARS
    return ping if has_id and ping.ts >= MIN_TS_MS else None
