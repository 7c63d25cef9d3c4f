"""What must hold of the topics that members beside the workers write, at the end of a world: what one undisturbed
member would have made of the same logs."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec
from archive_oracle import find_unlanded, judge_archive
from atlas_oracle import find_uncounted, find_unended, judge_days
from plans import ANSWER_CUTS, CUTS
from scores_oracle import judge_scores
from simulated_members import INPUTS, LATEST_RULES, group_of
from topics_read import read

from stream.kafka.log import Log, Partition, Seen, start_of
from stream.kafka.records.record_columns import Records
from stream.services.latest.taking_over import rebuilt
from stream.services.latest.unit import LatestUnit
from stream.services.plan import Taken
from stream.wire import Forecast, loads_forecast
from stream.wire.ids import EVENT_ID
from stream.wire.latest import forecast_of, loads_latest

if TYPE_CHECKING:
    from stage import Stage

NEVER_CUT: Final = 1 << 40


def open_ends(stage: Stage) -> list[str]:
    """Returns which inputs of members are not done up to their ends, in words. Where a coordinator does not answer for
    a number, all others have to be done first."""
    found = [one for one, number in _open(stage) if not _is_unanswered(stage, number)]
    if not found and stage.kafka.protocol.unanswered_ids:
        stage.world.note("answered")
        stage.kafka.protocol.unanswered_ids.clear()
        return ["a coordinator has not answered for long"]
    return found


def _is_unanswered(stage: Stage, number: int) -> bool:
    return any(one.endswith(f"|{number}") for one in stage.kafka.protocol.unanswered_ids)


def _open(stage: Stage) -> list[tuple[str, int]]:
    found = []
    for kind in sorted(stage.kinds_of_members):
        group = group_of(kind, stage.settings)
        for topic in INPUTS[kind](stage.settings):
            for number in range(stage.plan.partitions):
                end, done = stage.kafka.last_record_end((topic, number)), stage.kafka.committed(group, (topic, number))
                if kind == "latest" and topic == stage.settings.topics.gapfills:
                    end = min(end, _undisturbed(stage, number, forecasts_first=True).needed.get(topic, end))
                if done < end or (end and _is_of_former_log(stage, group, (topic, number))):
                    found.append((f"{kind}: {topic}/{number} is done up to {done}, and ends at {end}", number))
    if "atlas" in stage.kinds_of_members:
        found += [(one, -1) for one in find_uncounted(stage)]
    if "atlas" in stage.kinds_of_members or stage.settings.registry is not None:
        found += [(one, -1) for one in find_unended(stage)]
    if "archive" in stage.kinds_of_members:
        found += [(one, -1) for one in find_unlanded(stage)]
    return found


def _is_of_former_log(stage: Stage, group: str, partition: Partition) -> bool:
    """Returns whether what is committed is of the log before a cut, which its member has not noticed yet. The new log
    may be as long: then the record below the offset is of a leader, or of a topic, that the member does not know."""
    committed = stage.kafka.commit_of(group, partition)
    if committed is None:
        return False
    log = stage.kafka.protocol.log(partition)
    topic_id, epoch = (re.search(rf"{name}=(\w+)", committed.metadata) for name in ("topic_id", "leader_epoch"))
    below = [one.leader_epoch for one in log.batches if one.records and not one.aborted and one.base < committed.offset]
    is_other = topic_id is not None and topic_id[1] != stage.kafka.topic_id(partition[0])
    is_newer = epoch is not None and bool(below) and below[-1] > int(epoch[1])
    return committed.offset > log.end or is_other or is_newer


async def judge_members(stage: Stage) -> list[str]:
    """Returns what is wrong with what members wrote."""
    found = []
    for number in range(stage.plan.partitions):
        if "latest" in stage.kinds_of_members:
            found += _judge_latest(stage, number)
        if "scores" in stage.kinds_of_members:
            found += judge_scores(stage, number)
        if "atlas" in stage.kinds_of_members:
            found += await judge_days(stage, number)
        if "archive" in stage.kinds_of_members:
            found += judge_archive(stage, number)
    return found


# -- the newest forecasts


def _undisturbed(stage: Stage, number: int, *, forecasts_first: bool) -> LatestUnit:
    topics = stage.settings.topics
    inputs = (topics.forecasts, topics.gapfills)[:: 1 if forecasts_first else -1]
    starts = {topic: start_of(None, Seen(), Log(0, NEVER_CUT)) for topic in inputs}
    unit = rebuilt(topics, LATEST_RULES, Taken(number, starts), {})
    for topic in inputs:
        if records := read(stage, topic, number):
            unit.fold(Records.of(records))
    return unit


def _newest(stage: Stage, number: int) -> dict[bytes, bytes]:
    """Returns the newest forecast of each entity: the one whose ping is last in the log. Late ones do not count, nor do
    those that come once more."""
    newest: dict[bytes, tuple[int, int, bytes]] = {}
    for record in read(stage, stage.settings.topics.forecasts, number):
        one = _forecast(record.value)
        if one is None:
            continue
        key = one.entity_id.encode()
        offset, ts, _ = newest.get(key, (-1, -1, b""))
        if one.status != "stale" and (one.src.offset > offset or one.anchor.ts > ts):
            newest[key] = one.src.offset, one.anchor.ts, record.value or b""
    return {key: raw for key, (_, _, raw) in newest.items()}


def _forecast(raw: bytes | None) -> Forecast | None:
    try:
        return loads_forecast(raw or b"")
    except (msgspec.DecodeError, RecursionError):
        return None


def _judge_latest(stage: Stage, number: int) -> list[str]:
    found: list[str] = []
    is_whole = not stage.plan.kinds & ANSWER_CUTS
    goes_on = is_whole and not stage.plan.kinds & CUTS  # offsets of pings do not begin again
    sources: dict[bytes, tuple[int, int]] = {}
    held: dict[bytes, bytes] = {}
    offsets: dict[bytes, int] = {}
    events: Counter[tuple[bytes, bytes]] = Counter()
    changes = _changes_without_forecast(stage, number)
    for record in read(stage, stage.settings.topics.latest, number):
        key, where = record.key or b"", f"latest/{number}:{record.offset} {(record.key or b'').decode()}"
        if record.value is None:
            held.pop(key, None)
            continue
        one = loads_latest(record.value)
        offset, source = one.map.offset, (one.src.offset, one.anchor.ts)
        before = sources.get(key, (-1, -1))
        if goes_on and source != before and source[0] <= before[0] and source[1] <= before[1]:
            found.append(f"older: {where} is of the ping {source} after {before}")
        if is_whole and offset < offsets.get(key, -1):
            found.append(f"older: {where} is of offset {offset} after {offsets[key]}")
        sources[key] = source
        event = key, dict(record.headers).get(EVENT_ID) or b""
        events[event] += 1
        if is_whole and events[event] == 2 + changes[key]:
            found.append(f"again: {where} is published twice as {event[1].decode()}")
        held[key], offsets[key] = record.value, offset
    wanted = _newest(stage, number)
    stage.world.count("latest", len(held))
    stage.world.count("drawn", sum(loads_latest(value).map.gap is not None for value in held.values()))
    for key in sorted(wanted.keys() | held.keys()):
        value = held.get(key)
        if value is not None and _outlives_a_cut(stage, number, value, wanted.get(key)):
            continue
        if value is None or key not in wanted:
            found.append(f"latest: {key.decode()} of partition {number} is {'not ' if value is None else ''}there")
        elif forecast_of(value) != wanted[key].rstrip():
            found.append(f"latest: {key.decode()} of partition {number} has not its newest forecast")
    return found or (_judge_gaps(stage, number, held) if is_whole else [])


def _outlives_a_cut(stage: Stage, number: int, held: bytes, wanted: bytes | None) -> bool:
    """Returns whether this newest forecast is one that the log has lost, and the log has no newer one: an entity that
    is in quarantine since gets none. What was written of records that are gone stays (`stream/delivery/README.md`)."""
    raw = forecast_of(held).rstrip()
    if raw not in stage.members.answered.get(number, ()):
        return False
    if wanted is None:
        return True
    one, other = loads_forecast(raw), loads_forecast(wanted)
    return other.src.offset <= one.src.offset and other.anchor.ts <= one.anchor.ts


def _changes_without_forecast(stage: Stage, number: int) -> Counter[bytes]:
    """Returns how often the value of an entity may have come once more with its id: after a late ping by which it is
    heard no later."""
    records = read(stage, stage.settings.topics.forecasts, number)
    return Counter(one.key or b"" for one in records if one.value and b'"status":"stale"' in one.value)


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
