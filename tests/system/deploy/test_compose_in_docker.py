"""deploy/compose.yaml as it is meant: with a Docker engine, its images and its network. `--all`, as images of 7 GB are
built; where they are there already, the containers are healthy after some two minutes.

`PATHCAST_COMPOSE_WITHOUT="grafana refresh"` leaves services out whose images cannot be had.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from functools import partial
from itertools import islice

import bus_feed
import compose_file
import pytest
from compose_containers import BROKER, Containers, compose_command
from pathcast_process import eventually

from stream.bench.harness.servers import Unavailable
from stream.wire import Topics, loads_forecast

TOKEN = "a-token-of-a-test-only"
TOPICS = Topics.of("pathcast")
PINGS, SEED = 400, 3
WORKERS = ("worker-1", "worker-2")
VAN = {"ident": "van-7", "position.timestamp": 1_700_000_000, "position.latitude": 30.29, "position.longitude": -97.74}
START_S = 900.0  # a bound on waiting: a dozen processes start at once, one of which compiles the kernels
KILL_PATHCAST = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    words = open(f"/proc/{pid}/cmdline").read().split(chr(0))
    if int(pid) > 1 and words[1:2] == ["/opt/pathcast/bin/pathcast"]:
        os.kill(int(pid), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def containers(long: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    try:
        command = compose_command()
    except Unavailable as reason:
        pytest.skip(str(reason))
    folder = tmp_path_factory.mktemp("compose")
    without = os.environ.get("PATHCAST_COMPOSE_WITHOUT", "").split()
    made = Containers(command, f"pathcast-{os.getpid()}", folder, without)
    with made.up({**os.environ, "PATHCAST_INGEST_TOKEN": TOKEN}):
        yield made


def looked_after(containers: Containers) -> list[str]:
    """The services that have a health check."""
    return [name for name in containers.services if "healthcheck" in compose_file.services()[name]]


def test_all_become_healthy_and_answer_what_comes_in(containers: Containers) -> None:
    for name in looked_after(containers):
        assert eventually(partial(healthy, containers, name), START_S), containers.run("logs", name)[-3_000:]
    assert containers.state("topics")["State"]["ExitCode"] == 0

    request = urllib.request.Request(
        f"http://{containers.address('8080')}/webhook/flespi",
        json.dumps([VAN]).encode(),
        {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200
    sent = bus_feed.send(kafka(containers), TOPICS.pings, bus_feed.fleet(PINGS, seed=SEED))
    bus_feed.wait_until_consumed(kafka(containers), "pathcast", TOPICS.pings, nothing)
    said = [loads_forecast(one.value or b"") for one in bus_feed.read(kafka(containers), TOPICS.forecasts)]
    assert sent // 2 < len(said) <= sent + 1
    assert "van-7" in {one.entity_id for one in said}, "what came in by HTTP is answered, too"
    assert eventually(lambda: "van-7" in page(containers, "9480", "/v1/entities/van-7"))
    assert "<title>" in page(containers, "8765", "/")


def test_prometheus_finds_each_of_them_by_its_name(containers: Containers) -> None:
    """Compose's own DNS answers it, which no other test has."""
    ours = {name for name in looked_after(containers) if name in compose_file.ours()}
    expected = ["worker" if name in WORKERS else name for name in ours]

    def up() -> list[str]:
        """The processes that Prometheus reads, each as often as it has containers."""
        targets = json.loads(page(containers, "9090", "/api/v1/targets"))["data"]["activeTargets"]
        return sorted(one["labels"]["process"] for one in targets if one["health"] == "up")

    assert eventually(lambda: up() == sorted(expected)), up()


@pytest.mark.parametrize("name", sorted(compose_file.ours().keys() - {"topics"}))
def test_none_may_write_or_become_more_than_it_is(containers: Containers, name: str) -> None:
    if name not in containers.services:
        pytest.skip("left out by PATHCAST_COMPOSE_WITHOUT")
    program = """
import os
print(os.getuid(), os.getgid())
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")))
for folder in ("/", "/etc", "/opt/pathcast"):
    try:
        open(folder + "/written", "w")
    except OSError as error:
        print(error.strerror)
open("/tmp/written", "w")
"""
    assert containers.python(name, program).splitlines() == ["10001 10001", "0" * 16, *["Read-only file system"] * 3]


def test_a_worker_that_is_killed_is_started_again_and_nothing_is_lost(containers: Containers) -> None:
    containers.python("worker-1", KILL_PATHCAST)
    later = islice(bus_feed.fleet(2 * PINGS, seed=SEED), PINGS, None)
    bus_feed.send(kafka(containers), TOPICS.pings, later)
    assert eventually(lambda: containers.state("worker-1")["RestartCount"] > 0)
    assert eventually(partial(healthy, containers, "worker-1"), START_S), containers.run("logs", "worker-1")[-3_000:]
    bus_feed.wait_until_consumed(kafka(containers), "pathcast", TOPICS.pings, nothing)
    places = ("--atlases", "/var/lib/pathcast/atlases", "--registry", "/var/lib/pathcast/registry")
    command = ("pathcast", "verify", "--redis", "redis://redis:6379/0", *places, "--json")
    found = json.loads(containers.run("exec", "-T", "worker-2", *command))  # it fails if anything is wrong
    assert found["total"]["forecasts"] > 1.5 * PINGS


def test_each_ends_in_its_time_when_it_is_told_to(containers: Containers) -> None:
    """The last test here: nothing runs after it."""
    containers.run("stop")
    ours = [name for name in containers.services if name in compose_file.ours()]
    assert {name: containers.state(name)["State"]["ExitCode"] for name in ours} == dict.fromkeys(ours, 0)


def nothing() -> None:
    """Checks nothing while records are waited for: the engine starts again what ends."""


def healthy(containers: Containers, name: str) -> bool:
    return containers.health(name) == "healthy"


def kafka(containers: Containers) -> str:
    return containers.address(BROKER)


def page(containers: Containers, published: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{containers.address(published)}{path}", timeout=60) as answer:
        return str(answer.read().decode())
