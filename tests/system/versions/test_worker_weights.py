"""Workers take up weights while pings flow: a canary, a promotion and a rollback, whoever is killed; and what is no
good never serves."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path

import bus_feed
import numpy as np
import pytest
from atlas_scene import slowly
from pathcast_process import eventually
from weights_scene import WHY, WeightsScene
from worker_pages import Scrape, base_of
from worker_process import assert_all_live

from stream.config import failpoints
from stream.engine.assignment import places_of
from stream.versions.weights import OWN, WeightsLedger
from stream.wire import Forecast

PINGS = 40_000  # at most
SEED = 11
KILL_AT = 60  # batches


@pytest.fixture
def weights(apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path) -> WeightsScene:
    return WeightsScene.made(apache_kafka, redis_url, topic_prefix, tmp_path)


@pytest.mark.promise("each forecast is of the weights that the models topic says, whoever is killed")
def test_each_forecast_is_of_the_weights_that_the_topic_says_whoever_is_killed(weights: WeightsScene) -> None:
    scene, decided = weights.scene, threading.Event()
    own, new = weights.publish("small"), weights.publish("small-research")
    pings = slowly(list(bus_feed.fleet(PINGS, seed=SEED)), decided)
    feed = threading.Thread(target=bus_feed.send, args=(scene.kafka, scene.topics.pings, pings), daemon=True)
    with ExitStack() as stack:
        kill = {failpoints.VARIABLE: f"after_publish:{KILL_AT}"}
        victim = stack.enter_context(scene.worker("victim", delivery="exactly_once", environment=kill))
        other = stack.enter_context(scene.worker("other", delivery="exactly_once", metrics=0))
        other.wait_until_ready()
        victim.wait_until_ready()
        feed.start()
        live = partial(assert_all_live, other)

        def enough(records: int) -> None:
            bus_feed.wait_for_records(scene.kafka, scene.topics.forecasts, records, live)

        enough(500)
        weights.decide("canary", new, 30.0, WHY)
        enough(2_000)
        weights.decide("promote", new, WHY, ramp_s=1.0)
        assert eventually(lambda: not victim.running()), "with answers out that are not committed"
        enough(4_500)
        weights.decide("rollback", WHY, to=own)
        decided.set()
        feed.join()
        scene.wait_until_consumed(other)
        pages = Scrape(base_of(other))
        assert other.stop() == 0
    found, ledger = scene.forecasts(), weights.ledger()
    assert [(one.role, one.version) for one in ledger.records] == [
        ("canary", new),
        ("all", new),
        ("all", own),
    ]
    assert_as_the_ledger_says(found, ledger, own)
    by_version = [sum(one.model.version == version for one in found) for version in (own, new)]
    assert min(by_version) > 500
    rebuilt = [one for one in found if one.cache == "rebuilt"]
    assert len({one.entity_id for one in rebuilt}) > 10
    assert len(rebuilt) < len(found) / 5, "once for each change, and for late pings"
    assert pages.sum("states_moved_total") > 10
    assert pages.sum("versions_refused") == 0
    report = weights.verified("exactly_once")
    assert report["ok"], report["examples"]
    total = report["total"]
    assert total["records"] == total["forecasts"] + total["dead_letters"] + total["input_duplicates"]
    assert [total[name] for name in ("late_weights", "other_model", "open", "unjudged")] == [0] * 4
    assert total["states"] > 0
    assert report["notes"] == []


def assert_as_the_ledger_says(found: Sequence[Forecast], ledger: WeightsLedger, own: str) -> None:
    for one in found:
        assert not one.model.late
        rules = ledger.rules(one.src.partition)
        at = int(rules.at(np.array([one.src.offset]), places_of([one.entity_id]))[0])
        assert one.model.version == (own if at == OWN else rules.rules[at].version), one


def test_weights_that_are_damaged_are_refused_and_the_old_ones_serve_on(weights: WeightsScene) -> None:
    """They are announced whole, and spoilt before a worker reads them."""
    scene, own, new = weights.scene, weights.publish("small"), weights.publish("small-research")
    with scene.worker("worker", metrics=0) as worker:
        worker.wait_until_ready()
        bus_feed.send(scene.kafka, scene.topics.pings, bus_feed.fleet(600, seed=SEED))
        scene.wait_until_consumed(worker)
        worker.stop()
    weights.decide("promote", new, WHY, ramp_s=0.0)
    tensors = weights.registry.fetch("weights", new) / "model.safetensors"
    raw = bytearray(tensors.read_bytes())
    raw[-1000] ^= 0xFF
    tensors.chmod(0o644)
    tensors.write_bytes(raw)
    with scene.worker("again", metrics=0, lead_s=4) as worker:
        worker.wait_until_ready()
        bus_feed.send(scene.kafka, scene.topics.pings, islice(bus_feed.fleet(1_800, seed=SEED), 600, None))
        scene.wait_until_consumed(worker)
        assert Scrape(base_of(worker)).sum("versions_refused") == 1
        assert worker.stop() == 0
        assert f"version {new} of the weights is refused" in worker.log()
    late = [one for one in scene.forecasts() if one.model.late]
    assert {one.model.version for one in scene.forecasts()} == {own}
    assert late
