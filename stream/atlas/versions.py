"""Makes a version of the atlas from what Redis holds of all partitions, and lists, writes and deletes the files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from model.atlas.atlas import version_of
from model.atlas.days import Day
from model.atlas.version import dumps
from stream.atlas.building import Rules, published_of
from stream.atlas.kept_days import Days
from stream.kafka.record_columns import Partition
from stream.store.sums_store import SumsStore

SUFFIX: Final = ".atlas"


@dataclass(frozen=True)
class Made:
    """A version whose file is written."""

    version: str
    contains: Mapping[str, Any]
    keys: int
    bytes: int


class StoredDays(Days):
    """Days of all partitions, as Redis had them at one moment of each, in a temporary file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[int, list[tuple[int, int]]] = {}
        self.includes: dict[int, int] = {}  # by partition, the offset that follows the last record

    async def read(self, store: SumsStore, partition: Partition) -> None:
        """Takes what Redis holds of a partition. Raises as `SumsStore.snapshot`."""
        held, parts = await store.snapshot(partition)
        if held.next_offset is None:
            return
        self.includes[partition[1]] = held.next_offset
        for day, some in parts.items():
            for raw in some:
                self._places.setdefault(day, []).append((self._file.seek(0, os.SEEK_END), len(raw)))
                self._file.write(raw)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._places))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> Day:
        return Day.total(Day.loads(raw) for raw in self._raw(number))

    def whose(self, number: int) -> Day:
        return Day.total(Day.loads(raw, sums=False) for raw in self._raw(number))

    def _raw(self, number: int) -> Iterator[bytes]:
        for at, size in self._places[number]:
            self._file.seek(at)
            yield self._file.read(size)


@asynccontextmanager
async def stored_days(store: SumsStore, topic: str, partitions: int) -> AsyncIterator[StoredDays]:
    """Yields what Redis holds of all partitions of a topic. Raises as `SumsStore.snapshot`."""
    with tempfile.TemporaryFile() as file:
        days = StoredDays(file)
        for number in range(partitions):
            await days.read(store, (topic, number))
        yield days


def make(days: Days, rules: Rules, folder: Path) -> Made:
    """Makes a version of days, and writes its file, if it is not there. Raises OSError."""
    found, contains = published_of(days, rules)
    raw = dumps(found, contains)
    version = version_of(raw)
    path = path_of(folder, version)
    if not path.exists():
        write_whole(path, raw)
    return Made(version, contains, len(found), len(raw))


def path_of(folder: Path, version: str) -> Path:
    """Returns where the file of a version lies."""
    return folder / f"{version}{SUFFIX}"


def write_whole(out: Path, raw: bytes) -> None:
    """Writes a file whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=out.absolute().parent, prefix=f".{out.name}-", delete=False) as part:
        try:
            part.write(raw)
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).chmod(0o644)
            Path(part.name).replace(out)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
