"""deploy/compose.yaml: what is meant to be reached can be, and nothing else. Read as text: no Docker is asked."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from stream.config.http_access import Address

DEPLOY = Path(__file__).parents[3] / "deploy"
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
PROMETHEUS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())


def _address(service: str) -> Address:
    """Where a service serves its metrics: `--metrics`, or what it listens at."""
    words = [part for word in SERVICES[service]["command"] for part in word.split("=", 1)]
    options = dict(pairwise(words))
    return Address.parse(options.get("--metrics") or options["--listen"])


def _called(name: str) -> list[str]:
    """The services that answer to a name in compose's network."""
    aliased = [
        service
        for service, what in SERVICES.items()
        if name in what.get("networks", {}).get("default", {}).get("aliases", ())
    ]
    return aliased or [name]


def _scraped() -> list[tuple[str, int]]:
    (job,) = PROMETHEUS["scrape_configs"]
    assert job["job_name"] == "pathcast", "the alerts say job=pathcast"
    return [(name, found["port"]) for found in job["dns_sd_configs"] for name in found["names"]]


def test_prometheus_asks_each_service_where_it_serves_its_metrics() -> None:
    """They were on the loopback of the worker's own container, where nobody reads them."""
    scraped = _scraped()
    for name, port in scraped:
        for service in _called(name):
            assert not _address(service).loopback, service
            assert _address(service).port == port, service
    assert {name for name, _ in scraped} >= {"worker", "scores", "latest", "serve", "map", "ingest"}
    assert _called("worker") == ["worker-1", "worker-2"]


def test_a_healthcheck_asks_the_port_that_is_served() -> None:
    for name, port in _scraped():
        for service in _called(name):
            assert f"127.0.0.1:{port}/healthz" in SERVICES[service]["healthcheck"]["test"][-1], service


def test_no_worker_and_no_redis_is_published() -> None:
    assert not any(SERVICES[name].get("ports") for name in ("worker-1", "worker-2", "redis"))


def test_prometheus_finds_its_rules_where_they_are_mounted() -> None:
    mounted = dict(volume.split(":")[:2] for volume in SERVICES["prometheus"]["volumes"])
    inside = {Path(target): DEPLOY / source for source, target in mounted.items()}
    home = Path("/etc/prometheus")
    assert inside[home / "prometheus.yml"].resolve() == (DEPLOY / "prometheus.yaml").resolve()
    for rules in PROMETHEUS["rule_files"]:
        where = home / rules
        assert (inside[where.parent] / where.name).is_file()
