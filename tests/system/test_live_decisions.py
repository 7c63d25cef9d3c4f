"""Live scores decide: weights that are worse than those before are rolled back; a canary that is no worse serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import bus_feed
import pytest
from atlas_scene import Scene
from pathcast_process import environment, pathcast

from model.api import load_weights, weights_folder
from model.parameters.writing import save
from stream.registry import About, Registry
from stream.registry.golden import make_golden
from stream.versions.announcing import Announcer
from stream.versions.deciding import Decider, Why

PINGS = 12_000
SEED = 7
WHY = Why("the test says so", "test")


class Rig(NamedTuple):
    scene: Scene
    registry: Registry
    small: str
    bad: str
    other: str

    def decide(self, what: str, *args: Any, **more: Any) -> None:
        async def decided() -> None:
            scene = self.scene
            async with Announcer.opened(scene.kafka, scene.topics, lead_s=0.5, sample_s=0.3) as announcer:
                await getattr(Decider(self.registry, announcer), what)(*args, **more)

        asyncio.run(decided())

    def scored_and_judged(self) -> str:
        """What `models guard` says of what `scores run` has scored."""
        scene = self.scene
        ours = environment(PATHCAST_BOOTSTRAP=scene.kafka, PATHCAST_PREFIX=scene.prefix)
        scored = pathcast("scores", "run", "--once", env=ours)
        assert scored.returncode == 0, scored.stderr
        guard = pathcast(
            "models", "guard", "--once", "--lead-s=0.5", f"--registry={scene.options['registry']}", env=ours
        )
        assert guard.returncode == 0, guard.stderr
        return guard.stderr.decode()

    def decisions(self) -> list[tuple[str, str, str | None]]:
        return [(one.what, one.version, one.instead_of) for one in self.registry.decisions()]


def spoilt(folder: Path) -> Path:
    """Weights like `small`, whose correction of the filter is turned round."""
    weights = load_weights("small")
    weights.tensors["forecast.last.weight"] = -weights.tensors["forecast.last.weight"]
    save(weights, folder, "Weights that a test has spoilt.")
    return folder


@pytest.fixture
def rig(apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path) -> Rig:
    scene = Scene.made(apache_kafka, redis_url, topic_prefix, tmp_path)
    url = str(tmp_path / "registry")
    del scene.options["atlases"]
    scene.options.update(registry=url)
    registry = Registry.opened(url)

    def published(folder: Path, parent: str | None) -> str:
        return registry.publish_weights(folder, About(parent=parent), make_golden(folder)).version

    small = published(weights_folder("small"), None)
    bad, other = (published(one, small) for one in (spoilt(tmp_path / "bad"), weights_folder("small-research")))
    return Rig(scene, registry, small, bad, other)


def test_worse_weights_are_rolled_back_and_a_canary_that_is_no_worse_is_promoted(rig: Rig) -> None:
    scene, coming = rig.scene, bus_feed.fleet(PINGS, seed=SEED)
    with scene.worker("worker") as worker:
        worker.wait_until_ready()

        def fed(pings: int) -> None:
            bus_feed.send(scene.kafka, scene.topics.pings, islice(coming, pings))
            scene.wait_until_consumed(worker)

        fed(2_500)
        rig.decide("promote", rig.bad, WHY, ramp_s=0.0)
        fed(3_500)
        said = rig.scored_and_judged()
        assert "farther off than before" in said
        assert rig.decisions() == [("promote", rig.bad, None), ("rollback", rig.small, rig.bad)]
        assert rig.registry.decisions()[-1].numbers["live"]["horizons"]
        rig.decide("canary", rig.other, 50.0, WHY)
        fed(3_500)
        rig.scored_and_judged()
        assert rig.decisions()[2:] == [("canary", rig.other, rig.small), ("promote", rig.other, rig.small)]
        fed(2_500)
        rig.scored_and_judged()
        assert len(rig.decisions()) == 4, "what serves now is better than what served before"
        assert worker.stop() == 0
    by_version = versions(rig)
    assert set(by_version) == {rig.small, rig.bad, rig.other}
    last = {one.src.partition: one for one in sorted(scene.forecasts(), key=lambda one: one.src.offset)}
    assert {one.model.version for one in last.values()} == {rig.other}


def versions(rig: Rig, of: Callable[[Any], str] = lambda one: one.model.version) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in rig.scene.forecasts():
        found[of(one)] = found.get(of(one), 0) + 1
    return found
