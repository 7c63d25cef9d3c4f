"""A partition that is counted into a real Redis, with crashes as inputs: nothing is left out, or counted twice."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from model.atlas.days import Day
from model.atlas.passages import entity_ids
from stream.atlas.building import Builder, Rules, published_of
from stream.atlas.counting import owned
from stream.atlas.counting.making import make, stored_days
from stream.atlas.counting.owned import Owned
from stream.atlas.growing_days import GrowingDays
from stream.kafka.log import History, Log, Seen, Start, start_of
from stream.kafka.records.record_columns import Records
from stream.store.base import ClaimLost, Fenced
from stream.store.days_store import DaysLost, DaysStore, Held
from stream.wire import Ping, Record, dumps
from stream.wire.record import FORGET_HEADERS

TOPIC = "t.pings.v1"
START_MS = 1_700_005_000_000
DAY_S = 86_400
RULES = Rules(min_entities=1)


def fleet(number: int, many: int = 400) -> list[Record]:
    """Vans on one street, on three days: the log of a partition."""
    rng, now, made = random.Random(number), 0.0, list[Record]()
    for offset in range(many):
        now += 8 if offset not in (150, 300) else DAY_S
        van = rng.randrange(4)
        north_m = 2_000 * abs((now * (6 + van) / 2_000) % 2 - 1)
        ts_ms = START_MS + round(1000 * now)
        ping = Ping(entity_id=f"{number}-{van}", ts=ts_ms, lat=30.0 + north_m / 111_195, lon=-97.7)
        made.append(Record(TOPIC, number, offset, ts_ms, ping.entity_id.encode(), dumps(ping)))
    return made


def asking(log: Sequence[Record], at: int, entity: str) -> list[Record]:
    """The log with a record in place of one of its pings: it asks to forget an entity."""
    asks = log[at]._replace(key=entity.encode(), value=None, headers=FORGET_HEADERS)
    return [*log[:at], asks, *log[at + 1 :]]


def days_of(*logs: Sequence[Record]) -> GrowingDays:
    """What is known of partitions that are read from their logs alone."""
    days = GrowingDays()
    for log in logs:
        builder = Builder()
        builder.add(Records.of(log))
        days.add_all(builder.built().days)
    return days


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[DaysStore]:
    made = DaysStore(redis_url, "g", 60)
    yield made
    await made.close()


def in_log(begin: int, end: int, **more: Any) -> Callable[[int | None, Seen], Awaitable[Start]]:
    """Brokers that describe a log so."""

    async def ask(stored: int | None, seen: Seen) -> Start:
        return start_of(stored, seen, Log(begin, end, **more))

    return ask


async def take(store: DaysStore, log: Sequence[Record], number: int = 0, begin: int = 0, **more: Any) -> Owned:
    owned, _ = await Owned.taken_over(store, (TOPIC, number), in_log(begin, len(log), **more))
    return owned


def next_of(one: Owned) -> int:
    return one.next_offset or 0


@pytest.mark.parametrize("seed", range(5))
async def test_over_crashes_takeovers_and_failed_writes_the_version_is_that_of_the_log(
    store: DaysStore, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned, "MOST_PARTS", 2)
    rng, logs = random.Random(seed), [asking(fleet(number), 220, "0-1") for number in range(2)]
    for number, log in enumerate(logs):
        one = await take(store, log, number)
        while next_of(one) < len(log):
            event = rng.random()
            if event < 0.15:  # a crash: what was not written is lost
                one = await take(store, log, number)
            elif event < 0.25:  # a member that stood still writes after another took over
                other = await take(store, log, number)
                one.next_offset = next_of(one) + 1
                with pytest.raises(Fenced):
                    await one.write(70)
                one = other
            elif event < 0.5:
                await one.write(70)
            else:
                await one.add(Records.of(log[next_of(one) : next_of(one) + rng.randrange(1, 60)]))
        assert await one.write(70)
        assert not await one.write(70)
    days, alone = await stored_days(store, TOPIC, 3), days_of(*logs)
    made = make(days, RULES, tmp_path)
    assert days.includes == {0: 400, 1: 400}
    assert published_of(days, RULES).contains == published_of(alone, RULES).contains
    (tmp_path / "log").mkdir()
    assert make(alone, RULES, tmp_path / "log").version == made.version
    assert made.passages > 50
    kept = days_of(fleet(0), logs[1])
    assert make(kept, RULES, tmp_path / "log").version != made.version, "there is something to forget"


async def parts_of(store: DaysStore) -> dict[int, list[bytes]]:
    _, parts = await store.snapshot((TOPIC, 0), bytes)
    return parts


def assert_of_log(days: Mapping[int, Sequence[bytes]], log: Sequence[Record]) -> None:
    """That parts in Redis are what is known of a log."""
    due = days_of(log)
    for day, parts in days.items():
        assert Day.total(map(Day.loads, parts)).dumps() == due.day(day).dumps()
    assert sorted(days) == list(due)


async def test_what_an_entity_did_is_taken_out_of_redis_and_what_it_does_later_is_not(
    store: DaysStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all days, in many parts. A write that fails in between is made up for by the next owner, who meets the record
    again."""
    log = asking(fleet(0), 220, "0-1")
    one, (van,) = await take(store, log), entity_ids(["0-1"])
    for at in range(0, 210, 7):
        await one.add(Records.of(log[at : at + 7]))
        await one.write(70)
    before = await parts_of(store)
    whole = {day: Day.total(map(Day.loads, parts)) for day, parts in before.items()}
    assert max(map(len, before.values())) > 1
    assert all(van in day.ids for day in whole.values())
    assert van in whole[min(whole)].passages.rows["id"]
    await one.add(Records.of(log[210:230]))
    put, failing = store.put, iter([False, True])

    async def fails_once(*given: Any) -> Held:
        if next(failing, False):
            raise TimeoutError("no answer")
        return await put(*given)

    monkeypatch.setattr(store, "put", fails_once)
    with pytest.raises(TimeoutError):
        await one.write(70)
    assert (await store.held((TOPIC, 0))).next_offset == 210, "before the record that asks for it"
    one = await take(store, log)
    for begin, end in ((210, 290), (290, 320), (320, 400)):
        await one.add(Records.of(log[begin:end]))
        await one.write(70)
    after = await parts_of(store)
    known = Day.total(Day.loads(part) for parts in after.values() for part in parts).passages.rows
    assert min(known["ts_ms"][known["id"] == van]) > log[220].timestamp_ms, "it goes on"
    assert_of_log(after, log)


