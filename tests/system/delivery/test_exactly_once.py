"""exactly_once on a real broker: to a `read_committed` reader each answer is there once. Zombies, and crashes at all
other points: tests/chaos."""

from __future__ import annotations

import json
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import bus_feed
import pytest
from dead_members import bury
from pathcast_process import PATIENCE_S, VERIFY, environment
from worker_process import READY_S, Worker, assert_all_live

from stream.config import failpoints
from stream.wire import Topics

PINGS = 4_000
SEED = 11


@pytest.fixture
def options(apache_kafka: str, redis_url: str, topic_prefix: str) -> dict[str, object]:
    """Of the workers; the input lies there."""
    bus_feed.create_topics(apache_kafka, Topics.of(topic_prefix), partitions=4)
    bus_feed.send(apache_kafka, Topics.of(topic_prefix).pings, bus_feed.fleet(PINGS, seed=SEED))
    names = {"bootstrap": apache_kafka, "redis": redis_url, "prefix": topic_prefix, "group": topic_prefix}
    return {**names, "session_timeout_s": 6, "max_batch": 64, "delivery": "exactly_once"}


def findings(options: dict[str, object]) -> dict[str, int]:
    """What `pathcast verify` finds as a `read_committed` reader."""
    asked = {name: options[name] for name in ("bootstrap", "redis", "prefix", "group")} | {"delivery": "exactly_once"}
    arguments = [*VERIFY, *(f"--{name}={value}" for name, value in asked.items()), "--json", "--numbers=close"]
    run = subprocess.run(arguments, capture_output=True, timeout=PATIENCE_S, env=environment(), check=False)
    assert run.stdout, run.stderr.decode()
    total: dict[str, Any] = json.loads(run.stdout)["total"]
    assert total["records"] == PINGS, "the whole input is committed and judged"
    return {name: total[name] for name in ("lost", "duplicated", "different", "unexpected", "states_different")}


NOTHING = dict.fromkeys(("lost", "duplicated", "different", "unexpected", "states_different"), 0)


def test_a_crash_within_a_transaction_shows_no_answer_twice(
    options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(failpoints.VARIABLE, "before_end:6")
        victim = Worker(tmp_path / "victim.log", **options)
    with victim:
        assert victim.wait(READY_S) == -signal.SIGKILL
    finish(options, tmp_path / "next.log")
    assert findings(options) == NOTHING


def test_without_transactions_the_same_crash_shows_answers_twice(
    options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options["delivery"] = "at_least_once"
    with monkeypatch.context() as patch:
        patch.setenv(failpoints.VARIABLE, "after_publish:6")
        victim = Worker(tmp_path / "victim.log", **options)
    with victim:
        assert victim.wait(READY_S) == -signal.SIGKILL
    finish(options, tmp_path / "next.log")
    found = findings(options)
    assert found.pop("duplicated") > 0
    assert not any(found.values())


def finish(options: dict[str, object], log: Path) -> None:
    """A worker that answers what one that is dead has left."""
    bootstrap, group = str(options["bootstrap"]), str(options["group"])
    bury(bootstrap, group)
    with Worker(log, **options) as worker:
        worker.wait_until_ready()
        bus_feed.wait_until_consumed(bootstrap, group, Topics.of(group).pings, partial(assert_all_live, worker))
        assert worker.stop() == 0
