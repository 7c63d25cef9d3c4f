"""Writes rows as a Parquet file, and reads whole files again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream.adapters.archived.manifest import DAY_MS, File, pings_name
from stream.adapters.archived.reading import SCHEMA, read_batches
from stream.storage import Storage

ROW_GROUP: Final = 131_072
_ORDER: Final = [("entity_id", "ascending"), ("t", "ascending"), ("offset", "ascending")]
_TEXTS: Final = ["entity_id", "trip_id", "category"]  # few values, many times
_ENCODINGS: Final = {
    **dict.fromkeys(("t", "partition", "offset"), "DELTA_BINARY_PACKED"),
    **dict.fromkeys(("lat", "lon", "speed_mps", "heading_deg"), "BYTE_STREAM_SPLIT"),
}
_BLOCK: Final = 1 << 20


class Range(NamedTuple):
    """The records that a file has the pings of: some of a log (`File.log`)."""

    partition: int
    log: int
    first: int
    next: int


def write(storage: Storage, table: Any, day: int, of: Range) -> File:
    """Writes the rows of a day, at least one, in whatever order they come. Raises OSError."""
    name = pings_name(day, of.partition, of.first, of.next, secrets.token_hex(4))
    t = table.column("t")
    with storage.writing(name) as path:
        pq.write_table(
            table.sort_by(_ORDER),
            path,
            row_group_size=ROW_GROUP,
            compression="zstd",
            use_dictionary=_TEXTS,
            column_encoding=_ENCODINGS,
            write_page_checksum=True,
        )
        size, digest = path.stat().st_size, _digest(path)
    low, high = pc.min(t).as_py(), pc.max(t).as_py()
    return File(name, day, of.log, of.first, of.next, table.num_rows, size, low, high, digest)


def read(storage: Storage, files: Sequence[File]) -> Any:
    """Returns the rows of files as a table. Raises ArchiveDamaged, OSError."""
    return pa.Table.from_batches([batch for file in files for batch in read_batches(storage, file)], SCHEMA)


def by_day(table: Any) -> Iterator[tuple[int, Any]]:
    """Yields the days of a table's rows, counted from 1970, and the rows of each."""
    days = table.column("t").to_numpy() // DAY_MS
    for day in np.unique(days).tolist():
        yield day, table.filter(pa.array(days == day))


def _digest(path: Path) -> str:
    found = blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()
