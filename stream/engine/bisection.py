"""Whose fault it is when a batch raises. Knows halves, attempts and what to undo; knows nothing of what folding does.

    the batch -> all its entities -> raised? put back what they were, and try one half, then the other
              -> one entity alone -> raised? put back, and try its pings one by one
              -> one ping         -> raised? it is a `step_failed`, and its entity is in quarantine from here on

An attempt is the engine's own way through a batch of some entities' records: each has all its records in one attempt,
in order, and no entity's answers depend on another's, so everyone else gets the answers of an undisturbed run. What an
attempt touches is copied before and put back after a failure; its answers, gap fills and counts go with it.

A silent replay answers nothing, so it finds those again whose folding fails, and not those whose answers do: they go on
until the next such ping, unless a checkpoint has their quarantine. Each record has one outcome all the same.

What cannot be blamed on an entity is raised, and the worker stops: one that makes a dead letter of everything is worse
than one that stands still. That is so when the process is out of memory, when a made-up entity with the plainest pings
cannot take the same way either, and when more than FEW entities, and more than one in SHARE, would be in quarantine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from stream.engine.batch import EngineBatch
from stream.engine.entities import EntityTable, Shard, all_counted_or_none
from stream.engine.pings import Pings
from stream.engine.quarantine import Versions, begun
from stream.kafka.record_columns import Records
from stream.tracks.fix import packed
from stream.wire import MIN_TS_MS, Ping, Record, Reject

log = logging.getLogger(__name__)

FEW: Final = 8  # entities that may be at fault in the smallest fleet
SHARE: Final = 10  # and one in so many of a larger one: above that it is the program or the model, whoever trips on it
CONTROL: Final = "control"  # the made-up entity: it goes north, is silent once, and goes on, so that a gap is filled
CONTROL_S: Final = (*range(0, 80, 10), *range(370, 400, 10))

Fold = Callable[[EngineBatch], None]
Refuse = Callable[[EngineBatch, int, Shard, Reject], None]


class Bisection:
    """Quarantine: who is put into it, who is refused, who is let out."""

    def __init__(self, table: EntityTable, versions: Versions, ttl_ms: float, refuse: Refuse) -> None:
        self._table = table
        self._versions = versions
        self._ttl_ms = ttl_ms
        self._refuse = refuse

    def refused(self, batch: EngineBatch, index: int) -> bool:
        """Whether the entity of this ping is in quarantine; then the record has had its outcome here."""
        shard, entity_id = batch.shard_of(index), batch.pings.names[batch.pings.of[index]]
        found = shard.quarantine.get(entity_id)
        if found is None:
            return False
        record = batch.records[index]
        if not found.stands(self._versions, record.timestamp_ms, self._ttl_ms):
            log.warning(
                "%r in %s is let out of quarantine, where it was since offset %d",
                entity_id,
                shard.partition,
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
        """Take the batch through `fold`, whoever must be given up for that.

        Raises what cannot be blamed on an entity; the states may not be used then.
        """
        members, others = _by_entity(batch)
        fold(part := batch.part(others))  # no pings, and so no steps
        batch.take(others, part)
        todo, suspected = [members], False
        while todo:
            some = todo.pop()
            rows = sorted(row for one in some for row in one)
            error = self._tried(batch, rows, fold)
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
        """The pings of the entity at fault, up to the one at which it happens and on from there."""
        for row in rows:
            if (error := self._tried(batch, [row], fold)) is not None:
                self._give_up(batch, row, error)

    def _tried(self, batch: EngineBatch, rows: Sequence[int], fold: Fold) -> Exception | None:
        """Take these rows through `fold`. What it raises, if that leaves no trace."""
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
            shard.partition,
            record.offset,
            exc_info=error,
        )
        found = begun(record.offset, record.timestamp_ms, self._versions, error)
        self._table.give_up(shard, entity_id, found)
        if batch.silent:
            shard.counts.replayed += 1
        else:
            shard.counts.records_in += 1
            shard.counts.step_failed += 1
        self._refuse(batch, row, shard, found.failure)

    def _check_control(self, batch: EngineBatch, error: Exception, fold: Fold) -> None:
        """Raise the error if a made-up entity cannot take the way that raised it."""
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
            Pings.given(records, packed(pings)),
            {shard.partition: shard},
            batch.started_ms,
            batch.fetched_ms,
            batch.silent,
        )
        try:
            fold(control)
        except Exception as other:
            error.add_note(f"the plainest entity raises, too, so it is the fault of none: {other!r}")
            raise error from other
        finally:
            self._table.discard(shard)


class _Attempt:
    """What the entities of a batch are, so that they can be that again."""

    def __init__(self, table: EntityTable, batch: EngineBatch) -> None:
        self._table = table
        ids: dict[Shard, set[str]] = {shard: set() for shard in batch.shards.values()}
        for shard, entity_id in batch.entities():
            ids[shard].add(entity_id)
        seated = [shard.entities[one] for shard, some in ids.items() for one in some if one in shard.entities]
        self._slots = np.array(seated, np.int64)
        self._copy = table.copied(self._slots)
        self._strangers = {shard: some - shard.entities.keys() for shard, some in ids.items()}
        self._quarantine = {shard: (dict(shard.quarantine), set(shard.unwritten)) for shard in ids}

    def undo(self) -> None:
        self._table.put_back(self._slots, self._copy)
        for shard, strangers in self._strangers.items():
            self._table.vacate(shard, strangers)
            shard.quarantine, shard.unwritten = self._quarantine[shard]


def _by_entity(batch: EngineBatch) -> tuple[list[list[int]], list[int]]:
    """The rows of each entity, and those that are no pings."""
    members: list[list[int]] = [[] for _ in batch.pings.names]
    others: list[int] = []
    for row, entity in enumerate(batch.pings.of.tolist()):
        (others if entity < 0 else members[entity]).append(row)
    return members, others
