"""`pathcast map` beside a real worker, Kafka, Redis and `pathcast latest`: what a page is told of pings that come now,
of an entity that ends, and after a restart."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import bus_feed
import pytest
import redis_server
import small_pmtiles
from map_process import MAP, base_of, status_of
from map_rig import Events
from pathcast_process import COMMAND, environment, eventually
from worker_process import Worker, assert_all_live

from stream.config.http_access import MAP_TOKEN
from stream.kafka import admin
from stream.wire import Ping, Topics, dumps

SECRET = "0123456789abcdef"
AUTHORIZATION = {"Authorization": f"Bearer {SECRET}"}
T0 = 1_700_000_000_000
PATIENCE_S = 120.0
BOX = "9,49,11,51"


class Scene(NamedTuple):
    kafka: str
    topics: Topics
    map: Callable[..., Worker]  # with options
    check: Callable[[], None]

    def send(self, entity_id: str, *seconds: int) -> None:
        self.send_many([entity_id], seconds)

    def send_many(self, entity_ids: Sequence[str], seconds: Iterable[int]) -> None:
        """Pings of entities that go to the north."""
        pings = [
            Ping(entity_id=name, ts=T0 + s * 1000, lat=50 + s / 1e4, lon=10.0) for s in seconds for name in entity_ids
        ]
        bus_feed.send(self.kafka, self.topics.pings, ((one.entity_id.encode(), dumps(one), ()) for one in pings))


@pytest.fixture(scope="module")
def scene(kafka: str, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A worker and `pathcast latest`, and how a map beside them is started."""
    folder, prefix = tmp_path_factory.mktemp("map"), f"map{time.monotonic_ns()}"
    topics, where = Topics.of(prefix), {"bootstrap": kafka, "prefix": prefix}
    with redis_server.running(lambda line: None) as redis_url:
        how = {**where, "redis": redis_url, "weights": weights, "group": prefix, "partitions": 2}
        latest_command = (
            "beside",
            "latest",
            f"--bootstrap={kafka}",
            f"--prefix={prefix}",
            "--expire=10m",
            "--max-rate=20",
        )
        with Worker(folder / "worker.log", **how, checkpoint_ms=200) as worker:
            worker.wait_until_ready()
            clean = environment()
            with Worker(folder / "latest.log", program=COMMAND, command=latest_command, environment=clean) as latest:
                latest.wait_for("is ours", 300)
                count = iter(range(100))

                def start(**options: object) -> Worker:
                    log = folder / f"map-{next(count)}.log"
                    env = environment(**{MAP_TOKEN: SECRET})
                    return Worker(log, program=MAP, command=(), environment=env, **where, listen=0, **options)

                yield Scene(kafka, topics, start, partial(assert_all_live, worker, latest))


