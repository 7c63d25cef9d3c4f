"""Keeps when entities are expected at their destinations, as `pathcast beside arrivals` publishes it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from stream.wire.arrivals import Arrival, ArrivalRecord, Arrived

MOST: Final = 20  # destinations of one entity
OUTDATED_MS: Final = (
    300_000  # estimates come with forecasts: after forecasts of so long without one, nobody asks for it
)


class Arrivals:
    """The newest estimate for each destination of each entity. One that was reached is forgotten."""

    def __init__(self, most_entities: int) -> None:
        self._most = most_entities
        self._by_id: OrderedDict[str, OrderedDict[str, Arrival]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_id)

    def update(self, record: ArrivalRecord) -> None:
        """Takes a record. Those of geofences say nothing of an arrival."""
        if isinstance(record, Arrived):
            known = self._by_id.get(record.entity_id, OrderedDict())
            if record.destination_id in known and known[record.destination_id].set_ts <= record.set_ts:
                del known[record.destination_id]
            if not known:
                self.forget(record.entity_id)
        elif isinstance(record, Arrival):
            known = self._by_id.setdefault(record.entity_id, OrderedDict())
            self._by_id.move_to_end(record.entity_id)
            known[record.destination_id] = record
            known.move_to_end(record.destination_id)
            while len(known) > MOST:
                known.popitem(last=False)
            while len(self._by_id) > self._most:
                self._by_id.popitem(last=False)

    def forget(self, entity_id: str) -> None:
        self._by_id.pop(entity_id, None)

    def ids(self) -> list[str]:
        return list(self._by_id)

    def of(self, entity_id: str, ping_ms: int) -> list[dict[str, Any]]:
        """Returns the destinations of an entity whose newest forecast is of a ping at this time, the soonest first."""
        due = sorted(self._due(entity_id, ping_ms), key=lambda one: (one.eta_ts, one.destination_id))
        return [_as_told(one) for one in due]

    def soonest(self, entity_id: str, ping_ms: int) -> int | None:
        """Returns when such an entity is expected at the first of them."""
        return min((one.eta_ts for one in self._due(entity_id, ping_ms)), default=None)

    def _due(self, entity_id: str, ping_ms: int) -> Iterator[Arrival]:
        known = self._by_id.get(entity_id, OrderedDict())
        return (one for one in known.values() if one.anchor_ts >= ping_ms - OUTDATED_MS)


def _as_told(arrival: Arrival) -> dict[str, Any]:
    return {
        "place": arrival.destination_id,
        "eta_ts": arrival.eta_ts,
        "early_ts": arrival.anchor_ts + round(arrival.early_s * 1000),
        "late_ts": arrival.anchor_ts + round(arrival.late_s * 1000),
        "deadline_ts": arrival.deadline_ts,
        "chance_by_deadline": arrival.chance_by_deadline,
        "distance_m": arrival.distance_m,
        "passages": arrival.passages,
    }
