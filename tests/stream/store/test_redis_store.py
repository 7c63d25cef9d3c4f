"""One suite for both stores; RedisStore runs against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest
from redis.asyncio import Redis

from stream.config.settings import Settings
from stream.store import redis_client
from stream.store.base import MAX_RECORD_BYTES, Claim, ClaimLost, Fenced, Item, MemoryStore, Patch, Store
from stream.store.redis_index import PAGE, STEPS
from stream.store.redis_store import MAX_CALL_BYTES, MAX_CALL_ITEMS, MAX_GOT_BYTES, RedisStore

A = ("pathcast.pings.v1", 0)
B = ("pathcast.pings.v1", 1)
META = "pathcast:{g1|pathcast.pings.v1|0}:meta"
INDEX = "pathcast:{g1|pathcast.pings.v1|0}:index"
ENTITY = "pathcast:{g1|pathcast.pings.v1|0}:e:"


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    made: Store = MemoryStore()
    if request.param == "redis":
        made = RedisStore(Settings(redis_url=request.getfixturevalue("redis_url"), group="g1"))
    yield made
    await made.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def redis_store(redis_url: str) -> AsyncIterator[RedisStore]:
    made = RedisStore(Settings(redis_url=redis_url, group="g1", state_ttl_s=60))
    yield made
    await made.close()


async def begin(store: Store, items: Mapping[str, Item], next_offset: int = 5) -> int:
    """Claims the partition, and puts these records into it. Returns the epoch."""
    epoch, _ = await store.claim(A)
    assert await store.put_many(A, epoch, next_offset, items) == []
    return epoch


async def test_what_was_put_is_got_in_the_order_asked_for(store: Store) -> None:
    await begin(store, {"x": b"1", "y": b"\x00\xff" * 3, "": b""}, 17)
    assert await store.get_many(A, ["y", "nobody", "x", "y", ""]) == [b"\x00\xff" * 3, None, b"1", b"\x00\xff" * 3, b""]
    assert await store.get_many(A, []) == []
    assert (await store.claim(A)).next_offset == 17


async def test_what_is_removed_is_gone_and_not_missed(store: Store) -> None:
    epoch = await begin(store, {"x": b"1", "y": b"2", "z": b"3"}, 17)
    await store.remove(A, epoch, ["x", "nobody", "z"])
    assert await store.get_many(A, ["x", "y", "z"]) == [None, b"2", None]
    assert await store.list_evicted(A) == []
    assert await store.count(A) == 1
    assert (await store.peek(A)).next_offset == 17, "the offset moves by itself"
    await store.put_many(A, epoch, 18, {"x": b"4"})
    assert await store.get_many(A, ["x"]) == [b"4"]


async def test_an_older_copy_that_is_restored_after_a_removal_is_noticed(redis_store: RedisStore, redis: Redis) -> None:
    epoch = await begin(redis_store, {"x": b"1"}, 17)
    before = await redis.hgetall(META)
    await redis_store.remove(A, epoch, ["x"])
    await redis.hset(META, mapping=before)
    with pytest.raises(ClaimLost):
        await redis_store.put_many(A, epoch, 18, {"y": b"2"})


async def test_a_reader_finds_in_which_partition_an_entity_is(redis_store: RedisStore) -> None:
    for partition, ids in ((A, ["x", "y"]), (B, ["y", "z"])):
        epoch, _ = await redis_store.claim(partition)
        await redis_store.put_many(partition, epoch, 1, dict.fromkeys(ids, b"1"))
    assert await redis_store.homes([A, B], ["z", "nobody", "x", "y"]) == [B, None, A, A]
    assert await redis_store.homes([B, A], ["y"]) == [B]
    assert await redis_store.homes([], ["y"]) == [None]
    assert await redis_store.homes([A], []) == []


async def test_a_later_put_replaces_and_an_empty_one_moves_only_the_offset(store: Store) -> None:
    epoch = await begin(store, {"x": b"old", "y": b"kept"})
    await store.put_many(A, epoch, 6, {"x": b"new"})
    await store.put_many(A, epoch, 2**53 + 1, {})
    assert await store.get_many(A, ["x", "y"]) == [b"new", b"kept"]
    assert (await store.claim(A)).next_offset == 2**53 + 1


async def test_a_piece_of_a_checkpoint_does_not_move_the_offset(store: Store) -> None:
    epoch = await begin(store, {})
    await store.put_many(A, epoch, None, {"x": b"1"})
    assert await store.get_many(A, ["x"]) == [b"1"]
    assert await store.claim(A) == Claim(epoch + 1, 5)


async def test_partitions_know_nothing_of_each_other(store: Store) -> None:
    epoch = await begin(store, {"x": b"a"})
    assert await store.claim(B) == Claim(1, None)
    assert await store.get_many(B, ["x"]) == [None]
    await store.claim(B)
    await store.put_many(A, epoch, 6, {"x": b"b"})


async def test_a_checkpoint_larger_than_one_call_arrives_whole(store: Store) -> None:
    items = {f"e{n}": bytes([n % 251]) * (MAX_CALL_BYTES // 7 if n % 50 else MAX_CALL_BYTES + 1) for n in range(60)}
    items |= {f"small{n}": b"s" for n in range(9_000)}
    await begin(store, items, 33)
    assert await store.get_many(A, list(items)) == list(items.values())
    assert (await store.claim(A)).next_offset == 33


async def test_a_patch_changes_the_bytes_that_it_names(store: Store) -> None:
    epoch = await begin(store, {"x": b"0123456789", "y": b"abcdef"})
    items = {"x": Patch(10, ((0, b"AB"), (8, b"CD\0"))), "z": b"whole", "y": Patch(6, ())}
    assert await store.put_many(A, epoch, 6, items) == []
    assert await store.get_many(A, ["x", "y", "z"]) == [b"AB234567CD\0", b"abcdef", b"whole"]
    assert (await store.claim(A)).next_offset == 6


async def test_a_patch_without_its_record_writes_nothing_and_says_so(store: Store) -> None:
    """Put over nothing it would leave zeros that pass for a record; and the offset would promise it."""
    epoch = await begin(store, {"x": b"0123", "short": b"012"})
    items = {"gone": Patch(4, ((0, b"A"),)), "x": Patch(4, ((0, b"A"),)), "short": Patch(4, ((0, b"A"),))}
    assert await store.put_many(A, epoch, 6, items) == ["gone", "short"]
    assert await store.get_many(A, list(items)) == [None, b"A123", b"012"]
    assert (await store.claim(A)).next_offset == 5


async def test_many_patches_arrive_whole(store: Store) -> None:
    names = [f"e{n}" for n in range(9_000)]
    epoch = await begin(store, dict.fromkeys(names, b"0123456789"))
    items = {name: Patch(10, ((n % 9, b"X"),)) for n, name in enumerate(names)}
    assert await store.put_many(A, epoch, 6, items) == []
    got = await store.get_many(A, names)
    assert all(raw is not None and raw[n % 9 : n % 9 + 1] == b"X" for n, raw in enumerate(got))


async def test_a_patch_that_missed_in_an_earlier_call_keeps_the_offset_where_it_is(store: Store) -> None:
    """A checkpoint of two calls: the first finds nothing to patch, and the second has the offset."""
    names = [f"e{n}" for n in range(MAX_CALL_ITEMS + 1)]
    epoch = await begin(store, dict.fromkeys(names[1:], b"0123"))
    assert await store.put_many(A, epoch, 6, dict.fromkeys(names, Patch(4, ((0, b"A"),)))) == ["e0"]
    assert (await store.claim(A)).next_offset == 5


# -- records that are gone before their time --------------------------------------------------------------------------


async def lose(store: Store, *entity_ids: str) -> None:
    """As Redis does that evicts: the records go, and nothing is said."""
    if isinstance(store, MemoryStore):
        for entity_id in entity_ids:
            del store._records[A][entity_id]
    else:
        assert isinstance(store, RedisStore)
        assert await store._redis.unlink(*(ENTITY + entity_id for entity_id in entity_ids)) == len(entity_ids)


Write = Callable[[Store, int], Awaitable[object]]
MANY = [str(n) for n in range(20)]
WRITES: dict[str, Write] = {
    "put": lambda store, old: store.put_many(A, old, 12, {"x": b"zombie", "0": b"zombie"}),
    "put in several calls": lambda store, old: store.put_many(A, old, 12, dict.fromkeys(MANY, bytes(200_000))),
    "patch": lambda store, old: store.put_many(A, old, 12, {"x": Patch(4, ((0, b"A"),))}),
    "remove": lambda store, old: store.remove(A, old, ["x"]),
    "unlist": lambda store, old: store.unlist(A, old, ["lost"], 4),
    "forget": lambda store, old: store.forget(A, old),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_each_claim_raises_the_epoch_and_whoever_has_the_one_before_changes_nothing(
    store: Store, write: Write
) -> None:
    old = await begin(store, {"x": b"0123", "lost": b"1"}, 9)
    await lose(store, "lost")
    new, next_offset = await store.claim(A)
    assert (new, next_offset) == (old + 1, 9)
    with pytest.raises(Fenced, match="another worker"):
        await write(store, old)
    assert await store.get_many(A, ["x", *MANY]) == [b"0123", *[None] * len(MANY)]
    assert await store.list_evicted(A) == ["lost"]
    assert await store.peek(A) == Claim(new, 9)
    await store.put_many(A, new, 10, {"x": b"new"})
    assert await store.claim(A) == Claim(new + 1, 10)


async def test_who_was_never_written_is_not_evicted_and_who_is_lost_is(store: Store) -> None:
    await begin(store, {"x": b"1", "ß*": b"2", "empty": b""})
    assert await store.list_evicted(A) == await store.list_evicted(A, ["x", "nobody", "empty"]) == []
    await lose(store, "x", "ß*")
    assert sorted(await store.list_evicted(A)) == ["x", "ß*"]
    assert await store.list_evicted(A, ["nobody", "ß*", "empty", "x"]) == ["ß*", "x"]
    assert await store.list_evicted(B, ["x"]) == []
    assert await store.get_many(A, ["x"]) == [None]


async def test_thousands_that_are_lost_are_all_found(store: Store) -> None:
    names = [f"e{n}" for n in range(2 * PAGE + 1)]
    await begin(store, dict.fromkeys(names, b"1"))
    await lose(store, *names[1::2])
    assert sorted(await store.list_evicted(A)) == sorted(names[1::2])
    assert await store.list_evicted(A, names) == names[1::2]


async def test_what_is_written_again_is_not_evicted_any_more(store: Store) -> None:
    epoch = await begin(store, {"x": b"0123"})
    await lose(store, "x")
    assert await store.put_many(A, epoch, 6, {"x": Patch(4, ((0, b"A"),))}) == ["x"]
    assert await store.list_evicted(A) == ["x"], "the patch found nothing"
    await store.put_many(A, epoch, 6, {"x": b"4567"})
    assert await store.list_evicted(A) == []


async def test_who_is_unlisted_is_expected_no_more_and_the_offset_goes_back_with_it(store: Store) -> None:
    epoch = await begin(store, {"x": b"1", "y": b"2", "z": b"3"}, 9)
    await lose(store, "x", "y")
    await store.unlist(A, epoch, ["y"])
    assert await store.list_evicted(A) == ["x"]
    assert await store.peek(A) == Claim(epoch, 9)
    await store.unlist(A, epoch, ["x"], 4)
    assert await store.list_evicted(A) == []
    assert await store.claim(A) == Claim(epoch + 1, 4)
    assert await store.count(A) == 1


async def test_entities_are_counted_once_each_and_by_partition(store: Store) -> None:
    epoch, _ = await store.claim(A)
    assert await store.count(A) == 0
    await store.put_many(A, epoch, 5, {"x": b"0123", "y": b"1"})
    await store.put_many(A, epoch, 6, {"x": Patch(4, ((0, b"A"),)), "z": b"1", "gone": Patch(4, ((0, b"A"),))})
    assert (await store.count(A), await store.count(B)) == (3, 0)
    await store.forget(A, epoch)
    assert await store.count(A) == 0
    assert await store.list_evicted(A) == [], "what was forgotten is not lost"


async def test_a_claim_rises_above_the_floor(store: Store) -> None:
    """Redis came back empty: the owner that held epoch 7 must still fence whoever held 6."""
    assert (await store.claim(A, floor=7)).epoch == 8
    assert (await store.claim(A, floor=3)).epoch == 9


async def test_a_put_without_a_stored_claim_is_refused_as_lost(store: Store) -> None:
    """Written on, the offset would promise records that Redis has lost."""
    with pytest.raises(ClaimLost):
        await store.put_many(A, 7, 9, {"x": b"1"})
    assert await store.get_many(A, ["x"]) == [None]


@pytest.mark.parametrize("field", ["epoch", "writes"])
async def test_who_reads_where_somebody_else_wrote_no_number_hears_that_the_claim_is_lost(
    redis_store: RedisStore, redis: Redis, field: str
) -> None:
    """As whoever writes hears it, and takes the partition over anew. A bare ValueError would end the worker."""
    await begin(redis_store, {"x": b"1"})
    await redis.hset(META, field, "none")  # type: ignore[misc]
    with pytest.raises(ClaimLost):
        await redis_store.get_many(A, ["x"])


async def test_forgetting_deletes_records_and_offset_but_not_the_epoch(store: Store) -> None:
    epoch = await begin(store, {f"e{n}": b"1" for n in range(9_000)} | {"*": b"2"})
    other, _ = await store.claim(B)
    await store.put_many(B, other, 5, {"e1": b"kept"})
    await store.forget(A, epoch)
    assert await store.get_many(A, ["e1", "e8999", "*"]) == [None] * 3
    assert await store.get_many(B, ["e1"]) == [b"kept"]
    assert await store.claim(A) == Claim(epoch + 1, None)
    with pytest.raises(Fenced):
        await store.forget(A, epoch)


async def test_an_onlooker_sees_what_stands_there_and_fences_nobody(store: Store) -> None:
    assert await store.peek(A) == Claim(0, None)
    epoch = await begin(store, {"x": b"1", "*": b"2", "ß": b"3"}, 9)
    await store.put_many(B, (await store.claim(B)).epoch, 1, {"z": b"1"})
    assert await store.peek(A) == Claim(epoch, 9)
    assert {entity_id async for entity_id in store.entity_ids(A)} == {"x", "*", "ß"}
    await store.put_many(A, epoch, 10, {})  # not fenced by our look


@pytest.mark.parametrize("entity_id", ["{a}", "x}:meta", "*", "ß🚌", "a b", "\\"])
async def test_any_entity_id_is_a_key_of_its_own(store: Store, entity_id: str) -> None:
    epoch = await begin(store, {entity_id: b"mine", "a": b"other"})
    assert await store.get_many(A, [entity_id, "a"]) == [b"mine", b"other"]
    assert await store.claim(A) == Claim(epoch + 1, 5)


async def test_what_is_larger_than_any_record_is_not_handed_over(store: Store) -> None:
    """No bytes, not none: something stands there, and its entity is to be counted as damaged."""
    most = bytes(MAX_RECORD_BYTES)
    await begin(store, {"x": most, "y": most + b"\0", "z": b"1"})
    assert await store.get_many(A, ["x", "y", "nobody", "z"]) == [most, b"", None, b"1"]


# -- what only Redis has ----------------------------------------------------------------------------------------------


async def test_an_older_copy_is_seen_before_anything_is_read_from_it_or_written(
    redis_store: RedisStore, redis: Redis
) -> None:
    """A restored snapshot holds our epoch, and records that lack what we wrote since: of an entity that is not in
    memory the older record would be taken for the newest."""
    epoch = await begin(redis_store, {"bus": b"old"})
    snapshot = {key: await redis.dump(key) for key in await redis.keys()}
    await redis_store.put_many(A, epoch, 6, {"bus": b"new"})
    for key, dumped in snapshot.items():
        await redis.restore(key, 0, dumped, replace=True)
    with pytest.raises(ClaimLost, match="older copy"):
        await redis_store.get_many(A, ["bus"])
    with pytest.raises(ClaimLost, match="older copy"):
        await redis_store.put_many(A, epoch, 7, {"bus": b"newer"})
    assert await redis_store.claim(A) == Claim(epoch + 1, 5), "what it holds is where the replay begins"
    assert await redis_store.get_many(A, ["bus"]) == [b"old"]


async def test_a_write_whose_answer_was_lost_does_not_look_like_an_older_copy(
    redis_store: RedisStore, redis: Redis
) -> None:
    epoch, _ = await redis_store.claim(A)
    before = dict(redis_store._claimed)
    await redis_store.put_many(A, epoch, 5, {"bus": b"1"})
    redis_store._claimed = before  # as if the connection had broken before the answer
    await redis_store.put_many(A, epoch, 5, {"bus": b"1"})
    assert await redis_store.get_many(A, ["bus"]) == [b"1"]


async def test_a_write_that_is_answered_before_a_read_does_not_make_that_an_older_copy(
    redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go by connections of their own: Redis did the read first, and its answer comes second."""
    epoch, _ = await redis_store.claim(A)
    read, wrote = redis_client._Pipeline.execute, []

    async def execute(pipe: redis_client._Pipeline, raise_on_error: bool = True) -> list[object]:
        found = await read(pipe, raise_on_error)
        if not wrote:
            wrote.append(await redis_store.put_many(A, epoch, 5, {"y": b"2"}))
        return found

    monkeypatch.setattr(redis_client._Pipeline, "execute", execute)
    assert await redis_store.get_many(A, ["x"]) == [None]
    assert wrote == [[]]
    assert await redis_store.get_many(A, ["y"]) == [b"2"]


