"""Removes an entity from an archive, and keeps it out.

What stands for the entity in the folder `forgotten` is a keyed hash of its id, so that a list of who asked to be
forgotten is not a list of ids. The key lies in the archive: who may read that can try ids, but sees pings anyway.

It is crash-safe because the hash is written first. Whoever changes a partition next, this command or the partition's
owner before it lands anything, rewrites the files that still have the entity.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from stream.adapters.archived.catalog import FORGOTTEN, Catalog
from stream.adapters.archived.manifest import File, Manifest, Replaced
from stream.config import failpoints
from stream.services.archive.changes import Change, Outrun, delete, leftovers, read

_TRIES = 100  # while members land


def forget(catalog: Catalog, entity_id: str) -> int:
    """Removes all rows of an entity, and lets nothing of it be stored again. Returns the number of rows.

    If it is interrupted, it may be called again. Raises OSError, ArchiveDamaged.
    """
    name = f"{FORGOTTEN}/{catalog.hash_of(entity_id)}.json"
    with suppress(FileExistsError):  # it was forgotten before, perhaps not everywhere
        catalog.storage.create(name, msgspec.json.encode({"since_ms": time.time_ns() // 1_000_000}))
    failpoints.reach("after_tombstone")
    return sum(_forget_in(catalog, partition) for partition in catalog.manifests())


def _forget_in(catalog: Catalog, partition: int) -> int:
    for _ in range(_TRIES):
        with suppress(Outrun, FileNotFoundError):  # a member has changed the partition, or cleared our files away
            return settle(catalog, catalog.manifest(partition), catalog.forgotten(), again=True)[1]
    raise OSError(f"{catalog.storage.url}: partition {partition} changes faster than it can be rewritten: try again")


def settle(
    catalog: Catalog, manifest: Manifest, forgotten: Collection[str], *, again: bool = False
) -> tuple[Manifest, int]:
    """Removes the entities that these hashes stand for from all files, if this was not done yet (or `again`).

    Returns the manifest afterwards, and the number of rows. Raises Outrun, ArchiveDamaged, OSError.
    """
    if not again and set(forgotten) <= set(manifest.forgotten):
        return manifest, 0
    left, change = leftovers(catalog, manifest), Change(catalog, manifest)
    kept = (_without(catalog, change, file, forgotten) for file in manifest.files)
    files = tuple(file for file in kept if file is not None)
    failpoints.reach("before_forgotten")
    # At once, whoever may be reading them: all that does not count any more may have the entity, too.
    gone = sorted(manifest.names - {file.name for file in files})
    replaced = tuple(Replaced(name, 0) for name in gone)
    made = change.commit(files=files, replaced=replaced, forgotten=tuple(sorted(forgotten)))
    failpoints.reach("after_forgotten")
    delete(catalog, [*left, *gone])
    return made, sum(file.rows for file in manifest.files) - sum(file.rows for file in files)


def _without(catalog: Catalog, change: Change, file: File, forgotten: Collection[str]) -> File | None:
    """Returns the file, or another one without these entities; None if nothing is left of it."""
    if not _ids_of(catalog, read(catalog, [file], ["entity_id"]), forgotten):
        return file
    rows = remove_rows(catalog, read(catalog, [file]), forgotten)
    return change.write(rows, file.day, file.log, file.first, file.next) if rows.num_rows else None


def remove_rows(catalog: Catalog, table: Any, forgotten: Collection[str]) -> Any:
    """Returns the table without the rows of entities that these hashes stand for."""
    ids = pa.array(_ids_of(catalog, table, forgotten), pa.string())
    return table.filter(pc.invert(pc.is_in(table.column("entity_id"), ids))) if len(ids) else table


def _ids_of(catalog: Catalog, table: Any, forgotten: Collection[str]) -> list[str]:
    ids = pc.unique(table.column("entity_id")).to_pylist() if forgotten else []
    return [entity_id for entity_id in ids if catalog.hash_of(entity_id) in forgotten]
