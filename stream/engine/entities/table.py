"""The entities that this process holds in memory, by partition, and what a checkpoint writes of them.

It does not read stored records (`restore` does) and makes no forecasts.

A slot belongs to one entity from `seated` until its release. `drop` and `evict` only queue a slot for release, because
a batch may be using the predictor at that time. `sweep`, at the begin of the next one, releases the slots.

An entity in quarantine has no slot and no track: only its id and the reason stay in memory, with its partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest
from itertools import compress, count
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import FIX
from stream.config.wording import place
from stream.engine.counts import Counts
from stream.engine.entities import quarantine, stored_entity
from stream.engine.entities.predictors import Predictors
from stream.engine.entities.quarantine import Quarantine
from stream.engine.entities.shard import Entity, Shard, Slots, slots_of
from stream.store.base import Item, Partition
from stream.tracks.track import Policy
from stream.tracks.track_table import Copied, TrackTable
from stream.wire import CACHES

NONE, HIT, REBUILT, UNREAD = map(CACHES.index, ("none", "hit", "rebuilt", "unread"))
NOBODY: Final = -1
COLUMNS: Final = ("_owner", "_dirty", "_touched", "cache")


class Dumped(NamedTuple):
    """Holds what a checkpoint writes of some entities of a shard, as they are at one moment."""

    shard: Shard
    entities: Sequence[Entity]
    slots: Slots  # of `entities`
    behind: Slots  # how many fixes the stored states lack after this write
    quarantine: Mapping[str, Quarantine]
    items: dict[str, Item]


class Copy(NamedTuple):
    """A copy of everything in some slots."""

    tracks: Copied
    states: list[bytes]
    columns: list[NDArray[Any]]


class EntityTable:
    """Holds all shards, and what is known of each slot, in columns. It has many methods because each of them must keep
    all columns of a slot in step.

    owner    int32 [slots]  number of the shard; NOBODY if the slot is free
    cache    int8  [slots]  the `cache` of the next forecast: how its state was obtained, as an index of CACHES
    dirty    bool  [slots]  changed since it was last dumped
    touched  int64 [slots]  when the last record came, counted in calls of `touch`
    """

    def __init__(self, predictors: Predictors, policy: Policy, limit: int) -> None:
        self.tracks = TrackTable(policy)
        self.cache = np.zeros(0, np.int8)
        self._predictors = predictors
        # Entities kept in memory after a checkpoint; others are read from the store again when needed.
        self._limit = limit
        self._shards: dict[Partition, Shard] = {}
        self._counts: dict[Partition, Counts] = {}
        self._numbers = count()
        self._owner, self._dirty, self._touched = np.zeros(0, np.int32), np.zeros(0, np.bool_), np.zeros(0, np.int64)
        self._now = 0
        self._dropped: list[Shard] = []
        self._idle: list[int] = []
        self._in_flight: list[Dumped] = []  # it is not known yet whether the store has them

    def shard(self, partition: Partition) -> Shard:
        found = self._shards.get(partition)
        if found is None:
            counts = self._counts.setdefault(partition, Counts())
            found = self._shards[partition] = Shard(partition, next(self._numbers), counts)
        return found

    def get_shard(self, partition: Partition) -> Shard | None:
        """Returns the shard of this partition, or None if there is none."""
        return self._shards.get(partition)

    def counts(self) -> dict[Partition, Counts]:
        """Returns the counts of every partition seen since the start, including those that were handed over."""
        return self._counts

    def sizes(self) -> dict[Partition, tuple[int, int]]:
        """Returns how many entities are in slots and how many are in quarantine, by partition."""
        return {key: (len(shard.entities), len(shard.quarantine)) for key, shard in self._shards.items()}

    def count_stored(self) -> dict[Partition, int]:
        """Returns how many entities the store has or will get, by partition."""
        return {key: shard.stored + len(shard.new) for key, shard in self._shards.items()}

    def drop(self, partition: Partition) -> None:
        shard = self._shards.pop(partition, None)
        if shard is not None:
            self._dropped.append(shard)

    def touch(self, slots: Slots, changed: Slots) -> None:
        """Notes that records came for `slots`. A checkpoint must write the tracks in `changed`."""
        self._now += 1
        self._touched[slots] = self._now
        self._dirty[changed] = True

    def of_shards(self, slots: Slots) -> Mapping[int, int]:
        """Returns how many of these slots each shard has, by the shard's number."""
        numbers, counts = np.unique(self._owner[slots], return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    def list_unsaved(self, shard: Shard) -> list[Entity]:
        """Returns the entities that a checkpoint has to write."""
        dirty = self._dirty[np.fromiter(shard.entities.values(), np.int64, len(shard.entities))]
        return [Entity(*pair) for pair in compress(shard.entities.items(), dirty.tolist())]

    def note_saved(self, dumped: Dumped, missing: Sequence[str] = ()) -> list[Entity]:
        """Notes that the store has these entities, except the `missing` ones, for which it had no record to patch.

        Returns the missing entities: the caller dumps them again, then as whole records.
        """
        shard = dumped.shard
        self._end_flight(dumped)
        if not self._holds(shard):
            return []
        for entity_id, written in dumped.quarantine.items():
            if shard.quarantine.get(entity_id) is written:
                shard.unwritten.discard(entity_id)
        lost = set(missing)
        has = np.fromiter((entity.id not in lost for entity in dumped.entities), np.bool_, len(dumped.entities))
        self.tracks.note_saved(dumped.slots[has], dumped.behind[has])
        if shard.new:
            shard.new.difference_update(dumped.items.keys() - lost)
        self._dirty[dumped.slots[~has]] = True
        return [entity for entity in dumped.entities if entity.id in lost]

    def note_unsaved(self, dumped: Dumped) -> None:
        """Notes that it is unknown whether the store has these entities."""
        self._end_flight(dumped)
        if self._holds(dumped.shard):
            self._dirty[dumped.slots[self._owner[dumped.slots] == dumped.shard.number]] = True

    def _end_flight(self, dumped: Dumped) -> None:
        self._in_flight = [one for one in self._in_flight if one is not dumped]

    def _holds(self, shard: Shard) -> bool:
        return self._shards.get(shard.partition) is shard

    def seat(self, shard: Shard, entity_ids: Sequence[str]) -> list[Entity]:
        """Gives each of these entities a slot without a track, and returns them."""
        slots = self._predictors.acquire(len(entity_ids))
        self.tracks.reserve(self._predictors.capacity)
        self.tracks.clear(slots)
        if len(slots) and (missing := int(slots.max()) + 1 - len(self._owner)) > 0:
            extra = max(missing, len(self._owner))
            for name in COLUMNS:
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros(extra, column.dtype)]))
        self._owner[slots], self._dirty[slots], self.cache[slots] = shard.number, False, NONE
        if shard.unread:
            self.cache[slots[[entity_id in shard.unread for entity_id in entity_ids]]] = UNREAD
        entities = list(map(Entity, entity_ids, slots.tolist()))
        shard.entities.update(entities)
        return entities

    def evict(self, shard: Shard) -> None:
        """Removes from memory the shard's least recently touched entities above the limit.

        Call it right after a checkpoint: it removes only entities that have not changed since.
        """
        excess = sum(len(other.entities) for other in self._shards.values()) - self._limit
        if excess <= 0:
            return
        saved = (entity for entity in shard.entities.items() if not self._dirty[entity[1]])
        longest_ago = nsmallest(excess, saved, key=lambda entity: int(self._touched[entity[1]]))
        self.vacate(shard, [entity_id for entity_id, _ in longest_ago])

    def leave(self, slots: NDArray[np.bool_]) -> None:
        """Removes from memory the entities in these slots [slots] that have not changed since they were written. Those
        that are being written stay: their next ping would read what the store had of them before."""
        known = slots[: len(self._owner)] & ~self._dirty
        for dumped in self._in_flight:
            known[dumped.slots] = False
        if not known.any():
            return
        for shard in self._shards.values():
            here = known[np.fromiter(shard.entities.values(), np.int64, len(shard.entities))]
            self.vacate(shard, list(compress(shard.entities, here.tolist())))

    def vacate(self, shard: Shard, entity_ids: Iterable[str]) -> None:
        """Removes from memory those of these entities that have slots."""
        for entity_id in entity_ids:
            shard.new.discard(entity_id)
            if (slot := shard.entities.pop(entity_id, None)) is not None:
                self._idle.append(slot)

    def sweep(self) -> None:
        """Releases the slots of dropped and evicted entities. Call it only where a batch is computed."""
        while self._dropped:
            self._idle += self._dropped.pop().entities.values()
        if self._idle:
            slots = np.array(self._idle)
            self._predictors.release(slots)
            self._owner[slots], self._dirty[slots] = NOBODY, False
            self._idle.clear()

    def forget(self, shard: Shard, entity_id: str, offset: int) -> None:
        """Removes an entity, as the record at this offset asks, and what the store has of it at the next checkpoint."""
        self.vacate(shard, [entity_id])
        shard.quarantine.pop(entity_id, None)
        shard.unwritten.discard(entity_id)
        shard.forgotten[entity_id] = offset
        shard.unremoved.add(entity_id)

    def note_removed(self, shard: Shard, entity_ids: Mapping[str, int]) -> None:
        """Notes that the store has nothing any more of entities that were forgotten at these offsets, or earlier."""
        for entity_id, offset in entity_ids.items():
            if shard.forgotten[entity_id] == offset:  # else it was forgotten again, perhaps after one more write
                shard.unremoved.discard(entity_id)

    # -- quarantine ------------------------------------------------------------------------------------------------

    def give_up(self, shard: Shard, entity_id: str, found: Quarantine) -> None:
        """Puts an entity in quarantine. It loses its slot and its track."""
        self.vacate(shard, [entity_id])
        shard.quarantine[entity_id] = found
        shard.unwritten.add(entity_id)

    def lift(self, shard: Shard, entity_id: str) -> None:
        """Takes an entity out of quarantine. It starts with an empty track."""
        del shard.quarantine[entity_id]
        shard.unwritten.discard(entity_id)
        self.seat(shard, [entity_id])

    def _unwritten(self, shard: Shard, next_offset: int) -> dict[str, Quarantine]:
        """Returns the quarantined entities that no checkpoint contains yet. Raises ValueError as `dump` does."""
        found = {entity_id: shard.quarantine[entity_id] for entity_id in sorted(shard.unwritten)}
        for entity_id, one in found.items():
            if one.next_offset > next_offset:
                raise _ahead(shard, entity_id, one.next_offset, next_offset)
        return found

    @property
    def shares(self) -> tuple[int, int]:
        """Returns how many entities are in quarantine, and how many are in slots."""
        shards = self._shards.values()
        return sum(len(shard.quarantine) for shard in shards), sum(len(shard.entities) for shard in shards)

    # -- attempts --------------------------------------------------------------------------------------------------

    def copy_slots(self, slots: Slots) -> Copy:
        """Returns a copy of everything in these slots, each of which must hold a track."""
        columns = [getattr(self, name)[slots] for name in COLUMNS]
        return Copy(self.tracks.copy_slots(slots), self._predictors.dumps(slots), columns)

    def put_back(self, slots: Slots, copy: Copy) -> None:
        """Restores these slots to what `copied` returned, whatever has happened to them since."""
        self.tracks.put_back(slots, copy.tracks)
        self._predictors.loads(slots, copy.states)
        for name, column in zip(COLUMNS, copy.columns, strict=True):
            getattr(self, name)[slots] = column

    def spare(self) -> Shard:
        """Returns a new shard that belongs to no partition. The caller must `discard` it."""
        return Shard(("", -1), next(self._numbers), Counts())

    def discard(self, shard: Shard) -> None:
        self._dropped.append(shard)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def dump(self, shard: Shard, entities: Sequence[Entity], next_offset: int, *, last: bool) -> Dumped:
        """Returns what to write of these entities; those that have lost their slots are left out.

        It makes patches, or whole records for entities whose stored state is too far behind. The `last` call of a
        checkpoint includes the new quarantines. Until `saved` is called, what the store has of these entities is
        unknown: the write may fail, or only appear to fail.

        Raises ValueError if an entity includes input at or above `next_offset`.
        """
        entities = [entity for entity in entities if shard.entities.get(entity.id) == entity.slot]
        slots = slots_of(entities)
        behind = self.tracks.behind(slots)
        stale = behind > stored_entity.STALE
        furthest = self.tracks.next_offsets(slots)
        if len(ahead := np.flatnonzero(furthest > next_offset)):
            raise _ahead(shard, entities[ahead[0]].id, int(furthest[ahead[0]]), next_offset)
        given_up = self._unwritten(shard, next_offset) if last else {}
        anew, on = ([entities[row].id for row in np.flatnonzero(rows).tolist()] for rows in (stale, ~stale))
        states = self._predictors.dumps(slots[stale])
        items: dict[str, Item] = {}
        items.update(zip(anew, stored_entity.dumps(anew, self.tracks, slots[stale], states), strict=True))
        items.update(zip(on, stored_entity.patches(on, self.tracks, slots[~stale]), strict=True))
        items.update((entity_id, quarantine.dumps(entity_id, one)) for entity_id, one in given_up.items())
        self.tracks.writing(slots)
        self._dirty[slots] = False
        dumped = Dumped(shard, entities, slots, np.where(stale, 0, behind), given_up, items)
        self._in_flight.append(dumped)
        return dumped


def _ahead(shard: Shard, entity_id: str, includes: int, next_offset: int) -> ValueError:
    return ValueError(
        f"a checkpoint of {place(shard.partition)} at {next_offset} would include offset {includes - 1} of "
        f"{entity_id!r}: commit first"
    )


def windows(window: bytes) -> NDArray[Any]:
    """Returns the packed fixes of a window as FIX records, without a copy."""
    return np.frombuffer(window, FIX)