async def test_a_day_without_the_entity_that_is_to_be_forgotten_is_not_written_again(store: DaysStore) -> None:
    """The record lies in every partition, and the entity is in one."""
    log = asking(fleet(0), 200, "another")
    one = await take(store, log)
    await one.add(Records.of(log[:200]))
    await one.write(70)
    writes = (await store.held((TOPIC, 0))).writes
    await one.add(Records.of(log[200:]))
    await one.write(70)
    assert (await store.held((TOPIC, 0))).writes == writes + 1
    assert_of_log(await parts_of(store), log)


async def test_the_parts_of_a_day_are_joined_when_they_are_many(store: DaysStore) -> None:
    log, counts = fleet(0, 150), list[int]()
    one = await take(store, log)
    for at in range(0, 150, 5):
        await one.add(Records.of(log[at : at + 5]))
        await one.write(70)
        counts += (await store.held((TOPIC, 0))).parts.values()
    assert max(counts) == owned.MOST_PARTS
    assert_of_log(await parts_of(store), log)


async def test_a_write_whose_answer_was_lost_makes_its_owner_begin_anew(store: DaysStore) -> None:
    log = fleet(0)
    one = await take(store, log)
    await one.add(Records.of(log[:100]))
    put = store.put

    async def unanswered(*given: object) -> object:
        await put(*given)  # type: ignore[arg-type]
        raise TimeoutError("no answer")

    store.put = unanswered  # type: ignore[method-assign, assignment]
    with pytest.raises(TimeoutError):
        await one.write(70)
    store.put = put  # type: ignore[method-assign]
    await one.add(Records.of(log[100:200]))
    with pytest.raises(ClaimLost):
        await one.write(70)
    again = await take(store, log)
    assert again.next_offset == 100


