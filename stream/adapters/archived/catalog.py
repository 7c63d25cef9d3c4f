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
    FORMAT,
    LANDED,
    VERSION,
    ArchiveDamaged,
    File,
    Manifest,
    loads,
    manifest_name,
    numbers_by_partition,
)
from stream.storage import Storage, open_storage

WHAT: Final = "the archive"  # as errors name it
HEAD: Final = "archive.json"
FORGOTTEN: Final = "forgotten"  # the folder of entities of which nothing is stored
_TRIES: Final = 20  # to read manifests that are replaced meanwhile


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the fields of `archive.json`. The key is of the hashes that stand for forgotten entities."""

    format: str = FORMAT
    version: int = VERSION
    topic: str
    key: str


def hash_of(head: Head, entity_id: str) -> str:
    """Returns what stands for an entity that was forgotten (`stream.services.archive.forgetting`)."""
    return blake2b(entity_id.encode(), key=bytes.fromhex(head.key), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Catalog:
    """An archive of one topic."""

    storage: Storage
    head: Head

    def manifests(self) -> dict[int, Manifest]:
        """Returns the valid manifest of each partition. Raises ArchiveDamaged."""
        for _ in range(_TRIES):
            newest = {one: numbers[-1] for one, numbers in self._numbers().items()}
            try:
                return {partition: self.read(partition, number) for partition, number in sorted(newest.items())}
            except FileNotFoundError:  # several newer ones have come since the listing
                continue
        raise OSError(f"{self.storage.url}: manifests are replaced faster than they can be read")

    def manifest(self, partition: int) -> Manifest:
        """Returns the valid manifest of a partition; number 0 if there is none. Raises ArchiveDamaged."""
        for _ in range(_TRIES):
            numbers = self.numbers(partition)
            if not numbers:
                return Manifest(topic=self.head.topic, partition=partition)
            try:
                return self.read(partition, numbers[-1])
            except FileNotFoundError:
                continue
        raise OSError(f"{self.storage.url}: manifests are replaced faster than they can be read")

    def read(self, partition: int, number: int) -> Manifest:
        """Raises FileNotFoundError, ArchiveDamaged."""
        name = manifest_name(partition, number)
        found = loads(self.storage.read(name), f"{self.storage.url}/{name}")
        if (found.topic, found.partition, found.number) != (self.head.topic, partition, number):
            raise ArchiveDamaged(f"{self.storage.url}/{name} is that of {found.topic}/{found.partition}")
        return found

    def numbers(self, partition: int) -> list[int]:
        """Returns which manifests of a partition there are."""
        return self._numbers().get(partition, [])

    def _numbers(self) -> dict[int, list[int]]:
        return numbers_by_partition(self.storage.files(LANDED))

    def forgotten(self) -> set[str]:
        """Returns what stands for entities of which nothing is stored (`stream.services.archive.forgetting`)."""
        return {name.removesuffix(".json") for name in self.storage.files(FORGOTTEN) if not name.startswith(".")}


def opened(url: str | Path) -> Catalog:
    """Opens the archive at a path or URL: the folder of a topic, or one that holds a single such folder.

    Raises FileNotFoundError if there is none, ValueError if there are several, ArchiveDamaged, OSError.
    """
    storage = open_storage(url, WHAT)
    if HEAD in storage.files(""):
        return Catalog(storage, _head(storage))
    below = [name for name in storage.folders() if HEAD in storage.files(name)]
    if not below:
        raise FileNotFoundError(f"{url}: no archive of pings: there is no {HEAD}")
    if len(below) > 1:
        raise ValueError(f"{url}: archives of {', '.join(below)}: say which, as {url}/{below[0]}")
    return opened(_below(url, below[0]))


def of_topic(url: str | Path, topic: str) -> Catalog:
    """Opens the archive of a topic to write into it, and begins it if there is none. Raises as `open_storage`, OSError,
    ArchiveDamaged.
    """
    storage = open_storage(_below(url, topic), WHAT, to_create=True)
    if HEAD not in storage.files(""):
        with suppress(FileExistsError):  # another member was faster
            storage.create(HEAD, msgspec.json.encode(Head(topic=topic, key=secrets.token_hex(32))))
    return Catalog(storage, _head(storage))


def to_change(catalog: Catalog) -> Catalog:
    """Returns the same to write into it. Raises as `open_storage`."""
    return Catalog(open_storage(catalog.storage.url, WHAT, to_create=True), catalog.head)


def _below(url: str | Path, folder: str) -> str:
    return f"{str(url).rstrip('/')}/{folder}"


def _head(storage: Storage) -> Head:
    try:
        head = msgspec.json.decode(storage.read(HEAD), type=Head)
    except msgspec.MsgspecError as error:
        raise ArchiveDamaged(f"{storage.url}/{HEAD} is damaged: {error}") from error
    if (head.format, head.version) != (FORMAT, VERSION):
        raise ArchiveDamaged(f"{storage.url}/{HEAD} is {head.format} {head.version}, expected {FORMAT} {VERSION}")
    return head


def files_of(manifests: Mapping[int, Manifest]) -> list[File]:
    """Returns all files, by day, and within a day by partition and as its log has them."""
    found = [(file.day, partition, file.order, file) for partition, one in manifests.items() for file in one.files]
    return [file for *_, file in sorted(found, key=lambda each: each[:3])]
