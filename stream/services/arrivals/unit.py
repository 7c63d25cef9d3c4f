"""One partition of the forecasts: folds them, and says what to publish of each. `stream.services.member` runs it.

It keeps when it last spoke of an entity, so that it does so every so often only, by the forecasts' own times. A
successor knows nothing of that, and may speak once more and sooner; whatever it says of another forecast has another
id. That an entity has arrived, it says once: it notes so in the destinations topic, in the same transaction.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Final

import msgspec

from model.arrivals.believing import Fleet
from stream.kafka.records.record_columns import Records
from stream.services.arrivals.destinations import InForce, Place
from stream.services.arrivals.published import arrival, arrival_records, inside, is_there
from stream.services.plan import answer
from stream.wire import Forecast, Outgoing, Topics, loads_forecast
from stream.wire.arrivals import Arrival, ArrivalRecord, Arrived, Inside, dumps_arrivals, reached_key
from stream.wire.ids import EVENT_ID, Kind, event_headers
from stream.wire.positions import is_possible

MOST_ENTITIES: Final = 200_000  # of which is known when they were last spoken of; the others may be sooner
KINDS: Final[dict[type[ArrivalRecord], Kind]] = {Arrival: "arrival", Arrived: "arrived", Inside: "inside"}
OUTCOMES: Final = ("arrival", "arrived", "inside", "unasked", "too_soon", "stale", "unread")


class ArrivalUnit:
    """What is kept for one partition number."""

    def __init__(
        self,
        number: int,
        topics: Topics,
        in_force: InForce,
        fleet: Fleet | None,
        every_s: float,
    ) -> None:
        self._counts = Counter(dict.fromkeys(OUTCOMES, 0))
        self._number = number
        self._topics = topics
        self._in_force = in_force
        self.fleet = fleet  # replaced when more is known
        self._every_ms = 1000 * every_s
        self._spoken_ms: OrderedDict[str, int] = OrderedDict()  # by entity
        self._reached: OrderedDict[Place, int] = OrderedDict()  # what is said already, and the topic may not have yet
        self._outgoing: list[Outgoing] = []

    @property
    def waiting(self) -> int:
        return len(self._outgoing)

    @property
    def counts(self) -> Mapping[str, int]:
        return self._counts

    @property
    def needed(self) -> Mapping[str, int]:
        return {}

    def fold(self, records: Records) -> None:
        columns = records.timestamps_ms.tolist(), records.keys.each(), records.values.each()
        for at_ms, key, raw in zip(*columns, strict=True):
            entity = (key or b"").decode(errors="replace")
            if raw is None or not self._in_force.has(entity):
                self._counts["unasked"] += 1
                continue
            forecast = _parse(raw)
            if forecast is None:
                self._counts["unread"] += 1
            else:
                self._tell(forecast, at_ms)

    def take_outgoing(self, quiet_ms: int | None) -> list[Outgoing]:
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def metadata(self) -> str:
        return ""

    def _tell(self, forecast: Forecast, at_ms: int) -> None:
        entity, ts_ms = forecast.entity_id, forecast.anchor.ts
        going = [
            one
            for one in self._in_force.destinations(entity, at_ms)
            if self._reached.get((entity, one.destination_id)) != one.set_ts
        ]
        for one in [one for one in going if is_there(forecast, one)]:
            record, reached = arrival_records(forecast, one)
            self._publish(record)
            key = reached_key(entity, one.destination_id)
            self._outgoing.append(answer(self._topics.destinations, self._number, key, dumps_arrivals(reached)))
            self._reached[entity, one.destination_id] = one.set_ts
            if len(self._reached) > MOST_ENTITIES:  # the topic has told the oldest long ago
                self._reached.popitem(last=False)
            going.remove(one)
        if forecast.status == "stale":  # it is of a late ping: a newer one has been spoken of
            self._counts["stale"] += 1
            return
        areas = self._in_force.areas(entity, at_ms)
        if not going and not areas:
            self._counts["unasked"] += 1
            return
        if ts_ms - self._spoken_ms.get(entity, -(10**15)) < self._every_ms:
            self._counts["too_soon"] += 1
            return
        self._spoken_ms[entity] = ts_ms
        self._spoken_ms.move_to_end(entity)
        if len(self._spoken_ms) > MOST_ENTITIES:
            self._spoken_ms.popitem(last=False)
        for one in going:
            self._publish(arrival(forecast, one, self.fleet))
        if areas and (found := inside(forecast, areas)) is not None:
            self._publish(found)

    def _publish(self, record: ArrivalRecord) -> None:
        kind = KINDS[type(record)]
        self._counts[kind] += 1
        headers = event_headers(kind, self._topics.forecasts, self._number)
        event = (EVENT_ID, record.arrival_id.encode())
        self._outgoing.append(
            answer(self._topics.arrivals, self._number, record.entity_id, dumps_arrivals(record), (*headers, event))
        )


def _parse(raw: bytes) -> Forecast | None:
    """Returns a forecast; None if it is nothing that a worker has written."""
    try:
        forecast = loads_forecast(raw)
    except msgspec.DecodeError:
        return None
    return forecast if is_possible(forecast) else None
