"""Removes an entity from an archive, and keeps it out.

What stands for the entity in the folder `forgotten` is a keyed hash of its id, so that a list of who asked to be
forgotten is not a list of ids. The key lies in the archive: who may read that can try ids, but sees pings anyway.

It is crash-safe because the hash is written first. Whoever changes a partition next, this command or the partition's
owner before it lands anything, rewrites the files that still have the entity.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from stream.adapters.archived.catalog import FORGOTTEN, Catalog, Head, hash_of
from stream.adapters.archived.manifest import File, Manifest, Replaced
from stream.adapters.archived.reading import read_batches
from stream.config import failpoints
from stream.services.archive import commits, writing
from stream.services.archive.commits import Outrun
from stream.services.archive.writing import Range

_TRIES = 100  # while members land


def forget(catalog: Catalog, entity_id: str) -> int:
    """Removes all rows of an entity, and lets nothing of it be stored again. Returns the number of rows.

    If it is interrupted, it may be called again. Raises OSError, ArchiveDamaged.
    """
    name = f"{FORGOTTEN}/{hash_of(catalog.head, entity_id)}.json"
    with suppress(FileExistsError):  # it was forgotten before, perhaps not everywhere
        catalog.storage.create(name, msgspec.json.encode({"since_ms": time.time_ns() // 1_000_000}))
    failpoints.reach("after_tombstone")
    return sum(_forgotten_in(catalog, partition) for partition in catalog.manifests())


def _forgotten_in(catalog: Catalog, partition: int) -> int:
    for _ in range(_TRIES):
        try:
            return settled(catalog, catalog.manifest(partition), catalog.forgotten(), again=True)[1]
        except (Outrun, FileNotFoundError):  # a member has changed the partition, or cleared our files away
            continue
    raise OSError(f"{catalog.storage.url}: partition {partition} changes faster than it can be rewritten: try again")


def settled(
    catalog: Catalog, manifest: Manifest, forgotten: Collection[str], *, again: bool = False
) -> tuple[Manifest, int]:
    """Removes the entities that these hashes stand for from all files, if this was not done yet (or `again`).

    Returns the manifest afterwards, and the number of rows. Raises Outrun, ArchiveDamaged, OSError.
    """
    if not again and set(forgotten) <= set(manifest.forgotten):
        return manifest, 0
    left = commits.leftovers(catalog, manifest)
    files, gone, rows = [], [], 0
    for file in manifest.files:
        kept = _without(catalog, manifest.partition, file, forgotten)
        if kept is not file:
            gone.append(file.name)
            rows += file.rows - (0 if kept is None else kept.rows)
        if kept is not None:
            files.append(kept)
    failpoints.reach("before_forgotten")
    # At once, whoever may be reading them: all that does not count any more may have the entity, too.
    replaced = [Replaced(name, 0) for name in (*gone, *(one.name for one in manifest.replaced))]
    changes = {"files": tuple(files), "replaced": tuple(replaced), "forgotten": tuple(sorted(forgotten))}
    try:
        made = commits.commit(catalog, manifest, **changes)
    except Outrun:
        commits.delete(catalog, {file.name for file in files} - manifest.names)
        raise
    failpoints.reach("after_forgotten")
    commits.delete(catalog, [*left, *(one.name for one in replaced)])
    return made, rows


def _without(catalog: Catalog, partition: int, file: File, forgotten: Collection[str]) -> File | None:
    """Returns the file, or another one without these entities; None if nothing is left of it."""
    names = {name for each in read_batches(catalog.storage, file, ("entity_id",)) for name in _names(each)}
    if not _of_these(catalog.head, names, forgotten):
        return file
    kept = rows_of_others(catalog.head, writing.read(catalog.storage, [file]), forgotten)
    if not kept.num_rows:
        return None
    return writing.write(catalog.storage, kept, file.day, Range(partition, file.log, file.first, file.next))


def rows_of_others(head: Head, table: Any, forgotten: Collection[str]) -> Any:
    """Returns the rows of a table that are of none of the entities that these hashes stand for."""
    gone = _of_these(head, _names(table), forgotten)
    return table.filter(pc.invert(pc.is_in(table.column("entity_id"), pa.array(gone, pa.string())))) if gone else table


def _names(table: Any) -> list[str]:
    return cast(list[str], pc.unique(table.column("entity_id")).to_pylist())


def _of_these(head: Head, names: Iterable[str], forgotten: Collection[str]) -> list[str]:
    return [name for name in names if hash_of(head, name) in forgotten] if forgotten else []
