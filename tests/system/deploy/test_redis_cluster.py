"""What deploy/SIZING.md says of Redis Cluster: no call names keys of two slots. One real node in cluster mode has all
slots, and refuses calls across slots as a whole cluster does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import bus_feed
import pytest
from missing_servers import skip_unless_required
from pathcast_process import COMMAND, environment, eventually
from redis import Redis
from redis.exceptions import ResponseError
from worker_process import Worker, assert_all_live

from stream.config.settings import Settings
from stream.store.base import Claim, Fenced, Patch
from stream.store.days_store import DayPart, DaysStore
from stream.store.redis_store import RedisStore
from stream.up import embedded
from stream.wire import Topics, loads_forecast

A = ("pathcast.pings.v1", 0)
B = ("pathcast.pings.v1", 1)
SLOTS = 16_384
HALF = 400


@pytest.fixture
def cluster_url(tmp_path: Path) -> Iterator[str]:
    """The URL of one node in cluster mode that has every slot."""
    binary = shutil.which("redis-server")
    if binary is None:
        skip_unless_required("needs redis-server: the embedded one is not tried in cluster mode")
    started = tmp_path / "redis-in-cluster-mode"
    started.write_text(f'#!/bin/sh\nexec {binary} "$@" --cluster-enabled yes\n')
    started.chmod(0o755)
    with embedded.redis_server(started) as url, Redis.from_url(url) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        assert eventually(
            lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO", **{"NEVER_DECODE": 1})
        )
        yield url


def test_this_node_refuses_calls_across_slots(cluster_url: str) -> None:
    with Redis.from_url(cluster_url) as client, pytest.raises(ResponseError, match=r"CROSSSLOT|same slot"):
        client.mget(["pathcast:{g|t|0}:meta", "pathcast:{g|t|1}:meta"])


def test_all_keys_of_a_partition_are_in_one_slot_and_partitions_in_many(cluster_url: str) -> None:
    names = ("meta", "index", "sums", "growth", "day:20000", "e:bus-7", "e:{bus}", "e:}{")
    with Redis.from_url(cluster_url) as client:
        slots = [
            {client.execute_command("CLUSTER", "KEYSLOT", f"pathcast:{{g|t|{number}}}:{name}") for name in names}
            for number in range(64)
        ]
    assert all(len(of_partition) == 1 for of_partition in slots)
    assert len(set.union(*slots)) > 60, "a cluster's nodes can share them"


async def test_every_call_of_a_workers_store_is_within_one_slot(cluster_url: str) -> None:
    store = RedisStore(Settings(redis_url=cluster_url, group="g"))
    ids = [f"bus-{number}" for number in range(5_000)]  # more than one call carries
    epoch, _ = await store.claim(A)
    await store.put_many(A, epoch, 7, dict.fromkeys(ids, b"1234"))
    await store.put_many(A, epoch, 8, {"bus-3": Patch(least=4, ranges=((1, b"xy"),)), "{odd}": b"5"})
    assert await store.get_many(A, ["bus-3", "bus-4", "{odd}", "nobody"]) == [b"1xy4", b"1234", b"5", None]
    assert await store.count(A) == len(ids) + 1
    with Redis.from_url(cluster_url) as client:
        client.delete("pathcast:{g|pathcast.pings.v1|0}:e:bus-9")
    assert await store.list_evicted(A) == ["bus-9"]
    assert await store.list_evicted(A, ["bus-9", "bus-10"]) == ["bus-9"]
    await store.unlist(A, epoch, ["bus-9"], next_offset=6)
    other, _ = await store.claim(B)
    await store.put_many(B, other, 1, {"tram": b"2"})
    assert await store.homes([A, B], ["tram", "bus-1", "nobody"]) == [B, A, None]
    assert sum([1 async for _ in store.entity_ids(A)]) == len(ids)
    assert await store.peek(A) == Claim(epoch, 6)
    await store.claim(A)
    with pytest.raises(Fenced):
        await store.put_many(A, epoch, 9, {"bus-1": b"late"})
    await store.forget(A, epoch + 1)
    assert await store.peek(A) == Claim(epoch + 1, None)
    await store.close()


async def test_every_call_of_the_atlas_store_is_within_one_slot(cluster_url: str) -> None:
    store = DaysStore(cluster_url, "g", ttl_s=3_600)
    held, growth = await store.claim(A)
    assert growth is None
    held = await store.put(A, held, 5, b"growth", {20_000: DayPart(b"one"), 20_001: DayPart(b"two")})
    held = await store.put(A, held, 6, b"more", {20_001: DayPart(b"three")}, gone=[20_000])
    assert (await store.read_held(A)).parts == {20_001: 2}
    assert await store.parts(A, 20_001) == [b"two", b"three"]
    await store.discard(A)
    assert (await store.read_held(A)).next_offset is None
    await store.close()


def test_a_worker_goes_on_from_what_another_stored_there(
    kafka: str, cluster_url: str, topic_prefix: str, weights: Path, tmp_path: Path
) -> None:
    topics, records = Topics.of(topic_prefix), bus_feed.fleet(2 * HALF, seed=11)
    bus_feed.create_topics(kafka, topics, partitions=4)
    caches: list[set[str]] = []
    for turn in ("first", "second"):
        with Worker(
            tmp_path / turn,
            program=COMMAND,
            environment=environment(),
            bootstrap=kafka,
            redis=cluster_url,
            prefix=topic_prefix,
            group=topic_prefix,
            weights=weights,
        ) as worker:
            worker.wait_until_ready()
            bus_feed.send(kafka, topics.pings, islice(records, HALF))
            bus_feed.wait_until_consumed(kafka, topic_prefix, topics.pings, partial(assert_all_live, worker))
            assert worker.stop() == 0, worker.log()
            assert "CROSSSLOT" not in worker.log()
        said = [loads_forecast(one.value or b"") for one in bus_feed.read(kafka, topics.forecasts)]
        caches.append({one.cache for one in said if one.status != "stale"})  # a late ping's state is made anew for it
    assert caches == [{"hit", "none"}, {"hit", "none"}], "nothing was rebuilt or unread: states came from that node"
