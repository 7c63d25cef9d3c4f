"""Takes one batch from records to answers.

    records -> Pings.read -> entities not in memory: store.get_many, admit; some are read while others are admitted
            -> stepping: tracks, the model, forecasts, gap fills -> answers

Computation runs through `run` on one thread, or for a small batch at once, on the caller's; only the store is awaited.
So one thread at a time computes: the caller serialises `process`, `checkpoint` and `drop`, and all calls of a
checkpoint that it makes in legs except `write`, and cancels none of them while another follows. After an exception from
`process` that is not the store's, or when answers could not be published, the states are ahead of the log: `drop` the
partitions and take them over again. Then `process` the records that raised with `careful`, which quarantines an entity
that is at fault (`bisection`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from model.api import Predictor
from stream.adapters.live.on_topic import reader_of
from stream.config.settings import Settings
from stream.engine.assignment import NOTHING, VersionChoice
from stream.engine.batch import (
    EngineBatch,
    ceilings,
)
from stream.engine.bisection import Bisection
from stream.engine.counts import Counts
from stream.engine.entities.placement import Placement
from stream.engine.entities.predictors import Predictors
from stream.engine.entities.quarantine import Versions, program_version
from stream.engine.entities.quota import Quota
from stream.engine.entities.restore import Restorer, unless_forgotten
from stream.engine.entities.shard import Shard, all_counted_or_none
from stream.engine.entities.snapshot import Runner, Snapshot
from stream.engine.entities.table import NOBODY, EntityTable
from stream.engine.pings import Pings
from stream.engine.rendering import Renderer
from stream.engine.stepping import Stepper
from stream.kafka.records.encoded_batches import Answers
from stream.kafka.records.record_columns import Records
from stream.store.base import READ_CHUNK, Partition, Store, read_records
from stream.tracks.track import Policy
from stream.wire import ModelRef, Record

if TYPE_CHECKING:  # who does not trace does not import it
    from stream.tracing.pings import TracedBatch

T = TypeVar("T")
# A batch of at most so many records is computed at once, where it is: some 2 ms, of which the way to the compute thread
# and back would be another half.
INLINE_RECORDS: Final = 64
Stored = Mapping[Partition, Mapping[str, bytes | None]]  # stored records of entities that are not in memory
Read = Callable[[Partition, Sequence[str]], Awaitable[Sequence[bytes | None]]]  # reads them, as `Store.get_many` does


async def inline(work: Callable[[], T], /) -> T:
    """Runs the work at once and blocks: for small batches, replay and tests."""
    return work()


class Engine:
    """Holds the states of this process's entities, and answers records."""

    def __init__(
        self,
        predictor: Predictor,
        store: Store,
        settings: Settings,
        *,
        run: Runner | None = None,
        clock_ms: Callable[[], float] = lambda: time.time() * 1000,
        max_resident: int | None = None,
        policy: Policy | None = None,
    ) -> None:
        """`policy` has the rules of tracks, if they are not a worker's."""
        self._store = store
        self._run: Runner = run or inline
        policy, quota = policy or Policy(window_fixes=predictor.history), Quota(settings.max_stored_entities)
        self._predictors = predictors = Predictors(predictor)
        self._version = program_version()
        self._foreign = reader_of(settings.map)
        self._table = EntityTable(predictors, policy, max_resident or settings.max_entities)
        self._restorer = Restorer(self._table, predictors, quota)
        self.placement = Placement()
        render = Renderer(self._version, settings)
        self._bisection = Bisection(self._table, self._versions, settings.state_ttl_s * 1000, render.reject)
        self._stepper = Stepper(predictors, self._table, policy, quota, self._bisection, render, clock_ms)

    @property
    def model(self) -> ModelRef:
        """The weights that were taken up last."""
        return ModelRef(self._predictors.newest.name, self._predictors.newest.version)

    @property
    def predictors(self) -> Predictors:
        """The networks, with the states of all entities: to compare others with them where no batch is computed."""
        return self._predictors

    @property
    def networks(self) -> Sequence[ModelRef]:
        """The weights that are in memory."""
        return [one for one in self._predictors.refs if one.version]

    @property
    def slots(self) -> int:
        """The number of slots in memory: the capacity that further weights need."""
        return self._predictors.capacity

    @property
    def version(self) -> str:
        """The version of this program."""
        return self._version

    @property
    def entities(self) -> Mapping[Partition, tuple[int, int]]:
        """Returns how many entities are in memory, and how many in quarantine, by partition."""
        return self._table.sizes()

    @property
    def stored_entities(self) -> Mapping[Partition, int]:
        """Returns how many entities have states in the store, or will get one, by partition."""
        return self._table.count_stored()

    @property
    def counts(self) -> Mapping[Partition, Counts]:
        """Returns what happened to the records, by partition."""
        return self._table.counts()

    async def process(
        self,
        records: Sequence[Record],
        *,
        started_ms: float,
        fetched_ms: float,
        silent: bool = False,
        careful: bool = False,
        read: Read | None = None,
        choice: VersionChoice = NOTHING,
        traced: TracedBatch | None = None,
    ) -> Answers:
        """Folds the records into the states; returns forecasts, gap fills and dead letters.

        Args:
            records: in offset order per partition; several partitions may be mixed.
            started_ms, fetched_ms: when the batch started and when its records were fetched, for `latency_ms`.
            silent: only fold, as a takeover does with records that were answered before.
            careful: if folding raises, find the entities at fault and continue without them; it copies every state.
            read: reads the records of entities that are not in memory; the default is the store's `get_many`.
            choice: which atlas each ping asks, if forecasts are to say so, and which weights, if there are several.
            traced: which pings are in a trace, if any; the engine notes its times there.

        Raises what `read` raises: for example that the store cannot be reached, or Evicted if it has lost the state of
        an entity that is not in memory. Nothing has been folded then, so the call may be repeated.
        """
        read = read or partial(read_records, self._store)
        records = Records.of(records)
        shards = {partition: self._table.shard(partition) for partition in records.partitions}
        for shard in shards.values():
            shard.refused.clear()
        batch = EngineBatch(records, Pings.read(records, self._foreign), shards, started_ms, fetched_ms, silent, choice)
        batch.traced = traced
        forgotten = batch.pings.forgotten
        fold: Callable[[EngineBatch], None] = self._stepper.fold
        if careful:
            stored = {
                shard.partition: await _stored_records(read, shard, ids)
                for shard, ids in self._unloaded_by_shard(batch)
            }
            fold = partial(self._bisection.fold, fold=partial(self._fold_part, stored))
        else:
            await self._admit_unloaded(batch, read)
            if forgotten:
                fold = partial(self._fold_part, {})
        work = partial(self._fold_around, batch, forgotten, fold) if forgotten else partial(fold, batch)
        await self._compute(shards.values(), work, at_once=len(records) <= INLINE_RECORDS)
        if choice.weights is not None:
            self._let_go(choice.weights.networks)
        return batch.answers

    def list_unloaded(self, records: Records) -> list[tuple[Partition, list[str]]]:
        """Returns the entities of these records that are not in memory.

        It changes nothing, so it may be called while the engine works for other partitions.
        """
        shards = {one: self._table.get_shard(one) or Shard(one, NOBODY, Counts()) for one in records.partitions}
        batch = EngineBatch(records, Pings.read(records, self._foreign), shards, 0.0, 0.0, silent=True)
        return [(shard.partition, entity_ids) for shard, entity_ids in self._unloaded_by_shard(batch)]

    def take_for_new(self, partition: Partition, entity_ids: Iterable[str]) -> None:
        """Treats these entities as new, because their stored records cannot be read in time.

        Until the partition is dropped, each of their forecasts is marked "unread", no gap of theirs is filled, and no
        checkpoint of the partition may be written: a short track would replace the stored one.
        """
        self._table.shard(partition).unread.update(entity_ids)

    async def checkpoint(self, partition: Partition, epoch: int, next_offset: int) -> None:
        """Writes what changed since the last checkpoint. All records below `next_offset` are folded and committed.

        Raises:
            Fenced: another owner claimed the partition.
            ValueError: an entity has folded a record at or above `next_offset`.
        """
        one = self.begin_checkpoint(partition, epoch, next_offset)
        while not one.done:
            await one.dump(next_offset)
            try:
                await one.write()
            except BaseException:
                one.give_up()
                raise
            one.settle()

    def begin_checkpoint(self, partition: Partition, epoch: int, next_offset: int) -> Snapshot:
        """Begins a checkpoint that is written while the engine works on. All records below `next_offset` are folded."""
        return Snapshot(self._table, self._store, self._run, self._table.shard(partition), epoch, next_offset)

    def drop(self, partition: Partition) -> None:
        """Removes the partition's entities from memory; their slots are released before the next batch."""
        self._table.drop(partition)

    def note_stored(self, partition: Partition, entities: int) -> None:
        """Notes that the store has the states of `entities` entities of the partition."""
        self._table.shard(partition).stored = entities

    def note_evicted(self, partition: Partition, entity_ids: Sequence[str]) -> None:
        """Notes that the store has lost the states of these entities, and does not list them any more."""
        shard = self._table.shard(partition)
        shard.counts.evicted += len(entity_ids)
        shard.stored = max(shard.stored - len(entity_ids), 0)
        shard.lost.update(entity_ids)

    async def _admit_unloaded(self, batch: EngineBatch, read: Read) -> None:
        """Loads the batch's entities that are not in memory.

        While the compute thread loads some of them, the next are read from the store.
        """
        admitting: asyncio.Task[None] | None = None
        try:
            for shard, entity_ids in self._unloaded_by_shard(batch):
                ceiling = _ceilings(batch, shard)
                for at in range(0, len(entity_ids), READ_CHUNK):
                    stored = await _stored_records(read, shard, entity_ids[at : at + READ_CHUNK])
                    if admitting is not None:
                        await admitting
                    work = partial(self._admit, shard, stored, ceiling)
                    admitting = asyncio.create_task(self._compute([shard], work))
        finally:
            if admitting is not None:
                await admitting

    async def _compute(self, shards: Iterable[Shard], work: Callable[[], None], *, at_once: bool = False) -> None:
        with all_counted_or_none(shards):
            try:
                await (inline if at_once else self._run)(work)
            except OSError as error:  # a store raises it, too, but here the states are half-way
                raise RuntimeError(f"a step raised {error!r}") from error

    def _let_go(self, needed: Sequence[Predictor]) -> None:
        """Lets go of weights that no ping asks any more. Entities without pings since then leave memory with them."""
        held = self._predictors.let_go(needed)
        if held is not None:
            self._table.leave(held)

    def _versions(self, batch: EngineBatch, row: int) -> Versions:
        """Returns by what this record is answered."""
        asked = batch.networks
        network = self._predictors.newest if asked is None else asked.networks[asked.which[row]]
        return Versions(self._version, network.version)

    # -- on the compute thread ----------------------------------------------------------------------------------------

    def _unloaded_by_shard(self, batch: EngineBatch) -> list[tuple[Shard, list[str]]]:
        """Returns the entities that are not in memory, by shard, each once."""
        unknown: dict[Shard, dict[str, None]] = {}
        for shard, entity_id in batch.entities():
            if entity_id not in shard.entities and entity_id not in shard.quarantine:
                unknown.setdefault(shard, {})[entity_id] = None
        return [(shard, list(entity_ids)) for shard, entity_ids in unknown.items()]

    def _fold_part(self, stored: Stored, part: EngineBatch) -> None:
        """Folds a part of a batch, after other parts of it: first loads the entities that are not in memory now."""
        for shard, entity_ids in self._unloaded_by_shard(part):
            of = stored.get(shard.partition, {})
            known = {one: unless_forgotten(shard, one, of.get(one)) for one in entity_ids}
            self._admit(shard, known, _ceilings(part, shard))
        self._stepper.fold(part)

    def _fold_around(self, batch: EngineBatch, forgotten: Sequence[int], fold: Callable[[EngineBatch], None]) -> None:
        """Folds a batch in which these rows ask to forget entities: what comes before each, and then what follows."""
        begin = 0
        for end in (*forgotten, None):
            rows = range(len(batch.records))[begin:end]
            if rows:
                part = batch.part(rows)
                fold(part)
                batch.take(rows, part)
            if end is not None:
                record, shard = batch.records[end], batch.shard_of(end)
                self._table.forget(shard, (record.key or b"").decode(), record.offset)
                begin = end

    def _admit(self, shard: Shard, stored: Mapping[str, bytes | None], ceiling: Mapping[str, int]) -> None:
        self._table.sweep()
        self._restorer.admit(shard, stored, ceiling)
        self.placement.check(shard, [entity_id for entity_id in stored if entity_id in shard.entities])


async def _stored_records(read: Read, shard: Shard, entity_ids: Sequence[str]) -> dict[str, bytes | None]:
    found = zip(entity_ids, await read(shard.partition, entity_ids), strict=True)
    return {entity_id: unless_forgotten(shard, entity_id, raw) for entity_id, raw in found}


def _ceilings(batch: EngineBatch, shard: Shard) -> Mapping[str, int]:
    """Returns the ceilings of the shard's entities; none for records that were answered before."""
    return {} if batch.silent else ceilings(batch, shard.partition)
