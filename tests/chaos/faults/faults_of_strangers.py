"""What needs Redis waits, and nothing else: entities that are not in memory while Redis is away, and one partition
whose checkpoints are refused.

Each counts, while it lasts, what the other partitions are fed and what of it is answered.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

import bus_feed
from bus_feed import Raw
from chaos_rig import PARTITIONS, Rig, reader
from faults import fault_that_may
from kafka.partitioner.default import murmur2

from stream.store.redis_store import KEY_META, KEY_PARTITION
from stream.wire import loads_forecast

SICK: Final = 0  # the partition of the strangers, and the one whose checkpoints are refused
OTHERS: Final = range(1, PARTITIONS)
AWAY_S: Final = 20.0  # at least
STILL_S: Final = 8.0  # longer than an entity that cannot be read is waited for
RATE: Final = 0.95  # of what the other partitions are fed, answered within the same time
MAX_UNSAVED: Final = 100  # records, so that the partition comes to a stop
BECAUSE: Final = (
    "an entity that is not in memory is answered as new where Redis cannot be read for more than 5 s; its answers say "
    "so until Redis is back, and are equal again from then on, as every state is"
)


@fault_that_may("unread", because=BECAUSE)
def strangers_while_redis_is_cut_off(rig: Rig) -> None:
    """Vehicles that are new, and vehicles whose windows are in Redis and not in memory, send to one partition while
    Redis is cut off for 20 s and more. All partitions are answered before it is back; then a worker is killed."""
    records = list(rig.fleet())
    half, late = records[: len(records) // 2], records[len(records) * 3 // 4 :]
    met = {key for key, _, _ in half}
    stored = {key for key in met if _partition(key) == SICK and _third(key) == 0}
    rig.start(proxied=True)
    rig.feed([one for one in half if one[0] in stored], over_s=8)
    rig.consumed()
    rig.stop_all()
    rig.start(2, proxied=True)
    residents = {key for key in met - stored if _partition(key) != SICK or _third(key) == 1}
    rig.feed([one for one in half if one[0] in residents], over_s=8)
    rig.consumed()
    rig.servers.redis_way.cut()
    rig.say("way to Redis cut")
    strangers = {key for key, _, _ in records if _partition(key) == SICK} - residents
    middle = records[len(records) // 2 : len(records) * 3 // 4]
    began = time.monotonic()
    _assert_answered_while_fed(rig, [one for one in middle if one[0] in residents | strangers], OTHERS)
    rig.consumed()
    rig.pause(max(0.0, AWAY_S - (time.monotonic() - began)))
    unread = _unread(rig)
    rig.notes.append(f"{sum(unread.values())} answers as new, in partitions {sorted(unread)} (seed {rig.seed})")
    assert set(unread) == {SICK}, f"answered as new: {unread}, and only partition {SICK} had strangers"
    rig.servers.redis_way.heal()
    rig.say(f"way to Redis open, {sum(unread.values())} answered as new")
    rig.feed(late, over_s=16)
    rig.reach(0.8)
    rig.kill(rig.workers[0])
    rig.start()


@fault_that_may("unread", because=BECAUSE)
def one_partition_cannot_be_checkpointed(rig: Rig) -> None:
    """The key that fences one partition is made a string, so that Redis refuses its checkpoints and reads (WRONGTYPE),
    until it stands still; then its owner is killed, and the next cannot take it over. The others are answered all the
    time. Then the key is put back."""
    records = list(rig.fleet())
    third = len(records) // 3
    rig.start(2, wrong=f"unsaved={MAX_UNSAVED}")
    rig.feed(records[:third], over_s=12)
    rig.consumed()
    meta = KEY_PARTITION.format(group=rig.prefix, topic=rig.topics.pings, number=SICK) + KEY_META
    with rig.servers.redis.client() as redis:
        redis.rename(meta, f"{meta}:aside")
        redis.set(meta, "a string")
    rig.say(f"the meta key of partition {SICK} is a string")
    half = third + third // 2
    rig.feed(records[third:half], over_s=2)
    rig.consumed(OTHERS)
    _wait_until_it_stands(rig)
    _assert_answered_while_fed(rig, records[half : 2 * third], OTHERS)
    fed, answered = _positions(rig)[SICK]
    assert answered < fed, f"partition {SICK} was to stand still"
    for worker in list(rig.workers):
        if f"checkpoint of partition {SICK} is" in worker.log():
            rig.kill(worker)
            rig.start(wrong=f"unsaved={MAX_UNSAVED}")
    _assert_answered_while_fed(rig, records[2 * third :], OTHERS)
    fed, still = _positions(rig)[SICK]
    rig.notes.append(f"partition {SICK} stood at {answered} and then {still} of {fed} (seed {rig.seed})")
    assert still < fed, f"partition {SICK} was to stand still"
    with rig.servers.redis.client() as redis:
        redis.rename(f"{meta}:aside", meta)
    rig.say("the meta key is put back")


def _wait_until_it_stands(rig: Rig) -> None:
    """Until nothing of the sick partition was answered for a while."""
    last, moved_at = -1, time.monotonic()
    while time.monotonic() - moved_at < STILL_S:
        if (answered := _positions(rig)[SICK][1]) != last:
            last, moved_at = answered, time.monotonic()
        rig.pause(0.5)
    rig.say(f"partition {SICK} stands at {last}")


def _assert_answered_while_fed(rig: Rig, records: Sequence[Raw], partitions: Collection[int]) -> None:
    """Feed these, and count what is answered of these partitions meanwhile; then wait until all of it is."""
    before = _positions(rig)
    rig.feed(records, over_s=rig.pings / len(records) * AWAY_S / 2)
    rig.fed()
    after = _positions(rig)
    fed = sum(after[number][0] - before[number][0] for number in partitions)
    answered = sum(after[number][1] - before[number][1] for number in partitions)
    rig.consumed(partitions)
    share = f"{answered} of {fed} pings ({answered / fed:.1%})"
    rig.notes.append(f"the other partitions answered {share} by the moment when the last was fed (seed {rig.seed})")
    rig.say(f"others: {share}")
    assert answered >= RATE * fed, f"the other partitions had answered {share}"


def _positions(rig: Rig) -> dict[int, tuple[int, int]]:
    """How many records each partition was fed, and up to where the group has answered it."""
    with reader(rig.servers.cluster.direct, rig.prefix) as consumer:
        tps = bus_feed.partitions_of(consumer, rig.topics.pings)
        answered = {tp: consumer.committed(tp) or 0 for tp in tps}
        ends = consumer.end_offsets(tps)
        return {tp.partition: (ends[tp], answered[tp]) for tp in tps}


def _unread(rig: Rig) -> Counter[int]:
    """Forecasts so far that say that they do not stand on a stored state, by partition of their pings."""
    found = [
        loads_forecast(one.value or b"") for one in bus_feed.read(rig.servers.cluster.direct, rig.topics.forecasts)
    ]
    return Counter(one.src.partition for one in found if one.cache == "unread")


def _partition(key: bytes | None) -> int:
    """Where the feed's producer puts a key; -1 for none, which it puts anywhere."""
    return -1 if key is None else (murmur2(key) & 0x7FFFFFFF) % PARTITIONS


def _third(key: bytes | None) -> int:
    return sum(key or b"") % 3
