"""A log, its archive, and owners that die while they write. Tests import this; it tests nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from stream.adapters.archived.catalog import Catalog, files_of, of_topic
from stream.adapters.archived.manifest import DAY_MS, File
from stream.adapters.archived.reading import read_batches
from stream.kafka.log import Log, start_of
from stream.kafka.records.record_columns import Records
from stream.services.archive.landing import Owned, read_seen
from stream.services.archive.settings import ArchiveRules
from stream.storage import Storage
from stream.wire import Ping, Record, dumps

TOPIC: Final = "t.pings.v1"
RULES: Final = ArchiveRules()
T0: Final = 20_000 * DAY_MS  # 2024-10-04T00:00Z


class Crash(BaseException):
    """The process is dead: nothing that would catch an error may catch this."""


class Mortal:
    """A storage that dies before or after its n-th change. None: it lives, and counts."""

    def __init__(self, storage: Storage, dies_at: int | None = None, *, before: bool = True) -> None:
        self._storage, self._dies_at, self._before = storage, dies_at, before
        self.url = storage.url
        self.changes = 0

    def folders(self, folder: str = "") -> list[str]:
        return self._storage.folders(folder)

    def files(self, folder: str) -> list[str]:
        return self._storage.files(folder)

    def read(self, name: str) -> bytes:
        return self._storage.read(name)

    def open(self, name: str) -> BinaryIO:
        return self._storage.open(name)

    def create(self, name: str, raw: bytes) -> None:
        with self._changing():
            self._storage.create(name, raw)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with self._changing(), self._storage.writing(name) as path:
            yield path

    def delete(self, name: str) -> None:
        with self._changing():
            self._storage.delete(name)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self.changes += 1
        if self.changes == self._dies_at and self._before:
            raise Crash
        try:
            yield
        finally:  # also after a change that was refused
            if self.changes == self._dies_at:
                raise Crash


def record(offset: int, ts: int, entity: str = "bus-1", partition: int = 0, **more: Any) -> Record:
    """A ping that was published when it was taken."""
    published = more.pop("published_ms", ts)
    ping = Ping(entity_id=entity, ts=ts, lat=30.0 + offset * 1e-6, lon=-97.7, **more)
    return Record(TOPIC, partition, offset, published, entity.encode(), dumps(ping))


def day_of_buses(day: int, first: int, pings: int, buses: int = 5) -> list[Record]:
    """Pings of one day after T0, evenly, of some buses in turn."""
    step = DAY_MS // pings
    return [record(first + n, T0 + day * DAY_MS + n * step, f"bus-{n % buses}") for n in range(pings)]


def owned(catalog: Catalog, log_end: int, rules: ArchiveRules = RULES, partition: int = 0, **log: Any) -> Owned:
    """Takes a partition over, as the member does."""
    base = catalog.manifest(partition)
    start = start_of(base.next_offset, read_seen(base), Log(log.pop("begin", 0), log_end, **log))
    return Owned.take_over(catalog, base, start, rules)


def follow(one: Owned, log: Sequence[Record], most: int | None = None) -> None:
    """Gives an owner what it has not had."""
    coming = [each for each in log if each.offset >= (one.next_offset or 0)][:most]
    if coming:
        one.add(Records.of(coming))


def begun(url: str | Path) -> Catalog:
    return of_topic(url, TOPIC)


def through(catalog: Catalog, dies_at: int | None = None, *, before: bool = True) -> tuple[Catalog, Mortal]:
    """The same archive, by a storage that dies."""
    mortal = Mortal(catalog.storage, dies_at, before=before)
    return Catalog(mortal, catalog.head), mortal


def files(catalog: Catalog) -> list[File]:
    return files_of(catalog.manifests())


def landed(catalog: Catalog) -> list[tuple[int, int, str]]:
    """What a reader finds: partition, offset and entity of every row, in order."""
    found = []
    for file in files(catalog):
        for batch in read_batches(catalog.storage, file):
            found += zip(
                *(batch.column(name).to_pylist() for name in ("partition", "offset", "entity_id")), strict=True
            )
    return sorted(found)


def expected(log: Sequence[Record], *, without: str | None = None) -> list[tuple[int, int, str]]:
    of = ((one.partition, one.offset, (one.key or b"").decode()) for one in log)
    return sorted(each for each in of if each[2] != without)


def all_files(catalog: Catalog) -> list[str]:
    """Every file of pings that lies there, named or not, and unfinished ones."""
    folders = [name for name in catalog.storage.folders() if name.startswith("day=")]
    return [f"{folder}/{file}" for folder in folders for file in catalog.storage.files(folder)]
