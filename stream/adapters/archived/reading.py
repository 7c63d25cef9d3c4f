"""Reads the pings of an archive: as columns, or as rows in the order of their times.

Only files that manifests name are read, and all of them are known before the first is opened, so that whoever reads for
long reads one state of the archive. Memory is that of the result, and for rows that of SLICE_ROWS pings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, pairwise
from math import ceil
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stream.adapters.archived.catalog import files_of, open_archive
from stream.adapters.archived.manifest import DAY_MS, ArchiveDamaged, File, digest_of
from stream.adapters.files import BATCH_ROWS, RecordedRow, RecordedRows, row_of
from stream.adapters.table_builder import Piece, Progress, TableBuilder
from stream.adapters.tables import Table
from stream.storage import Storage

# The columns of a file, whose rows are by entity and time, and those of the same time by offset.
SCHEMA: Final = pa.schema(
    [
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("t", pa.int64(), nullable=False),  # ms UTC
        pa.field("lat", pa.float64(), nullable=False),
        pa.field("lon", pa.float64(), nullable=False),
        pa.field("speed_mps", pa.float64()),
        pa.field("heading_deg", pa.float64()),
        pa.field("trip_id", pa.string()),
        pa.field("category", pa.string()),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
    ]
)
SLICE_ROWS: Final = 1_000_000  # pings in memory while rows are read in order, some 200 MB
_CHUNK_ROWS: Final = 131_072  # of a file, at a time
_FIXES: Final = ("entity_id", "t", "lat", "lon", "speed_mps", "heading_deg")
_FIELDS: Final = (*_FIXES, "trip_id", "category")  # of a ping
_SPAN: Final = re.compile(r"(.*)\?((?:since|until)=[^?]*)", re.DOTALL)
_DAYS: Final = re.compile(r"(\d{1,5})d")


@dataclass(frozen=True)
class Archive:
    """The pings of some whole days of an archive."""

    storage: Storage
    files: tuple[File, ...]  # by day, and within a day as the logs have them

    @property
    def fingerprint(self) -> str:
        """A hash of what is read."""
        return digest_of(" ".join(file.digest for file in self.files).encode())

    def table(self, progress: Progress) -> Table:
        """Returns all pings as columns. Raises ArchiveDamaged for a file that is not what was written, OSError if one
        cannot be read, as when it was deleted since this archive was opened.
        """
        builder, done, total = TableBuilder(), 0, max(1, sum(file.rows for file in self.files))
        for file in self.files:
            for batch in read_batches(self.storage, file, _FIXES):
                lat, lon, speed, heading = (_floats(batch.column(name)) for name in _FIXES[2:])
                builder.add(Piece(batch.column("entity_id"), batch.column("t").to_numpy(), lat, lon, speed, heading))
            done += file.rows
            progress(done / total)
        return builder.table()

    def rows(self) -> RecordedRows:
        """Returns all pings as records, in the order of their times; those of the same time by partition and offset.
        Raises as `table`, also while they are iterated over.
        """
        return RecordedRows(sum(file.rows for file in self.files), self._in_order)

    def _in_order(self) -> Iterator[RecordedRow]:
        for day, files in groupby(self.files, key=lambda file: file.day):
            some = list(files)
            slices = ceil(sum(file.rows for file in some) / SLICE_ROWS)
            edges = [day * DAY_MS + DAY_MS * part // slices for part in range(slices + 1)]
            for low, high in pairwise(edges):
                yield from self._slice(some, low, high)

    def _slice(self, files: Sequence[File], low: int, high: int) -> Iterator[RecordedRow]:
        batches: list[Any] = []
        for file in files:
            if file.from_ms < high and file.to_ms >= low:
                for batch in read_batches(self.storage, file, (*_FIELDS, "partition", "offset")):
                    t = batch.column("t")
                    batches.append(batch.filter(pc.and_(pc.greater_equal(t, low), pc.less(t, high))))
        if not batches:
            return
        order = [("t", "ascending"), ("partition", "ascending"), ("offset", "ascending")]
        for batch in pa.Table.from_batches(batches).sort_by(order).to_batches(max_chunksize=BATCH_ROWS):
            values = [batch.column(name).to_pylist() for name in _FIELDS]
            for fields in zip(*values, strict=True):
                yield row_of(dict(zip(("entity_id", "ts", *_FIELDS[2:]), fields, strict=True)))


def open_days(given: str, now_ms: int) -> tuple[str, Archive]:
    """Opens DIR, DIR?since=7d, DIR?since=2026-11-01&until=2026-11-20, as the archive is now: days of UTC, of which
    `until` is the first that is not read. Returns its path or URL, too.

    Raises FileNotFoundError if there is none, ValueError if it is not clear which, or there is no such time,
    ArchiveDamaged, OSError.
    """
    url, since, until = _parse(given, now_ms)
    if since is not None and until is not None and since >= until:
        raise ValueError(f"{url}: since is not before until")
    catalog = open_archive(url)
    within = [
        file
        for file in files_of(catalog.manifests())
        if (since is None or file.day >= since) and (until is None or file.day < until)
    ]
    return url, Archive(catalog.storage, tuple(within))


def _parse(given: str, now_ms: int) -> tuple[str, int | None, int | None]:
    """Returns the path or URL, and the span in days from 1970. Raises ValueError."""
    match = _SPAN.fullmatch(given)
    if match is None:
        return given, None, None
    span: dict[str, int] = {}
    for part in match[2].split("&"):
        name, _, text = part.partition("=")
        if name not in ("since", "until") or name in span:
            raise ValueError(f"{given}: {part!r} is none of since=7d, since=2026-11-01, until=2026-11-20")
        span[name] = _day(given, text, now_ms)
    return match[1], span.get("since"), span.get("until")


def _day(given: str, text: str, now_ms: int) -> int:
    """Returns a day, counted from 1970: of a date, or so many days before today."""
    if (days := _DAYS.fullmatch(text)) is not None:
        return now_ms // DAY_MS - int(days[1])
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) // 86_400
    except ValueError as error:
        raise ValueError(f"{given}: {text!r} is neither a date like 2026-11-01 nor a number of days like 7d") from error


def read_batches(storage: Storage, file: File, columns: Sequence[str] = SCHEMA.names) -> Iterator[Any]:
    """Yields a file's rows in record batches. Raises ArchiveDamaged, FileNotFoundError if somebody has deleted it since
    its manifest was read, OSError."""
    where, rows = f"{storage.url}/{file.name}", 0
    try:
        with storage.open(file.name) as raw:
            if raw.seek(0, 2) != file.bytes:
                raise ArchiveDamaged(f"{where} has {raw.tell()} bytes, and {file.bytes} were written")
            parquet = pq.ParquetFile(raw, page_checksum_verification=True)
            for batch in parquet.iter_batches(_CHUNK_ROWS, columns=list(columns), use_threads=False):
                rows += batch.num_rows
                yield batch
        if rows != file.rows:
            raise ArchiveDamaged(f"{where} has {rows} rows, and {file.rows} were written")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{where} was deleted since this archive was opened (retention, forget?): read it again"
        ) from error
    except pa.ArrowException as error:
        raise ArchiveDamaged(f"{where} is damaged: {error}") from error
    except OSError as error:  # also Arrow's, for a page whose checksum is another
        raise OSError(f"{where} cannot be read: {error}") from error


def _floats(column: Any) -> NDArray[np.float64]:
    """Returns a column of numbers; NaN where there is none."""
    return np.asarray(column.fill_null(float("nan")).to_numpy(zero_copy_only=False), np.float64)
