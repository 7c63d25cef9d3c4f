"""What is kept of each entity of a partition: its newest forecast and its newest gap fill, as bytes of the records.

The newest forecast is the one whose ping is last in the log, except late pings' (`status: stale`), of which only the
time counts at which they were heard. Entities are in the order in which they were heard last, by the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from stream.wire import Forecast, Src
from stream.wire.latest import Gap

GAP_SHOWN_MS: Final = 600_000  # a silence that ended earlier than this before the anchor is not drawn any more


class Newest(NamedTuple):
    """A forecast, its bytes as they were published, and the offset of its record."""

    raw: bytes
    offset: int
    anchor_ms: int
    src: Src

    def is_copy(self, other: Forecast) -> bool:
        """Returns whether another forecast repeats this one or an earlier one: workers publish some again after a
        crash. A receiver whose clock was reset goes on with earlier times, and a topic that was made anew with lower
        offsets; neither is a copy."""
        same = (other.src.topic, other.src.partition) == (self.src.topic, self.src.partition)
        return same and other.src.offset <= self.src.offset and other.anchor.ts <= self.anchor_ms


class Silence(NamedTuple):
    """A gap fill that was not retracted."""

    gap_id: str
    revision: int
    end_ms: int
    offset: int  # of its record
    raw: bytes  # `Gap` as JSON: as objects, a path of 240 points would take 30 KB

    @classmethod
    def of(cls, gap: Gap) -> Silence:
        return cls(gap.gap_id, gap.revision, gap.path[-1][0], gap.offset, msgspec.json.encode(gap))


@dataclass(slots=True)
class Entity:
    heard_ms: int  # when it was heard last: the stream's time then, or its ping's own, if that is later
    newest: Newest | None = None  # None: only a gap fill has come so far
    silence: Silence | None = None
    gap_offset: int = -1  # of the last gap fill that was folded, also if that was retracted

    def find_silence(self) -> Silence | None:
        """Returns the silence if a map draws it."""
        if self.silence is None or self.newest is None:
            return None
        return self.silence if self.silence.end_ms >= self.newest.anchor_ms - GAP_SHOWN_MS else None


class Entities:
    """The entities of one partition, by id."""

    def __init__(self) -> None:
        self._by_id: dict[str, Entity] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, entity_id: str) -> bool:
        return entity_id in self._by_id

    def has_forecast(self, entity_id: str) -> bool:
        """Returns whether it is known by more than a gap fill."""
        found = self._by_id.get(entity_id)
        return found is not None and found.newest is not None

    def get(self, entity_id: str) -> Entity | None:
        return self._by_id.get(entity_id)

    def touch(self, entity_id: str, now_ms: int) -> Entity:
        """Returns the entity, which is new if it was not known. It is now the last in the order."""
        found = self._by_id.pop(entity_id, None) or Entity(now_ms)
        found.heard_ms = now_ms
        self._by_id[entity_id] = found
        return found

    def put(self, entity_id: str, entity: Entity) -> None:
        """Adds an entity as the last in the order. None may have been heard later."""
        self._by_id[entity_id] = entity

    def pop_first(self) -> str:
        """Removes the entity that has been silent longest, and returns its id."""
        entity_id = next(iter(self._by_id))
        del self._by_id[entity_id]
        return entity_id

    def pop_silent(self, before_ms: int) -> list[tuple[str, Entity]]:
        """Removes all that were heard before this time, and returns them with their ids."""
        gone = [(entity_id, one) for entity_id, one in self._by_id.items() if one.heard_ms < before_ms]
        for entity_id, _ in gone:
            del self._by_id[entity_id]
        return gone
