"""Makes the unit of a partition again from the latest topic itself, which says where each entity stood.

Records and offsets were written in one transaction, so the topic is what the unit was at the committed offsets. That
somebody has set these back does no harm: an entity takes no forecast from before its own. An offset that its log does
not have (any more) is forgotten, so that another record at a lower one is taken; so are all of a topic of which nothing
is committed, as brokers delete what is committed together with a topic. Then copies are told by their pings.
"""

from __future__ import annotations

import logging
from typing import Final

from stream.kafka.reading import bounds, reread
from stream.services.latest.entities import Entities, Entity, Newest, Silence
from stream.services.latest.unit import LatestRules, LatestUnit, time_of
from stream.services.plan import Plan, Taken
from stream.services.stream_time import StreamTime
from stream.wire import Record, Topics
from stream.wire.latest import forecast_of, loads_latest

log: Final = logging.getLogger(__name__)


async def take_over(plan: Plan, topics: Topics, rules: LatestRules, taken: Taken) -> LatestUnit:
    """Reads the topic, and returns the unit as it was at the offsets of `taken`. Raises KafkaError."""
    servers, access = plan.bootstrap.split(","), plan.kafka.arguments()
    partition = topics.latest, taken.number
    begin, end = (await bounds(servers, [partition], access=access))[partition]
    held: dict[str, Entity] = {}
    async for records in reread(servers, partition, begin, end, access=access):
        for record in records:
            take(record, held)
    return rebuilt(topics, rules, taken, held)


def rebuilt(topics: Topics, rules: LatestRules, taken: Taken, held: dict[str, Entity]) -> LatestUnit:
    """Returns the unit of the entities that the topic holds."""
    for topic, offset_of, forget in (
        (topics.forecasts, _forecast_offset, _forget_forecast),
        (topics.gapfills, _gap_offset, _forget_gap),
    ):
        start = taken.starts[topic]
        # Without a leader's epoch only an offset beyond the end tells that the log is another one, and not from where.
        is_other = start.log.kept is None and any(offset_of(one) >= start.log.end for one in held.values())
        kept = start.log.begin if is_other else start.kept
        gone = [one for one in held.values() if offset_of(one) >= kept]
        if gone and taken.metadata is not None:
            log.warning("partition %d was made of another %s: %d offsets are forgotten", taken.number, topic, len(gone))
        for one in gone:
            forget(one)
    ordered = sorted(held.items(), key=lambda pair: _forecast_offset(pair[1]))
    entities = Entities()
    for entity_id, entity in ordered:
        entities.put(entity_id, entity)
    return LatestUnit(topics, taken.number, rules, time_of(taken.metadata or "") or _time(ordered), entities)


def take(record: Record, held: dict[str, Entity]) -> None:
    """Notes what one record of the topic says of its entity."""
    entity_id = (record.key or b"").decode(errors="replace")
    held.pop(entity_id, None)
    if record.value is not None:
        try:
            held[entity_id] = _entity(record.value)
        except ValueError as error:
            log.warning("%s/%d:%d is none of ours: %s", *record[:3], error)


def _entity(raw: bytes) -> Entity:
    one = loads_latest(raw)
    newest = Newest(forecast_of(raw), one.map.offset, one.anchor.ts, one.src)
    gap = one.map.gap
    if gap is None or not gap.path:
        return Entity(one.map.heard_ts, newest)
    return Entity(one.map.heard_ts, newest, Silence.of(gap), gap.offset)


def _time(ordered: list[tuple[str, Entity]]) -> StreamTime:
    """Returns the stream's time as far as it can be told by when entities were heard."""
    time = StreamTime()
    for entity_id, entity in ordered:
        time = time.after(entity_id, entity.heard_ms, -1)
    return time


def _forecast_offset(entity: Entity) -> int:
    return -1 if entity.newest is None else entity.newest.offset


def _gap_offset(entity: Entity) -> int:
    return entity.gap_offset


def _forget_forecast(entity: Entity) -> None:
    if entity.newest is not None:
        entity.newest = entity.newest._replace(offset=-1)


def _forget_gap(entity: Entity) -> None:
    entity.gap_offset = -1
