"""Workers ask the atlas that is due at each ping, whatever dies, and wait a bounded time for one that does not come."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import bus_feed
import msgspec
import pytest
from atlas_scene import PARTITIONS, Scene, atlases
from pathcast_process import PATIENCE_S, eventually
from worker_pages import Scrape, base_of
from worker_process import assert_all_live

from model.api import Atlas
from stream.versions.ledger import Ledger
from stream.wire import Forecast

PINGS = 30_000  # at most
SEED = 11
KILL_AT = 100  # batches


@pytest.fixture
def scene(apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path) -> Scene:
    return Scene.made(apache_kafka, redis_url, topic_prefix, tmp_path)


def test_each_forecast_asks_the_version_that_the_topic_says_whoever_is_killed(scene: Scene) -> None:
    """Three versions, of which the last one's file comes late, while a worker is killed and another takes over.

    The topic is read without heed to transactions: what one that was aborted says is the same.
    """
    records = list(bus_feed.fleet(PINGS, seed=SEED))
    first, second, third = atlases(records)
    with scene.crash(records, delivery="at_least_once", kill_at=KILL_AT) as (victim, other):
        versions = [scene.put(first)]
        scene.announce(versions[0])
        live = partial(assert_all_live, other)
        bus_feed.wait_for_records(scene.kafka, scene.topics.forecasts, 1_000, live)
        scene.wait_until_asked(versions[0], live)
        versions.append(scene.put(second))
        scene.announce(versions[1])
        bus_feed.wait_for_records(scene.kafka, scene.topics.forecasts, 2_500, live)
        scene.wait_until_asked(versions[1], live)
        assert eventually(lambda: not victim.running()), "with answers out that are not committed"
        versions.append(Atlas.of(third).version)
        scene.announce(versions[2])
        other.wait_for(f"waits for version {versions[2]}", PATIENCE_S)
        scene.put(third)
    found, ledger = scene.forecasts(), scene.ledger()
    assert [record.version for record in ledger.serving] == versions
    assert_as_the_ledger_says(found, ledger)
    assert {one.atlas.version for one in found if one.atlas} == {None, *versions}
    assert sum(one.atlas.pings > 0 for one in found if one.atlas) > len(found) // 4
    copies: dict[str, Forecast] = {}
    again = 0
    for one in found:
        bare = msgspec.structs.replace(one, latency_ms=found[0].latency_ms)
        again += one.forecast_id in copies
        assert copies.setdefault(one.forecast_id, bare) == bare
    assert again > 0, "what the killed one had published and not committed"
    taken = {(raw.partition, raw.offset) for raw in bus_feed.read(scene.kafka, scene.topics.pings)}
    assert len(taken) >= len(copies) > len(taken) * 9 // 10


def assert_as_the_ledger_says(found: Sequence[Forecast], ledger: Ledger) -> None:
    for one in found:
        assert one.atlas is not None
        due = ledger.version_at(one.src.partition, one.src.offset)
        assert (one.atlas.version, one.atlas.late) == (due, False), one.src


def test_a_version_whose_file_does_not_come_is_passed_and_said_to_be_late(scene: Scene) -> None:
    records = list(bus_feed.fleet(1_200, seed=SEED))
    first, second, _ = atlases(records)
    with scene.worker("worker", lead_s=6, metrics=0) as worker:
        worker.wait_until_ready()
        scrape, known, missing = partial(Scrape, base_of(worker)), scene.put(first), Atlas.of(second).version

        def fed(begin: int, end: int) -> None:
            bus_feed.send(scene.kafka, scene.topics.pings, iter(records[begin:end]))
            scene.wait_until_consumed(worker)

        scene.announce(known)
        fed(0, 400)
        scene.announce(missing)
        fed(400, 800)
        assert scrape().sum("atlas_late_forecasts_total") > 100
        scene.put(second)
        worker.wait_for(f"version {missing} of the atlas is loaded", PATIENCE_S)
        fed(800, 1_200)
        assert scrape().sum("atlas_waits") == 0
        assert scrape().labels("atlas_info", "version") == {missing}
        assert worker.stop() == 0
        log = worker.log()
    found, ledger = scene.forecasts(), scene.ledger()
    late = [one for one in found if one.atlas and one.atlas.late]
    assert len(late) > 100
    assert {one.atlas.version for one in late if one.atlas} == {known}, "the one before answered"
    assert {ledger.version_at(one.src.partition, one.src.offset) for one in late} == {missing}
    assert_as_the_ledger_says([one for one in found if one not in late], ledger)
    assert {one.atlas.version for one in found if one.atlas} == {None, known, missing}
    for number in range(PARTITIONS):
        assert f"partition {number} goes on without version {missing}" in log
