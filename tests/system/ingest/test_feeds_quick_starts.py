"""The quick starts of stream/ingest/README-feeds.md, run as they are written there, but for the addresses of Kafka and
Redis."""

from __future__ import annotations

import re
import shlex
import subprocess
import uuid
from pathlib import Path

import bus_feed
import feed_sources
import pathcast_process
import pytest

import stream
from stream.wire import Topics, loads_forecast

PAGE = Path(stream.__file__).parent / "ingest" / "README-feeds.md"
SERVERS = "export PATHCAST_BOOTSTRAP=localhost:9092 PATHCAST_REDIS=redis://localhost:6379/0\n"
PATIENCE_S = 300.0  # a worker may have to compile its kernels first


def commands(title: str) -> str:
    """The first block of commands below a heading."""
    found = re.search(rf"^## {re.escape(title)}$.*?^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, title
    assert found[1].startswith(SERVERS)
    return found[1].removeprefix(SERVERS)


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
        script = f"{commands(title)}wait\n"
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
