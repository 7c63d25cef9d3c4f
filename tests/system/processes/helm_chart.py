"""deploy/helm/pathcast, rendered by helm. Tests import this; it tests nothing itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from missing_servers import skip_unless_required

CHART: Final = Path(__file__).parents[3] / "deploy" / "helm" / "pathcast"
RELEASE: Final = "fleet"
HELM_S: Final = 120.0  # a bound
Manifest = dict[str, Any]

ALL_PARTS: Final = (
    *("atlas", "archive", "scores", "guard", "refresh"),
    *("latest", "arrivals", "avro", "serve", "map", "ingest"),
)
# Every switch of the chart.
EVERYTHING: Final[Manifest] = {
    "kafka": {
        "bootstrap": "kafka-0.kafka:9093,kafka-1.kafka:9093",
        "security": "SASL_SSL",
        "user": "pathcast",
        "passwordSecret": {"name": "kafka-password"},
        "caSecret": {"name": "kafka-ca"},
    },
    "redis": {
        "url": "rediss://pathcast@redis:6379/0",
        "passwordSecret": {"name": "redis-password", "key": "word"},
        "caSecret": {"name": "redis-ca"},
    },
    "image": {"pullSecrets": ["registry"], "digests": {"worker": "sha256:" + 64 * "0"}},
    "versions": {"archive": "s3://bucket/pings", "credentialsSecret": "bucket"},
    "storage": {
        "atlases": {"enabled": True, "storageClass": "shared"},
        "registry": {"enabled": True, "existingClaim": "versions"},
    },
    "workers": {"args": ["--horizons=30,60"], "podAnnotations": {"a": "b"}, "priorityClassName": "high"},
    "kernels": {"persistent": True, "storageClass": "fast"},
    "scaling": {"enabled": True, "authenticationRef": "kafka-user"},
    "parts": {
        **{name: {"enabled": True} for name in ALL_PARTS},
        "avro": {
            "enabled": True,
            "schemaRegistry": {
                "url": "https://schemas:8443/apis/ccompat/v7",
                "user": "pathcast",
                "passwordSecret": {"name": "schemas-password"},
                "caSecret": {"name": "schemas-ca"},
            },
        },
        "serve": {"enabled": True, "replicas": 2, "tokenSecret": {"name": "clients"}},
        "map": {"enabled": True, "tokenSecret": {"name": "clients"}},
        "ingest": {"enabled": True, "maps": ["flespi", "samsara"], "tokenSecret": {"name": "senders"}},
    },
    "monitoring": {
        "tokenSecret": {"name": "metrics"},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True},
    },
    "networkPolicy": {
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "clientsFrom": [{"podSelector": {"matchLabels": {"app": "gateway"}}}],
        "kafka": {"ports": [9095], "to": [{"podSelector": {"matchLabels": {"app": "kafka"}}}]},
        "egress": [{"ports": [{"port": 4318, "protocol": "TCP"}]}],
    },
}


def helm(*arguments: str | Path, values: Manifest | None = None) -> subprocess.CompletedProcess[str]:
    """Runs helm with these values. Skips the test where there is no helm."""
    beside_python = Path(sys.executable).with_name("helm")
    binary = str(beside_python) if beside_python.exists() else shutil.which("helm")
    if binary is None:
        skip_unless_required("needs helm, which .ci/helm brings")
    given = ["--values", "-"] if values is not None else []
    command = [binary, *map(str, arguments), *given]
    told = yaml.safe_dump(values) if values is not None else None
    return subprocess.run(command, input=told, capture_output=True, text=True, timeout=HELM_S, check=False)


def rendered(values: Manifest) -> list[Manifest]:
    """Returns all objects that the chart makes with these values."""
    told = helm("template", RELEASE, CHART, "--namespace", "fleets", values=values)
    assert told.returncode == 0, told.stderr
    return [one for one in yaml.safe_load_all(told.stdout) if one is not None]


def refused(values: Manifest) -> str:
    """Returns what helm says of values that the chart does not take."""
    told = helm("template", RELEASE, CHART, values=values)
    assert told.returncode != 0, "it took them"
    return told.stderr


def of_kind(objects: list[Manifest], kind: str, ending: str = "") -> list[Manifest]:
    return [one for one in objects if one["kind"] == kind and one["metadata"]["name"].endswith(ending)]


def pods(objects: list[Manifest]) -> dict[str, Manifest]:
    """The specifications of pods, by component."""
    templates = [one["spec"]["template"] for one in objects if "template" in one.get("spec", {})]
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"] for one in templates}


def containers(objects: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yields the component and each container, the initial ones too."""
    for component, pod in pods(objects).items():
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            yield component, container
