"""Days of partitions in a real Redis: all of a write or nothing, fenced, and what is lost is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from stream.store import days_store
from stream.store.base import ClaimLost, Fenced
from stream.store.days_store import DayPart, DaysLost, DaysStore, Held, TooLarge

A = ("pathcast.pings.v1", 0)
B = ("pathcast.pings.v1", 1)
KEY = "pathcast:{g|pathcast.pings.v1|0}:"


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[DaysStore]:
    made = DaysStore(redis_url, "g", 60)
    yield made
    await made.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


async def test_what_was_put_is_found_by_the_next_owner(store: DaysStore) -> None:
    held, growth = await store.claim(A)
    assert (held, growth) == (Held(1, None, 1, {}), None)
    held = await store.put(A, held, 7, b"growth", {19_000: DayPart(b"one"), 19_001: DayPart(b"\0two")})
    held = await store.put(A, held, 2**53 + 1, b"grown", {19_001: DayPart(b"three")})
    again, growth = await store.claim(A)
    assert (again.next_offset, growth, again.parts) == (2**53 + 1, b"grown", {19_000: 1, 19_001: 2})
    assert again.epoch == held.epoch + 1
    assert (await store.growth(A), await store.growth(B)) == (b"grown", None)
    assert await store.snapshot(A, bytes) == (again, {19_000: [b"one"], 19_001: [b"\0two", b"three"]})
    assert (await store.claim(B))[0].next_offset is None


async def test_what_is_known_of_the_log_is_of_the_offset_that_is_stored(store: DaysStore, redis: Redis) -> None:
    """An earlier release in the same group writes offsets alone: what was known at another one stays beside them."""
    held, _ = await store.claim(A)
    held = await store.put(
        A, held, 7, b"g", {1: DayPart(b"a"), 2: DayPart(b"b")}, gone=[2], seen="read=6;leader_epoch=2"
    )
    found = await store.read_held(A)
    assert (found, found.seen, found.parts) == (held, "read=6;leader_epoch=2", {1: 1})
    await redis.hset(f"{KEY}sums", "next_offset", "9")  # type: ignore[misc]
    assert ((await store.read_held(A)).next_offset, (await store.read_held(A)).seen) == (9, "")
    assert (await store.forget(A, held)).seen == (await store.read_held(A)).seen == ""


async def test_a_part_takes_the_place_of_others_and_old_days_go(store: DaysStore, redis: Redis) -> None:
    held, _ = await store.claim(A)
    held = await store.put(A, held, 7, b"g", {1: DayPart(b"a"), 2: DayPart(b"b"), 3: DayPart(b"c")})
    held = await store.put(A, held, 8, b"g", {3: DayPart(b"d")})
    held = await store.put(A, held, 9, b"g", {3: DayPart(b"cd", instead=True), 4: DayPart(b"e")}, gone=[1, 2])
    assert held.parts == {3: 1, 4: 1}
    assert await store.snapshot(A, bytes) == (held, {3: [b"cd"], 4: [b"e"]})
    assert not await redis.exists(f"{KEY}day:1", f"{KEY}day:2")


async def test_a_zombie_writes_nothing(store: DaysStore) -> None:
    old, _ = await store.claim(A)
    old = await store.put(A, old, 7, b"old", {1: DayPart(b"old")})
    new, _ = await store.claim(A)
    with pytest.raises(Fenced, match="another worker"):
        await store.put(A, old, 9, b"zombie", {1: DayPart(b"zombie", instead=True)}, gone=[1])
    with pytest.raises(Fenced):
        await store.forget(A, old)
    assert await store.snapshot(A, bytes) == (new, {1: [b"old"]})
    assert new.next_offset == 7


async def test_a_zombie_writes_nothing_to_an_older_copy_with_as_many_writes(store: DaysStore, redis: Redis) -> None:
    held, _ = await store.claim(A)
    older = await redis.dump(f"{KEY}sums")
    old = await store.put(A, held, 7, b"old", {1: DayPart(b"old")})
    await redis.restore(f"{KEY}sums", 0, older, replace=True)  # type: ignore[arg-type]
    new, _ = await store.claim(A)
    assert new.writes == old.writes
    with pytest.raises(Fenced):
        await store.put(A, old, 9, b"zombie", {1: DayPart(b"zombie")})
    assert await store.read_held(A) == new


async def test_a_redis_that_lost_all_or_is_an_older_copy_is_noticed(store: DaysStore, redis: Redis) -> None:
    held, _ = await store.claim(A)
    held = await store.put(A, held, 7, b"g", {1: DayPart(b"a")})
    older = await redis.dump(f"{KEY}sums")
    later = await store.put(A, held, 8, b"g", {1: DayPart(b"b")})
    await redis.restore(f"{KEY}sums", 0, older, replace=True)  # type: ignore[arg-type]
    with pytest.raises(ClaimLost, match="older copy"):
        await store.put(A, later, 9, b"g", {})
    await redis.flushdb()
    with pytest.raises(ClaimLost, match="lose its data"):
        await store.put(A, later, 9, b"g", {})


async def test_a_write_whose_answer_was_lost_is_not_added_again(store: DaysStore) -> None:
    held, _ = await store.claim(A)
    now = await store.put(A, held, 7, b"g", {1: DayPart(b"a")})
    with pytest.raises(ClaimLost, match="did not answer"):
        await store.put(A, held, 8, b"g", {1: DayPart(b"ab")})
    assert await store.snapshot(A, bytes) == (now, {1: [b"a"]})


@pytest.mark.parametrize("what", ["growth", "day:1"])
async def test_what_was_evicted_is_noticed_and_forgotten(store: DaysStore, redis: Redis, what: str) -> None:
    held, _ = await store.claim(A)
    await store.put(A, held, 7, b"g", {1: DayPart(b"a"), 2: DayPart(b"b")})
    await redis.delete(KEY + what)
    with pytest.raises(DaysLost):
        await store.claim(A)
    if what != "growth":
        with pytest.raises(DaysLost):
            await store.snapshot(A, bytes)
    held = await store.read_held(A)
    gone = await store.forget(A, held)
    assert gone == await store.read_held(A)
    assert (gone.next_offset, gone.parts) == (None, {})
    assert await redis.keys(f"{KEY}*") == [f"{KEY}sums".encode()]
    await store.put(A, gone, 1, b"anew", {5: DayPart(b"x")})
    assert (await store.claim(A))[0].parts == {5: 1}


async def test_the_next_write_does_not_hide_what_was_evicted(store: DaysStore, redis: Redis) -> None:
    held, _ = await store.claim(A)
    held = await store.put(A, held, 7, b"g", {1: DayPart(b"a"), 2: DayPart(b"b")})
    await redis.delete(f"{KEY}day:1")
    held = await store.put(A, held, 8, b"g", {1: DayPart(b"c")})
    assert held.parts == (await store.read_held(A)).parts == {1: 2, 2: 1}
    with pytest.raises(DaysLost):
        await store.snapshot(A, bytes)
    with pytest.raises(DaysLost) as lost:
        await store.claim(A)
    assert (lost.value.partition, lost.value.held) == (A, await store.read_held(A))


async def test_what_an_evicted_hash_left_is_not_added_to(store: DaysStore, redis: Redis) -> None:
    held, _ = await store.claim(A)
    await store.put(A, held, 7, b"g", {1: DayPart(b"a")})
    await redis.delete(f"{KEY}sums")
    held, growth = await store.claim(A)
    assert (held.next_offset, growth) == (None, None)
    held = await store.put(A, held, 7, b"g", {1: DayPart(b"anew")})
    assert await store.snapshot(A, bytes) == (held, {1: [b"anew"]})


async def test_after_what_was_forgotten_no_earlier_write_of_ours_comes(store: DaysStore) -> None:
    held, _ = await store.claim(A)
    gone = await store.forget(A, held)
    with pytest.raises(ClaimLost):
        await store.put(A, held, 7, b"g", {1: DayPart(b"late")})
    assert await store.read_held(A) == gone


async def test_what_is_discarded_fences_its_owner(store: DaysStore) -> None:
    held, _ = await store.claim(A)
    held = await store.put(A, held, 7, b"g", {1: DayPart(b"a")})
    await store.discard(A)
    with pytest.raises(Fenced):
        await store.put(A, held, 8, b"g", {1: DayPart(b"b")})
    assert (await store.claim(A))[0].next_offset is None


async def test_of_a_fleet_that_is_gone_nothing_stays(redis_url: str, redis: Redis) -> None:
    store = DaysStore(redis_url, "g", 60)
    held, _ = await store.claim(A)
    await store.put(A, held, 7, b"g", {1: DayPart(b"a"), 2: DayPart(b"b")})
    keys = await redis.keys("*")
    assert len(keys) == 4
    assert all([0 < await redis.pttl(key) <= 60_000 for key in keys])
    await store.close()


async def test_a_snapshot_is_of_one_moment(store: DaysStore) -> None:
    """Each write adds a part to both days: a snapshot that saw one of the two would have one more of it."""
    held, _ = await store.claim(A)
    held = await store.put(A, held, 0, b"g", {1: DayPart(b"0"), 2: DayPart(b"0")})

    async def write() -> None:
        now = held
        for n in range(1, 30):
            now = await store.put(A, now, n, b"g", {1: DayPart(b"%d" % n), 2: DayPart(b"%d" % n)})
            await asyncio.sleep(0.003)

    async def read() -> int:
        seen = 0
        for _ in range(60):
            try:
                at, parts = await store.snapshot(A, bytes)
            except TimeoutError:
                continue
            assert parts[1] == parts[2] == [b"%d" % n for n in range(int(at.next_offset or 0) + 1)]
            seen += 1
        return seen

    _, seen = await asyncio.gather(write(), read())
    assert seen > 5


async def test_what_redis_takes_never_is_refused_with_the_remedy(
    store: DaysStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, _ = await store.claim(A)
    monkeypatch.setattr(days_store, "MAX_BYTES", 3)
    await store.put(A, held, 7, b"abc", {1: DayPart(b"abc")})
    for growth, part in ((b"abcd", b"a"), (b"a", b"abcd")):
        with pytest.raises(TooLarge, match="more partitions"):
            await store.put(A, held, 7, growth, {1: DayPart(part)})


def test_a_group_with_a_sign_of_keys_is_refused(redis_url: str) -> None:
    with pytest.raises(ValueError, match="must not contain"):
        DaysStore(redis_url, "a|b", 60)
