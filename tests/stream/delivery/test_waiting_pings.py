"""Who waits while it is not certain which atlas a ping asks, for how long, and that nothing is lost by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from atlas_rig import version_of
from atlas_world import Topic
from delivery_rig import P0, P1, SETTINGS, Kafka, feed, record, running, until
from engine_rig import steady

from model.api import Atlas, Predictor
from stream.delivery.delivery import Delivery
from stream.delivery.guarantees import AtLeastOnce
from stream.engine.engine import Engine
from stream.kafka.log import Partition
from stream.store.base import MemoryStore
from stream.versions.serving import Versions
from stream.wire import AtlasRef, Record, loads_forecast
from stream.worker.versions import atlases_of

FILE = version_of(steady("bus-1", 40))
V1 = Atlas.of(FILE).version


class Scene:
    """A worker on two partitions that asks atlases."""

    def __init__(self, folder: Path, hold_s: float) -> None:
        self.kafka, self.topic, self.folder, store = Kafka(), Topic(), folder, MemoryStore()
        atlases = atlases_of(self.topic, folder)  # type: ignore[arg-type]
        self.versions = Versions(self.topic, atlases, None, hold_s=hold_s)  # type: ignore[arg-type]
        engine = Engine(Predictor.untrained(capacity=8), store, SETTINGS)
        guarantee = AtLeastOnce(self.kafka, self.kafka)
        self.delivery = Delivery(SETTINGS, engine, store, guarantee, self.kafka, versions=self.versions)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        looking = asyncio.create_task(self.versions.run())
        async with running(self.delivery, P0, P1):
            yield
        looking.cancel()

    async def feed(self, partition: Partition, start: int, stop: int) -> list[Record]:
        some = [record(offset, partition=partition[1]) for offset in range(start, stop)]
        return await feed(self.delivery, self.kafka, some)

    def said(self, partition: Partition) -> dict[int, AtlasRef | None]:
        found = [loads_forecast(one.value or b"") for one in self.kafka.published]
        return {one.src.offset: one.atlas for one in found if one.src.partition == partition[1]}

    def waits(self) -> list[bool]:
        return [one.undecided for one in self.delivery.status().partitions]

    def balance(self) -> list[int]:
        return [account.count_unaccounted(0) for account in self.delivery.accounts.accounts.values()]


@pytest.mark.parametrize("confirmed", [True, False])
async def test_one_partition_waits_until_it_is_decided_and_the_other_goes_on(tmp_path: Path, confirmed: bool) -> None:
    scene = Scene(tmp_path, hold_s=3600.0)
    (tmp_path / f"{V1}.atlas").write_bytes(FILE)
    scene.topic.says(V1, "announced", p0=5, p1=100)
    async with scene.running():
        waiting, other = await scene.feed(P0, 0, 9), await scene.feed(P1, 0, 9)
        await until(lambda: len(other) == 9)
        await until(lambda: scene.waits() == [True, False])
        assert waiting == []
        assert set(scene.said(P1).values()) == {AtlasRef(None, 0, late=False)}
        scene.topic.says(V1, "serving", p0=5, p1=100)
        if not confirmed:
            scene.topic.log[-1] = (scene.topic.log[-1][0], None)
        await until(lambda: len(waiting) == 9)
        assert scene.waits() == [False, False]
    asked = [(one.version, one.late) for one in scene.said(P0).values() if one]
    assert asked == [(None, False)] * 5 + [(V1 if confirmed else None, False)] * 4
    assert scene.balance() == [0, 0]


async def test_a_partition_goes_on_after_its_time_and_counts_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path, hold_s=0.1)
    scene.topic.says(V1, "serving", p0=5)
    async with scene.running():
        done = await scene.feed(P0, 0, 9)
        await until(lambda: len(done) == 9)
        assert [one and one.late for one in scene.said(P0).values()] == [False] * 5 + [True] * 4
    assert scene.balance() == [0, 0]
    assert scene.delivery._processing._engine.counts[P0].late_atlas == 4


async def test_what_waits_is_handed_back_when_its_partition_goes(tmp_path: Path) -> None:
    scene = Scene(tmp_path, hold_s=3600.0)
    scene.topic.says(V1, "announced", p0=0)
    async with scene.running():
        waiting = await scene.feed(P0, 0, 9)
        await until(lambda: scene.waits() == [True, False])
        await scene.delivery.ownership.drain()
        await scene.delivery.ownership.revoke([P0, P1])
        assert len(waiting) == 9
        assert scene.delivery.accounts.accounts[P0].handed_back == 9
        scene.delivery.ownership.assign([P0, P1])
        scene.topic.log.append((f"atlas:{V1}".encode(), None))
        again = await scene.feed(P0, 0, 9)
        await until(lambda: len(again) == 9)
    assert set(scene.said(P0).values()) == {AtlasRef(None, 0, late=False)}


async def test_a_full_partition_that_waits_is_not_fetched_until_it_opens(tmp_path: Path) -> None:
    scene = Scene(tmp_path, hold_s=3600.0)
    scene.topic.says(V1, "announced", p0=0)
    async with scene.running():
        polls = [await scene.feed(P0, 0, 2)]
        await until(lambda: scene.waits() == [True, False])
        polls += [await scene.feed(P0, start, start + 2) for start in range(2, 40, 2)]
        assert scene.kafka.paused == {P0}
        scene.topic.log.append((f"atlas:{V1}".encode(), None))
        await until(lambda: all(polls))
        assert scene.kafka.paused == set()
    assert list(scene.said(P0)) == list(range(40)), "in their order, each once"
