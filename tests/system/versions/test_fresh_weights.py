"""The whole loop on real servers: workers serve undertrained weights, a refresh trains on the live topic, its
challenger answers as a canary, live scores promote it, and forecasts are nearer from then on."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import bus_feed
import numpy as np
import pytest
from weights_scene import LEAD_S, WeightsScene

from model.api import load_weights
from model.parameters.writing import save
from stream.config.security import PLAIN_KAFKA
from stream.services.scores.changes import changes
from stream.services.scores.reading import read
from stream.wire import Score
from train.refresh import training
from train.refresh.decision import DecisionRules
from train.refresh.live.champion import LiveRefresh
from train.refresh.live.rounds import RoundEnd
from train.refresh.live.service import Patience, run_once
from train.refresh.run import RefreshOptions, RefreshWatch

PINGS, HISTORY, CANARY = 20_000, 9_000, 5_000
SEED = 21
STEPS, ROWS = 160, 16  # half a minute of a core


def undertrained(folder: Path) -> Path:
    """Weights like `small` before their forecasts were trained: they say what the filter says."""
    found = load_weights("small")
    for name in ("forecast.last", "forecast.beside.last"):
        for part in ("weight", "bias"):
            found.tensors[f"{name}.{part}"] = np.zeros_like(found.tensors[f"{name}.{part}"])
    save(found, folder, "Weights that a test has untrained.")
    return folder


@pytest.fixture
def weights(apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path) -> WeightsScene:
    made = WeightsScene.made(apache_kafka, redis_url, topic_prefix, tmp_path)
    made.scene.options["weights"] = str(undertrained(tmp_path / "undertrained"))
    return made


def refreshed(weights: WeightsScene, folder: Path) -> RoundEnd:
    """One round of a refresh, by the rules that hold everywhere; but regions are fitted to the two buses that fall to
    calibration here, and hold what they hold."""
    scene, regions = weights.scene, {"holds_50": (0.3, 0.85), "holds_90": (0.7, 0.99)}
    options = RefreshOptions(
        Path(), str(scene.options["weights"]), steps=STEPS, rows=ROWS, rules=DecisionRules(**regions)
    )
    live = LiveRefresh(weights.registry, scene.kafka, folder, options, scene.topics, percent=50.0, lead_s=LEAD_S)
    return run_once(live, Patience(), RefreshWatch())


def test_a_refresh_of_undertrained_weights_is_tried_promoted_and_nearer(
    weights: WeightsScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, coming = weights.scene, bus_feed.fleet(PINGS, seed=SEED)
    with scene.worker("worker") as worker:
        worker.wait_until_ready()

        def fed(pings: int) -> None:
            bus_feed.send(scene.kafka, scene.topics.pings, islice(coming, pings))
            scene.wait_until_consumed(worker)

        fed(HISTORY)
        # What the old weights know is not worth keeping: they know nothing.
        monkeypatch.setattr(training, "RETAIN", None)
        monkeypatch.setattr(training, "OLD_LR", 1.0)
        assert refreshed(weights, tmp_path / "refresh").outcome == "canary"
        new, old = weights.registry.manifests("weights")[::-1]
        assert (new.parent, old.parent) == (old.version, None)
        assert new.data.pings
        assert new.command
        fed(CANARY)
        weights.scored_and_judged()
        assert [what for what, *_ in weights.decisions()] == ["canary", "promote"]
        fed(PINGS)
        assert worker.stop() == 0
    found = scene.forecasts()
    assert {one.model.version for one in found} == {old.version, new.version}
    last = {one.src.partition: one for one in sorted(found, key=lambda one: one.src.offset)}
    assert {one.model.version for one in last.values()} == {new.version}
    assert weights.told("beside", "scores", "--once").returncode == 0
    scores = [one for one in read(scene.kafka, scene.prefix, PLAIN_KAFKA, None) if isinstance(one, Score)]
    ours, theirs = ([one for one in scores if one.model.version == each] for each in (new.version, old.version))
    nearer = [one.horizon for one in changes(ours, theirs) if one.log_ratio.high is not None and one.log_ratio.high < 0]
    assert len(nearer) >= 2, "on the entities that both answered"
    report = weights.verified("at_least_once")
    assert report["ok"], report["examples"]
    assert [report["total"][name] for name in ("late_weights", "other_model", "open")] == [0] * 3
