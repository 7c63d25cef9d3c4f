"""Finds the entity at fault when a batch raises, and quarantines it.

    the batch -> all its entities -> raised? restore them, and try one half, then the other
              -> one entity alone -> raised? restore it, and try its pings one by one
              -> one ping         -> raised? it is a `step_failed`, and its entity is in quarantine from here on

An attempt takes some entities' records through the engine in the usual way. Each entity has all its records in one
attempt, in order, and its answers do not depend on other entities, so all others get the answers of an undisturbed run.
What an attempt touches is copied before and restored after a failure; its answers, gap fills and counts are dropped.

A silent replay produces no answers, so it finds entities again whose folding fails, but not those whose answers fail.
These continue until the next such ping, unless a checkpoint has their quarantine. Each record still has one outcome.

What is not one entity's fault is raised, and the worker stops: a worker that makes everything a dead letter is worse
than one that stops. That is so when the process is out of memory, when a made-up entity with plain pings raises in the
same way, and when more than FEW entities, and more than one in SHARE, would be in quarantine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from stream.config.wording import place
from stream.engine.assignment import NoAtlas, VersionChoice
from stream.engine.batch import EngineBatch
from stream.engine.entities.quarantine import Versions, begin_quarantine
from stream.engine.entities.shard import Shard, all_counted_or_none
from stream.engine.entities.table import EntityTable
from stream.engine.pings import Pings
from stream.kafka.records.record_columns import Records
from stream.tracks.fix import pack_many
from stream.wire import MIN_TS_MS, Ping, Record, Reject

log = logging.getLogger(__name__)

FEW: Final = 8  # entities that may be in quarantine in the smallest fleet
SHARE: Final = 10  # one in so many of a larger fleet; above that the program or the model is at fault
CONTROL: Final = "control"  # the made-up entity: it goes north, is silent once, and continues, so that a gap is filled
CONTROL_S: Final = (*range(0, 80, 10), *range(370, 400, 10))

Fold = Callable[[EngineBatch], None]
Refuse = Callable[[EngineBatch, int, Shard, Reject], None]


class Bisection:
    """Decides which entities are put into quarantine, refused, or let out."""

    def __init__(
        self, table: EntityTable, versions: Callable[[EngineBatch, int], Versions], ttl_ms: float, refuse: Refuse
    ) -> None:
        """Takes `versions`, which returns those that a record of a batch is answered by."""
        self._table = table
        self._versions = versions
        self._ttl_ms = ttl_ms
        self._refuse = refuse

    def refuses(self, batch: EngineBatch, index: int) -> bool:
        """Returns whether the entity of this ping is in quarantine. If it is, the record has had its outcome here."""
        shard, entity_id = batch.shard_of(index), batch.pings.names[batch.pings.of[index]]
        found = shard.quarantine.get(entity_id)
        if found is None:
            return False
        record = batch.records[index]
        if not found.stands(self._versions(batch, index), record.timestamp_ms, self._ttl_ms):
            log.warning(
                "%r in %s is let out of quarantine, where it was since offset %d",
                entity_id,
                place(shard.partition),
                found.offset,
            )
            self._table.lift(shard, entity_id)
            return False
        if record.offset < found.next_offset:
            shard.counts.folded += not batch.silent
            return True
        shard.quarantine[entity_id] = found._replace(next_offset=record.offset + 1)
        shard.counts.entity_quarantined += not batch.silent
        self._refuse(batch, index, shard, found.refusal)
        return True

    def fold(self, batch: EngineBatch, fold: Fold) -> None:
        """Takes the batch through `fold`, and quarantines the entities at fault.

        Raises what is not one entity's fault; the states may not be used then.
        """
        members, others = _by_entity(batch)
        fold(part := batch.part(others))  # records that are no pings, so no model steps
        batch.take(others, part)
        todo, suspected = [members], False
        while todo:
            some = todo.pop()
            rows = sorted(row for one in some for row in one)
            error = self._try_rows(batch, rows, fold)
            if error is None:
                continue
            if not suspected:
                self._check_control(batch, error, fold)
                suspected = True
            if len(some) > 1:
                half = len(some) // 2
                todo += [some[half:], some[:half]]
            else:
                self._one_by_one(batch, rows, fold)

    def _one_by_one(self, batch: EngineBatch, rows: Sequence[int], fold: Fold) -> None:
        """Folds the pings of the entity at fault one by one, before and after the one at which it raises."""
        for row in rows:
            if (error := self._try_rows(batch, [row], fold)) is not None:
                self._give_up(batch, row, error)

    def _try_rows(self, batch: EngineBatch, rows: Sequence[int], fold: Fold) -> Exception | None:
        """Takes these rows through `fold`. If it raises, undoes the attempt and returns the exception."""
        part = batch.part(rows)
        attempt = _Attempt(self._table, part)
        try:
            with all_counted_or_none(part.shards.values()):
                fold(part)
        except MemoryError:
            raise
        except Exception as error:
            attempt.undo()
            return error
        batch.take(rows, part)
        return None

    def _give_up(self, batch: EngineBatch, row: int, error: Exception) -> None:
        record, entity_id, shard = batch.records[row], batch.pings.names[batch.pings.of[row]], batch.shard_of(row)
        ill, well = self._table.shares
        if ill + 1 > max(FEW, (ill + well) // SHARE):
            error.add_note(f"{ill} entities are in quarantine and {well} are not: {entity_id!r} would be too many")
            raise error
        log.error(
            "%r in %s raised at offset %d and is in quarantine",
            entity_id,
            place(shard.partition),
            record.offset,
            exc_info=error,
        )
        found = begin_quarantine(record.offset, record.timestamp_ms, self._versions(batch, row), error)
        self._table.give_up(shard, entity_id, found)
        if batch.silent:
            shard.counts.replayed += 1
        else:
            shard.counts.records_in += 1
            shard.counts.step_failed += 1
        self._refuse(batch, row, shard, found.failure)

    def _check_control(self, batch: EngineBatch, error: Exception, fold: Fold) -> None:
        """Raises the error if a made-up entity raises in the same way."""
        shard = self._table.spare()
        topic, number = shard.partition
        made, pings = [], []
        for offset, second in enumerate(CONTROL_S):
            ping = Ping(entity_id=CONTROL, ts=MIN_TS_MS + second * 1000, lat=1 + second * 1e-4, lon=1.0)
            pings.append(ping)
            made.append(Record(topic, number, offset, ping.ts, CONTROL.encode(), None))
        records = Records.of(made)
        control = EngineBatch(
            records,
            Pings.of_fixes(records, pack_many(pings)),
            {shard.partition: shard},
            batch.started_ms,
            batch.fetched_ms,
            batch.silent,
            VersionChoice(None if batch.choice.atlas is None else NoAtlas()),
        )
        try:
            fold(control)
        except Exception as other:
            error.add_note(f"the plainest entity raises, too, so it is the fault of none: {other!r}")
            raise error from other
        finally:
            self._table.discard(shard)


class _Attempt:
    """A copy of the entities of a batch, from which they can be restored."""

    def __init__(self, table: EntityTable, batch: EngineBatch) -> None:
        self._table = table
        ids: dict[Shard, set[str]] = {shard: set() for shard in batch.shards.values()}
        for shard, entity_id in batch.entities():
            ids[shard].add(entity_id)
        seated = [shard.entities[one] for shard, some in ids.items() for one in some if one in shard.entities]
        self._slots = np.array(seated, np.int64)
        self._copy = table.copy_slots(self._slots)
        self._added = {shard: some - shard.entities.keys() for shard, some in ids.items()}
        self._quarantine = {shard: (dict(shard.quarantine), set(shard.unwritten)) for shard in ids}

    def undo(self) -> None:
        self._table.put_back(self._slots, self._copy)
        for shard, entity_ids in self._added.items():
            self._table.vacate(shard, entity_ids)
            shard.quarantine, shard.unwritten = self._quarantine[shard]


def _by_entity(batch: EngineBatch) -> tuple[list[list[int]], list[int]]:
    """Returns the rows of each entity, and the rows that are no pings."""
    members: list[list[int]] = [[] for _ in batch.pings.names]
    others: list[int] = []
    for row, entity in enumerate(batch.pings.of.tolist()):
        (others if entity < 0 else members[entity]).append(row)
    return members, others
