"""Changes a partition of an archive: writes files of pings and the manifest that names them, and deletes what none
names.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Sequence
from hashlib import blake2b, file_digest
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec.structs import replace

from model.files import WRITING
from stream.adapters.archived.catalog import Catalog
from stream.adapters.archived.manifest import (
    DAY,
    DIGEST_BYTES,
    KEPT,
    LANDED,
    File,
    Manifest,
    dumps,
    is_of,
    manifest_name,
    pings_name,
)
from stream.adapters.archived.reading import SCHEMA, read_batches
from stream.config import failpoints

ROW_GROUP: Final = 131_072
_ORDER: Final = [("entity_id", "ascending"), ("t", "ascending"), ("offset", "ascending")]
_TEXTS: Final = ["entity_id", "trip_id", "category"]  # few values, many times
_ENCODINGS: Final = {
    **dict.fromkeys(("t", "partition", "offset"), "DELTA_BINARY_PACKED"),
    **dict.fromkeys(("lat", "lon", "speed_mps", "heading_deg"), "BYTE_STREAM_SPLIT"),
}


class Outrun(Exception):
    """Somebody has changed the partition since its manifest was read. What was written for it since is void."""


class Change:
    """A step from one manifest of a partition to the next."""

    def __init__(self, catalog: Catalog, base: Manifest) -> None:
        self._catalog = catalog
        self._base = base
        self._written: list[str] = []

    def write(self, rows: Any, day: int, log: int, first: int, next_offset: int) -> File:
        """Writes the pings that a day has of the records [first, next_offset) of a log: at least one, in whatever order
        they come. Raises OSError, and nothing that was written for this change is there then.
        """
        name = pings_name(day, self._base.partition, first, next_offset, secrets.token_hex(4))
        try:
            with self._catalog.storage.writing(name) as path:
                pq.write_table(
                    rows.sort_by(_ORDER),
                    path,
                    row_group_size=ROW_GROUP,
                    compression="zstd",
                    use_dictionary=_TEXTS,
                    column_encoding=_ENCODINGS,
                    write_page_checksum=True,
                )
                size = path.stat().st_size
                with path.open("rb") as raw:
                    digest = file_digest(raw, lambda: blake2b(digest_size=DIGEST_BYTES)).hexdigest()
        except OSError:
            delete(self._catalog, self._written)
            raise
        self._written.append(name)
        times = pc.min_max(rows.column("t")).as_py()
        return File(name, day, log, first, next_offset, rows.num_rows, size, times["min"], times["max"], digest)

    def commit(self, **fields: Any) -> Manifest:
        """Creates the manifest with these fields, and deletes some that are long over.

        Raises Outrun, and what was written is deleted; or OSError, and it is unknown whether the manifest was created.
        """
        storage, base = self._catalog.storage, self._base
        made = replace(base, number=base.number + 1, writer=uuid.uuid4().hex, **fields)
        name, raw = manifest_name(made.partition, made.number), dumps(made)
        try:
            storage.create(name, raw)
        except FileExistsError as error:
            if not self._has(name, raw):  # a store may have created it, and its answer was lost on the way
                raise self._outrun(f"{name} is there already") from error
        numbers = self._catalog.numbers(made.partition)
        # The one of this number may have been there and be deleted, so that ours took its place.
        if numbers and numbers[-1] >= made.number + KEPT:
            raise self._outrun(f"{name} is long over")
        over = [number for number in numbers if number <= numbers[-1] - KEPT]
        delete(self._catalog, [manifest_name(made.partition, number) for number in over])
        return made

    def _has(self, name: str, raw: bytes) -> bool:
        try:
            return self._catalog.storage.read(name) == raw
        except FileNotFoundError:
            return False

    def _outrun(self, why: str) -> Outrun:
        delete(self._catalog, self._written)
        return Outrun(why)


def read(catalog: Catalog, files: Sequence[File], columns: Sequence[str] = SCHEMA.names) -> Any:
    """Returns the rows of files, at least one, as a table. Raises ArchiveDamaged, OSError."""
    return pa.Table.from_batches([batch for file in files for batch in read_batches(catalog.storage, file, columns)])


def leftovers(catalog: Catalog, manifest: Manifest) -> list[str]:
    """Returns the files of a partition that its manifest does not name, and unfinished ones.

    They may be deleted if the next manifest is created afterwards, and by us (`stream.adapters.archived.manifest`).
    """
    storage, number = catalog.storage, manifest.partition
    days = [folder for folder in storage.folders() if folder.startswith(DAY)]
    files = [f"{folder}/{file}" for folder in days for file in storage.files(folder) if is_of(file, number)]
    unfinished = [file for file in storage.files(LANDED) if file.endswith(WRITING) and is_of(file, number)]
    return [file for file in files if file not in manifest.names] + [f"{LANDED}/{file}" for file in unfinished]


def delete(catalog: Catalog, names: Iterable[str]) -> None:
    """Deletes files that nothing names. Raises OSError."""
    for place, name in enumerate(names):
        if place:
            failpoints.reach("within_clearing")
        catalog.storage.delete(name)
