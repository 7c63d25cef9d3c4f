"""One partition's checkpoint, leg by leg, so that the engine works on meanwhile. Knows the order of dump and
write; when one is due, and when it may be written, `checkpoints` knows.

    dump     some entities as they are now, on the compute thread       the engine does nothing else meanwhile
    write    them into the store                                        the engine works on
    settle   note what the store has, and what is to be dumped next     the engine does nothing else meanwhile

The last leg moves the partition's offset to where the checkpoint began: what changes while it is made belongs to the
next one. So a stored record may include more than its partition's offset says, as it may after a crash between two
writes; replay skips what a record includes already.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol, TypeVar

from stream.engine.entities import Dumped, EntityTable, Shard
from stream.store.base import Store

T = TypeVar("T")
LEG: Final = 512  # entities per stay on the compute thread: some 10 ms


class Runner(Protocol):
    """Runs blocking work where it does not block the event loop."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


class Snapshot:
    """Made by `Engine.begin_checkpoint`."""

    def __init__(
        self, table: EntityTable, store: Store, run: Runner, shard: Shard, epoch: int, next_offset: int
    ) -> None:
        self._table = table
        self._store = store
        self._run = run
        self._shard = shard
        self._left = table.unsaved(shard)
        self._dumped: Dumped | None = None
        self._missing: list[str] = []
        self._evicted = 0  # of the missing: those that had not expired
        self._stored = 0  # entities that the store has of the partition
        self.epoch = epoch
        self.next_offset = next_offset  # what it covers: all records below
        self.done = False

    async def dump(self, folded: int) -> None:
        """The next leg. Every record below `folded` is folded, none above; `write` when they are committed.

        Raises ValueError if an entity has folded more.
        """
        leg, self._left = self._left[:LEG], self._left[LEG:]
        work = partial(self._table.dump, self._shard, leg, folded, last=not self._left)
        self._dumped = await self._run(work)

    async def write(self) -> None:
        """Put the leg into the store. Raises what the store raises: then `give_up`."""
        assert self._dumped is not None, "dump first"
        covered = None if self._left else self.next_offset
        partition = self._shard.partition
        self._missing = await self._store.put_many(partition, self.epoch, covered, self._dumped.items)
        self._evicted = len(await self._store.evicted(partition, self._missing)) if self._missing else 0
        self._stored = await self._store.count(partition)

    def settle(self) -> None:
        """The leg is written."""
        assert self._dumped is not None, "dump first"
        moved = not self._left and not self._missing
        # The store has lost the others, by their expiry or worse.
        self._left += self._table.saved(self._dumped, self._missing)
        self._dumped = None
        self._shard.counts.evicted += self._evicted
        self._shard.stored = self._stored
        if moved:
            self.done = True
            self._table.evict(self._shard)

    def give_up(self) -> None:
        """Whether the leg is written is unknown; the next checkpoint writes it again."""
        if self._dumped is not None:
            self._table.unsaved_again(self._dumped)
            self._dumped = None