async def test_days_that_are_older_than_the_retention_are_deleted(store: DaysStore, redis_url: str) -> None:
    log = fleet(0)
    one = await take(store, log)
    await one.add(Records.of(log[:290]))
    await one.write(70)
    assert len((await store.held((TOPIC, 0))).parts) == 3
    await one.add(Records.of(log[290:]))
    await one.write(2)
    days = sorted((await store.held((TOPIC, 0))).parts)
    assert len(days) == 2
    async with Redis.from_url(redis_url) as client:
        assert len(await client.keys("*:day:*")) == 2


async def test_one_ping_with_a_false_time_deletes_no_day_of_the_others(store: DaysStore) -> None:
    log = fleet(0)
    false = Ping(entity_id="0-0", ts=START_MS + 20_000 * DAY_S * 1000, lat=30.0, lon=-97.7)
    log.append(Record(TOPIC, 0, len(log), false.ts, b"0-0", dumps(false)))
    one = await take(store, log)
    await one.add(Records.of(log))
    await one.write(70)
    assert len((await store.held((TOPIC, 0))).parts) == 5


async def test_what_is_lost_and_another_log_are_counted_anew(
    store: DaysStore, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = fleet(0)
    one = await take(store, log)
    await one.add(Records.of(log[:200]))
    await one.write(70)
    assert (await take(store, log, begin=250)).next_offset == 200
    assert (await take(store, log[:100])).next_offset is None
    one = await take(store, log)
    await one.add(Records.of(log[:200]))
    await one.write(70)
    async with Redis.from_url(redis_url) as client:
        await client.set(f"pathcast:{{g|{TOPIC}|0}}:growth", b"of another program")
    assert (await take(store, log)).next_offset is None
    assert "another version of this program" in caplog.text


async def test_who_was_overtaken_while_it_claimed_deletes_nothing_of_the_next_owner(
    store: DaysStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = fleet(0)
    claim = store.claim

    async def overtaken(partition: tuple[str, int]) -> tuple[Held, bytes | None]:
        ours = await claim(partition)
        theirs, _ = await claim(partition)
        await store.put(partition, theirs, 7, b"theirs", {})
        return ours

    monkeypatch.setattr(store, "claim", overtaken)
    with pytest.raises(Fenced):
        await Owned.taken_over(store, (TOPIC, 0), in_log(0, len(log)), anew=True)
    assert (await store.held((TOPIC, 0))).next_offset == 7


@pytest.mark.parametrize("lost", [False, True])
async def test_parts_that_are_lost_or_damaged_are_not_added_up(
    store: DaysStore, redis_url: str, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned, "MOST_PARTS", 1)
    log = fleet(0)
    one = await take(store, log)
    await one.add(Records.of(log[:100]))
    await one.write(70)
    (day,) = (await store.held((TOPIC, 0))).parts
    async with Redis.from_url(redis_url) as client:
        key = f"pathcast:{{g|{TOPIC}|0}}:day:{day}"
        await (client.delete(key) if lost else client.lset(key, 0, "no day"))  # type: ignore[misc]
    await one.add(Records.of(log[100:150]))
    with pytest.raises(DaysLost):
        await one.write(70)


@pytest.mark.parametrize("made_anew", [False, True])
async def test_after_a_cut_new_records_are_counted_and_what_was_counted_stays(
    store: DaysStore, made_anew: bool
) -> None:
    """The log had grown past what was counted, so that offsets alone did not tell: new records were skipped. A track
    takes a record only once, so that it must forget, too, which offsets it has taken."""
    log, cut = fleet(0), 0 if made_anew else 150
    one = await take(store, log[:200])
    await one.add(Records.of(log[:200]))
    one.seen = Seen(200, History("a", 1))
    await one.write(70)
    new = [record._replace(offset=cut + n) for n, record in enumerate(log[200:])]
    about: dict[str, Any] = {"topic_id": "b"} if made_anew else {"topic_id": "a", "kept": cut, "kept_epoch": 1}
    one = await take(store, [*log[:cut], *new], **about)
    held = await store.held((TOPIC, 0))
    assert one.next_offset == held.next_offset == cut
    assert Seen.of(held.seen).read == cut
    await one.add(Records.of(new))
    await one.write(70)
    days = await stored_days(store, TOPIC, 1)
    assert published_of(days, RULES).contains == published_of(days_of(log), RULES).contains
