"""One batch from start to finish: records in, answers out. Knows tracks, slots and rounds; has no network of its own.

    records -> clean.parse -> strangers (entities not in memory): store.get_many, admit; some are read while others are
                              admitted
            -> rounds: the r-th ping of each entity is in round r, so that a round has each slot once
            -> per round: tracks.observe_plain, track.observe for the rest; advance, one forecast
            -> gap fills -> render -> answers in input order

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
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.api import Fill, Moment, Predictor
from stream import render
from stream.admission import Admission
from stream.checkpoint import Checkpoint, Runner
from stream.clean import parse
from stream.isolation import Isolation
from stream.quarantine import Versions, program_version
from stream.residents import HIT, NONE, REBUILT, Counts, Entity, Residents, Shard, all_counted_or_none, windows
from stream.settings import Settings
from stream.store import READ_CHUNK, Partition, Store
from stream.track import Accepted, Duplicate, Folded, Gap, Late, Policy, Rejected, observe
from stream.turns import PARTITION_OF, Asked, Batch, Round, Turn, ceilings, model_gap, rows_of, slots_of
from stream.wire import ModelRef, Outgoing, Ping, Record, Reject, dead_letter

T = TypeVar("T")
Stored = Mapping[Partition, Mapping[str, bytes | None]]  # what the store has of the entities that are not in memory


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
        self._residents = Residents(predictor, self._policy, max_resident or settings.max_entities)
        self._tracks = self._residents.tracks
        self._admission = Admission(self._residents, predictor)
        versions, ttl_ms = Versions(self._version, predictor.version), settings.state_ttl_s * 1000
        self._isolation = Isolation(self._residents, versions, ttl_ms, self._reject)
        self._forecasts = render.Writer(self._horizons_s, self._model, self._topics)

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
        return self._residents.sizes()

    @property
    def counts(self) -> Mapping[Partition, Counts]:
        """What happened to every record, by partition."""
        return self._residents.counts()

    async def process(
        self,
        records: Sequence[Record],
        *,
        started_ms: float,
        fetched_ms: float,
        silent: bool = False,
        careful: bool = False,
    ) -> list[Outgoing]:
        """Fold the records into the states; return forecasts, gap fills and dead letters, in input order.

        Args:
            records: in offset order per partition; several partitions may be mixed.
            started_ms, fetched_ms: when the batch started and when its records were fetched, for `latency_ms`.
            silent: fold only, as a takeover does with records that were answered before.
            careful: if it raises, find the entities at fault and go on without them. Costs a copy of every state.

        Raises what the store raises while it is away; nothing has been folded then, so the call may be repeated.
        """
        parsed = [parse(record) for record in records]
        shards = {key: self._residents.shard(key) for key, _ in groupby(records, PARTITION_OF)}
        batch = Batch(records, parsed, shards, started_ms, fetched_ms, silent)
        if careful:
            stored = {shard.partition: await self._stored(shard, ids) for shard, ids in self._strangers(batch)}
            work = partial(self._isolation.fold, batch, partial(self._fold_part, stored))
        else:
            await self._admit_strangers(batch)
            work = partial(self._fold, batch)
        await self._computed(shards.values(), work)
        return [answer for answers in batch.out for answer in answers]

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

    def begin_checkpoint(self, partition: Partition, epoch: int, next_offset: int) -> Checkpoint:
        """One that is written while the engine works on. All records below `next_offset` are folded."""
        return Checkpoint(self._residents, self._store, self._run, self._residents.shard(partition), epoch, next_offset)

    def drop(self, partition: Partition) -> None:
        """Forget the partition's entities; their slots are given back before the next batch."""
        self._residents.drop(partition)

    async def _admit_strangers(self, batch: Batch) -> None:
        """Admit the batch's strangers. While the compute thread takes some in, the next are read."""
        admitting: asyncio.Task[None] | None = None
        try:
            for shard, entity_ids in self._strangers(batch):
                ceiling = _ceilings(batch, shard)
                for at in range(0, len(entity_ids), READ_CHUNK):
                    stored = await self._stored(shard, entity_ids[at : at + READ_CHUNK])
                    if admitting is not None:
                        await admitting
                    work = partial(self._admit, shard, stored, ceiling)
                    admitting = asyncio.create_task(self._computed([shard], work))
        finally:
            if admitting is not None:
                await admitting

    async def _stored(self, shard: Shard, entity_ids: Sequence[str]) -> dict[str, bytes | None]:
        return dict(zip(entity_ids, await self._store.get_many(shard.partition, entity_ids), strict=True))

    async def _computed(self, shards: Iterable[Shard], work: Callable[[], None]) -> None:
        with all_counted_or_none(shards):
            try:
                await self._run(work)
            except OSError as error:  # as a store raises, but it is not the store's: the states are half-way
                raise RuntimeError(f"a step raised {error!r}") from error

    # -- on the compute thread ----------------------------------------------------------------------------------------

    def _strangers(self, batch: Batch) -> list[tuple[Shard, list[str]]]:
        """The entities that are not in memory, by shard, each once."""
        unknown: dict[Shard, dict[str, None]] = {}
        for shard, ping in zip(batch.shard_of, batch.parsed, strict=True):
            if isinstance(ping, Ping):
                entity_id = ping.entity_id
                if entity_id not in shard.entities and entity_id not in shard.quarantine:
                    unknown.setdefault(shard, {})[entity_id] = None
        return [(shard, list(entity_ids)) for shard, entity_ids in unknown.items()]

    def _fold_part(self, stored: Stored, part: Batch) -> None:
        """Fold some of a batch, after others of it: who is a stranger is known anew."""
        for shard, entity_ids in self._strangers(part):
            of = stored.get(shard.partition, {})
            self._admit(shard, {one: of.get(one) for one in entity_ids}, _ceilings(part, shard))
        self._fold(part)

    def _admit(self, shard: Shard, stored: Mapping[str, bytes | None], ceiling: Mapping[str, int]) -> None:
        self._residents.sweep()
        self._admission.admit(shard, stored, ceiling)

    def _fold(self, batch: Batch) -> None:
        self._residents.sweep()
        for one in self._rounds(batch):
            self._play(batch, one)
        self._fill(batch)

    def _rounds(self, batch: Batch) -> list[Round]:
        """Refuse what is no ping; sort the pings into rounds, in order."""
        rounds: list[Round] = []
        depth: dict[int, int] = {}
        for shard, count in Counter(batch.shard_of).items():
            if batch.silent:
                shard.counts.replayed += count
            else:
                shard.counts.records_in += count
        for index, (shard, ping) in enumerate(zip(batch.shard_of, batch.parsed, strict=True)):
            if isinstance(ping, Reject):
                self._reject(batch, index, shard, ping)
                continue
            if shard.quarantine and self._isolation.refused(batch, index, shard, ping.entity_id):
                continue
            slot = shard.entities[ping.entity_id]
            place = depth.get(slot, 0)
            depth[slot] = place + 1
            if place == len(rounds):
                rounds.append(Round())
            one = rounds[place]
            one.index.append(index)
            one.slot.append(slot)
        for one in rounds:
            one.close(batch)
        return rounds

    def _reject(self, batch: Batch, index: int, shard: Shard, reject: Reject) -> None:
        if batch.silent:
            return
        shard.counts.rejects += 1
        letter = dead_letter(self._topics.dead_letters, batch.records[index], reject, version=self._version)
        batch.out[index].append(letter)

    def _play(self, batch: Batch, one: Round) -> None:
        """Fold each row's ping into its track and its slot, then answer all that changed a state."""
        moved = self._tracks.observe_plain(one.slots, one.fixes, one.offsets)  # rows that the model folds, too
        turns, folded_before = self._observe_odd(batch, one, np.flatnonzero(~moved).tolist())
        changed = np.ones(len(one.slots), np.bool_)
        changed[folded_before] = False
        self._residents.touch(one.slots, changed)
        in_order = [turn for turn in turns if not turn.late]
        restarts = [turn for turn in in_order if turn.restart]
        behind = [turn for turn in turns if turn.late]
        moved[rows_of(in_order)] = True
        if not batch.silent:
            self._ask(batch, restarts)  # the old session's last gaps, before its state goes
        if restarts:
            self._restart(restarts)
        if moved.any():
            self._predictor.advance(one.slots[moved], one.fixes[moved])
        answered = moved.copy()
        answered[rows_of(behind)] = True
        if not batch.silent:
            if behind:
                self._predictor.rebuild(slots_of(behind), [windows(turn.seen) for turn in behind])
            self._answer(batch, one, answered, behind)
            self._ask(batch, [turn for turn in in_order if not turn.restart])
            self._retract(batch, behind)
        if behind:
            self._predictor.rebuild(slots_of(behind), [windows(turn.track.window) for turn in behind])
        slots = one.slots[answered]
        if batch.silent:  # "rebuilt" waits for a forecast that can say so
            slots = slots[self._residents.cache[slots] == NONE]
        self._residents.cache[slots] = HIT

    def _observe_odd(self, batch: Batch, one: Round, rows: Sequence[int]) -> tuple[list[Turn], list[int]]:
        """Let `track` judge the pings that are not plain: those that changed a state, and the rows that were folded
        before. The others are answered, or counted, at once."""
        turns: list[Turn] = []
        folded_before: list[int] = []
        loud = not batch.silent
        for row in rows:
            index, slot = one.index[row], one.slot[row]
            record, ping, shard = batch.records[index], batch.parsed[index], batch.shard_of[index]
            assert isinstance(ping, Ping)
            track, verdict = observe(self._tracks.read(slot), ping, record.offset, self._policy)
            if isinstance(verdict, Folded):
                shard.counts.folded += loud
                folded_before.append(row)
                continue
            self._tracks.write(slot, track)
            if isinstance(verdict, Duplicate):
                shard.counts.duplicates += loud
            elif isinstance(verdict, Rejected):
                shard.counts.quarantined += loud and verdict.reject.code == "impossible_jump"
                self._reject(batch, index, shard, verdict.reject)
            else:
                turns.append(Turn(row, index, Entity(ping.entity_id, slot), shard, track, verdict))
        return turns, folded_before

    def _restart(self, turns: Sequence[Turn]) -> None:
        slots = slots_of(turns)
        self._predictor.reset(slots)
        self._residents.cache[slots] = NONE
        for turn in turns:
            turn.shard.counts.restarts += 1

    def _answer(self, batch: Batch, one: Round, answered: NDArray[np.bool_], behind: Sequence[Turn]) -> None:
        """One forecast per row that is answered, in one call of the model."""
        rows, slots = np.flatnonzero(answered), one.slots[answered]
        if not len(rows):
            return
        said = self._predictor.forecast(slots, self._horizons_s)
        clocks = (batch.fetched_ms, batch.started_ms, self._clock_ms())
        anchor, n, from_ts = self._tracks.seen(slots)
        late = np.zeros(len(rows), np.bool_)
        cache = self._residents.cache[slots]
        for turn in behind:  # stands on the window up to its own ping, for which the state was rebuilt
            place, window = int(np.searchsorted(rows, turn.row)), windows(turn.seen)
            anchor[place], n[place], from_ts[place] = window[-1], len(window), window[0]["ts_ms"]
            late[place], cache[place] = True, REBUILT
            turn.shard.counts.late += 1
        index = [one.index[row] for row in rows.tolist()]
        entity_ids = [batch.parsed[i].entity_id for i in index]  # type: ignore[union-attr]  # only pings are in rounds
        batch_counts = {shard.number: shard.counts for shard in batch.shards.values()}
        for number, count in self._residents.of_shards(slots).items():
            batch_counts[number].forecasts += count
        asked = render.Answered([batch.records[i] for i in index], entity_ids, anchor, n, from_ts, late, cache)
        answers = self._forecasts.written(asked, said, clocks)
        for place, answer in zip(index, answers, strict=True):
            batch.out[place].append(answer)

    def _ask(self, batch: Batch, turns: Sequence[Turn]) -> None:
        """Remember the gap fills that these turns ask for: finals first, then the gap that the ping has just closed."""
        asked: list[Asked] = []
        for turn in turns:
            assert isinstance(turn.verdict, Accepted)
            asked += [Asked(turn, gap, "final") for gap in turn.verdict.finals]
            if turn.verdict.gap is not None:
                asked.append(Asked(turn, turn.verdict.gap, "provisional"))
        if asked:
            slots, at = np.unique([one.turn.entity.slot for one in asked], return_inverse=True)
            batch.moments.append(self._predictor.moment(slots).at(at))
            batch.fills += asked

    def _fill(self, batch: Batch) -> None:
        """All gap fills of the batch, in one call of the model."""
        if not batch.fills:
            return
        gaps = [model_gap(one.gap) for one in batch.fills]
        fills = self._predictor.fill_at(Moment.joined(batch.moments), gaps)
        for (turn, gap, status), fill in zip(batch.fills, fills, strict=True):
            self._publish_fill(batch, turn, gap, status, fill)

    def _retract(self, batch: Batch, turns: Sequence[Turn]) -> None:
        for turn in turns:
            assert isinstance(turn.verdict, Late)
            for gap in turn.verdict.retracted:
                self._publish_fill(batch, turn, gap, "retracted", None)

    def _publish_fill(self, batch: Batch, turn: Turn, gap: Gap, status: render.GapStatus, fill: Fill | None) -> None:
        turn.shard.counts.gap_fills += 1
        record = batch.records[turn.index]
        answer = render.gap_fill(record, turn.entity.id, gap, status, fill, self._model, self._topics)
        batch.out[turn.index].append(answer)


def _ceilings(batch: Batch, shard: Shard) -> Mapping[str, int]:
    """None for records that were answered before."""
    return {} if batch.silent else ceilings(batch, shard.partition)
