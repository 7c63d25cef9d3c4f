"""From the last release to this code and back: a worker goes on from what a worker of the other release left.

What the older workers got and left is a fixture (release_rig.Left). The way back runs the older code itself.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import bus_feed
import pytest
import release_rig
from pathcast_process import COMMAND, environment
from release_rig import Left
from worker_process import Worker, assert_all_live

from model.api import load_weights
from stream.verify.report import VERDICTS
from stream.wire import Forecast, loads_forecast

COMPILE_S = 1_500.0  # a bound on waiting: with a load of 15 on two cores, the older kernels took more than 300 s

LEFT = {one.prefix.removeprefix("left-"): one for one in release_rig.load()}


class After(NamedTuple):
    """What the topics and verify say when the next worker has answered the rest."""

    before: list[Forecast]
    ours: list[Forecast]
    total: dict[str, int]
    examples: list[Any]  # of what is wrong

    def wrong(self) -> dict[str, int]:
        return {name: self.total[name] for name in VERDICTS if self.total[name]}

    def first_of_each(self) -> dict[str, Forecast]:
        """The next worker's first forecast of each entity that the one before had answered."""
        found: dict[str, Forecast] = {}
        known = {one.entity_id for one in self.before}
        for one in self.ours:
            if one.entity_id in known:
                found.setdefault(one.entity_id, one)
        return found


def answered(
    left: Left,
    kafka: str,
    redis_url: str,
    folder: Path,
    *,
    program: Mapping[str, Any],
    weights: str | None = None,
) -> After:
    """Publishes the rest, and lets a worker answer it, with the weights of then or others."""
    names, weights = left.names, weights or left.weights_in(folder)
    before = release_rig.read(kafka, names.forecasts)
    release_rig.publish_rest(left, kafka)
    options = {"bootstrap": kafka, "redis": redis_url, "prefix": left.prefix, "group": left.prefix}
    options |= {"delivery": left.delivery, "weights": weights, "max_batch": 16}
    with Worker(folder / "log", **program, **options) as worker:
        worker.wait_for("ready: partitions", COMPILE_S)
        bus_feed.wait_until_consumed(kafka, left.prefix, names.pings, partial(assert_all_live, worker))
        assert worker.stop() == 0, worker.log()
    report = release_rig.verified(kafka, left.prefix, weights, left.delivery, redis_url)
    ours = release_rig.beyond(before, release_rig.read(kafka, names.forecasts))
    return After(_forecasts(before), _forecasts(ours), report["total"], report["examples"])


def _forecasts(records: list[release_rig.Kept]) -> list[Forecast]:
    return [loads_forecast(b64decode(value or "")) for _, _, _, value, _ in records]


def assert_each_record_has_its_answer(left: Left, after: After) -> None:
    total = after.total
    assert after.wrong() == {}, "\n".join(map(str, after.examples))
    assert total["records"] == left.records()
    assert total["records"] == total["forecasts"] + total["dead_letters"] + total["input_duplicates"]
    assert (total["open"], total["unjudged"], total["unread"]) == (0, 0, 0)
    assert min(total[name] for name in ("dead_letters", "input_duplicates", "gap_fills", "states")) > 0


THIS = {"program": COMMAND, "environment": environment()}


@pytest.mark.parametrize("name", LEFT)
def test_states_of_the_last_release_are_taken_up_and_nothing_is_lost_or_doubled(
    name: str, apache_kafka: str, redis_url: str, tmp_path: Path
) -> None:
    left = LEFT[name]
    with release_rig.put_back(left, apache_kafka, redis_url):
        after = answered(left, apache_kafka, redis_url, tmp_path, program=THIS)
    assert_each_record_has_its_answer(left, after)
    assert {one.model.version for one in after.ours} == {left.version}, "the weights of then load, and are the same"
    assert len(after.first_of_each()) >= 4
    assert {one.cache for one in after.first_of_each().values()} == {"hit"}
    assert (after.total["other_model"], after.total["states_skipped"]) == (0, 0)
    if left.ended == "stopped":
        assert after.total["again"] == 0


def test_states_of_other_weights_are_refused_and_rebuilt(apache_kafka: str, redis_url: str, tmp_path: Path) -> None:
    """A fleet takes others of the same size: the states of then are not used, and forecasts are not taken for ours."""
    left, weights = LEFT["bundled"], "small-research"
    ours = load_weights(weights).fingerprint().hex()
    assert ours != left.version
    with release_rig.put_back(left, apache_kafka, redis_url):
        after = answered(left, apache_kafka, redis_url, tmp_path, program=THIS, weights=weights)
    assert_each_record_has_its_answer(left, after)
    assert {one.model.version for one in after.before} == {left.version}
    assert {one.model.version for one in after.ours} == {ours}
    assert {one.cache for one in after.first_of_each().values()} == {"rebuilt"}
    assert after.total["other_model"] == len(after.before) + len(left.topics["gapfills"])


def test_an_offset_that_is_lost_on_the_way_is_found(apache_kafka: str, redis_url: str, tmp_path: Path) -> None:
    """The judge of the tests above: a worker that begins past a record, as after a careless migration, loses it."""
    left = LEFT["stopped"]
    keys = {key: value for key, value in left.keys.items() if not b64decode(key).endswith(b":meta")}
    beyond = {number: at + 1 for number, at in left.offsets.items()}
    careless = replace(left, offsets=beyond, keys=keys)
    with release_rig.put_back(careless, apache_kafka, redis_url):
        after = answered(careless, apache_kafka, redis_url, tmp_path, program=THIS)
    assert after.wrong()["lost"] > 0


@pytest.fixture(scope="module")
def last_release(long: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tree. The first worker of it compiles its kernels there, and the next one has them."""
    try:
        return release_rig.checked_out(release_rig.LAST_RELEASE, tmp_path_factory.mktemp("last") / "tree")
    except LookupError as reason:
        pytest.skip(f"needs the history: {reason}")


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_the_last_release_goes_on_from_what_this_code_left(
    delivery: str, last_release: Path, apache_kafka: str, redis_url: str, tmp_path: Path
) -> None:
    """Going back, as deploy/README.md promises it."""
    first = replace(LEFT["stopped"], delivery=delivery, topics={field: [] for field in LEFT["stopped"].topics})
    ahead = replace(first, rest=LEFT["stopped"].topics["pings"], offsets={}, keys={})
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    with release_rig.put_back(ahead, apache_kafka, redis_url):
        answered(ahead, apache_kafka, redis_url, tmp_path / "ours", program=THIS)
        older = {"program": release_rig.WORKER, "command": (), "environment": release_rig.older(last_release)}
        after = answered(first, apache_kafka, redis_url, tmp_path / "theirs", program=older)
    assert_each_record_has_its_answer(LEFT["stopped"], after)
    assert {one.cache for one in after.first_of_each().values()} <= {"hit", "rebuilt"}
