"""What must hold of the topics that members beside the workers write, at the end of a world: what one undisturbed
member would have made of the same logs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from atlas_oracle import find_uncounted, judge_days
from simulated_members import INPUTS, LATEST_RULES, group_of, score_settings

from stream.kafka.log import Log, Seen, start_of
from stream.kafka.records.record_columns import Records
from stream.services.latest.taking_over import rebuilt
from stream.services.latest.unit import LatestUnit
from stream.services.plan import Taken
from stream.services.scores.owned import Owned
from stream.wire import Record, loads_forecast
from stream.wire.ids import EVENT_ID
from stream.wire.latest import forecast_of, loads_latest
from stream.wire.scores import dumps_scored

if TYPE_CHECKING:
    from stage import Stage

NEVER_CUT: Final = 1 << 40


def open_ends(stage: Stage) -> list[str]:
    """Returns which inputs of members are not done up to their ends, in words."""
    found = []
    for kind in sorted(stage.kinds_of_members):
        group = group_of(kind, stage.settings)
        for topic in INPUTS[kind](stage.settings):
            for number in range(stage.plan.partitions):
                end, done = stage.kafka.last_record_end((topic, number)), stage.kafka.committed(group, (topic, number))
                if kind == "latest" and topic == stage.settings.topics.gapfills:
                    end = min(end, _undisturbed(stage, number, forecasts_first=True).needed.get(topic, end))
                if done < end:
                    found.append(f"{kind}: {topic}/{number} is done up to {done}, and ends at {end}")
    return found + (find_uncounted(stage) if "atlas" in stage.kinds_of_members else [])


async def judge_members(stage: Stage) -> list[str]:
    """Returns what is wrong with what members wrote."""
    found = []
    for number in range(stage.plan.partitions):
        if "latest" in stage.kinds_of_members:
            found += _judge_latest(stage, number)
        if "scores" in stage.kinds_of_members:
            found += _judge_scores(stage, number)
        if "atlas" in stage.kinds_of_members:
            found += await judge_days(stage, number, _read(stage, stage.settings.topics.pings, number))
    return found


def _read(stage: Stage, topic: str, number: int) -> list[Record]:
    """Returns what readers of committed records get."""
    log = stage.kafka.protocol.log((topic, number))
    return [
        Record(topic, number, one.offset, one.timestamp_ms, one.key, one.value, tuple(one.headers))
        for batch in log.batches
        if not batch.aborted and batch.control is None
        for one in batch.records
        if log.start <= one.offset < log.last_stable_offset
    ]


# -- the newest forecasts


def _undisturbed(stage: Stage, number: int, *, forecasts_first: bool) -> LatestUnit:
    topics = stage.settings.topics
    inputs = (topics.forecasts, topics.gapfills)[:: 1 if forecasts_first else -1]
    starts = {topic: start_of(None, Seen(), Log(0, NEVER_CUT)) for topic in inputs}
    unit = rebuilt(topics, LATEST_RULES, Taken(number, starts), {})
    for topic in inputs:
        if records := _read(stage, topic, number):
            unit.fold(Records.of(records))
    return unit


def _newest(stage: Stage, number: int) -> dict[bytes, bytes]:
    """Returns the newest forecast of each entity: the one whose ping is last in the log. Late ones do not count, nor do
    those that come once more."""
    newest: dict[bytes, tuple[int, int, bytes]] = {}
    for record in _read(stage, stage.settings.topics.forecasts, number):
        if record.value is None:
            continue
        one = loads_forecast(record.value)
        key = one.entity_id.encode()
        offset, ts, _ = newest.get(key, (-1, -1, b""))
        if one.status != "stale" and (one.src.offset > offset or one.anchor.ts > ts):
            newest[key] = one.src.offset, one.anchor.ts, record.value
    return {key: raw for key, (_, _, raw) in newest.items()}


def _judge_latest(stage: Stage, number: int) -> list[str]:
    found: list[str] = []
    held: dict[bytes, bytes] = {}
    offsets: dict[bytes, int] = {}
    events: Counter[tuple[bytes, bytes]] = Counter()
    changes = _changes_without_forecast(stage, number)
    for record in _read(stage, stage.settings.topics.latest, number):
        key, where = record.key or b"", f"latest/{number}:{record.offset} {(record.key or b'').decode()}"
        if record.value is None:
            held.pop(key, None)
            continue
        offset = loads_latest(record.value).map.offset
        if offset < offsets.get(key, -1):
            found.append(f"older: {where} is of offset {offset} after {offsets[key]}")
        event = key, dict(record.headers).get(EVENT_ID) or b""
        events[event] += 1
        if events[event] == 2 + changes[key]:
            found.append(f"again: {where} is published twice as {event[1].decode()}")
        held[key], offsets[key] = record.value, offset
    wanted = _newest(stage, number)
    for key in sorted(wanted.keys() | held.keys()):
        value = held.get(key)
        if value is None or key not in wanted:
            found.append(f"latest: {key.decode()} of partition {number} is {'not ' if value is None else ''}there")
        elif forecast_of(value) != wanted[key].rstrip():
            found.append(f"latest: {key.decode()} of partition {number} has not its newest forecast")
    return found or _judge_gaps(stage, number, held)


def _changes_without_forecast(stage: Stage, number: int) -> Counter[bytes]:
    """Returns how often the value of an entity may have come once more: after a late ping by which nobody is heard
    later, or when a gap fill is retracted."""
    topics = stage.settings.topics
    late = [one for one in _read(stage, topics.forecasts, number) if one.value and b'"status":"stale"' in one.value]
    return Counter(one.key or b"" for one in (*late, *_read(stage, topics.gapfills, number)))


def _judge_gaps(stage: Stage, number: int, held: dict[bytes, bytes]) -> list[str]:
    """Returns whose gap fill is not that which an undisturbed member has, in whatever order it reads its inputs."""
    units = [_undisturbed(stage, number, forecasts_first=first) for first in (True, False)]
    found = []
    for key, value in sorted(held.items()):
        gap = loads_latest(value).map.gap
        entities = [unit.entities.get(key.decode()) for unit in units]
        silences = [None if one is None else one.find_silence() for one in entities]
        if (None if gap is None else gap.offset) not in [None if one is None else one.offset for one in silences]:
            found.append(f"gap: {key.decode()} of partition {number} has gap fill {gap and gap.offset}, not {silences}")
    return found


# -- scores


def _judge_scores(stage: Stage, number: int) -> list[str]:
    topics, settings = stage.settings.topics, score_settings(stage.settings)
    start = start_of(None, Seen(), Log(0, NEVER_CUT))
    owned = Owned.take_over((topics.forecasts, number), settings, None, start)
    records = _read(stage, topics.forecasts, number)
    decided = owned.fold(Records.of(records)) if records else []
    wanted = {dumps_scored(one.record) for one in decided}
    published = {record.value or b"" for record in _read(stage, topics.scores, number)}
    found = [f"scores: {raw.decode()} of partition {number} is missing" for raw in sorted(wanted - published)]
    found += [f"scores: {raw.decode()} of partition {number} is of no forecast" for raw in sorted(published - wanted)]
    return found[:3]
