"""Makes one partition's checkpoint, leg by leg, so that the engine works on meanwhile.

    dump     dumps some entities as they are now, on the compute thread   the engine does nothing else meanwhile
    write    writes them into the store                                   the engine works on
    settle   notes what the store has, and what must be dumped next       the engine does nothing else meanwhile

The last leg moves the partition's stored offset to where the checkpoint began: what changes while it is made belongs to
the next one. So a stored record may include more than its partition's offset says, as it may after a crash between two
writes; replay skips what a record includes already. `stream.delivery.checkpointer` decides when a checkpoint is due and
when it may be written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol, TypeVar

from stream.engine.entities.restore import unless_forgotten
from stream.engine.entities.shard import Shard
from stream.engine.entities.table import Dumped, EntityTable
from stream.store.base import Store

T = TypeVar("T")
LEG: Final = 512  # entities for each call on the compute thread: some 10 ms


class Runner(Protocol):
    """Runs blocking work where it does not block the event loop."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


class Snapshot:
    """One checkpoint of a partition, made by `Engine.begin_checkpoint`."""

    def __init__(
        self, table: EntityTable, store: Store, run: Runner, shard: Shard, epoch: int, next_offset: int
    ) -> None:
        self._table = table
        self._store = store
        self._run = run
        self._shard = shard
        self._left = table.list_unsaved(shard)
        self._removed = {entity_id: shard.forgotten[entity_id] for entity_id in sorted(shard.unremoved)}
        self._dumped: Dumped | None = None
        self._missing: list[str] = []
        self._evicted = 0  # how many of the missing had not expired
        self._stored = 0  # how many entities of the partition the store has
        self.epoch = epoch
        self.next_offset = next_offset  # all records below it are in the checkpoint
        self.done = False

    async def dump(self, folded: int) -> None:
        """Dumps the next leg. Every record below `folded` must be folded, and none above; `write` when they are
        committed.

        Raises ValueError if an entity has folded more.
        """
        leg, self._left = self._left[:LEG], self._left[LEG:]
        work = partial(self._table.dump, self._shard, leg, folded, last=not self._left)
        self._dumped = await self._run(work)

    async def write(self) -> None:
        """Writes the leg into the store. After an exception of the store, call `give_up`."""
        assert self._dumped is not None, "dump first"
        covered = None if self._left else self.next_offset
        partition = self._shard.partition
        # Before the offset moves, as a replay from the old one forgets them once more; and before anything is put, as
        # a leg that was under way may have written what was forgotten meanwhile, and no patch may meet that.
        if self._removed:
            await self._store.remove(partition, self.epoch, await self._older())
        self._missing = await self._store.put_many(partition, self.epoch, covered, self._dumped.items)
        self._evicted = len(await self._store.list_evicted(partition, self._missing)) if self._missing else 0
        self._stored = await self._store.count(partition)

    async def _older(self) -> list[str]:
        """Returns those to be removed of whom the store has nothing newer. Who came again may have been written since,
        by the checkpoint before this one or by an owner before us, and would not be written again."""
        stored = await self._store.get_many(self._shard.partition, list(self._removed))
        found = zip(self._removed, stored, strict=True)
        return [one for one, raw in found if unless_forgotten(self._shard, one, raw) is None]

    def settle(self) -> None:
        """Notes that the leg is written."""
        assert self._dumped is not None, "dump first"
        self._table.note_removed(self._shard, self._removed)
        self._removed = {}
        moved = not self._left and not self._missing
        # The missing ones have expired in the store, or it has lost them.
        self._left += self._table.note_saved(self._dumped, self._missing)
        self._dumped = None
        self._shard.counts.evicted += self._evicted
        self._shard.stored = self._stored
        if moved:
            self.done = True
            self._table.evict(self._shard)

    def give_up(self) -> None:
        """Ends the checkpoint: it is unknown whether the leg is written, and the next checkpoint writes it again."""
        if self._dumped is not None:
            self._table.note_unsaved(self._dumped)
            self._dumped = None
