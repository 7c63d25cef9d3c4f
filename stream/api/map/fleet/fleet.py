"""All entities of a fleet, and who has changed. It belongs to one event loop.

The fleet's time is that of its pings (`stream.services.stream_time`), so that a recording that is replayed is
drawn as it was: who is silent, and what ten minutes are, is told by it. While nothing comes it goes on as the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.api.live.newest import MAX_PARTITIONS, Box, Newest, Published
from stream.api.map.fleet.arrivals import Arrivals
from stream.api.map.fleet.entity import AHEAD_POINTS, SNAPSHOT_POINTS, Entity
from stream.api.map.fleet.errors import ByMinute
from stream.api.map.fleet.figures import Figures
from stream.api.map.fleet.fills import Fills
from stream.api.map.fleet.moments import Moment, is_sound, moment_of
from stream.api.map.fleet.rendering import entity_json
from stream.api.trips.table import TripTable
from stream.services.stream_time import NEVER_MS, StreamTime
from stream.wire import Forecast, GapFill, Score, loads_forecast

MOST_FOUND: Final = 20  # of a search


class Fleet:
    """The entities in memory, their figures and their errors."""

    def __init__(
        self, most_entities: int, *, keep_ms: int, stale_ms: int, expire_ms: int, trips: TripTable | None = None
    ) -> None:
        """Takes how many entities it holds at most; how far back tracks, former forecasts and their errors go; after
        what silence an entity is stale; after what silence it is gone; and the trips under way, which others fill."""
        self.newest = Newest(most_entities, expire_ms)
        self.fills = Fills(most_entities, keep_ms)
        self.arrivals = Arrivals(most_entities)
        self.trips = TripTable() if trips is None else trips
        self.figures = Figures()
        self.errors = ByMinute()
        self.scores = ByMinute()  # from the scores topic, if there is one
        self.answered: dict[int, int] = {}  # by partition of the pings topic: the last offset that has an answer
        self.refused = 0  # forecasts whose numbers cannot be drawn
        self._keep_ms = keep_ms
        self._stale_ms = stale_ms
        self._by_id: dict[str, Entity] = {}
        self._versions: dict[str, tuple[str, str | None]] = {}  # by entity, as `figures` counts them
        self._time = StreamTime()
        self._swept = 0  # the last change whose departures were seen
        self._was_stale: NDArray[np.bool_] = np.zeros(0, np.bool_)

    def __len__(self) -> int:
        return len(self.newest)

    # -- what comes --------------------------------------------------------------------------------------------------

    def update(self, records: Sequence[Published], now_ms: int) -> None:
        """Takes forecasts in their order, as they were published."""
        sound, forecasts = [], []
        for record in records:
            forecast = _sound(record.value)
            if forecast is None:
                self.refused += 1
            else:
                sound.append(record)
                forecasts.append(forecast)
        newest = set(self.newest.update(sound, now_ms))
        for place, (record, forecast) in enumerate(zip(sound, forecasts, strict=True)):
            moment = moment_of(forecast)
            self.figures.count_answers(now_ms, moment.latency_ms, moment.cache)
            if 0 <= (number := forecast.src.partition) < MAX_PARTITIONS:
                self.answered[number] = max(forecast.src.offset, self.answered.get(number, -1))
            if place in newest:
                self._take(forecast.entity_id, moment, record.timestamp_ms)
        self._sweep()

    def _take(self, entity_id: str, moment: Moment, published_ms: int) -> None:
        ping_ms = min(moment.ts, published_ms) if published_ms >= 0 else moment.ts
        self._time = self._time.after(entity_id, ping_ms, published_ms)
        entity = self._by_id.get(entity_id)
        if entity is None:
            entity = self._by_id[entity_id] = Entity(self._keep_ms)
        for one in entity.take(moment):
            self.errors.add(min(one.true_ts, self._time.now_ms), one.outcome)
        self._count(entity_id, (moment.weights, moment.atlas))

    def _count(self, entity_id: str, versions: tuple[str, str | None] | None) -> None:
        """Counts an entity under its versions, and no more under those before."""
        for change, pair in ((-1, self._versions.pop(entity_id, None)), (1, versions)):
            if pair is not None:
                self.figures.count(pair, change)
        if versions is not None:
            self._versions[entity_id] = versions

    def end(self, entity_id: str) -> None:
        """Takes a tombstone."""
        self.newest.forget(entity_id)
        self._sweep()

    def fill(self, fill: GapFill) -> None:
        self.fills.update(fill)

    def score(self, score: Score) -> None:
        """Takes a score of the scores topic."""
        for one in score.horizons:
            self.scores.add(score.anchor_ts, one)

    def tick(self, now_ms: int) -> None:
        """Ends who was not heard of for long, and notes who has become stale."""
        self.newest.expire(now_ms)
        self._sweep()
        taken = self.newest.changes > 0
        stale = taken & (self.newest.times_ms < self.now_ms(now_ms) - self._stale_ms)
        before = np.zeros(len(stale), np.bool_)
        before[: len(self._was_stale)] = self._was_stale
        self._was_stale = stale
        for row in (rows := np.flatnonzero((stale != before) & taken).tolist()):
            self._by_id[self.newest.name(row)].shown = None
        if rows:
            self.newest.touch(rows)

    def _sweep(self) -> None:
        """Forgets what is kept of entities that have left."""
        if self._swept < self.newest.forgotten:
            gone: Iterable[str] = self._by_id.keys() - set(self.newest.ids)
        else:
            gone = [one.entity_id for one in self.newest.list_gone_since(self._swept)]
        for entity_id in gone:
            if self.newest.row(entity_id) is None and self._by_id.pop(entity_id, None) is not None:
                self._count(entity_id, None)
                self.fills.forget(entity_id)
                self.arrivals.forget(entity_id)
        self._swept = self.newest.change

    # -- what is known -----------------------------------------------------------------------------------------------

    def now_ms(self, clock_ms: int) -> int:
        """Returns the fleet's time, given the machine's."""
        return clock_ms if self._time.now_ms == NEVER_MS else self._time.at(clock_ms)

    def get(self, entity_id: str) -> Entity | None:
        return self._by_id.get(entity_id)

    def render(self, row: int, now_ms: int) -> bytes:
        """Returns the entity of a row as it is told in an update."""
        entity_id = self.newest.name(row)
        entity = self._by_id[entity_id]
        if entity.shown is None:
            entity.shown = entity_json(entity_id, entity.moment, stale=self.is_stale(entity.moment.ts, now_ms))
        return entity.shown

    def is_stale(self, ts: int, now_ms: int) -> bool:
        return ts < now_ms - self._stale_ms

    def then(self, box: Box | None, at_ms: int, most: int) -> list[bytes]:
        """Returns the entities of a box as they were at a time, with their tracks up to then and the pings after it."""
        entities: list[bytes] = []
        for entity_id, entity in self._by_id.items():
            moment = entity.at(at_ms)
            if moment is None or len(entities) >= most:
                continue
            track, ahead = entity.track(at_ms, SNAPSHOT_POINTS), entity.ahead(at_ms, AHEAD_POINTS)
            lat, lon = track[-1][1:] if track else (moment.lat, moment.lon)
            if box is None or box.contains(lat, lon):
                stale = self.is_stale(moment.ts, at_ms)
                entities.append(entity_json(entity_id, moment, stale=stale, track=track, ahead=ahead))
        return entities

    def search(self, text: str) -> list[str]:
        """Returns ids that contain a text, those first that begin with it."""
        wanted = text.casefold()
        ids = [one for one in self.newest.ids if wanted in one.casefold()]
        return sorted(ids, key=lambda one: (not one.casefold().startswith(wanted), one))[:MOST_FOUND]

    def expect(self, now_ms: int, most: int) -> dict[str, Any]:
        """Returns who is expected where, those with the soonest arrival first, and how many more there are."""
        due: list[tuple[bool, int, str]] = []
        for entity_id in self.arrivals.ids():
            if (entity := self._by_id.get(entity_id)) is None:
                continue
            ts = entity.moment.ts
            if (eta_ts := self.arrivals.soonest(entity_id, ts)) is not None:
                due.append((self.is_stale(ts, now_ms), eta_ts, entity_id))
        entities = [
            {"id": one, "stale": stale, "arrivals": self.arrivals.of(one, self._by_id[one].moment.ts)}
            for stale, _, one in nsmallest(most, due)
        ]
        return {"now_ms": now_ms, "entities": entities, "more": len(due) - len(entities)}

    def summary(self, clock_ms: int) -> dict[str, Any]:
        """Returns the figures of the fleet."""
        now_ms = self.now_ms(clock_ms)
        figures = self.figures.summary(clock_ms)
        stale = int(self._was_stale.sum())
        errors = self.errors.since(now_ms - self._keep_ms)
        return {"now_ms": now_ms, "entities": len(self), "stale": stale, **figures, "errors": errors}


def _sound(raw: bytes) -> Forecast | None:
    try:
        forecast = loads_forecast(raw)
    except msgspec.DecodeError:
        return None
    return forecast if is_sound(forecast) else None
