"""The quick starts of the pages of stream/ingest, run as they are written there, but for the addresses of Kafka and
Redis, and with a prefix of their own."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
import uuid
from pathlib import Path

import bus_feed
import feed_sources
import ingest_rig
import pathcast_process
import pytest
from worker_process import Worker

import stream
from stream.wire import Topics, loads_forecast

PAGES = Path(stream.__file__).parent / "ingest"
SERVERS = "export PATHCAST_BOOTSTRAP=localhost:9092 PATHCAST_REDIS=redis://localhost:6379/0\n"
PATIENCE_S = 300.0  # a worker may have to compile its kernels first


def commands(page: str, title: str) -> str:
    """The first block of commands below a heading."""
    text = (PAGES / page).read_text()
    found = re.search(rf"^## {re.escape(title)}$.*?^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def environment(apache_kafka: str, redis_url: str, prefix: str, tmp_path: Path) -> dict[str, str]:
    """With a `pathcast` on the path that is this tree's."""
    (tmp_path / "pathcast").write_text(f'#!/bin/sh\nexec {shlex.join(pathcast_process.COMMAND)} "$@"\n')
    (tmp_path / "pathcast").chmod(0o755)
    ours = {"PATHCAST_BOOTSTRAP": apache_kafka, "PATHCAST_REDIS": redis_url, "PATHCAST_PREFIX": prefix}
    found = pathcast_process.environment(**ours, PATHCAST_GROUP=prefix)
    return {**found, "PATH": f"{tmp_path}:{found['PATH']}"}


@pytest.mark.parametrize(
    ("title", "source"),
    [("Quick start: a GTFS-Realtime feed", "gtfs-rt"), ("Quick start: an AIS receiver", "ais")],
)
def test_a_quick_start_ends_in_forecasts(
    title: str, source: str, environment: dict[str, str], apache_kafka: str, prefix: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        # `wait`, so that nothing that the commands started outlives this test.
        script = f"{commands('README-feeds.md', title).removeprefix(SERVERS)}wait\n"
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
            timeout=PATIENCE_S,
            env=environment,
            check=False,
        )
    assert ended.returncode == 0, log.read_text()
    forecasts = [loads_forecast(one.value or b"") for one in bus_feed.read(apache_kafka, Topics.of(prefix).forecasts)]
    assert len(forecasts) >= 20
    pings = feed_sources.pings_by_entity(bus_feed.read(apache_kafka, Topics.of(prefix).pings))
    assert {ping.source for of in pings.values() for ping in of} == {source}
    shown = ended.stdout.decode()
    assert sum(who in shown for who in pings) >= 5, shown


def test_the_quick_start_of_traccar_ends_in_forecasts(
    environment: dict[str, str], apache_kafka: str, tmp_path: Path
) -> None:
    """Its third and its fourth command run until they are stopped."""
    block = commands("README.md", "Traccar to forecasts in five commands").replace("localhost:9092", apache_kafka)
    install, *others = block.replace("redis://localhost:6379/0", environment["PATHCAST_REDIS"]).splitlines()
    assert "-e '.[ingest]'" in install
    create, worker, ingest, tail = (shlex.split(one)[1:] for one in others)
    assert pathcast_process.pathcast(*create, env=environment).returncode == 0

    def started(name: str, arguments: list[str]) -> Worker:
        program = [*pathcast_process.COMMAND, *arguments]
        return Worker(tmp_path / name, program=program, command=(), environment=environment)

    with started("worker.log", worker) as work, started("ingest.log", ingest) as taking:
        positions = (ingest_rig.traccar(number, int(time.time()) - 3_600) for number in range(20))
        bus_feed.send(apache_kafka, "positions", ((key, value, ()) for key, value in positions))
        work.wait_until_ready()
        shown = pathcast_process.pathcast(*tail, env=environment)
        assert shown.returncode == 0, (shown.stderr, work.log(), taking.log())
    assert len(re.findall(rb"35209308\d{7}", shown.stdout)) >= 3, shown.stdout
