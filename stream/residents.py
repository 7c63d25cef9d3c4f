"""The entities that this process holds, by partition. Knows tracks, slots and stored records; forecasts nothing.

A slot belongs to one entity from `admit` to its release. Dropping and evicting only queue a slot for release, because
they happen while the compute thread may be using the predictor; `sweep`, called on that thread, gives them back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from model.api import FIX, Predictor, StateError
from stream import record
from stream.store import Partition
from stream.track import FIX_BYTES, Policy, Track
from stream.wire import Cache

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Entity:
    """One entity in memory. `slot` is None until its first ping is folded."""

    id: str
    track: Track | None = None
    slot: int | None = None
    cache: Cache = "none"  # what the next forecast says of the state that it stands on


@dataclass(eq=False)
class Counts:
    """Accounting of one partition. records_in = forecasts + rejects + duplicates + folded, always."""

    records_in: int = 0
    forecasts: int = 0  # late pings included
    rejects: int = 0  # quarantined pings included
    duplicates: int = 0
    folded: int = 0  # the broker sent again what this process had answered already
    late: int = 0
    quarantined: int = 0
    restarts: int = 0
    gap_fills: int = 0
    replayed: int = 0  # folded silently, by a takeover; not in records_in
    rebuilt: int = 0  # states that were refused and rebuilt from the window
    damaged: int = 0  # stored records that were refused: the entity started anew


@dataclass(eq=False)
class Shard:
    """The entities of one partition, least recently touched first."""

    partition: Partition
    counts: Counts
    entities: dict[str, Entity] = field(default_factory=dict)
    dirty: dict[str, None] = field(default_factory=dict)  # an ordered set of the ids that no checkpoint has yet


class Residents:
    """All shards, and their slots in the predictor."""

    def __init__(self, predictor: Predictor, policy: Policy, limit: int) -> None:
        self._predictor = predictor
        self._policy = policy
        self._limit = limit  # entities in memory after a checkpoint; more are only a look-up in the store away
        self._shards: dict[Partition, Shard] = {}
        self._counts: dict[Partition, Counts] = {}
        self._dropped: list[Shard] = []
        self._idle: list[int] = []

    def shard(self, partition: Partition) -> Shard:
        found = self._shards.get(partition)
        if found is None:
            counts = self._counts.setdefault(partition, Counts())
            found = self._shards[partition] = Shard(partition, counts)
        return found

    def counts(self) -> dict[Partition, Counts]:
        """Counts of every partition seen since the start, also those that were handed over."""
        return self._counts

    def drop(self, partition: Partition) -> None:
        shard = self._shards.pop(partition, None)
        if shard is not None:
            self._dropped.append(shard)

    def evict(self, shard: Shard) -> None:
        """Forget the shard's least recently touched entities above the limit; its checkpoint, just made, has them."""
        excess = sum(len(other.entities) for other in self._shards.values()) - self._limit
        if excess <= 0:
            return
        for entity in list(islice(shard.entities.values(), excess)):
            del shard.entities[entity.id]
            self._idle += _slots_of([entity])

    def sweep(self) -> None:
        """Give the slots of dropped and evicted entities back. On the compute thread only."""
        while self._dropped:
            self._idle += _slots_of(self._dropped.pop().entities.values())
        if self._idle:
            self._predictor.release(np.array(self._idle))
            self._idle.clear()

    def admit(self, shard: Shard, stored: Mapping[str, bytes | None], ceiling: Mapping[str, int]) -> None:
        """Put entities into memory, from their stored records where those are sound.

        A record that includes an input record at or above its entity's `ceiling` (the first offset that is now to be
        answered) is of another past: the topic was made anew, or the group was moved back. Its entity starts anew.
        """
        states: list[tuple[Entity, bytes]] = []
        for entity_id, raw in stored.items():
            entity = shard.entities[entity_id] = Entity(entity_id)
            if raw is None:
                continue
            try:
                found = record.loads(entity_id, raw)
            except record.RecordError as error:
                self._refuse(shard, entity_id, str(error))
                continue
            if found.track.next_offset > ceiling.get(entity_id, found.track.next_offset):
                self._refuse(shard, entity_id, f"includes offset {found.track.next_offset - 1}, not yet answered")
                continue
            entity.track = _trimmed(found.track, self._policy)
            states.append((entity, found.state))
        self._load(shard, states)

    def dump(self, shard: Shard, entity_ids: Iterable[str], next_offset: int) -> dict[str, bytes]:
        """The records of these entities. Raises ValueError if one includes input at or above `next_offset`."""
        entities = [shard.entities[entity_id] for entity_id in entity_ids]
        states = self._predictor.dumps(np.array(_slots_of(entities), dtype=np.int64))
        items: dict[str, bytes] = {}
        for entity, state in zip(entities, states, strict=True):
            assert entity.track is not None, "a dirty entity has folded a ping"
            if entity.track.next_offset > next_offset:
                raise ValueError(
                    f"a checkpoint of {shard.partition} at {next_offset} would include offset "
                    f"{entity.track.next_offset - 1} of {entity.id!r}: commit first"
                )
            items[entity.id] = record.dumps(entity.id, entity.track, state)
        return items

    def _refuse(self, shard: Shard, entity_id: str, why: str) -> None:
        shard.counts.damaged += 1
        log.warning("stored record of %r in %s refused (%s): the entity starts anew", entity_id, shard.partition, why)

    def _load(self, shard: Shard, states: Sequence[tuple[Entity, bytes]]) -> None:
        if not states:
            return
        slots = self._predictor.acquire(len(states))
        for (entity, _), slot in zip(states, slots.tolist(), strict=True):
            entity.slot, entity.cache = slot, "hit"
        try:
            self._predictor.loads(slots, [state for _, state in states])
        except StateError:  # all or nothing: so find out which
            refused = list(self._refused(shard, states))
            rows = np.array([entity.slot for entity in refused])
            self._predictor.rebuild(rows, [windows(entity.track.window) for entity in refused if entity.track])

    def _refused(self, shard: Shard, states: Sequence[tuple[Entity, bytes]]) -> Iterator[Entity]:
        """Load one by one; yield those whose state the model refuses."""
        reason = ""
        for entity, state in states:
            try:
                self._predictor.loads(np.array([entity.slot]), [state])
            except StateError as error:
                entity.cache = "rebuilt"
                shard.counts.rebuilt += 1
                if str(error) != reason:  # new weights refuse every state, for one reason: one line says it
                    reason = str(error)
                    log.warning("state of %r in %s refused (%s): rebuilding", entity.id, shard.partition, reason)
                yield entity


def windows(window: bytes) -> NDArray[Any]:
    """The packed fixes of a window as FIX records, without a copy."""
    return np.frombuffer(window, FIX)


def _trimmed(track: Track, policy: Policy) -> Track:
    """The track with at most the policy's window: a model with a longer memory may have stored it."""
    if track.size <= policy.window_fixes:
        return track
    return replace(track, window=track.window[-policy.window_fixes * FIX_BYTES :])


def _slots_of(entities: Iterable[Entity]) -> list[int]:
    return [entity.slot for entity in entities if entity.slot is not None]
