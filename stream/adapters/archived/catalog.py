"""Finds an archive and its manifests. It changes nothing."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from stream.adapters.archived.manifest import (
    LANDED,
    ArchiveDamaged,
    File,
    Head,
    Manifest,
    decode,
    loads,
    manifest_name,
    parse_manifest_name,
)
from stream.storage import Storage, open_storage

WHAT: Final = "the archive"  # as errors name it
HEAD: Final = "archive.json"
FORGOTTEN: Final = "forgotten"  # the folder of entities of which nothing is stored
_TRIES: Final = 20  # to read manifests that are replaced meanwhile


@dataclass(frozen=True)
class Catalog:
    """An archive of one topic."""

    storage: Storage
    head: Head

    def manifests(self, only: int | None = None) -> dict[int, Manifest]:
        """Returns the valid manifest of each partition, or of one. Raises ArchiveDamaged."""
        for _ in range(_TRIES):
            newest = {one: numbers[-1] for one, numbers in self._numbers().items() if only in (None, one)}
            with suppress(FileNotFoundError):  # several newer ones have come since the listing
                return {partition: self._read(partition, number) for partition, number in newest.items()}
        raise OSError(f"{self.storage.url}: manifests are replaced faster than they can be read")

    def manifest(self, partition: int) -> Manifest:
        """Returns the valid manifest of a partition; number 0 if there is none. Raises ArchiveDamaged."""
        none = Manifest(topic=self.head.topic, partition=partition)
        return self.manifests(partition).get(partition, none)

    def _read(self, partition: int, number: int) -> Manifest:
        name = manifest_name(partition, number)
        manifest = loads(self.storage.read(name), f"{self.storage.url}/{name}")
        if (manifest.topic, manifest.partition, manifest.number) != (self.head.topic, partition, number):
            raise ArchiveDamaged(f"{self.storage.url}/{name} is that of {manifest.topic}/{manifest.partition}")
        return manifest

    def numbers(self, partition: int) -> list[int]:
        """Returns which manifests of a partition there are, with rising numbers."""
        return self._numbers().get(partition, [])

    def _numbers(self) -> dict[int, list[int]]:
        """Returns the same by rising partition."""
        numbers: dict[int, list[int]] = {}
        for partition, number in sorted(filter(None, map(parse_manifest_name, self.storage.files(LANDED)))):
            numbers.setdefault(partition, []).append(number)
        return numbers

    def forgotten(self) -> set[str]:
        """Returns what stands for entities of which nothing is stored (`stream.services.archive.forgetting`)."""
        return {name.removesuffix(".json") for name in self.storage.files(FORGOTTEN) if not name.startswith(".")}

    def hash_of(self, entity_id: str) -> str:
        """Returns what stands for an entity that was forgotten."""
        return blake2b(entity_id.encode(), key=bytes.fromhex(self.head.key), digest_size=16).hexdigest()


def open_archive(url: str | Path, *, to_change: bool = False) -> Catalog:
    """Opens the archive at a path or URL: the folder of a topic, or one that holds a single such folder.

    Raises FileNotFoundError if there is none, ValueError if there are several, ArchiveDamaged, and as `open_storage`.
    """
    storage = open_storage(url, WHAT, to_create=to_change)
    if HEAD in storage.files(""):
        return _catalog(storage)
    below = [name for name in storage.folders() if HEAD in storage.files(name)]
    if not below:
        raise FileNotFoundError(f"{url}: no archive of pings: there is no {HEAD}")
    if len(below) > 1:
        raise ValueError(f"{url}: archives of {', '.join(below)}: say which, as {url}/{below[0]}")
    return open_archive(_below(url, below[0]), to_change=to_change)


def of_topic(url: str | Path, topic: str) -> Catalog:
    """Opens the archive of a topic to write into it, and begins it if there is none. Raises as `open_storage`, OSError,
    ArchiveDamaged.
    """
    storage = open_storage(_below(url, topic), WHAT, to_create=True)
    if HEAD not in storage.files(""):
        with suppress(FileExistsError):  # another member was faster
            storage.create(HEAD, msgspec.json.encode(Head(topic=topic, key=secrets.token_hex(32))))
    return _catalog(storage)


def _catalog(storage: Storage) -> Catalog:
    return Catalog(storage, decode(storage.read(HEAD), Head, f"{storage.url}/{HEAD}"))


def _below(url: str | Path, folder: str) -> str:
    return f"{str(url).rstrip('/')}/{folder}"


def files_of(manifests: Mapping[int, Manifest]) -> list[File]:
    """Returns all files, by day, and within a day by partition and as its log has them."""
    files = [(file.day, partition, file.order, file) for partition, one in manifests.items() for file in one.files]
    return [file for *_, file in sorted(files, key=lambda each: each[:3])]
