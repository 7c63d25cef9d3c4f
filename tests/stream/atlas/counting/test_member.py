"""A member with a real Redis: what it does with days that Redis has damaged, and with a version that failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from redis.asyncio import Redis

from stream.atlas.counting.making import Maker
from stream.atlas.counting.member import EARLY_S, Runner, next_due
from stream.atlas.counting.owned import Owned
from stream.atlas.counting.settings import RunSettings
from stream.kafka.log import Log, Seen, Start, start_of
from stream.kafka.records.record_columns import Records
from stream.members.storing_member import StoredHolding
from stream.store.days_store import DaysStore
from stream.versions.announcing import NotAnnounced
from stream.wire import Ping, Record, VersionRecord, dumps

SETTINGS = RunSettings(Path("unused"), group="pathcast-atlas")
TP = TopicPartition(SETTINGS.topics.pings, 0)
PARTITION = (TP.topic, TP.partition)


def drive(low: int, high: int) -> list[Record]:
    pings = [Ping(entity_id="a", ts=1_700_000_000_000 + 5_000 * n, lat=30 + n / 10_000, lon=0.0) for n in range(high)]
    made = [Record(*PARTITION, n, ping.ts, b"a", dumps(ping)) for n, ping in enumerate(pings)]
    return made[low:]


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[DaysStore]:
    made = DaysStore(redis_url, SETTINGS.group, 60)
    yield made
    await made.close()


async def described(stored: int | None, seen: Seen) -> Start:
    return start_of(stored, seen, Log(0, 30))


async def hold(runner: Runner, store: DaysStore) -> None:
    owned, start = await Owned.take_over(store, PARTITION, described)
    runner._holdings[0] = StoredHolding({TP.topic: start}, owned)


async def add(runner: Runner, records: list[Record]) -> None:
    """Lets it count records as if it had polled them."""
    await runner._fold_one(TP, runner._holdings[0], Records.of(records))


async def owning(store: DaysStore) -> Runner:
    """A member that has written ten records."""

    async def commit(offsets: object) -> None:
        pass

    kafka = SimpleNamespace(partitions_for_topic=lambda topic: {0}, commit=commit)
    runner = Runner(SETTINGS, store, cast(Any, kafka))
    await hold(runner, store)
    await add(runner, drive(0, 10))
    await runner._write_some([0])
    return runner


async def test_a_partition_with_a_damaged_day_is_counted_anew_whoever_owns_it(store: DaysStore, redis_url: str) -> None:
    runner = await owning(store)
    (day,) = (await store.read_held(PARTITION)).parts
    async with Redis.from_url(redis_url) as client:
        await client.lset(f"pathcast:{{{SETTINGS.group}|{TP.topic}|0}}:day:{day}", 0, "no day")  # type: ignore[misc]
    other = Runner(SETTINGS, store, runner._consumer)
    assert not await other._version()
    await add(runner, drive(10, 20))
    await runner._write_some([0])
    assert not runner._holdings
    assert (await Owned.take_over(store, PARTITION, described))[0].next_offset is None


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_of_a_version_that_was_not_announced_no_file_stays(
    store: DaysStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await owning(store)
    maker = Maker(replace(SETTINGS, atlases=tmp_path), store, cast(Any, None))
    made = []

    async def too_fast(*given: object) -> None:
        made.extend(files(tmp_path))
        raise NotAnnounced

    monkeypatch.setattr(maker, "_announce", too_fast)
    with pytest.raises(NotAnnounced):
        await maker.version(1)
    assert len(made) == 1
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("includes", "end", "is_less"),
    [({}, 30, True), ({0: 9}, 30, True), ({0: 10}, 30, False), ({}, 9, False)],
    ids=["nothing is counted yet", "some is counted anew", "all is", "the log was cut or made anew"],
)
async def test_a_version_is_not_made_of_less_than_the_one_that_serves(
    includes: dict[int, int], end: int, is_less: bool, store: DaysStore
) -> None:
    """Redis evicts a day, its partition is counted anew, and a full hour comes meanwhile: a version of what was counted
    by then took the place of a whole one for an hour. The world of seed 9 showed an empty one."""

    async def ends(tps: object) -> dict[TopicPartition, int]:
        return {TP: end}

    kafka = SimpleNamespace(partitions_for_topic=lambda topic: {0}, beginning_offsets=ends, end_offsets=ends)
    maker = Maker(SETTINGS, store, cast(Any, kafka))
    serves = VersionRecord(
        version="0" * 16, state="serving", first={0: 26}, topic=TP.topic, includes={0: 10}, contains={}, issued_ts=0
    )
    if is_less:
        with pytest.raises(NotAnnounced, match="partition 0 is counted anew"):
            await maker._check_whole(includes, [serves])
    else:
        await maker._check_whole(includes, [serves])
    await maker._check_whole(includes, [])


async def test_a_version_is_announced_once_until_more_is_counted(
    store: DaysStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = await owning(store)
    maker = Maker(replace(SETTINGS, atlases=tmp_path), store, cast(Any, None))
    announced = []

    async def announce(made: Any, includes: object) -> dict[int, int]:
        announced.append(made.version)
        return {}

    monkeypatch.setattr(maker, "_announce", announce)
    await maker.version(1)
    await maker.version(1)
    assert len(announced) == 1, "nothing was counted between the two"
    await add(runner, drive(10, 20))
    await runner._write_some([0])
    await maker.version(1)
    assert len(set(announced)) == len(announced) == 2
    assert maker.last is not None
    assert maker.last.versions == 2
    assert maker.last.made.contains["report"] == {"questions": 0}


HOUR_S = 3_600.0
NOON_S = 1_700_006_400.0  # a full hour


def due_s(now_s: float, began_s: float | None, every_s: float = HOUR_S) -> float:
    return next_due(now_s, every_s, began_s) - NOON_S


def test_early_versions_are_due_2_5_15_and_30_minutes_after_the_first_pings_and_then_hourly() -> None:
    began_s, now_s, found = NOON_S + 300, NOON_S + 300, []
    for _ in range(6):
        now_s = next_due(now_s, HOUR_S, began_s)
        found.append(now_s - began_s)
    assert found == [*EARLY_S, 3_300.0, 6_900.0]
    assert due_s(NOON_S + 10, None) == HOUR_S, "as long as nobody knows of pings"
    assert due_s(NOON_S + 10, NOON_S, 2 * 86_400) == 2 * 86_400 - NOON_S % (2 * 86_400)


class Clock:
    """Stands in for `time.time` of a member."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now_s: float = NOON_S) -> None:
        self.now_s = now_s
        monkeypatch.setattr("stream.atlas.counting.member.time.time", lambda: self.now_s)


