"""Live scores decide: weights that are worse than those before are rolled back; a canary that is no worse serves."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import bus_feed
import pytest
from weights_scene import WHY, WeightsScene

from model.api import load_weights
from model.parameters.writing import save

PINGS = 12_000
SEED = 7


@pytest.fixture
def weights(apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path) -> WeightsScene:
    return WeightsScene.made(apache_kafka, redis_url, topic_prefix, tmp_path)


def spoilt(folder: Path) -> Path:
    """Weights like `small`, whose correction of the filter is turned round."""
    found = load_weights("small")
    found.tensors["forecast.last.weight"] = -found.tensors["forecast.last.weight"]
    save(found, folder, "Weights that a test has spoilt.")
    return folder


def test_a_rollback_of_the_first_promotion_says_what_it_needs_and_goes_back_to_what_is_named(
    weights: WeightsScene,
) -> None:
    promoted = weights.publish("small-research")
    weights.decide("promote", promoted, WHY, ramp_s=0.0)
    asked = weights.told("models", "rollback")
    assert asked.returncode == 1
    said = asked.stderr.decode()
    assert f"nothing was promoted before {promoted}" in said
    assert "pathcast models rollback --to VERSION" in said
    assert "Traceback" not in said
    own = weights.publish("small")  # that workers were started with
    told = weights.told("models", "rollback", "--to", own)
    assert told.returncode == 0, told.stderr.decode()
    assert weights.decisions() == [("promote", promoted, None), ("rollback", own, promoted)]


@pytest.mark.promise("weights that are worse are rolled back, a canary that is no worse is promoted")
def test_worse_weights_are_rolled_back_and_a_canary_that_is_no_worse_is_promoted(
    weights: WeightsScene, tmp_path: Path
) -> None:
    scene, coming = weights.scene, bus_feed.fleet(PINGS, seed=SEED)
    small = weights.publish("small")
    bad, other = weights.publish(spoilt(tmp_path / "bad"), small), weights.publish("small-research", small)
    with scene.worker("worker") as worker:
        worker.wait_until_ready()

        def fed(pings: int) -> None:
            bus_feed.send(scene.kafka, scene.topics.pings, islice(coming, pings))
            scene.wait_until_consumed(worker)

        fed(2_500)
        weights.decide("promote", bad, WHY, ramp_s=0.0)
        fed(3_500)
        assert "farther off than before" in weights.scored_and_judged()
        assert weights.decisions() == [("promote", bad, None), ("rollback", small, bad)]
        assert weights.registry.decisions()[-1].numbers["live"]["horizons"]
        weights.decide("canary", other, 50.0, WHY)
        fed(3_500)
        weights.scored_and_judged()
        assert weights.decisions()[2:] == [("canary", other, small), ("promote", other, small)]
        fed(2_500)
        weights.scored_and_judged()
        assert len(weights.decisions()) == 4, "what serves now is better than what served before"
        assert worker.stop() == 0
    found = scene.forecasts()
    assert {one.model.version for one in found} == {small, bad, other}
    last = {one.src.partition: one for one in sorted(found, key=lambda one: one.src.offset)}
    assert {one.model.version for one in last.values()} == {other}
