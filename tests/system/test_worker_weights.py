"""Workers take up weights while pings flow: a canary, a promotion and a rollback, whoever is killed; and what is no
good never serves."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import bus_feed
import msgspec
import numpy as np
import pytest
import typer
from atlas_scene import Scene, slowly
from pathcast_process import eventually
from typer.testing import CliRunner
from worker_pages import Scrape, base_of
from worker_process import assert_all_live

from model.api import weights_folder
from stream.config import failpoints
from stream.engine.asks import places_of
from stream.registry import About, Registry
from stream.registry.golden import make_golden
from stream.verify.cli import verify
from stream.versions.announcing import Announcer
from stream.versions.deciding import Decider, Why
from stream.versions.hearing import Hearing
from stream.versions.weights import OWN, WeightsLedger
from stream.wire import Forecast

PINGS = 40_000  # at most
SEED = 11
KILL_AT = 60  # batches
WHY = Why("the test says so", "test")
APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(verify)


class Rig(NamedTuple):
    scene: Scene
    registry: Registry
    own: str
    other: str

    def decide(self, what: str, *args: Any, **more: Any) -> None:
        async def decided() -> None:
            scene = self.scene
            async with Announcer.opened(scene.kafka, scene.topics, lead_s=1.0, sample_s=0.3) as announcer:
                await getattr(Decider(self.registry, announcer), what)(*args, **more)

        asyncio.run(decided())

    def ledger(self) -> WeightsLedger:
        async def heard() -> WeightsLedger:
            async with Hearing.opened(self.scene.kafka, self.scene.topics) as hearing:
                await hearing.look()
                return hearing.weights

        return asyncio.run(heard())

    def verified(self, delivery: str) -> dict[str, Any]:
        names = ("bootstrap", "prefix", "group", "weights", "redis", "registry")
        options = [f"--{name}={self.scene.options[name]}" for name in names]
        run = CliRunner().invoke(APP, [*options, "--json", f"--delivery={delivery}"])
        assert run.stdout, repr(run.exception)
        report: dict[str, Any] = json.loads(run.stdout)
        return report


@pytest.fixture
def rig(apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path) -> Rig:
    scene = Scene.made(apache_kafka, redis_url, topic_prefix, tmp_path)
    url = str(tmp_path / "registry")
    del scene.options["atlases"]
    scene.options.update(registry=url)
    registry = Registry.opened(url)
    own, other = (
        registry.publish_weights(weights_folder(name), About(), make_golden(name))
        for name in ("small", "small-research")
    )
    return Rig(scene, registry, own.version, other.version)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_each_forecast_is_of_the_weights_that_the_topic_says_whoever_is_killed(rig: Rig, delivery: str) -> None:
    scene, decided = rig.scene, threading.Event()
    pings = slowly(list(bus_feed.fleet(PINGS, seed=SEED)), decided)
    feed = threading.Thread(target=bus_feed.send, args=(scene.kafka, scene.topics.pings, pings))
    with ExitStack() as stack:
        kill = {failpoints.VARIABLE: f"after_publish:{KILL_AT}"}
        victim = stack.enter_context(scene.worker("victim", delivery=delivery, environment=kill))
        other = stack.enter_context(scene.worker("other", delivery=delivery, metrics=0))
        other.wait_until_ready()
        victim.wait_until_ready()
        feed.start()
        live = partial(assert_all_live, other)

        def enough(records: int) -> None:
            bus_feed.wait_for_records(scene.kafka, scene.topics.forecasts, records, live)

        enough(500)
        rig.decide("canary", rig.other, 30.0, WHY)
        enough(2_000)
        rig.decide("promote", rig.other, WHY, ramp_s=1.0)
        assert eventually(lambda: not victim.running()), "with answers out that are not committed"
        enough(4_500)
        rig.decide("rollback", WHY, to=rig.own)
        decided.set()
        feed.join()
        scene.wait_until_consumed(other)
        pages = Scrape(base_of(other))
        assert other.stop() == 0
    found, ledger = scene.forecasts(), rig.ledger()
    assert [(one.role, one.version) for one in ledger.records] == [
        ("canary", rig.other),
        ("all", rig.other),
        ("all", rig.own),
    ]
    assert_as_the_ledger_says(found, ledger, rig.own)
    by_version = [sum(one.model.version == version for one in found) for version in (rig.own, rig.other)]
    assert min(by_version) > 500
    rebuilt = [one for one in found if one.cache == "rebuilt"]
    assert len({one.entity_id for one in rebuilt}) > 10
    assert len(rebuilt) < len(found) / 5, "once for each change, and for late pings"
    assert pages.sum("states_moved_total") > 10
    assert pages.sum("versions_refused") == 0
    report = rig.verified(delivery)
    assert report["ok"], report["examples"]
    total = report["total"]
    assert total["records"] == total["forecasts"] + total["dead_letters"] + total["input_duplicates"]
    assert [total[name] for name in ("late_weights", "other_model", "open", "unjudged")] == [0] * 4
    assert total["states"] > 0
    assert report["notes"] == []


def assert_as_the_ledger_says(found: Sequence[Forecast], ledger: WeightsLedger, own: str) -> None:
    copies: dict[str, Forecast] = {}
    for one in found:
        assert not one.model.late
        rules = ledger.rules(one.src.partition)
        at = int(rules.at(np.array([one.src.offset]), places_of([one.entity_id]))[0])
        assert one.model.version == (own if at == OWN else rules.rules[at].version), one
        bare = msgspec.structs.replace(one, latency_ms=found[0].latency_ms, cache="hit")
        assert copies.setdefault(one.forecast_id, bare) == bare


def test_weights_that_are_damaged_are_refused_and_the_old_ones_serve_on(rig: Rig) -> None:
    """They are announced whole, and spoilt before a worker reads them."""
    scene = rig.scene
    with scene.worker("worker", metrics=0) as worker:
        worker.wait_until_ready()
        bus_feed.send(scene.kafka, scene.topics.pings, bus_feed.fleet(600, seed=SEED))
        scene.wait_until_consumed(worker)
        worker.stop()
    rig.decide("promote", rig.other, WHY, ramp_s=0.0)
    tensors = rig.registry.fetch("weights", rig.other) / "model.safetensors"
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
        assert f"version {rig.other} of the weights is refused" in worker.log()
    late = [one for one in scene.forecasts() if one.model.late]
    assert {one.model.version for one in scene.forecasts()} == {rig.own}
    assert late
