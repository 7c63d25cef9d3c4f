"""Writes a Kafka topic of canonical pings (`stream.wire`'s Ping) to a Parquet file.

The read is bounded: the end of each partition is queried once, at the start, and later records are not read. Partitions
are read one after another, so that the same log gives the same file, which is named by its contents. The file can be
trained on and evaluated again when the topic has grown, or has deleted its records.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet

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
    found = _Found(reader_of(map_))
    with quiet():
        asyncio.run(_read(found, topic, bootstrap, progress, security))
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
    async for chunk in to_end(bootstrap, topic, security):
        found.add(list(zip(chunk.records.values.each(), chunk.records.timestamps_ms.tolist(), strict=True)))
        progress(chunk.done)
    progress(1.0)