async def test_the_keys_are_as_drawn(redis_store: RedisStore, redis: Redis) -> None:
    await begin(redis_store, {"bus-1": b"record"})
    assert sorted(await redis.keys()) == sorted([META.encode(), INDEX.encode(), (ENTITY + "bus-1").encode()])
    assert await redis.hgetall(META) == {b"epoch": b"1", b"next_offset": b"5", b"writes": b"2"}
    assert await redis.get(ENTITY + "bus-1") == b"record"
    expires_ms = await redis.pexpiretime(ENTITY + "bus-1")
    step_ms = 60_000 // STEPS
    assert await redis.zrange(INDEX, 0, -1, withscores=True) == [(b"bus-1", expires_ms // step_ms * step_ms)]
    assert await redis.ttl(INDEX) == -1, "or a policy of volatile-* would take it, too"


async def test_records_that_are_much_together_come_in_several_calls(redis_store: RedisStore, redis: Redis) -> None:
    """Else one answer would be of gigabytes, in Redis and here."""
    epoch, _ = await redis_store.claim(A)
    items = {f"e{n}": bytes([n]) * MAX_RECORD_BYTES for n in range(20)}
    for name, item in items.items():
        await redis_store.put_many(A, epoch, 5, {name: item})
    await redis.config_resetstat()
    assert await redis_store.get_many(A, [*items, "nobody"]) == [*items.values(), None]
    calls = (await redis.info("commandstats"))["cmdstat_mget"]["calls"]
    assert calls == 3 == -(-20 // (MAX_GOT_BYTES // MAX_RECORD_BYTES + 1)), "sixteen megabytes, and one record more"


async def test_a_key_of_another_type_is_no_record_and_is_overwritten(redis_store: RedisStore, redis: Redis) -> None:
    """Redis answers such a read with an error, which to a worker is "Redis is away": it would wait for ever."""
    epoch, _ = await redis_store.claim(A)
    await redis.rpush(ENTITY + "x", "a")  # type: ignore[misc]
    await redis.hset(ENTITY + "y", "a", "b")  # type: ignore[misc]
    assert await redis_store.get_many(A, ["x", "y"]) == [b"", b""]
    assert await redis_store.put_many(A, epoch, 6, {"x": Patch(0, ((0, b"A"),)), "y": b"whole"}) == ["x"]
    assert await redis_store.put_many(A, epoch, 6, {"x": b"whole"}) == []
    assert await redis_store.get_many(A, ["x", "y"]) == [b"whole", b"whole"]


@pytest.mark.parametrize("stored", [b"", b"seven", b"-1", b"1e9", b"9" * 20, b"9" * 9_000, b"\xff", "٣".encode()])
async def test_an_offset_that_is_none_is_no_checkpoint(redis_store: RedisStore, redis: Redis, stored: bytes) -> None:
    await redis_store.claim(A)
    await redis.hset(META, "next_offset", stored)  # type: ignore[misc, arg-type]
    assert await redis_store.peek(A) == Claim(1, None)
    assert await redis_store.claim(A) == Claim(2, None)


async def test_records_expire_and_the_fence_does_not(redis_store: RedisStore, redis: Redis) -> None:
    await begin(redis_store, {"bus-1": b"record"})
    assert 0 < await redis.pttl(ENTITY + "bus-1") <= 60_000
    assert await redis.ttl(META) == -1


async def test_a_patch_lets_a_record_live_on(redis_store: RedisStore, redis: Redis) -> None:
    epoch = await begin(redis_store, {"bus-1": b"record"})
    await redis.pexpire(ENTITY + "bus-1", 5_000)
    await redis_store.put_many(A, epoch, 6, {"bus-1": Patch(6, ((0, b"R"),))})
    assert await redis.pttl(ENTITY + "bus-1") > 50_000


async def test_a_takeover_between_two_chunks_leaves_the_offset_of_before(redis_store: RedisStore, redis: Redis) -> None:
    """The old owner is fenced in the middle of its checkpoint: what it wrote stays, the offset does not move."""
    old, _ = await redis_store.claim(A)
    await redis_store.put_many(A, old, 5, {"x": b"5"})
    items = {f"e{n}": bytes(MAX_CALL_BYTES // 2 + 1) for n in range(40)}
    put = asyncio.create_task(redis_store.put_many(A, old, 9, items))
    while not await redis.exists(ENTITY + "e0"):  # noqa: ASYNC110 - the event is in another process
        await asyncio.sleep(0)
    new, next_offset = await redis_store.claim(A)
    with pytest.raises(Fenced):
        await put
    assert next_offset == 5
    assert await redis.exists(ENTITY + "e39") == 0
    await redis_store.put_many(A, new, 6, {})


async def test_what_has_expired_is_not_evicted_and_its_place_is_free(redis_url: str, redis: Redis) -> None:
    store = RedisStore(Settings(redis_url=redis_url, group="g1", state_ttl_s=1))
    epoch = await begin(store, {"x": b"1", "y": b"2"})
    while await redis.exists(ENTITY + "x", ENTITY + "y"):
        assert await store.list_evicted(A) == await store.list_evicted(A, ["x", "y"]) == []
        await asyncio.sleep(0.005)
    assert await store.list_evicted(A) == await store.list_evicted(A, ["x", "y"]) == []
    assert await store.count(A) == 0
    await store.put_many(A, epoch, 6, {"z": b"3"})
    assert await redis.zrange(INDEX, 0, -1) == [b"z"], "the others went with the next write"
    await store.close()


async def test_a_patch_keeps_its_entity_in_the_index(redis_store: RedisStore, redis: Redis) -> None:
    epoch = await begin(redis_store, {"bus-1": b"record"})
    await redis.zadd(INDEX, {"bus-1": 1.0})  # as if it had been written long ago
    await redis_store.put_many(A, epoch, 6, {"bus-1": Patch(6, ((0, b"R"),))})
    assert await redis_store.count(A) == 1


async def test_records_of_an_earlier_version_which_wrote_no_index_are_as_good(
    redis_store: RedisStore, redis: Redis
) -> None:
    epoch = await begin(redis_store, {"x": b"0123", "y": b"0123"})
    await redis.delete(INDEX)
    assert await redis_store.get_many(A, ["x", "y"]) == [b"0123", b"0123"]
    await redis.unlink(ENTITY + "x")
    assert await redis_store.list_evicted(A) == await redis_store.list_evicted(A, ["x", "y"]) == [], "nobody can tell"
    await redis_store.put_many(A, epoch, 6, {"y": Patch(4, ((0, b"A"),))})
    await redis.unlink(ENTITY + "y")
    assert await redis_store.list_evicted(A) == ["y"], "the next checkpoint begins the index"


@pytest.mark.parametrize("group", ["g2", "g?", "g*", "g[12]", "\\g1"])
async def test_groups_share_no_records_also_where_one_s_name_is_a_pattern(
    redis_url: str, redis_store: RedisStore, group: str
) -> None:
    other = RedisStore(Settings(redis_url=redis_url, group=group))
    await begin(redis_store, {"ours": b"1"})
    assert await other.claim(A) == Claim(1, None)
    assert await other.get_many(A, ["ours"]) == [None]
    theirs, _ = await other.claim(A)
    await other.put_many(A, theirs, 5, {"theirs": b"1"})
    assert [one async for one in other.entity_ids(A)] == ["theirs"]
    await other.forget(A, theirs)
    assert await redis_store.get_many(A, ["ours"]) == [b"1"]
    assert [one async for one in other.entity_ids(A)] == []
    await other.close()


def test_a_group_that_would_break_the_hash_tag_is_refused() -> None:
    with pytest.raises(ValueError, match="group"):
        RedisStore(Settings(group="a}b"))
