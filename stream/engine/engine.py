"""One batch from start to finish: records in, answers out. Knows tracks, slots and rows; has no network of its own.

    records -> Pings.read -> strangers (entities not in memory): store.get_many, admit; some are read while others are
                              admitted
            -> pings by entity -> tracks.observe_plain, and track.observe for those that are not plain
            -> Predictor.answer for all of them in one step; what begins a session anew or comes late begins another
            -> render -> gap fills -> answers

A late ping is folded into the window where it belongs. Its forecast stands on the window up to it (the state is rebuilt
for that, so its cache is "rebuilt" and its status "stale"); then the state is rebuilt from the whole window.

Everything that computes runs through `run` on one thread; only the store is awaited. One call at a time: the caller
serialises `process`, `checkpoint` and `drop`, and of a checkpoint that it makes in legs all but `write`. After an
exception from `process` that is not the store's, or when answers could not be published, the states are ahead of the
log: `drop` the partitions and take them over again. With the records that raised, `process` them `careful` then: an
entity that is at fault goes into quarantine (`isolation`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.api import Fill, Forecasts, Moment, Predictor
from stream.config.settings import Settings
from stream.engine import answers
from stream.engine.batch import (
    Asked,
    EngineBatch,
    Outcome,
    Rows,
    ceilings,
    firsts,
    lengths,
    model_gap,
    rows_of,
    slots_of,
)
from stream.engine.bisection import Bisection
from stream.engine.counts import Counts
from stream.engine.entities import (
    HIT,
    NOBODY,
    NONE,
    REBUILT,
    UNREAD,
    Entity,
    EntityTable,
    Shard,
    Slots,
    all_counted_or_none,
    windows,
)
from stream.engine.pings import Pings
from stream.engine.quarantine import Versions, program_version
from stream.engine.quota import Quota
from stream.engine.restore import Restorer
from stream.engine.snapshot import Runner, Snapshot
from stream.kafka.encoded_batches import Answers
from stream.kafka.record_columns import Records
from stream.store.base import READ_CHUNK, Partition, Store, read_records
from stream.tracks.track import Duplicate, Folded, Gap, Policy, Rejected, observe
from stream.wire import ModelRef, Record, Reject, dead_letter

T = TypeVar("T")
Stored = Mapping[Partition, Mapping[str, bytes | None]]  # what the store has of the entities that are not in memory
Read = Callable[[Partition, Sequence[str]], Awaitable[Sequence[bytes | None]]]  # asks for it, as `Store.get_many` does


async def inline(work: Callable[[], T], /) -> T:
    """The runner that blocks: for replay and tests."""
    return work()


class Engine:
    """The states of this process's entities, and what they make of records."""

    def __init__(
        self,
        predictor: Predictor,
        store: Store,
        settings: Settings,
        *,
        run: Runner | None = None,
        clock_ms: Callable[[], float] = lambda: time.time() * 1000,
        max_resident: int | None = None,
    ) -> None:
        self._predictor = predictor
        self._store = store
        self._horizons_s = settings.horizons_s
        self._topics = settings.topics
        self._run: Runner = run or inline
        self._clock_ms = clock_ms
        self._policy = Policy(window_fixes=predictor.history)
        self._model = ModelRef(predictor.name, predictor.version)
        self._version = program_version()
        self._table = EntityTable(predictor, self._policy, max_resident or settings.max_entities)
        self._tracks = self._table.tracks
        self._quota = Quota(settings.max_stored_entities)
        self._restorer = Restorer(self._table, predictor, self._quota)
        versions, ttl_ms = Versions(self._version, predictor.version), settings.state_ttl_s * 1000
        self._bisection = Bisection(self._table, versions, ttl_ms, self._reject)
        self._forecasts = answers.Writer(self._horizons_s, self._model, self._topics)

    @property
    def model(self) -> ModelRef:
        return self._model

    @property
    def version(self) -> str:
        """Of this program."""
        return self._version

    @property
    def entities(self) -> Mapping[Partition, tuple[int, int]]:
        """How many are in memory, and how many in quarantine, by partition."""
        return self._table.sizes()

    @property
    def stored_entities(self) -> Mapping[Partition, int]:
        """How many have states in the store, or are to get one, by partition."""
        return self._table.stored()

    @property
    def counts(self) -> Mapping[Partition, Counts]:
        """What happened to every record, by partition."""
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
    ) -> Answers:
        """Fold the records into the states; return forecasts, gap fills and dead letters.

        Args:
            records: in offset order per partition; several partitions may be mixed.
            started_ms, fetched_ms: when the batch started and when its records were fetched, for `latency_ms`.
            silent: fold only, as a takeover does with records that were answered before.
            careful: if it raises, find the entities at fault and go on without them. Costs a copy of every state.
            read: asks the store for the records of strangers; the default is its `get_many`.

        Raises what `read` raises, such as a store that is away, or Evicted if it has lost the state of an entity that
        is not in memory; nothing has been folded then, so the call may be repeated.
        """
        read = read or partial(read_records, self._store)
        records = Records.of(records)
        shards = {partition: self._table.shard(partition) for partition in records.partitions}
        for shard in shards.values():
            shard.refused.clear()
        batch = EngineBatch(records, Pings.read(records), shards, started_ms, fetched_ms, silent)
        if careful:
            stored = {shard.partition: await _stored(read, shard, ids) for shard, ids in self._strangers(batch)}
            work = partial(self._bisection.fold, batch, partial(self._fold_part, stored))
        else:
            await self._admit_strangers(batch, read)
            work = partial(self._fold, batch)
        await self._computed(shards.values(), work)
        return batch.answers

    def strangers(self, records: Records) -> list[tuple[Partition, list[str]]]:
        """The entities of these records that are not in memory. Nothing is changed: it may be asked while the engine
        is at work for other partitions."""
        shards = {one: self._table.known(one) or Shard(one, NOBODY, Counts()) for one in records.partitions}
        batch = EngineBatch(records, Pings.read(records), shards, 0.0, 0.0, silent=True)
        return [(shard.partition, entity_ids) for shard, entity_ids in self._strangers(batch)]

    def take_for_new(self, partition: Partition, entity_ids: Iterable[str]) -> None:
        """The stored records of these entities cannot be read in time. Until the partition is dropped, each of their
        forecasts says "unread", no gap of theirs is filled, and no checkpoint of the partition may be written: a short
        track would replace the stored one."""
        self._table.shard(partition).unread.update(entity_ids)

    async def checkpoint(self, partition: Partition, epoch: int, next_offset: int) -> None:
        """Write what changed since the last checkpoint. All records below `next_offset` are folded and committed.

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
        """One that is written while the engine works on. All records below `next_offset` are folded."""
        return Snapshot(self._table, self._store, self._run, self._table.shard(partition), epoch, next_offset)

    def drop(self, partition: Partition) -> None:
        """Forget the partition's entities; their slots are given back before the next batch."""
        self._table.drop(partition)

    def note_stored(self, partition: Partition, entities: int) -> None:
        """The store has the states of so many entities of the partition."""
        self._table.shard(partition).stored = entities

    def note_evicted(self, partition: Partition, entity_ids: Sequence[str]) -> None:
        """The store has lost the states of these, and does not expect them any more."""
        shard = self._table.shard(partition)
        shard.counts.evicted += len(entity_ids)
        shard.stored = max(shard.stored - len(entity_ids), 0)
        shard.lost.update(entity_ids)

    async def _admit_strangers(self, batch: EngineBatch, read: Read) -> None:
        """Admit the batch's strangers. While the compute thread takes some in, the next are read."""
        admitting: asyncio.Task[None] | None = None
        try:
            for shard, entity_ids in self._strangers(batch):
                ceiling = _ceilings(batch, shard)
                for at in range(0, len(entity_ids), READ_CHUNK):
                    stored = await _stored(read, shard, entity_ids[at : at + READ_CHUNK])
                    if admitting is not None:
                        await admitting
                    work = partial(self._admit, shard, stored, ceiling)
                    admitting = asyncio.create_task(self._computed([shard], work))
        finally:
            if admitting is not None:
                await admitting

    async def _computed(self, shards: Iterable[Shard], work: Callable[[], None]) -> None:
        with all_counted_or_none(shards):
            try:
                await self._run(work)
            except OSError as error:  # as a store raises, but it is not the store's: the states are half-way
                raise RuntimeError(f"a step raised {error!r}") from error

    # -- on the compute thread ----------------------------------------------------------------------------------------

    def _strangers(self, batch: EngineBatch) -> list[tuple[Shard, list[str]]]:
        """The entities that are not in memory, by shard, each once."""
        unknown: dict[Shard, dict[str, None]] = {}
        for shard, entity_id in batch.entities():
            if entity_id not in shard.entities and entity_id not in shard.quarantine:
                unknown.setdefault(shard, {})[entity_id] = None
        return [(shard, list(entity_ids)) for shard, entity_ids in unknown.items()]

    def _fold_part(self, stored: Stored, part: EngineBatch) -> None:
        """Fold some of a batch, after others of it: who is a stranger is known anew."""
        for shard, entity_ids in self._strangers(part):
            of = stored.get(shard.partition, {})
            self._admit(shard, {one: of.get(one) for one in entity_ids}, _ceilings(part, shard))
        self._fold(part)

    def _admit(self, shard: Shard, stored: Mapping[str, bytes | None], ceiling: Mapping[str, int]) -> None:
        self._table.sweep()
        self._restorer.admit(shard, stored, ceiling)

    def _fold(self, batch: EngineBatch) -> None:
        self._table.sweep()
        rows = self._pings(batch)
        outcomes = self._observe(batch, rows)
        for places, some in rows.steps(outcomes):
            self._step(batch, rows, places, some)
        clocks_ms = batch.fetched_ms, batch.started_ms, self._clock_ms()
        batch.pages += self._forecasts.written(batch.records, batch.said, clocks_ms)
        self._fill(batch)

    def _pings(self, batch: EngineBatch) -> Rows:
        """All but what is no ping, or of an entity in quarantine: those are refused here."""
        batch.count()
        for row, reject in batch.pings.rejects.items():
            self._reject(batch, row, batch.shard_of(row), reject)
        of = batch.pings.of
        index: NDArray[np.int64] = np.flatnonzero(of >= 0)
        shut_out = any(shard.quarantine or shard.refused for shard in batch.sources)
        if shut_out:
            index = np.array([row for row in index.tolist() if not self._refused(batch, row)], np.int64)
        slots = [
            NOBODY if shut_out and (one in shard.quarantine or one in shard.refused) else shard.entities[one]
            for shard, one in batch.entities()
        ]
        return Rows.of(batch, index, np.array(slots, np.int64)[of[index]])

    def _refused(self, batch: EngineBatch, row: int) -> bool:
        """Whether this ping is of an entity in quarantine, or beyond the quota; then it has had its outcome here."""
        shard = batch.shard_of(row)
        if batch.pings.names[batch.pings.of[row]] not in shard.refused:
            return self._bisection.refused(batch, row)
        shard.counts.over_quota += not batch.silent
        self._reject(batch, row, shard, self._quota.refusal)
        return True

    def _reject(self, batch: EngineBatch, index: int, shard: Shard, reject: Reject) -> None:
        if batch.silent:
            return
        shard.counts.rejects += 1
        letter = dead_letter(self._topics.dead_letters, batch.records[index], reject, version=self._version)
        batch.others.append((index, letter))

    def _observe(self, batch: EngineBatch, rows: Rows) -> list[Outcome]:
        """Fold all into the tracks, and tell the rows of their windows; what became of the pings that were not plain,
        in no order."""
        outcomes: list[Outcome] = []
        changed = np.ones(len(rows), np.bool_)
        left = np.arange(len(rows))
        while len(left):
            plain, n, from_ts = self._tracks.observe_plain(rows.slots[left], rows.fixes[left], rows.offsets[left])
            rows.n[left], rows.from_ts[left] = n, from_ts
            left = left[~plain]
            first = firsts(rows.slots[left])  # behind those that were plain
            for row in left[first].tolist():
                outcome, changed[row] = self._observe_odd(batch, rows, row)
                if outcome is not None:
                    outcomes.append(outcome)
            left = left[~first]
        self._table.touch(rows.slots, rows.slots[changed])
        return outcomes

    def _observe_odd(self, batch: EngineBatch, rows: Rows, row: int) -> tuple[Outcome | None, bool]:
        """What a ping that is not plain became, if it changed the state; and whether it changed the track. One that
        did not is answered, or counted, here."""
        index, slot, loud = int(rows.index[row]), int(rows.slots[row]), not batch.silent
        shard, offset, fix = batch.shard_of(index), int(rows.offsets[row]), rows.fixes[row].tobytes()
        published_ms = int(batch.records.timestamps_ms[index])
        track, verdict = observe(self._tracks.read(slot), fix, offset, self._policy, published_ms)
        if isinstance(verdict, Folded):
            shard.counts.folded += loud
            return None, False
        self._tracks.write(slot, track)
        if isinstance(verdict, Duplicate):
            shard.counts.duplicates += loud
        elif isinstance(verdict, Rejected):
            shard.counts.quarantined += loud and verdict.reject.code == "impossible_jump"
            unread = self._is_unread(slot)
            reject = verdict.reject._replace(unread=True, retryable=True) if unread else verdict.reject
            self._reject(batch, index, shard, reject)
        else:
            outcome = Outcome(row, index, Entity(batch.pings.names[batch.pings.of[index]], slot), shard, track, verdict)
            seen = windows(outcome.seen)
            rows.n[row], rows.from_ts[row] = len(seen), seen[0]["ts_ms"]
            return outcome, True
        return None, True

    def _step(self, batch: EngineBatch, rows: Rows, places: NDArray[np.int64], outcomes: Sequence[Outcome]) -> None:
        """Fold the pings at these places, and answer them; turns are what became of those that were not plain."""
        late = [outcome for outcome in outcomes if outcome.late]
        restarts = [outcome for outcome in outcomes if outcome.restart]
        if restarts:
            if not batch.silent:
                if ending := [outcome for outcome in restarts if outcome.gaps]:  # while their state is there
                    self._ask(batch, ending, self._predictor.moment(slots_of(ending)))
                self._retract(batch, restarts)
            self._restart(restarts)
        moving = np.setdiff1d(places, rows_of(late), assume_unique=True) if late else places
        if len(moving):
            part = rows.part(moving)
            first = firsts(part.slots)
            slots, counts = part.slots[first], lengths(first)
            if batch.silent:
                self._predictor.catch_up(slots, part.fixes, counts)
            else:
                said, moment = self._predictor.answer(slots, part.fixes, counts, self._horizons_s)
                cache = self._table.cache[part.slots]
                cache = np.where(first | (cache == UNREAD), cache, HIT)
                self._say(batch, part, said, cache)
                asking = [outcome for outcome in outcomes if outcome.gaps and not outcome.restart]
                self._ask(batch, asking, moment.at(np.searchsorted(moving, rows_of(asking))))
            self._is_hit(batch, slots)
        if late:
            self._go_back(batch, rows.part(rows_of(late)), late)

    def _go_back(self, batch: EngineBatch, rows: Rows, outcomes: Sequence[Outcome]) -> None:
        """Fold pings that came late, one of each entity, where they belong."""
        if not batch.silent:
            self._predictor.rebuild(
                rows.slots, [windows(outcome.seen) for outcome in outcomes]
            )  # the window up to its own ping
            said = self._predictor.forecast(rows.slots, self._horizons_s)
            for outcome in outcomes:
                outcome.shard.counts.late += 1
            unread = self._table.cache[rows.slots] == UNREAD
            self._say(batch, rows, said, np.where(unread, np.int8(UNREAD), np.int8(REBUILT)), late=True)
            self._retract(batch, outcomes)
        self._predictor.rebuild(rows.slots, [windows(outcome.track.window) for outcome in outcomes])
        self._is_hit(batch, rows.slots)

    def _is_hit(self, batch: EngineBatch, slots: Slots) -> None:
        """The next forecasts of these stand on states that are followed."""
        if batch.silent:  # "rebuilt" waits for a forecast that can say so
            slots = slots[self._table.cache[slots] == NONE]
        self._table.cache[slots[self._table.cache[slots] != UNREAD]] = HIT

    def _is_unread(self, slot: int) -> bool:
        return bool(self._table.cache[slot] == UNREAD)

    def _restart(self, outcomes: Sequence[Outcome]) -> None:
        slots = slots_of(outcomes)
        self._predictor.reset(slots)
        self._table.cache[slots[self._table.cache[slots] != UNREAD]] = NONE
        for outcome in outcomes:
            outcome.shard.counts.restarts += 1

    def _say(
        self, batch: EngineBatch, rows: Rows, said: Forecasts, cache: NDArray[np.int8], *, late: bool = False
    ) -> None:
        """These forecasts [N] answer these rows [N]."""
        by_number = {shard.number: shard.counts for shard in batch.shards.values()}
        for number, count in self._table.of_shards(rows.slots).items():
            by_number[number].forecasts += count
        if (unread := cache == UNREAD).any():
            for number, count in self._table.of_shards(rows.slots[unread]).items():
                by_number[number].unread += count
        are_late = np.full(len(rows), late)
        batch.said.append(answers.Answered(rows.index, rows.fixes, rows.n, rows.from_ts, are_late, cache, said))

    def _ask(self, batch: EngineBatch, outcomes: Sequence[Outcome], moment: Moment) -> None:
        """Remember the gap fills that these turns ask for, with the states [N] of the turns [N] as they are now. A
        track that is not its entity's whole one asks for none, because nobody would revise them."""
        asked = [
            (row, Asked(outcome, gap, status))
            for row, outcome in enumerate(outcomes)
            if outcome.gaps and not self._is_unread(outcome.entity.slot)
            for gap, status in outcome.gaps
        ]
        if asked:
            batch.moments.append(moment.at(np.array([row for row, _ in asked])))
            batch.fills += [one for _, one in asked]

    def _fill(self, batch: EngineBatch) -> None:
        """All gap fills of the batch, in one call of the model."""
        if not batch.fills:
            return
        gaps = [model_gap(one.gap) for one in batch.fills]
        fills = self._predictor.fill_at(Moment.joined(batch.moments), gaps)
        for (outcome, gap, status), fill in zip(batch.fills, fills, strict=True):
            self._publish_fill(batch, outcome, gap, status, fill)

    def _retract(self, batch: EngineBatch, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            for gap in outcome.verdict.retracted if not self._is_unread(outcome.entity.slot) else ():
                self._publish_fill(batch, outcome, gap, "retracted", None)

    def _publish_fill(
        self, batch: EngineBatch, outcome: Outcome, gap: Gap, status: answers.GapStatus, fill: Fill | None
    ) -> None:
        outcome.shard.counts.gap_fills += 1
        record = batch.records[outcome.index]
        answer = answers.gap_fill(record, outcome.entity.id, gap, status, fill, self._model, self._topics)
        batch.others.append((outcome.index, answer))


async def _stored(read: Read, shard: Shard, entity_ids: Sequence[str]) -> dict[str, bytes | None]:
    return dict(zip(entity_ids, await read(shard.partition, entity_ids), strict=True))


def _ceilings(batch: EngineBatch, shard: Shard) -> Mapping[str, int]:
    """None for records that were answered before."""
    return {} if batch.silent else ceilings(batch, shard.partition)
