"""Makes a partition ours, and brings its states up to the log.

    ask the group whether our assignment still holds -> fence Kafka -> read the committed offset
        -> raise the epoch in Redis, and store it in Kafka -> replay [c, k) without output

Each step excludes earlier owners from what the next step reads: after the fence the committed offset cannot move, and
after the claim the stored states cannot change.

Every takeover asks the group first. Neither the fence nor the claim nor a transaction carries the group's generation,
so Kafka and Redis accept them from a worker that has lost the partition, too. Such a worker would fence the rightful
owner, which would fence it in turn, and so on. There are two kinds:

    a zombie                the worker was stopped, or cut off, for longer than its session; it is fenced when it
                            continues, and takes the partition over again
    an old assignment       the worker was stopped between the group's answer and the start of this takeover

The group refuses both, and they do not get the partition before the next assignment. One moment is left: a worker that
is stopped after the group's answer and before its fence, for longer than its session, fences the rightful owner once
when it continues. That owner asks the group, fences and claims again, and the other worker is refused. Nothing is lost
by it, and under exactly_once nothing is answered twice, because each of them reads the committed offset after its own
fence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from stream.config import failpoints
from stream.config.wording import place
from stream.delivery.accounts import Accounts
from stream.delivery.ownership.continuity import SILENT_S
from stream.delivery.ownership.takeover_plan import REBUILD_RECORDS, Plan, history_after, plan
from stream.delivery.partitions import Guarantee, InputLog, Owned
from stream.engine.engine import Engine
from stream.kafka.log import CommittedOffset, Partition
from stream.kafka.records.record_columns import Records
from stream.store.base import Evicted, Fenced, Store, read_records

log = logging.getLogger(__name__)


class Takeover:
    """Takes partitions over, one per call of `claim`."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        guarantee: Guarantee,
        input_log: InputLog,
        busy: asyncio.Lock,
        clock: Callable[[], float],
        accounts: Accounts,
    ) -> None:
        """Takes `busy`, the lock that is held while the engine is used."""
        self._engine = engine
        self._store = store
        self._guarantee = guarantee
        self._input = input_log
        self._busy = busy
        self._clock = clock
        self._accounts = accounts

    async def claim(self, owned: Owned, *, careful: bool = False) -> None:
        """Fences the owner before us, brings the states up to the committed offset, and opens the partition.

        Args:
            careful: the replay has raised before.

        Raises:
            Rebalanced: our assignment is not the current one any more; nobody was fenced for it.
            Fenced: another worker claimed the partition meanwhile, or the store lost our claim.

        After any other exception of the replay the states cannot be used: claim again. If the log was shortened, the
        partition stays closed and this asks for a new assignment, with which it comes again.
        """
        partition = owned.partition
        owned.began_ms = min(owned.began_ms, self._clock())
        committed = await self._guarantee.fence(partition)
        if committed is None and owned.epoch:  # brokers delete a group's offsets together with their topic
            committed = CommittedOffset(owned.next_offset, owned.epoch, owned.history)
        known_epoch = max(owned.epoch, committed.epoch if committed else 0)
        is_older = (await self._store.peek(partition)).epoch < known_epoch
        claim = await self._store.claim(partition, floor=known_epoch)
        failpoints.reach("after_claim")
        owned.epoch = claim.epoch
        evicted = await self._store.list_evicted(partition)
        found = await self._input.describe_log(partition, committed.history.leader_epoch if committed else -1)
        todo = plan(claim.next_offset, committed, found, evicted=len(evicted), is_older=is_older)
        history = history_after(todo, committed, found)
        self._tell(partition, todo)
        if todo.cut:
            await self._go_back(owned, committed, CommittedOffset(todo.stop, claim.epoch, history))
            return
        # Else whoever committed knew this topic before the group gave us the partition.
        if committed is None or not committed.history.topic_id:
            owned.unproven |= self._clock() - owned.began_ms > 1000 * SILENT_S
        # A Redis that lost its epochs would issue them again, and a zombie's epoch would be as good as its owner's. So
        # the last epoch is also committed to Kafka, before anything is stored under it.
        await self._commit(owned, CommittedOffset(todo.stop, claim.epoch, history))
        self._accounts.accounts[partition].retention_lost += todo.lost
        failpoints.reach("before_replay")
        async with self._busy:
            self._engine.drop(partition)
        if todo.anew:
            await self._store.forget(partition, claim.epoch)
        elif evicted:
            await self._unlist(owned, evicted, todo.start)
        stored = await self._store.count(partition)
        async with self._busy:
            self._engine.note_stored(partition, stored)
        careful = careful or todo.start < owned.failed_below
        rebuilds = todo.start <= max(found.begin, todo.stop - REBUILD_RECORDS)
        if todo.start < todo.stop:
            async for records in self._input.reread(partition, todo.start, todo.stop):
                await self._fold(owned, records, careful, todo.start if rebuilds else None)
            log.info("%s: replayed [%d, %d)", place(partition), todo.start, todo.stop)
        owned.next_offset, owned.taken, owned.saved = todo.stop, todo.stop, todo.start
        owned.history = history
        if found.kept is not None and found.kept_epoch < found.leader_epoch:
            owned.ended = found.kept_epoch, found.kept
        owned.heard_ms = self._clock()
        owned.ready = True

    async def _fold(self, owned: Owned, records: Records, careful: bool, rebuild_from: int | None) -> None:
        """Folds records that were answered before.

        This replay rebuilds what the store loses meanwhile, if it started at `rebuild_from`, where a rebuild starts.
        Otherwise Evicted is raised, and the partition must be claimed again.
        """
        while True:
            try:
                await self._fold_read(records, careful)
                return
            except Evicted as error:
                if rebuild_from is None:
                    raise
                await self._unlist(owned, error.entity_ids, rebuild_from)

    async def _fold_read(self, records: Records, careful: bool) -> None:
        """Folds records of one partition without output. Raises Evicted.

        The stored records of their entities are read before the engine is locked, so that other partitions continue
        while the store is slow or unreachable.
        """
        stored: dict[str, bytes | None] = {}
        for partition, entity_ids in self._engine.list_unloaded(records):
            stored.update(zip(entity_ids, await read_records(self._store, partition, entity_ids), strict=True))

        async def read(partition: Partition, entity_ids: Sequence[str]) -> Sequence[bytes | None]:
            if stored.keys() >= set(entity_ids):
                return [stored[entity_id] for entity_id in entity_ids]
            # The partition's entities were dropped meanwhile.
            return await read_records(self._store, partition, entity_ids)

        async with self._busy:
            now = self._clock()
            await self._engine.process(records, started_ms=now, fetched_ms=now, silent=True, careful=careful, read=read)

    async def _unlist(self, owned: Owned, evicted: Sequence[str], start: int) -> None:
        """Notes that the replay from `start` rebuilds these entities.

        If this process dies before they are stored, the next owner's replay rebuilds them. Entities that the replay
        does not find in the log are never looked for again.
        """
        await self._store.unlist(owned.partition, owned.epoch, evicted, start)
        async with self._busy:
            self._engine.note_evicted(owned.partition, evicted)
        owned.rebuilt_ms = self._clock()

    def _tell(self, partition: Partition, todo: Plan) -> None:
        if todo.why:
            level = logging.ERROR if todo.cut or todo.lost else logging.WARNING
            log.log(level, "%s/%d: %s", *partition, todo.why)

    async def _go_back(self, owned: Owned, committed: CommittedOffset | None, back: CommittedOffset) -> None:
        """Deletes the states after the log was shortened, and commits the offset from which its records are new.

        The consumer's position is in the old log, and so may be the records that it has fetched. It begins again at our
        committed offset when it rejoins its group.
        """
        await self._commit(owned, (committed or back)._replace(epoch=back.epoch))
        async with self._busy:
            self._engine.drop(owned.partition)
        await self._store.forget(owned.partition, back.epoch)
        await self._commit(owned, back)
        self._accounts.accounts[owned.partition].log_shortened += 1
        self._input.rejoin()

    async def _commit(self, owned: Owned, mark: CommittedOffset) -> None:
        if await self._guarantee.commit({owned.partition: mark}):
            raise Fenced(f"{owned.partition[0]}/{owned.partition[1]}: another worker publishes for it")
