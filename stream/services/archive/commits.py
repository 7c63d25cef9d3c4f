"""Creates manifests, and deletes files that none names."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from model.files import WRITING
from stream.adapters.archived.catalog import Catalog
from stream.adapters.archived.manifest import (
    KEPT,
    LANDED,
    Manifest,
    dumps,
    is_folder_of_day,
    is_of,
    manifest_name,
)
from stream.config import failpoints


class Outrun(Exception):
    """Somebody has changed the partition since its manifest was read. What was written for it since is void."""


def commit(catalog: Catalog, base: Manifest, **changes: Any) -> Manifest:
    """Creates the manifest that follows `base`, and deletes some that are long over.

    Raises Outrun, or OSError: then it is unknown whether it was created.
    """
    made = replace(base, number=base.number + 1, writer=uuid.uuid4().hex, **changes)
    name, raw = manifest_name(made.partition, made.number), dumps(made)
    try:
        catalog.storage.create(name, raw)
    except FileExistsError as error:
        if not _is_ours(catalog, name, raw):  # a store may have created it, and its answer was lost on the way
            raise Outrun(f"{name} is there already") from error
    numbers = catalog.numbers(made.partition)
    # The one of this number may have been there and be deleted, so that ours took its place.
    if numbers and numbers[-1] >= made.number + KEPT:
        raise Outrun(f"{name} is long over")
    delete(catalog, [manifest_name(made.partition, one) for one in numbers if one <= numbers[-1] - KEPT])
    return made


def leftovers(catalog: Catalog, manifest: Manifest) -> list[str]:
    """Returns the files of a partition that its manifest does not name, and unfinished ones.

    They may be deleted if the next manifest is created afterwards, and by us (`stream.adapters.archived.manifest`).
    """
    storage, named = catalog.storage, manifest.names
    days = [folder for folder in storage.folders() if is_folder_of_day(folder)]
    files = [f"{folder}/{file}" for folder in days for file in storage.files(folder) if is_of(file, manifest.partition)]
    unfinished = [file for file in storage.files(LANDED) if file.endswith(WRITING) and is_of(file, manifest.partition)]
    return [file for file in files if file not in named] + [f"{LANDED}/{file}" for file in unfinished]


def delete(catalog: Catalog, names: Iterable[str]) -> None:
    """Deletes files that nothing names. Raises OSError."""
    for place, name in enumerate(names):
        if place:
            failpoints.reach("within_clearing")
        catalog.storage.delete(name)


def _is_ours(catalog: Catalog, name: str, raw: bytes) -> bool:
    try:
        return catalog.storage.read(name) == raw
    except FileNotFoundError:
        return False
