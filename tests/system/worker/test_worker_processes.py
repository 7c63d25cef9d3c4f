"""`pathcast worker --workers 2`: the two share the partitions, a dead one comes back, and all end together."""

from __future__ import annotations

import os
import re
import shutil
import signal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import bus_feed
import pytest
from pathcast_process import PATIENCE_S, eventually, processes_of
from worker_process import Worker, assert_all_live

from stream.processes.keeper import TROUBLED
from stream.wire import Topics, loads_forecast

PINGS = 9_000
SEED = 11
PARTITIONS = 4

Options = dict[str, Any]


@pytest.fixture
def options(kafka: str, redis_url: str, topic_prefix: str, weights: Path, tmp_path: Path) -> Options:
    """With weights under tmp_path, so that every process of the test names that folder."""
    return {
        "workers": 2,
        "bootstrap": kafka,
        "redis": redis_url,
        "weights": shutil.copytree(weights, tmp_path / "weights"),
        "prefix": topic_prefix,
        "group": topic_prefix,
        "partitions": PARTITIONS,
        "session_timeout_s": 6,
        "metrics": 0,
    }


def pids(worker: Worker, number: int) -> list[int]:
    """Of this member's processes so far; the last may live."""
    return [int(pid) for pid in re.findall(rf"worker {number} is process (\d+)$", worker.log(), re.MULTILINE)]


def ready(worker: Worker, number: int) -> set[int]:
    """The partitions that its present process serves; empty while it takes over others, or starts."""
    said = worker.log().rpartition(f"worker {number} is process ")[2]
    lines = re.findall(rf"^worker {number} \| .* (assigned|ready): partitions ([\d, ]+)$", said, re.MULTILINE)
    return {int(part) for part in lines[-1][1].split(", ")} if lines and lines[-1][0] == "ready" else set()


def wait_until_shared(worker: Worker, *, starts: int = 1) -> None:
    """By the second member's first process and the first member's process number `starts`."""

    def shared() -> bool:
        assert_all_live(worker)
        one, other = ready(worker, 1), ready(worker, 2)
        begun = len(pids(worker, 1)) == starts and one and other
        return bool(begun) and not one & other and one | other == set(range(PARTITIONS))

    assert eventually(shared), worker.log()


@pytest.mark.usefixtures("apache_kafka")
def test_two_workers_share_and_a_killed_one_comes_back_until_sigterm_ends_all(options: Options, tmp_path: Path) -> None:
    kafka, topics = options["bootstrap"], Topics.of(options["prefix"])
    records = bus_feed.fleet(PINGS, seed=SEED)
    with Worker(tmp_path / "log", **options) as worker:
        for kills in range(TROUBLED):  # each was ready before, so that these are no false starts
            wait_until_shared(worker, starts=kills + 1)
            bus_feed.send(kafka, topics.pings, islice(records, PINGS // (TROUBLED + 1)))
            os.kill(pids(worker, 1)[-1], signal.SIGKILL)
        bus_feed.send(kafka, topics.pings, records)
        wait_until_shared(worker, starts=TROUBLED + 1)
        doors = dict(re.findall(r"^worker (\d) \| .* metrics: (http://\S+)/metrics$", worker.log(), re.MULTILINE))
        assert len(set(doors.values())) == 2, "each has its own"
        assert {urlopen(f"{door}/readyz", timeout=30).status for door in doors.values()} == {200}
        bus_feed.wait_until_consumed(kafka, options["group"], topics.pings, partial(assert_all_live, worker))
        assert len(pids(worker, 2)) == 1, "the other one went on"
        assert worker.stop() == 0, worker.log()
        assert not processes_of(tmp_path)

    sent = list(bus_feed.read(kafka, topics.pings))
    said = [loads_forecast(record.value or b"") for record in bus_feed.read(kafka, topics.forecasts)]
    assert len(sent) == PINGS
    due = bus_feed.expected(sent, window_fixes=10**6, version=said[0].model.version)
    assert {forecast.forecast_id for forecast in said} == due.windows.keys()
    letters = list(bus_feed.read(kafka, topics.dead_letters))
    assert {bus_feed.source_of(letter) for letter in letters} == due.rejects.keys()


def test_kill_9_of_the_parent_leaves_no_worker(options: Options, tmp_path: Path) -> None:
    with Worker(tmp_path / "log", **options) as worker:
        wait_until_shared(worker)
        assert len(processes_of(tmp_path)) == 3, "the search below would find what is left"
        worker.kill()
        assert eventually(lambda: not processes_of(tmp_path)), processes_of(tmp_path)


def test_weights_that_cannot_be_used_stop_all_and_one_line_says_why(options: Options, tmp_path: Path) -> None:
    with Worker(tmp_path / "log", **{**options, "weights": tmp_path / "none"}) as worker:
        assert worker.wait(PATIENCE_S) == 1
        last = worker.log().splitlines()[-1]
    assert re.match(r"error: all workers were stopped: worker \d ended 3 times before it was ready", last), last
    assert "last words: error: " in last
    assert str(tmp_path / "none") in last
    assert not processes_of(tmp_path)
