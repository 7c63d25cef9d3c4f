"""Shadows against a real Kafka: scored as what is published, never published, and the same whoever is killed."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.request
from collections.abc import Collection, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import bus_feed
import pytest
from atlas_scene import Scene
from dead_members import bury
from pathcast_process import environment, pathcast
from worker_process import Worker, assert_all_live

from model.api import weights_folder
from stream.config import failpoints
from stream.registry import About, Registry
from stream.registry.golden import make_golden
from stream.up.embedded import free_port
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.announcing import Announcer
from stream.versions.deciding import Decider, Why
from stream.wire import Score, loads_scored

PINGS = 12_000
SEED = 13
WHY = Why("the test says so", "test")


Place = tuple[int, int]  # partition and offset


class Rig(NamedTuple):
    scene: Scene
    registry: Registry
    small: str
    other: str

    def decide(self, what: str, *args: Any) -> None:
        async def decided() -> None:
            scene = self.scene
            async with Announcer.opened(scene.kafka, scene.topics, lead_s=0.5, sample_s=0.3) as announcer:
                await getattr(Decider(self.registry, announcer), what)(*args)

        asyncio.run(decided())

    def scorer(self, name: str, *more: str, **env: str) -> Worker:
        scene = self.scene
        options = (f"--bootstrap={scene.kafka}", f"--prefix={scene.prefix}", f"--registry={scene.options['registry']}")
        log = scene.folder.parent / f"{name}.log"
        return Worker(log, command=("scores", "run", "--no-drift", *options, *more), environment=environment(**env))

    def scored_once(self, name: str, *more: str) -> str:
        with self.scorer(name, "--once", *more) as member:
            assert member.wait(300) == 0, member.log()
            return member.log()

    def scores(self, after: Collection[Place] = ()) -> dict[Place, bytes]:
        """All scores but those at these places."""
        found = bus_feed.read(self.scene.kafka, self.scene.topics.scores)
        every = {(one.partition, one.offset): one.value or b"" for one in found}
        return {place: raw for place, raw in every.items() if place not in after}

    def offsets(self) -> dict[tuple[str, int], tuple[int, int]]:
        """By entity and time of the ping: its partition and offset."""
        return {(one.entity_id, one.anchor.ts): (one.src.partition, one.src.offset) for one in self.scene.forecasts()}


@pytest.fixture
def rig(apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path) -> Rig:
    scene = Scene.made(apache_kafka, redis_url, topic_prefix, tmp_path)
    url = str(tmp_path / "registry")
    del scene.options["atlases"]
    scene.options.update(registry=url)
    registry = Registry.opened(url)
    small, other = (
        registry.publish_weights(weights_folder(name), About(), make_golden(name)).version
        for name in ("small", "small-research")
    )
    return Rig(scene, registry, small, other)


def parsed(raws: Iterable[bytes]) -> list[Score]:
    found = (loads_scored(raw) for raw in raws)
    return [one for one in found if isinstance(one, Score)]


def by_id(scores: dict[Place, bytes]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for one, raw in zip(parsed(scores.values()), scores.values(), strict=True):
        assert found.setdefault(one.forecast_id, raw) == raw, "a copy has other numbers"
    return found


def test_a_shadow_is_scored_on_the_same_pings_and_never_published_whoever_is_killed(rig: Rig) -> None:
    scene, coming = rig.scene, bus_feed.fleet(PINGS, seed=SEED)
    with scene.worker("worker") as worker:
        worker.wait_until_ready()

        def fed(pings: int) -> None:
            bus_feed.send(scene.kafka, scene.topics.pings, islice(coming, pings))
            scene.wait_until_consumed(worker)

        fed(3_000)
        with rig.scorer("victim", **{failpoints.VARIABLE: "after_publish:2"}) as victim:
            rig.decide("shadow", rig.other, WHY)
            fed(2_500)
            fed(2_500)
            assert victim.wait(120) == -signal.SIGKILL, victim.log()
        bury(scene.kafka, f"{scene.prefix}-scores")
        with rig.scorer("plain") as plain:
            plain.wait_for("answers from", 120)
            plain.kill()
        bury(scene.kafka, f"{scene.prefix}-scores")
        rig.scored_once("again")
        disturbed = rig.scores()
        rig.scored_once("undisturbed", f"--group={scene.prefix}-undisturbed")
        undisturbed = rig.scores(after=disturbed)
        assert by_id(disturbed) == by_id(undisturbed)
        assert len(disturbed) > len(undisturbed), "some came twice: else nobody was killed with scores out"
        whole = parsed(undisturbed.values())
        shadows = [one for one in whole if one.shadow]
        assert len(shadows) > 500
        assert {one.model.version for one in shadows} == {rig.other}
        assert {one.model.version for one in whole if not one.shadow} == {rig.small}
        assert {one.model.version for one in scene.forecasts()} == {rig.small}
        published = {(one.entity_id, one.anchor_ts): one for one in whole if not one.shadow}
        assert all((one.entity_id, one.anchor_ts) in published for one in shadows)
        since = announced(rig)
        offsets = rig.offsets()
        due = {key for key in published if offsets[key][1] >= since[offsets[key][0]]}
        assert {(one.entity_id, one.anchor_ts) for one in shadows} == due, "of every ping from the announced one on"

        said = json.loads(ran(rig, "scores", "show", "--json"))
        (pair,) = said["shadows"]
        assert (pair["shadow"], pair["published"]) == (rig.other, rig.small)
        assert pair["n"] > 1_000
        assert f"shadow {rig.other} is" in ran(rig, "scores", "show")

        rig.decide("stop", rig.other, WHY)
        ended_ms: dict[str, int] = {}
        for entity, ts in rig.offsets():
            ended_ms[entity] = max(ts, ended_ms.get(entity, 0))
        fed(4_000)
        assert worker.stop() == 0
    rig.scored_once("after")
    late = parsed(rig.scores(after={**disturbed, **undisturbed}).values())
    after = [one for one in late if one.anchor_ts > ended_ms.get(one.entity_id, 0)]
    assert len(after) > 100
    assert not any(one.shadow for one in after)


def test_weights_that_are_damaged_are_refused_and_the_others_scored_on(rig: Rig) -> None:
    scene = rig.scene
    rig.decide("shadow", rig.other, WHY)
    tensors = rig.registry.fetch("weights", rig.other) / "model.safetensors"
    raw = bytearray(tensors.read_bytes())
    raw[-1000] ^= 0xFF
    tensors.chmod(0o644)
    tensors.write_bytes(raw)
    with scene.worker("worker") as worker:
        worker.wait_until_ready()
        bus_feed.send(scene.kafka, scene.topics.pings, bus_feed.fleet(4_000, seed=SEED))
        scene.wait_until_consumed(worker)
        assert worker.stop() == 0
    port = free_port()
    with rig.scorer("scorer", f"--metrics={port}") as member:
        member.wait_for(f"version {rig.other} of the shadow is refused", 120)
        live = partial(assert_all_live, member)
        bus_feed.wait_until_consumed(scene.kafka, f"{scene.prefix}-scores", scene.topics.forecasts, live)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            assert "pathcast_scores_shadows_refused 1.0" in page.read().decode()
        assert member.stop() == 0, member.log()
    scores = parsed(rig.scores().values())
    assert len(scores) > 300
    assert not any(one.shadow for one in scores)


def announced(rig: Rig) -> dict[int, int]:
    """The first ping of each partition that the shadow answers."""

    async def heard() -> dict[int, int]:
        async with AnnouncementReader.opened(rig.scene.kafka, rig.scene.topics) as announcements:
            await announcements.look()
            (one,) = [one for one in announcements.weights.records if one.role == "shadow"]
            return dict(one.first)

    return asyncio.run(heard())


def ran(rig: Rig, *command: str) -> str:
    ours = environment(PATHCAST_BOOTSTRAP=rig.scene.kafka, PATHCAST_PREFIX=rig.scene.prefix)
    done = pathcast(*command, env=ours)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()