async def settled(runner: Runner, issued_s: list[float], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Lets a member's maker know of versions with these times; returns, as it grows, which versions it makes: whether
    each is an early one."""
    made = list[bool]()

    async def settle() -> None:
        runner._maker.issued_s = issued_s

    async def version(partitions: int, *, is_early: bool = False) -> None:
        made.append(is_early)

    async def write() -> None:
        pass  # there is no Kafka to be asked how far it is read

    monkeypatch.setattr(runner, "_write_all", write)
    monkeypatch.setattr(runner._maker, "settle", settle)
    monkeypatch.setattr(runner._maker, "version", version)
    return made


async def test_a_member_makes_early_versions_and_then_one_each_hour(
    store: DaysStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, NOON_S + 300)
    runner = await owning(store)
    made = await settled(runner, [], monkeypatch)
    for minutes in (0, 1, 2, 3, 4, 5, 14, 15, 29, 30, 31, 54, 55, 56):
        clock.now_s = NOON_S + 300 + 60 * minutes
        await runner._after()
    assert made == [True, True, True, True, False]


async def test_a_member_without_pings_waits_for_the_first(store: DaysStore, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, NOON_S + 300)
    kafka = SimpleNamespace(partitions_for_topic=lambda topic: {0})
    runner = Runner(SETTINGS, store, cast(Any, kafka))
    await hold(runner, store)
    made = await settled(runner, [], monkeypatch)
    for minutes in (0, 2, 5, 15):
        clock.now_s = NOON_S + 300 + 60 * minutes
        await runner._after()
    assert not made
    await add(runner, drive(0, 10))
    await runner._after()
    assert runner._due_s == clock.now_s + EARLY_S[0]


async def test_a_restart_goes_on_where_recent_versions_were_made(
    store: DaysStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, NOON_S + 1_000)
    for issued_s, due in (
        ([NOON_S + 700, NOON_S + 880], NOON_S + 700 - EARLY_S[0] + EARLY_S[2]),  # 2 and 5 minutes are over
        ([NOON_S - 5_000, NOON_S], NOON_S + HOUR_S),
        ([NOON_S - 90_000, NOON_S - 86_400], NOON_S + 1_000 + EARLY_S[0]),  # of yesterday: it begins anew
    ):
        runner = await owning(store)
        made = await settled(runner, issued_s, monkeypatch)
        await runner._after()
        assert not made
        assert runner._due_s == due
        await store.discard(PARTITION)
