"""The interface of a checkpoint store, and a store in memory. Records are opaque bytes here.

The epoch is the fence: each claim raises it, and every write is refused, in the same atomic step, unless it carries the
stored epoch. tests/stream/store/test_redis_store.py runs one suite with MemoryStore and `stream.store.redis_store`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

Partition = tuple[str, int]  # topic, number

# Limit of one record. A larger one is not ours: `model.serving.state_codec` bounds the state, `model.config` the
# window's ring.
MAX_RECORD_BYTES: Final = 2 * 1024 * 1024
READ_CHUNK: Final = 200  # records of one reply: a record of 10 KB costs redis-py 18 µs so, and 22 µs in replies of 500


class Fenced(RuntimeError):
    """A newer owner holds the partition: nothing was written by this call."""


class ClaimLost(Fenced):
    """Redis has lost our claim or our last write: it lost its data, or is an older copy. Claim again."""


class Evicted(ClaimLost):
    """The store has lost the records of some entities before they expired, and nothing else that we know of."""

    def __init__(self, partition: Partition, entity_ids: Sequence[str]) -> None:
        super().__init__(f"{len(entity_ids)} stored states of {partition[0]}/{partition[1]} are gone")
        self.partition = partition
        self.entity_ids = entity_ids


class Patch(NamedTuple):
    """Bytes to write at these offsets over a stored record, which must be at least `least` bytes long."""

    least: int
    ranges: tuple[tuple[int, bytes], ...]

    @property
    def size(self) -> int:
        return sum(len(part) for _, part in self.ranges)


Item = bytes | Patch


class Claim(NamedTuple):
    """Holds what an owner gets: its epoch, and the input offset that the stored records include (None: none)."""

    epoch: int
    next_offset: int | None


class Store(Protocol):
    """Stores checkpoints of partitions. RedisStore and MemoryStore pass the same suite."""

    async def claim(self, partition: Partition, *, floor: int = 0) -> Claim:
        """Makes us the partition's owner: its epoch rises above the stored one and above `floor`, whatever Redis has
        lost."""

    async def get_many(self, partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]:
        """Returns the records of these entities, in order: None where there is none, and b"" where the stored value is
        not ours, because it is larger than MAX_RECORD_BYTES or not a string.

        Also raises Fenced if this store has claimed the partition and the claim does not hold any more.
        """

    async def put_many(
        self, partition: Partition, epoch: int, next_offset: int | None, items: Mapping[str, Item]
    ) -> list[str]:
        """Writes records, then the offset that all records of the partition now include (None: more is to come).

        Returns the entities whose patch found no record: nothing of theirs was written, and the offset has not moved.

        Raises:
            Fenced: `epoch` is not the partition's; nothing was written.
        """

    async def evicted(self, partition: Partition, entity_ids: Sequence[str] | None = None) -> list[str]:
        """Returns those of these entities (None: of all) whose record was written, has not expired, and is gone."""

    async def unlist(
        self, partition: Partition, epoch: int, entity_ids: Sequence[str], next_offset: int | None = None
    ) -> None:
        """Removes these entities from the index, so that their records are not expected any more.

        In the same step it moves the offset of the partition back to `next_offset` (None: it stays). If we die before
        the entities are rebuilt, the next owner rebuilds them. Raises Fenced.
        """

    async def remove(self, partition: Partition, epoch: int, entity_ids: Sequence[str]) -> None:
        """Deletes the records of these entities, and takes them out of the index, in one step: they are not expected
        any more. Raises Fenced."""

    async def count(self, partition: Partition) -> int:
        """Returns how many entities have records that have not expired, according to the store's index."""

    async def forget(self, partition: Partition, epoch: int) -> None:
        """Deletes all records and the offset of the partition; its epoch stays. Raises Fenced."""

    async def peek(self, partition: Partition) -> Claim:
        """Returns what is stored, without claiming it: for monitoring. Epoch 0 means that nobody ever claimed it."""

    def entity_ids(self, partition: Partition) -> AsyncIterator[str]:
        """Yields the entities that have records, unordered. One that comes or goes meanwhile may be missed or
        yielded twice."""

    async def close(self) -> None: ...


