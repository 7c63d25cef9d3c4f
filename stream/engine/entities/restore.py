"""Loads stored records of entities into memory: the tracks as they are, the states if they fit the model, otherwise
rebuilt."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from model.api import StateError
from stream.config.wording import place
from stream.engine.entities import quarantine, stored_entity
from stream.engine.entities.predictors import Predictors
from stream.engine.entities.quarantine import Quarantine
from stream.engine.entities.quota import Quota
from stream.engine.entities.shard import Entity, Shard, slots_of
from stream.engine.entities.table import HIT, REBUILT, EntityTable, windows
from stream.tracks.fix import FIX_BYTES

log = logging.getLogger(__name__)

ANY: Final = 1 << 62  # a ceiling above every offset


def unless_forgotten(shard: Shard, entity_id: str, raw: bytes | None) -> bytes | None:
    """Returns a stored record; None if it is from before its entity was forgotten, and is to be removed."""
    at = shard.forgotten.get(entity_id)
    if at is None or raw is None:
        return raw
    try:
        includes = quarantine.loads(entity_id, raw) if quarantine.is_one(raw) else stored_entity.loads(entity_id, raw)
    except stored_entity.RecordError:
        return None
    next_offset = includes.next_offset if isinstance(includes, quarantine.Quarantine) else includes.track.next_offset
    return raw if next_offset > at else None


class StoredState(NamedTuple):
    """A stored state of an entity, which lacks its window's last `behind` fixes."""

    entity: Entity
    state: bytes
    behind: int


class Restorer:
    """Puts entities into slots of `table`. Use it only where a batch is computed."""

    def __init__(self, table: EntityTable, predictors: Predictors, quota: Quota) -> None:
        self._table = table
        self._tracks = table.tracks
        self._predictors = predictors
        self._quota = quota

    def admit(self, shard: Shard, stored: Mapping[str, bytes | None], ceiling: Mapping[str, int]) -> None:
        """Puts entities into memory: from their stored records where those are sound, and new ones within the quota.

        A record that includes an input record at or above its entity's `ceiling` (the first offset to be answered now)
        belongs to another history: the topic was made again, or the group was moved back. Its entity starts anew.
        """
        stored = self._quota.admit(shard, stored)
        entities = self._table.seat(shard, list(stored))
        found = [(entity, raw) for entity, raw in zip(entities, stored.values(), strict=True) if raw is not None]
        ids, raws = [entity.id for entity, _ in found], [raw for _, raw in found]
        places = self._tracks.ring.shape[1]
        sound, heads, rings = stored_entity.fronts(ids, raws, places)
        slots = slots_of(entity for entity, _ in found)
        limits = np.array([ceiling.get(entity_id, ANY) for entity_id in ids], np.int64)
        taken = sound & (heads["next_offset"] <= limits)
        self._tracks.lay(slots[taken], heads[taken], rings[taken])
        for row in np.flatnonzero(taken & ((heads["suspects"] > 0) | (heads["pending"] > 0))).tolist():
            self._tracks.set_odd(int(slots[row]), *stored_entity.odd_of(heads[row]))
        state_at, behind = stored_entity.HEAD.itemsize + places * FIX_BYTES, heads["behind"].tolist()
        states = [
            StoredState(found[row][0], raws[row][state_at:], behind[row]) for row in np.flatnonzero(taken).tolist()
        ]
        for row in np.flatnonzero(~taken).tolist():
            states += self._load_singly(shard, found[row][0], raws[row], int(limits[row]))
        self._load(shard, states)

    def _load_singly(self, shard: Shard, entity: Entity, raw: bytes, limit: int) -> list[StoredState]:
        """Loads a record that is unusual but may be usable: a quarantine, or another model's record with another
        ring width."""
        try:
            found = (quarantine if quarantine.is_one(raw) else stored_entity).loads(entity.id, raw)
        except stored_entity.RecordError as error:
            self._refuse(shard, entity.id, str(error))
            return []
        next_offset = found.next_offset if isinstance(found, Quarantine) else found.track.next_offset
        if next_offset > limit:
            self._refuse(shard, entity.id, f"includes offset {next_offset - 1}, not yet answered")
            return []
        if isinstance(found, Quarantine):
            self._table.vacate(shard, [entity.id])
            shard.quarantine[entity.id] = found
            return []
        self._tracks.write(entity.slot, found.track)
        return [StoredState(entity, found.state, found.behind)]

    def _refuse(self, shard: Shard, entity_id: str, why: str) -> None:
        shard.counts.damaged += 1
        where = place(shard.partition)
        log.warning("stored record of %r in %s refused (%s): the entity starts anew", entity_id, where, why)

    def _load(self, shard: Shard, states: Sequence[StoredState]) -> None:
        if not states:
            return
        slots = slots_of(kept.entity for kept in states)
        self._table.cache[slots] = HIT
        try:
            self._predictors.loads(slots, [kept.state for kept in states])
        except StateError:  # it loads all or nothing, so find out which are refused
            refused = self._load_one_by_one(shard, states)
        else:
            refused = []
        spoilt = set(refused)
        refused += self._caught_up(shard, [kept for kept in states if kept.entity not in spoilt])
        if refused:
            rows = slots_of(refused)
            self._table.cache[rows] = REBUILT
            tracks = [self._tracks.read(slot) for slot in rows.tolist()]
            self._predictors.rebuild(rows, [windows(track.window) for track in tracks if track is not None])

    def _caught_up(self, shard: Shard, states: Sequence[StoredState]) -> list[Entity]:
        """Folds in the fixes of the window that each state lacks.

        Returns the entities whose state's last fix is not where their record says.
        """
        slots, behind = slots_of(kept.entity for kept in states), np.array([kept.behind for kept in states], int)
        stand = self._tracks.sizes(slots) > behind
        stand &= self._predictors.last(slots)["ts_ms"] == self._tracks.ago(slots, behind)["ts_ms"]
        self._tracks.set_behind(slots[stand], behind[stand])
        late = stand & (behind > 0)
        self._predictors.catch_up(slots[late], self._tracks.newest(slots[late], behind[late]), behind[late])
        odd = [states[row].entity for row in np.flatnonzero(~stand).tolist()]
        for entity in odd:
            self._say_rebuilt(shard, entity, "it does not stand in its window")
        return odd

    def _load_one_by_one(self, shard: Shard, states: Sequence[StoredState]) -> list[Entity]:
        """Loads the states one by one; returns the entities whose state the model refuses."""
        reason, refused = "", []
        for kept in states:
            try:
                self._predictors.loads(np.array([kept.entity.slot]), [kept.state])
            except StateError as error:
                refused.append(kept.entity)
                # New weights refuse every state for the same reason: log it once.
                self._say_rebuilt(shard, kept.entity, "" if str(error) == reason else (reason := str(error)))
        return refused

    def _say_rebuilt(self, shard: Shard, entity: Entity, why: str) -> None:
        shard.counts.rebuilt += 1
        if why:
            log.warning("state of %r in %s refused (%s): rebuilding", entity.id, place(shard.partition), why)
