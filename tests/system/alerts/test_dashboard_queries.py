"""A real Prometheus that scrapes every process of pathcast has an answer to every query of Grafana's dashboard."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import bus_feed
import prometheus_server
import promql_names
import pytest
import schema_registry
from missing_servers import skip_unless_required
from pathcast_process import COMMAND, environment
from prometheus_server import Prometheus
from worker_pages import base_of
from worker_process import Worker, assert_all_live

from stream.bench.harness.servers import Unavailable
from stream.up.embedded import free_port
from stream.wire import Topics

DASHBOARD = prometheus_server.DEPLOY / "grafana" / "dashboards" / "pathcast.json"
PINGS = 4_000
PARTITIONS = 2
GUARD = ("beside", "guard", "--guard-every", "10s", "--registry")  # its first look may find no topic of scores yet
REFRESH = ("train", "refresh", "--every", "24h", "--minutes", "0.1", "--registry")
LAST = ("pathcast_ingest_rejects_total", "pathcast_scores_scored_total", "pathcast_avro_records_total")  # to be scraped
# What has no series in this scene: atlases need announcements; a first skip or a fired alert did not happen. Their
# names are checked all the same.
MAY_BE_EMPTY = {"pathcast_atlas_info", "pathcast_ingest_skips_total"}


@pytest.fixture(scope="module")
def watched(
    apache_kafka: str,
    redis_base_url: str,
    prometheus: Prometheus,
    weights: Path,
    tmp_path_factory: pytest.TempPathFactory,
    say: object,
) -> Iterator[Prometheus]:
    """It scrapes a worker, a scorer, serve, ingest and all services, each of which has had something to do."""
    folder, topics = tmp_path_factory.mktemp("dashboard"), Topics.of(f"dashboard{os.getpid()}")
    bus_feed.create_topics(apache_kafka, topics, partitions=PARTITIONS)
    servers = ("--bootstrap", apache_kafka, "--prefix", topics.prefix)
    states = ("--redis", redis_base_url, "--weights", str(weights), "--group", topics.prefix)
    with ExitStack() as stack:

        def begun(name: str, *command: str) -> Worker:
            log = folder / f"{name}.log"
            started = Worker(log, program=COMMAND, command=(*command, *servers), environment=environment())
            return stack.enter_context(started)

        def begun_with_pages(name: str, *command: str) -> tuple[Worker, str]:
            port = free_port()
            return begun(name, *command, "--metrics", str(port)), f"http://127.0.0.1:{port}"

        try:
            registry = stack.enter_context(schema_registry.running(say))  # type: ignore[arg-type]
        except Unavailable as reason:
            skip_unless_required(reason)
        worker = begun("worker", "worker", *states, "--metrics", "0")
        worker.wait_until_ready()
        bus_feed.send(apache_kafka, topics.pings, bus_feed.fleet(PINGS, seed=6))
        serve = begun("serve", "serve", "--listen", "0", *states)
        live_map = begun("map", "map", "--listen", "0")
        door = free_port()
        others = {
            "scores": begun_with_pages("scores", "beside", "scores"),
            "latest": begun_with_pages("latest", "beside", "latest"),
            "arrivals": begun_with_pages("arrivals", "beside", "arrivals"),
            "avro": begun_with_pages("avro", "beside", "avro", "--schema-registry", registry),
            "atlas": begun_with_pages("atlas", "beside", "atlas", "--atlases", str(folder / "atlases"), *states[:2]),
            "archive": begun_with_pages("archive", "beside", "archive", "--archive", str(folder / "archive")),
            "guard": begun_with_pages("guard", *GUARD, str(folder / "registry")),
            "refresh": begun_with_pages("refresh", *REFRESH, str(folder / "registry"), "--dir", str(folder / "rounds")),
            "ingest": begun_with_pages("ingest", "ingest", "http", "--map", "samsara", "--listen", str(door)),
        }
        bases = {"worker": base_of(worker), **{name: base for name, (_, base) in others.items()}}
        for name, process in (("serve", serve), ("map", live_map)):
            process.wait_for("listening at http://", 300)
            found = re.search(r"listening at (http://[^,\s]+)", process.log())
            assert found is not None
            bases[name] = found[1]
        with urllib.request.urlopen(bases["map"] + "/map/config", timeout=60) as answer:
            assert answer.status == 200
        for name, base in bases.items():
            prometheus.watch(name, base)
        everybody = [worker, serve, live_map, *(process for process, _ in others.values())]
        bus_feed.wait_until_consumed(apache_kafka, topics.prefix, topics.pings, partial(assert_all_live, *everybody))
        for name in ("scores", "latest", "arrivals", "avro"):
            group = f"{topics.prefix}-{name}"
            bus_feed.wait_until_consumed(apache_kafka, group, topics.forecasts, partial(assert_all_live, *everybody))
        others["ingest"][0].wait_for("listening at", 300)
        _post(f"http://127.0.0.1:{door}/webhook/samsara", {"data": [{"id": "a", "gps": {"time": "now"}}]})
        last = " and on() ".join(f"count_over_time({name}[1h]) > 1" for name in LAST)
        prometheus.wait("all has been scraped twice", lambda: bool(prometheus.query(last)))
        looked = 'pathcast_guard_rounds_total{outcome="done"} > 0'  # until then it is not ready
        prometheus.wait("the guard has looked", lambda: bool(prometheus.query(looked)))
        prometheus.wait_until_over("PathcastNotReady")
        yield prometheus
        assert_all_live(*everybody)


def _post(url: str, message: object) -> None:
    request = urllib.request.Request(url, json.dumps(message).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def queries() -> Iterator[tuple[str, str]]:
    """The panel's title and the expression, as Grafana asks it where all processes are chosen."""
    top = json.loads(DASHBOARD.read_text())["panels"]
    for panel in (one for row in top for one in (row, *row.get("panels", []))):
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$__rate_interval", "60s").replace("$instance", ".*")


def test_every_query_is_answered(watched: Prometheus) -> None:
    silent = [(title, expr) for title, expr in queries() if not watched.query(expr) and not expr.endswith("> 0")]
    unexpected = [one for one in silent if not promql_names.names(one[1]) & MAY_BE_EMPTY]
    assert unexpected == []
    assert len(list(queries())) > 80


def test_every_metric_of_the_dashboard_and_of_the_alerts_is_served(watched: Prometheus) -> None:
    """Also those without a series yet: a process has said what they are."""
    described = watched.described()
    families = described | {f"{name}_{part}" for name in described for part in ("bucket", "sum", "count")}
    there = watched.known() | families | {"up", "ALERTS"}
    rules = prometheus_server.yaml.safe_load((prometheus_server.DEPLOY / "alerts" / "pathcast.rules.yaml").read_text())
    alerts = [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]
    unknown = [(what, promql_names.names(expr) - there) for what, expr in (*queries(), *alerts)]
    assert [one for one in unknown if one[1]] == []


def test_a_name_that_nobody_serves_would_be_found(watched: Prometheus) -> None:
    assert "pathcast_lag_records" in watched.known()
    assert watched.query("pathcast_lag_pings") == []
    assert "pathcast_lag_pings" not in watched.described()


def test_nothing_fires_while_all_is_well(watched: Prometheus) -> None:
    firing = {one["alertname"]: one.get("process") for one in watched.alerts("firing")}
    # This machine may be slow, and the feed has bad pings.
    assert firing.keys() <= {"PathcastSlow", "PathcastDeadLetters", "PathcastDown", "PathcastIngestRejects"}, firing