async def read_records(store: Store, partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]:
    """Reads records as `Store.get_many` does.

    Also raises Evicted if the store has lost some of them before they expired.
    """
    found = await store.get_many(partition, entity_ids)
    absent = [entity_id for entity_id, raw in zip(entity_ids, found, strict=True) if raw is None]
    if absent and (evicted := await store.evicted(partition, absent)):
        raise Evicted(partition, evicted)
    return found


class MemoryStore:
    """Stores checkpoints in this process: for replay and tests. Nothing expires."""

    def __init__(self) -> None:
        self._claims: dict[Partition, Claim] = {}
        self._records: dict[Partition, dict[str, bytes]] = {}
        self._index: dict[Partition, set[str]] = {}  # the entities whose records were written

    async def claim(self, partition: Partition, *, floor: int = 0) -> Claim:
        stored = self._claims.get(partition, Claim(0, None))
        self._claims[partition] = Claim(max(stored.epoch, floor) + 1, stored.next_offset)
        return self._claims[partition]

    async def get_many(self, partition: Partition, entity_ids: Sequence[str]) -> list[bytes | None]:
        records = self._records.get(partition, {})
        found = (records.get(entity_id) for entity_id in entity_ids)
        return [b"" if raw is not None and len(raw) > MAX_RECORD_BYTES else raw for raw in found]

    async def put_many(
        self, partition: Partition, epoch: int, next_offset: int | None, items: Mapping[str, Item]
    ) -> list[str]:
        self._check(partition, epoch)
        records, missing = self._records.setdefault(partition, {}), []
        for entity_id, item in items.items():
            if isinstance(item, bytes):
                records[entity_id] = item
            elif len(records.get(entity_id, b"")) < item.least:
                missing.append(entity_id)
            else:
                records[entity_id] = _apply_patch(records[entity_id], item)
        self._index.setdefault(partition, set()).update(items.keys() - set(missing))
        if next_offset is not None and not missing:
            self._claims[partition] = Claim(epoch, next_offset)
        return missing

    async def evicted(self, partition: Partition, entity_ids: Sequence[str] | None = None) -> list[str]:
        gone = self._index.get(partition, set()) - self._records.get(partition, {}).keys()
        return [one for one in (sorted(gone) if entity_ids is None else entity_ids) if one in gone]

    async def unlist(
        self, partition: Partition, epoch: int, entity_ids: Sequence[str], next_offset: int | None = None
    ) -> None:
        self._check(partition, epoch)
        self._index.get(partition, set()).difference_update(entity_ids)
        if next_offset is not None:
            self._claims[partition] = Claim(epoch, next_offset)

    async def remove(self, partition: Partition, epoch: int, entity_ids: Sequence[str]) -> None:
        self._check(partition, epoch)
        self._index.get(partition, set()).difference_update(entity_ids)
        for entity_id in entity_ids:
            self._records.get(partition, {}).pop(entity_id, None)

    async def count(self, partition: Partition) -> int:
        return len(self._index.get(partition, ()))

    async def forget(self, partition: Partition, epoch: int) -> None:
        self._check(partition, epoch)
        self._records.pop(partition, None)
        self._index.pop(partition, None)
        self._claims[partition] = Claim(epoch, None)

    async def peek(self, partition: Partition) -> Claim:
        return self._claims.get(partition, Claim(0, None))

    async def entity_ids(self, partition: Partition) -> AsyncIterator[str]:
        for entity_id in list(self._records.get(partition, ())):
            yield entity_id

    async def close(self) -> None:
        pass

    def _check(self, partition: Partition, epoch: int) -> None:
        refuse_unless_current(partition, epoch, self._claims.get(partition, Claim(0, None)).epoch)


def _apply_patch(record: bytes, patch: Patch) -> bytes:
    changed = bytearray(record)
    for offset, part in patch.ranges:
        changed[offset : offset + len(part)] = part
    return bytes(changed)


def refuse_unless_current(partition: Partition, epoch: int, stored: int, *, writes: int = 0, least: int = 0) -> None:
    clash = f"{partition[0]}/{partition[1]} is at epoch {stored}, ours is {epoch}"
    if stored > epoch:
        raise Fenced(f"{clash}: another worker claimed it")
    if stored < epoch:
        raise ClaimLost(f"{clash}: did Redis lose its data?")
    if writes < least:
        raise ClaimLost(
            f"{partition[0]}/{partition[1]} is at write {writes}, we left it at {least}: was an older copy restored?"
        )
