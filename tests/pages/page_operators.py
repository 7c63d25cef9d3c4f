"""What the blocks of operators' and developers' pages want: Kafka's own tool, secured servers, a worker that knows an
entity, a tree of their own, and the tests themselves. Tests import this; it tests nothing itself."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import bus_feed
import page_files
import secured_servers
from kafka.admin import ConfigResource, ConfigResourceType
from missing_servers import skip_unless_required
from page_blocks import ROOT
from page_runs import Scene, copy_tree
from page_scenes import Changes, quiet
from worker_process import Worker, assert_all_live

from stream.bench.harness.servers import Unavailable, java_command, kafka_jars
from stream.kafka import admin
from stream.wire import Topics

VENDOR = ROOT / "stream" / "api" / "map" / "page" / "vendor"
DAY_MS = 86_400_000

# -- servers -----------------------------------------------------------------------------------------------------------


def kafkas_tool(scene: Scene) -> Changes:
    """kafka-configs.sh, which no jar has: it runs the class that Kafka's own script runs, with all arguments."""
    try:
        command = [java_command(), "-cp", f"{kafka_jars(quiet)}/*", "kafka.admin.ConfigCommand"]
    except Unavailable as reason:
        skip_unless_required(str(reason))
    tool = scene.folder / ".venv" / "bin" / "kafka-configs.sh"
    tool.parent.mkdir(parents=True)
    tool.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    tool.chmod(0o755)
    return {"pathcast.pings.v1": Topics.of(scene.prefix).pings}


def kept_for_a_day(scene: Scene) -> None:
    topic = ConfigResource(ConfigResourceType.TOPIC, Topics.of(scene.prefix).pings)
    with admin.connected(scene.bootstrap) as client:
        found = client.describe_configs([topic])
    assert f"'retention.ms': {{'value': '{DAY_MS}'" in str(found), found


@contextmanager
def secured(scene: Scene) -> Iterator[Changes]:
    """Kafka and Redis with TLS, users and rights, and the files that the block names."""
    try:
        (scene.folder / "secured").mkdir()
        with secured_servers.running(quiet, scene.folder / "secured") as servers:
            bus_feed.create_topics(servers.plain, Topics.of(scene.prefix), partitions=2)
            secured_servers.admit(servers, scene.prefix)
            for name, word in (("kafka", secured_servers.KAFKA_PASSWORD), ("redis", secured_servers.REDIS_PASSWORD)):
                (scene.folder / name).write_text(f"{word}\n")
            yield {
                "kafka:9093": servers.bootstrap,
                "redis:6379": f"127.0.0.1:{servers.redis_port}",
                "/run/secrets": str(scene.folder),
                "/etc/pathcast/ca.pem": str(servers.ca),
            }
    except Unavailable as reason:
        skip_unless_required(f"needs Apache Kafka and redis-server: {reason}")


@contextmanager
def bus_7(scene: Scene) -> Iterator[Changes]:
    """A worker that has answered pings of bus-7 and others, and an archive of them."""
    page_files.recent_pings(scene)
    where = {"bootstrap": scene.bootstrap, "prefix": scene.prefix}
    pings = [f"--{name}={value}" for name, value in where.items()]
    page_files.pathcast(
        scene.folder, "beside", "archive", "--once", "--archive", scene.folder / "srv" / "pings", *pings
    )
    with Worker(scene.folder / "worker.log", **where, redis=scene.redis_url, group=scene.prefix) as worker:
        worker.wait_until_ready()
        lives = partial(assert_all_live, worker)
        bus_feed.wait_until_consumed(scene.bootstrap, scene.prefix, Topics.of(scene.prefix).pings, lives)
        yield {}


# -- trees -------------------------------------------------------------------------------------------------------------


def own_tree(scene: Scene) -> Changes:
    """The block runs in a copy of this tree, and with its code: what it records stays there. Its kernels are compiled
    before, as the benchmark waits three minutes for its worker."""
    copy_tree(scene.folder)
    page_files.pathcast(scene.folder, "worker", "--warm")
    return {}


def recorded(scene: Scene) -> None:
    found = (scene.folder / "reports" / "bench.md").read_text()
    assert "pathcast dev bench soak --entities 500 --rate 100 --seconds 60 " in found
    assert found != (ROOT / "reports" / "bench.md").read_text()


def tests_here(*options: str, **instead: str) -> Callable[[Scene], Changes]:
    """The tests of this tree by its own Python, without the variables of the scene."""

    def changes(scene: Scene) -> Changes:
        without = " ".join(f"-u {name}" for name in scene.variables)
        command = [sys.executable, "-m", "pytest", *options]
        return {".venv/bin/pytest": f"cd {ROOT} && env {without} {shlex.join(command)}", **instead}

    return changes


def chaos_report(scene: Scene) -> Changes:
    """One fault of the suite, with few pings."""
    made = tests_here("-k", "redis_flushed", "--chaos-pings", "8000", "--chaos-haste", "2")(scene)
    report = scene.folder / "REPORT.md"
    return {**made, "--chaos-seeds 1,2,3": "--chaos-seeds 1", "reports/chaos.md": str(report)}


def vendored(scene: Scene) -> Changes:
    for one in VENDOR.iterdir():
        if one.name != "coast.json":
            shutil.copy(one, scene.folder)
    return {}


def same_coast(scene: Scene) -> None:
    here, there = (hashlib.sha256((at / "coast.json").read_bytes()).hexdigest() for at in (VENDOR, scene.folder))
    assert here == there