@pytest.fixture(scope="module")
def base(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a map for all tests that only ask one: it begins with one entity, and has a base map."""
    scene.send("first", 0, 10, 20)
    bus_feed.wait_for_records(scene.kafka, scene.topics.latest, 1, scene.check)
    tiles = tmp_path_factory.mktemp("tiles") / "tiles.pmtiles"
    tiles.write_bytes(small_pmtiles.world("earth"))
    with scene.map(basemap=tiles) as server:
        yield base_of(server)
        stop(server)


def ask(base: str, path: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(base + path, headers=AUTHORIZATION)) as said:
        return json.load(said)


def stop(server: Worker) -> None:
    assert server.stop() == 0, server.log()
    assert "Traceback" not in server.log()
    assert SECRET not in server.log()


@asynccontextmanager
async def streaming(base: str, query: str = f"bbox={BOX}") -> AsyncIterator[Events]:
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(headers=AUTHORIZATION, timeout=timeout, read_bufsize=2**24) as client,
        client.get(f"{base}/map/stream?{query}") as said,
    ):
        assert said.status == 200
        yield Events(said)


async def until(events: Events, holds: Callable[[dict[str, Any]], bool], *names: str) -> dict[str, Any]:
    """The first event of these names for which this holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds(found := await events.next(*names)):
            pass
        return found


def published(scene: Scene, entity_id: str) -> dict[str, Any]:
    said = [json.loads(one.value or b"") for one in bus_feed.read(scene.kafka, scene.topics.forecasts)]
    return [one for one in said if one["entity_id"] == entity_id][-1]


async def test_a_page_has_a_snapshot_and_then_what_comes_now(scene: Scene, base: str) -> None:
    assert ask(base, "/map/config")["source"] == "latest"
    assert eventually(lambda: ask(base, "/map/search?q=FIRST")["ids"] == ["first"])
    async with streaming(base) as events:
        snapshot = await until(events, lambda one: True, "snapshot")
        assert "first" in {one["id"] for one in snapshot["entities"]}
        await asyncio.to_thread(scene.send, "second", 0, 10, 20, 30)

        def is_second(delta: dict[str, Any]) -> bool:
            return any(one["id"] == "second" and one["ts"] == T0 + 30_000 for one in delta["updates"])

        delta = await until(events, is_second, "delta")
        (told,) = [one for one in delta["updates"] if one["id"] == "second"]
        due = published(scene, "second")
        assert (told["lat"], told["lon"]) == (due["anchor"]["lat"], due["anchor"]["lon"])
        assert [one["h_s"] for one in told["horizons"]] == [one["h_s"] for one in due["horizons"]]
        assert told["horizons"][0]["cov_m2"] == due["horizons"][0]["cov_m2"]
        assert (told["weights"], told["status"], told["stale"]) == (due["model"]["version"], due["status"], False)
        figures = await until(events, lambda one: one["pings_s"] is not None, "fleet")
        assert figures["entities"] >= 2
        assert figures["versions"]["weights"] == {due["model"]["version"]: figures["entities"]}
        assert figures["lag"] == 0


def test_a_token_is_needed_and_a_base_map_comes_in_parts(base: str) -> None:
    for path in ("/map/config", "/map/stream", "/basemap.pmtiles", "/metrics"):
        assert status_of(base + path) == 401, path
    asked = urllib.request.Request(f"{base}/basemap.pmtiles", headers={**AUTHORIZATION, "Range": "bytes=16-19"})
    with urllib.request.urlopen(asked) as said:
        assert (said.status, said.read()) == (206, small_pmtiles.world("earth")[16:20])


async def test_a_tombstone_of_the_latest_topic_ends_an_entity_on_the_page(scene: Scene, base: str) -> None:
    """`pathcast latest` ends who is silent for ten minutes of the partition's own time, that of two other entities: of
    these eight, each of the two partitions has three or more."""
    await asyncio.to_thread(scene.send, "quiet", 1_000, 1_010)
    assert await asyncio.to_thread(eventually, lambda: ask(base, "/map/search?q=quiet")["ids"] == ["quiet"])
    async with streaming(base) as events:
        snapshot = await until(events, lambda one: True, "snapshot")
        assert "quiet" in {one["id"] for one in snapshot["entities"]}
        await asyncio.to_thread(scene.send_many, [f"busy-{n}" for n in range(8)], range(1_100, 1_900, 50))
        gone = await until(events, lambda one: "quiet" in one["gone"], "delta")
        assert "quiet" not in {one["id"] for one in gone["updates"]}
    assert ask(base, "/map/search?q=quiet")["ids"] == []
    assert status_of(f"{base}/map/entities/quiet", SECRET) == 404


def test_a_map_that_was_killed_has_all_again_and_says_that_it_is_another(scene: Scene) -> None:
    scene.send("stays", 2_900, 2_910)
    with scene.map() as server:
        base = base_of(server)
        assert eventually(lambda: ask(base, "/map/search?q=stays")["ids"] == ["stays"])
        before = ask(base, "/map/config")["server_id"]
        server.kill()
    with scene.map() as again:
        base = base_of(again)
        assert ask(base, "/map/search?q=stays")["ids"] == ["stays"], "it is ready when it has read all"
        assert ask(base, "/map/config")["server_id"] != before
        stop(again)


def test_from_the_forecasts_topic_it_has_tracks_and_comparisons_at_once(scene: Scene) -> None:
    scene.send("walks", *range(3_000, 3_400, 10))
    bus_feed.wait_for_records(scene.kafka, scene.topics.forecasts, 40, scene.check)
    bus_feed.wait_until_consumed(scene.kafka, scene.topics.prefix, scene.topics.pings, scene.check)
    with scene.map(source="forecasts") as server:
        base = base_of(server)
        said = ask(base, "/map/entities/walks")
        assert len(said["entity"]["track"]) == 40
        assert {row["h_s"] for row in said["errors"]} >= {60.0, 300.0}
        assert all(one["true_lat"] == pytest.approx(50 + (one["true_ts"] - T0) / 1e7) for one in said["former"])
        now_ms = said["entity"]["ts"]
        then = ask(base, f"/map/history?at={now_ms - 100_000}&bbox={BOX}")
        (walked,) = [one for one in then["entities"] if one["id"] == "walks"]
        assert walked["track"][-1][0] == now_ms - 100_000
        assert ask(base, "/map/learning")["points"], "its own comparisons, where there are no scores"
        stop(server)


def test_without_a_latest_topic_forecasts_are_followed_and_no_topic_is_made(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    topics = Topics.of(topic_prefix)
    options = {"bootstrap": kafka, "prefix": topic_prefix, "listen": 0, "atlases": tmp_path}
    how = {"program": MAP, "command": (), "environment": environment()}
    bus_feed.create_topics(kafka, topics, partitions=1)
    with Worker(tmp_path / "map.log", **how, **options) as server:
        base = base_of(server)
        assert ask(base, "/map/config")["source"] == "forecasts"
        assert status_of(f"{base}/map/config") == 200, "no token is set"
        assert eventually(lambda: "pathcast_map_records_total 0.0" in _text(base, "/metrics"))
        with admin.connect(kafka) as client:
            there = [
                one.name
                for one in admin.describe(client, [topics.latest, topics.scores, topics.models])
                if one.partitions
            ]
        assert there == [], "it asks for no topic by a name that there is not"
        stop(server)


def _text(base: str, path: str) -> str:
    with urllib.request.urlopen(base + path) as said:
        return str(said.read().decode())
