"""Makes a partition ours, and its states those of the log. Knows the order of fence, claim and replay; knows no pump.

    fence Kafka -> read what is committed -> raise the epoch in Redis, and keep it in Kafka -> replay [c, k) in silence

Each step closes a door before the next looks through it: after the fence nothing that is committed can move, and after
the claim nothing that is stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from stream import killpoints
from stream.engine import Engine
from stream.intake import Records
from stream.seams import Guarantee, InputLog, Owned
from stream.source import Mark, Partition
from stream.store import Fenced, Store
from stream.takeover import plan

log = logging.getLogger(__name__)


class Claimant:
    """Takes partitions over, one call each."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        guarantee: Guarantee,
        input_log: InputLog,
        busy: asyncio.Lock,
        clock: Callable[[], float],
    ) -> None:
        """`busy` is held while the engine is used."""
        self._engine = engine
        self._store = store
        self._guarantee = guarantee
        self._input = input_log
        self._busy = busy
        self._clock = clock

    async def claim(self, owned: Owned, *, prove: bool, careful: bool = False) -> None:
        """Fence the owner before us, bring the states up to the committed offset, and open the gate.

        Args:
            prove: ask the group first whether the partition is ours, so that a zombie does not fence its owner.
            careful: the replay has raised before.

        Raises:
            Rebalanced: it is another member's.
            Fenced: somebody claimed it meanwhile, or the store lost our claim.

        What else the replay raises leaves states that are no good: claim again.
        """
        partition = owned.partition
        committed = await self._guarantee.fence(partition)
        if prove:
            await self._commit(owned, committed or Mark(owned.next_offset, owned.epoch))
        claim = await self._store.claim(partition, floor=max(owned.epoch, committed.epoch if committed else 0))
        killpoints.reach("after_claim")
        owned.epoch = claim.epoch
        todo = plan(claim.next_offset, committed.offset if committed else None, await self._input.bounds(partition))
        if todo.why:
            log.warning("%s: %s", partition, todo.why)
        # A Redis that lost its epochs would hand them out again, and a zombie's would be as good as its owner's. So the
        # last one stands in Kafka, too, before anything is stored under it.
        await self._commit(owned, Mark(todo.stop, claim.epoch))
        killpoints.reach("before_replay")
        async with self._busy:
            self._engine.drop(partition)
        if todo.anew:
            await self._store.forget(partition, claim.epoch)
        careful = careful or todo.start < owned.failed_below
        if todo.start < todo.stop:
            async for records in self._input.reread(partition, todo.start, todo.stop):
                await self._fold(records, careful)
            log.info("%s: replayed [%d, %d)", partition, todo.start, todo.stop)
        owned.next_offset, owned.taken, owned.saved = todo.stop, todo.stop, todo.start
        owned.ready = True

    async def _fold(self, records: Records, careful: bool) -> None:
        """Fold records of one partition in silence. What the store has of their entities is read before the engine is
        held, so that other partitions go on while the store is slow, or away."""
        stored: dict[str, bytes | None] = {}
        for partition, entity_ids in self._engine.strangers(records):
            stored.update(zip(entity_ids, await self._store.get_many(partition, entity_ids), strict=True))

        async def read(partition: Partition, entity_ids: Sequence[str]) -> Sequence[bytes | None]:
            if stored.keys() >= set(entity_ids):
                return [stored[entity_id] for entity_id in entity_ids]
            return await self._store.get_many(partition, entity_ids)  # its entities were dropped meanwhile

        async with self._busy:
            now = self._clock()
            await self._engine.process(records, started_ms=now, fetched_ms=now, silent=True, careful=careful, read=read)

    async def _commit(self, owned: Owned, mark: Mark) -> None:
        if await self._guarantee.commit({owned.partition: mark}):
            raise Fenced(f"{owned.partition[0]}/{owned.partition[1]}: another worker publishes for it")
