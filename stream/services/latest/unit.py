"""Folds the forecasts and gap fills of one partition, and says what the latest topic is to get: updates and tombstones.

What it is after some records depends on these records alone, and not on how far it is ahead in one of the two topics: a
gap fill that is read before the forecast of its end waits for it, also if its entity ends meanwhile. When it publishes
does not: an entity that changed several
times between two transactions gets one update, and that is how `--max-rate` is kept.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from stream.kafka.records.record_columns import Records
from stream.services.latest.entities import Entities, Entity, Newest, Silence
from stream.services.latest.map_view import record_of
from stream.services.plan import answer
from stream.services.stream_time import StreamTime
from stream.wire import Anchor, Forecast, GapFill, GapPoint, Outgoing, Topics, loads_forecast, loads_gapfill
from stream.wire.ids import EVENT_ID, event_headers
from stream.wire.latest import Gap

log: Final = logging.getLogger(__name__)

OUTCOMES: Final = (
    *("newest", "stale", "copy", "unreadable"),  # forecasts
    *("gap", "gap_copy", "gap_unreadable"),  # gap fills
    *("updates", "expired", "evicted"),  # published
)
TICKS: Final = 60  # in the time after which a silent entity ends: it ends at most one of them later
VERSION: Final = 1  # of the metadata


@dataclass(frozen=True)
class LatestRules:
    """What the topic keeps."""

    expire_ms: int = 3_600_000  # a silence as long as this ends an entity
    max_entities: int = 100_000  # of one partition, 2 to 10 KB each; of more, the one silent longest is ended

    @property
    def tick_ms(self) -> int:
        """The stream's time is read in steps of this: so who is silent depends on the log and not on when one looks."""
        return max(1, self.expire_ms // TICKS)


class LatestUnit:
    """One partition number."""

    def __init__(self, topics: Topics, number: int, rules: LatestRules, time: StreamTime, entities: Entities) -> None:
        self.time = time
        self.entities = entities
        self._topics = topics
        self._number = number
        self._rules = rules
        self._changed: dict[str, None] = {}  # in the order of their first change
        self._ended: dict[str, None] = {}
        self._looked_ms = -1  # for silent entities, last
        self._orphans: dict[str, int] = {}  # offsets of gap fills of entities without a forecast
        self._counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self._headers = event_headers("latest", topics.forecasts, number)
        self._folds: Mapping[str, Callable[[int, int, bytes | None], str]] = {
            topics.forecasts: self._forecast,
            topics.gapfills: self._gap,
        }
        self._bound()

    @property
    def waiting(self) -> int:
        return len(self._changed) + len(self._ended)

    @property
    def counts(self) -> Mapping[str, int]:
        return self._counts

    @property
    def needed(self) -> Mapping[str, int]:
        """A gap fill whose forecast has not come yet is nowhere else."""
        return {self._topics.gapfills: min(self._orphans.values())} if self._orphans else {}

    def fold(self, records: Records) -> None:
        (topic, _), *_ = records.partitions
        fold = self._folds[topic]
        columns = records.offsets.tolist(), records.timestamps_ms.tolist(), records.values.each()
        for offset, published_ms, raw in zip(*columns, strict=True):
            self._counts[fold(offset, published_ms, raw)] += 1
        self._bound()

    def _forecast(self, offset: int, published_ms: int, raw: bytes | None) -> str:
        try:
            found = loads_forecast(raw or b"")
        except msgspec.DecodeError:
            return "unreadable"
        entity_id = found.entity_id
        known = self.entities.get(entity_id)
        newest = None if known is None else known.newest
        if newest is not None and (offset <= newest.offset or newest.is_copy(found)):
            return "copy"
        ping_ms = min(found.anchor.ts, published_ms) if published_ms >= 0 else found.anchor.ts
        self.time = self.time.after(entity_id, ping_ms, published_ms)
        if found.status == "stale" and newest is None:
            return "stale"
        entity = self.entities.touch(entity_id, max(self.time.now_ms, ping_ms))
        self._changed[entity_id] = None
        if found.status == "stale":
            return "stale"
        if _is_first(found) and entity.silence is not None and entity.silence.end_ms < found.anchor.ts:
            entity.silence = None  # it is of the entity before, which may have been forgotten
        entity.newest = Newest((raw or b"").rstrip(), offset, found.anchor.ts, found.src)
        self._orphans.pop(entity_id, None)
        return "newest"

    def _gap(self, offset: int, published_ms: int, raw: bytes | None) -> str:
        try:
            found = loads_gapfill(raw or b"")
        except msgspec.DecodeError:
            return "gap_unreadable"
        entity_id = found.entity_id
        end_ms = min(found.end.ts, published_ms) if published_ms >= 0 else found.end.ts
        entity = self.entities.get(entity_id) or self.entities.touch(entity_id, max(self.time.now_ms, end_ms))
        if offset <= entity.gap_offset or _repeats(entity, found):
            return "gap_copy"
        entity.gap_offset = offset
        if found.status != "retracted":
            entity.silence = Silence.of(_draw(found, offset))
        elif entity.silence is not None and entity.silence.gap_id == found.gap_id:
            entity.silence = None
        if entity.newest is None:
            self._orphans[entity_id] = offset
        else:
            self._changed[entity_id] = None
        return "gap"

    def _bound(self) -> None:
        while len(self.entities) > self._rules.max_entities:
            if not self._counts["evicted"]:
                log.warning(
                    "partition %d has more than --latest-max-entities: those silent longest are ended", self._number
                )
            self._end(self.entities.pop_first(), "evicted")

    def _end(self, entity_id: str, why: str) -> None:
        self._ended[entity_id] = None
        self._changed.pop(entity_id, None)
        self._orphans.pop(entity_id, None)
        self._counts[why] += 1

    def take_outgoing(self, quiet_ms: int | None) -> list[Outgoing]:
        """Returns an update for each entity that has changed, and a tombstone for each that has been silent for
        long."""
        self._expire(self.time.at(quiet_ms) // self._rules.tick_ms * self._rules.tick_ms)
        gone = [one for one in self._ended if not self.entities.has_forecast(one)]
        updates = [self._update(one) for one in self._changed]
        self._counts["updates"] += len(updates)
        self._changed.clear()
        self._ended.clear()
        return [*(answer(self._topics.latest, self._number, one, None) for one in gone), *updates]

    def _expire(self, now_ms: int) -> None:
        if now_ms != self._looked_ms:  # all entities are looked through once a tick
            self._looked_ms = now_ms
            for entity_id, entity in self.entities.pop_silent(now_ms - self._rules.expire_ms):
                self._end(entity_id, "expired")
                self._put_off(entity_id, entity)

    def _put_off(self, entity_id: str, ended: Entity) -> None:
        """Lets the gap fill of an entity that has ended wait for the forecast of its end, if that was not read yet."""
        silence, newest = ended.silence, ended.newest
        if silence is not None and newest is not None and silence.end_ms > newest.anchor_ms:
            entity = self.entities.touch(entity_id, silence.end_ms)
            entity.silence, entity.gap_offset = silence, ended.gap_offset
            self._orphans[entity_id] = silence.offset

    def _update(self, entity_id: str) -> Outgoing:
        entity = self.entities.get(entity_id)
        assert entity is not None
        event = (EVENT_ID, _event_id(entity).encode())
        return answer(self._topics.latest, self._number, entity_id, record_of(entity), (*self._headers, event))

    def metadata(self) -> str:
        return msgspec.json.encode({"version": VERSION, "time": self.time}).decode()


class CommitMetadata(msgspec.Struct, frozen=True):
    """The metadata of a commit."""

    version: int
    time: StreamTime


def time_of(metadata: str) -> StreamTime | None:
    """Returns the stream's time at a commit; None if the metadata is not ours."""
    try:
        decoded: Any = msgspec.json.decode(metadata.encode(), type=CommitMetadata)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return decoded.time if decoded.version == VERSION else None


def _is_first(found: Forecast) -> bool:
    """Returns whether nothing is known of the entity before this ping: it is new, was forgotten, or is another trip."""
    return found.cache == "none" and found.window.n == 1


def _repeats(entity: Entity, found: GapFill) -> bool:
    """Returns whether a gap fill is an earlier revision of the one that is known: a copy after a worker's crash."""
    known = entity.silence
    return known is not None and known.gap_id == found.gap_id and found.revision < known.revision


def _draw(found: GapFill, offset: int) -> Gap:
    places: tuple[Anchor | GapPoint, ...] = (found.start, *found.points, found.end)
    path = tuple((one.ts, one.lat, one.lon) for one in places)
    return Gap(found.gap_id, found.revision, "final" if found.status == "final" else "provisional", path, offset)


def _event_id(entity: Entity) -> str:
    """Returns an id that is another for each change: the same forecast is published again with a gap fill, after a late
    ping, or when the gap fill is retracted. Whoever drops what has the id of before would go on to draw that one."""
    assert entity.newest is not None
    parts = [entity.newest.offset, entity.heard_ms, *([] if entity.gap_offset < 0 else [entity.gap_offset])]
    return ".".join(map(str, parts))
