"""`pathcast verify --atlases` of real workers: three versions and a crash, and nothing is wrong; each lie is found."""

from __future__ import annotations

import json
from functools import partial
from heapq import nlargest
from pathlib import Path
from typing import Any

import bus_feed
import pytest
import typer
from atlas_scene import Scene, atlases
from kafka import KafkaProducer
from msgspec.structs import replace
from pathcast_process import eventually
from typer.testing import CliRunner
from worker_process import assert_all_live

from stream.verify.cli import verify
from stream.verify.report import VERDICTS
from stream.wire import Forecast, Record, dumps, loads_forecast
from stream.wire.ids import forecast_id

PINGS = 30_000  # at most
SEED = 5
KILL_AT = 40  # batches

# In this process, as it is asked several times. That it is a command, too, test_exactly_once and tests/chaos show.
APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(verify)


@pytest.fixture
def scene(apache_kafka: str, redis_url: str, topic_prefix: str, tmp_path: Path) -> Scene:
    return Scene.made(apache_kafka, redis_url, topic_prefix, tmp_path)


def verified(scene: Scene, *more: object) -> dict[str, Any]:
    """The report as JSON; its exit code must agree with it."""
    names = ("bootstrap", "prefix", "group", "weights", "redis", "atlases")
    options = [f"--{name}={scene.options[name]}" for name in names]
    run = CliRunner().invoke(APP, [*options, "--json", *map(str, more)])
    assert run.stdout, repr(run.exception)
    report: dict[str, Any] = json.loads(run.stdout)
    assert run.exit_code == (0 if report["ok"] else 1)
    return report


def wrong(report: dict[str, Any]) -> dict[str, int]:
    return {name: report["total"][name] for name in VERDICTS if report["total"][name]}


def run_through(scene: Scene, delivery: str) -> list[str]:
    """Three versions come while pings flow, and one of two workers is killed with answers out that are not committed.
    Returns the versions."""
    records = list(bus_feed.fleet(PINGS, seed=SEED))
    versions = [scene.put(raw) for raw in atlases(records)]
    with scene.crash(records, delivery=delivery, kill_at=KILL_AT) as (victim, other):
        for enough, version in zip((0, 1_000, 2_000), versions, strict=True):
            bus_feed.wait_for_records(scene.kafka, scene.topics.forecasts, enough, partial(assert_all_live, other))
            scene.announce(version)
        assert eventually(lambda: not victim.running())
    return versions


def forecasts_of(scene: Scene, version: str) -> list[Record]:
    """The two that rest on most pings of this version."""

    def pings(record: Record) -> int:
        atlas = loads_forecast(record.value or b"").atlas
        return atlas.pings if atlas is not None and atlas.version == version else 0

    return nlargest(2, bus_feed.read(scene.kafka, scene.topics.forecasts), pings)


def publish(scene: Scene, record: Record, change: dict[str, Any]) -> None:
    """Publishes a forecast once more that says something else of its atlas, with the id for it."""
    forecast = loads_forecast(record.value or b"")
    assert forecast.atlas is not None
    atlas = replace(forecast.atlas, **change)
    new_id = forecast_id(forecast.entity_id, forecast.anchor.ts, forecast.model.version, atlas.version)
    lie: Forecast = replace(forecast, forecast_id=new_id, atlas=atlas)
    producer = KafkaProducer(bootstrap_servers=scene.kafka)
    producer.send(scene.topics.forecasts, key=record.key, value=dumps(lie)).get(30)
    producer.close()


def test_over_three_versions_and_a_crash_nothing_is_wrong_and_every_lie_is_found(scene: Scene) -> None:
    first, second, third = run_through(scene, "at_least_once")
    report = verified(scene)
    assert report["ok"], report["examples"]
    total = report["total"]
    assert total["records"] == total["forecasts"] + total["dead_letters"] + total["input_duplicates"]
    assert total["forecasts"] > 2_000
    assert total["again"] > 0, "what the killed one had published and not committed"
    assert total["states"] > 0
    assert [total[name] for name in ("late_atlas", "other_atlas", "without_atlas", "open", "unjudged")] == [0] * 5
    assert report["notes"] == []

    (one, another), (last, _) = forecasts_of(scene, second), forecasts_of(scene, third)
    publish(scene, one, {"version": first, "late": True})  # which it may, but the numbers are not those of the version
    publish(scene, another, {"pings": 10**6})
    publish(scene, last, {"version": first})
    assert wrong(verified(scene)) == {"different": 3, "wrong_atlas": 1}

    swapped = scene.folder / f"{second}.atlas"
    swapped.write_bytes((scene.folder / f"{third}.atlas").read_bytes())
    report = verified(scene)
    assert wrong(report) == {"different": 2, "wrong_atlas": 2}, "its numbers are not compared"
    assert f"{swapped} is version {third}" in {example["reason"] for example in report["examples"]}


def test_under_exactly_once_nothing_is_wrong_either(scene: Scene) -> None:
    versions = run_through(scene, "exactly_once")
    report = verified(scene, "--delivery=exactly_once")
    assert report["ok"], report["examples"]
    total = report["total"]
    assert total["records"] == total["forecasts"] + total["dead_letters"] + total["input_duplicates"]
    assert total["forecasts"] > 2_000
    assert [total[name] for name in ("late_atlas", "other_atlas", "without_atlas", "open", "unjudged")] == [0] * 5
    (one, _) = forecasts_of(scene, versions[2])
    publish(scene, one, {"version": None})
    assert wrong(verified(scene, "--delivery=exactly_once")) == {"duplicated": 1, "different": 1, "wrong_atlas": 1}
