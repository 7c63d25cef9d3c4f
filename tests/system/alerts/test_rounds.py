"""A guard that cannot look at the scores is told by a real Prometheus, until it can."""

from __future__ import annotations

from pathlib import Path

from pathcast_process import COMMAND, environment, pathcast
from prometheus_server import Prometheus
from worker_process import Worker

from stream.up.embedded import free_port

START_S = 300.0  # a bound on waiting


def test_a_guard_that_cannot_look_is_overdue_until_it_can(
    apache_kafka: str, topic_prefix: str, tmp_path: Path, prometheus: Prometheus
) -> None:
    """There is no topic of scores at first."""
    where = ("--bootstrap", apache_kafka, "--prefix", topic_prefix)
    port, registry = free_port(), str(tmp_path / "registry")
    command = ("beside", "guard", "--guard-every", "1s", "--registry", registry, "--metrics", str(port), *where)
    with Worker(tmp_path / "log", program=COMMAND, command=command, environment=environment()) as guard:
        guard.wait_for("there is no topic", START_S)
        instance = prometheus.watch("guard", f"http://127.0.0.1:{port}")
        one = {"instance": instance, "process": "guard", "severity": "ticket"}
        prometheus.wait_until_fires("PathcastRoundsOverdue", **one)
        made = pathcast("dev", "topics", "--create", "--partitions", "1", "--replication", "1", *where)
        assert made.returncode == 0, made.stderr
        prometheus.wait_until_over("PathcastRoundsOverdue", **one)
        assert guard.running(), "it lived on meanwhile"
        assert guard.stop() == 0, guard.log()
