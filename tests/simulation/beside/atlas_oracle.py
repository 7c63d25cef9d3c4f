"""What must hold of the days that the atlas' counter keeps in Redis: an undisturbed count of the log makes them too,
whenever one looks, and whoever looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError
from simulated_members import atlas_settings, open_days
from topics_read import read

from model.atlas.days import Day
from stream.atlas.growing import PartitionGrowth
from stream.config.security import Refused
from stream.kafka.partitioner import partition_of
from stream.kafka.records.record_columns import Records
from stream.store.days_store import KEY_HEAD, DaysLost
from stream.store.redis_scripts import FIELD_OFFSET
from stream.store.redis_store import KEY_PARTITION
from stream.wire import Record

if TYPE_CHECKING:
    from members_beside import CountedOn
    from stage import Stage

# Faults by which Redis loses what was counted.
EVICTIONS: Final = {"days_evicted", "growth_evicted", "redis_evicts", "redis_older", "redis_lost"}


def find_uncounted(stage: Stage) -> list[str]:
    """Returns which partitions are not counted up to their ends, in words. Where no vehicle sends, nothing is written
    after a fault, and nobody notices what Redis has lost."""
    pings, group = stage.settings.topics.pings, atlas_settings(stage.settings).group
    found = []
    for number in {partition_of(f"bus{one}".encode(), stage.plan.partitions) for one in range(stage.plan.entities)}:
        key = KEY_PARTITION.format(group=group, topic=pings, number=number) + KEY_HEAD
        stored: Any = stage.redis.server.data.values.get(key.encode()) or {}
        done, end = int(stored.get(FIELD_OFFSET.encode(), 0)), stage.kafka.last_record_end((pings, number))
        if done < end or (end and done > stage.kafka.log_end((pings, number))):  # or it has not noticed a cut yet
            found.append(f"atlas: {pings}/{number} is counted up to {done}, and ends at {end}")
    return found


def find_unended(stage: Stage) -> list[str]:
    """Returns which versions are announced and neither confirmed nor withdrawn, for which workers wait."""
    newest = {one.key: one.value for one in read(stage, stage.settings.topics.models, 0)}
    return [
        f"announced: {(key or b'').decode()} is neither confirmed nor withdrawn"
        for key, raw in newest.items()
        if raw is not None and b'"state":"announced"' in raw
    ]


async def look_at_days(stage: Stage) -> list[str]:
    """Returns which days are not as they were counted, now that nothing is at rest. Between the writes by which an
    entity is forgotten, the days are of no moment."""
    found = []
    for number in range(stage.plan.partitions):
        if not any(one.value is None for one in read(stage, stage.settings.topics.pings, number)):
            try:
                found += await judge_days(stage, number)
            except (RedisError, OSError, Refused):
                continue
    return found


async def judge_days(stage: Stage, number: int) -> list[str]:
    """Returns which days of a partition are not what an undisturbed count of the records makes of them."""
    members = stage.members
    if not _can_be_judged(stage, number):
        return []
    store = open_days(atlas_settings(stage.settings))
    try:
        held, stored = await store.snapshot((stage.settings.topics.pings, number), Day.loads)
    except DaysLost:
        # Whoever makes a version notices it, or takes it over; and after the last fault somebody has.
        return [f"days: what Redis lost of partition {number} is not counted anew"] if stage.is_at_rest else []
    finally:
        await store.close()
    if not _can_be_judged(stage, number):  # the log was cut while the store was read
        return []
    records = read(stage, stage.settings.topics.pings, number)
    records = [one for one in records if one.offset < (held.next_offset or 0)]
    if members.cuts.get(number):
        counted_on = members.counted_on.get(number, ())
        if len(counted_on) != 1:
            return []  # nothing of what is gone was counted, or a member died in its takeover
        counted = _count(members.cuts[number][0], records, *counted_on)
    else:
        counted = _count(records)
    passages = sum(len(day.passages) for day in counted.values())
    stage.world.count("passages", passages)
    return [
        f"days: day {day} of partition {number} is not as it was counted"
        for day in sorted(stored.keys() | counted.keys())
        if Day.total(stored.get(day, [])).dumps() != counted.get(day, Day.none()).dumps()
    ]


def _can_be_judged(stage: Stage, number: int) -> bool:
    """Returns whether the log has all that was counted, or what it had is known and was counted anew."""
    kinds, cuts = stage.plan.kinds, stage.members.cuts.get(number, ())
    return "retain" not in kinds and (not cuts or (len(cuts) == 1 and not kinds & EVICTIONS and stage.is_at_rest))


def _count(records: list[Record], after_cut: Sequence[Record] = (), on: CountedOn | None = None) -> dict[int, Day]:
    """Returns the days of these records; after a cut, of the log before as far as it was counted, and of the one after
    it from where on that was."""
    growth, days = PartitionGrowth(), dict[int, Day]()
    _add(days, growth, [one for one in records if on is None or one.offset < on.counted])
    if on is not None:
        growth.go_back(on.at)
        _add(days, growth, [one for one in after_cut if one.offset >= on.at])
    return days


def _add(days: dict[int, Day], growth: PartitionGrowth, records: list[Record]) -> None:
    for grown in growth.add(Records.of(records)) if records else ():
        for day, one in list(days.items()) if len(grown.forgotten) else ():
            days[day] = one.without(grown.forgotten)
        for day, found in grown.days:
            days[day] = days.get(day, Day.none()).plus(found)
