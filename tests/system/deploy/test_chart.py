"""The chart of deploy/helm, rendered: its objects are sound, belong together, and start what pathcast knows."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import helm_chart
import pytest
import yaml
from compose_file import absent
from helm_chart import ALL_PARTS, CHART, EVERYTHING, Manifest, containers, of_kind, pods, refused, rendered

RULES = CHART.parents[1] / "alerts" / "pathcast.rules.yaml"
SIZES = {"nothing": {}, "everything": EVERYTHING}
MIB, ENTITY_BYTES, FIRST_MIB = 2**20, 12_014, 314  # of a worker: deploy/SIZING.md
DRAIN_S = 9  # deploy/UPGRADES.md
UNITS = {"Mi": 2**20, "Gi": 2**30}


@pytest.fixture(scope="module")
def everything() -> list[Manifest]:
    return rendered(EVERYTHING)


@pytest.fixture(scope="module", params=SIZES)
def objects(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered(SIZES[request.param])


def changed(*path: str, to: Any) -> Manifest:
    """Returns EVERYTHING with another value."""
    values = deepcopy(EVERYTHING)
    at = values
    for name in path[:-1]:
        at = at.setdefault(name, {})
    at[path[-1]] = to
    return values


@pytest.mark.parametrize("values", SIZES.values(), ids=SIZES)
def test_helm_finds_no_fault(values: Manifest) -> None:
    told = helm_chart.helm("lint", "--strict", CHART, values=values)
    assert told.returncode == 0, told.stdout
    assert "[WARNING]" not in told.stdout


def test_all_that_can_be_switched_on_is(everything: list[Manifest]) -> None:
    assert pods(everything).keys() == {"worker", "topics", *ALL_PARTS}
    kinds = {one["kind"] for one in everything}
    assert {"ScaledObject", "PodDisruptionBudget", "ServiceMonitor", "PrometheusRule", "NetworkPolicy"} <= kinds
    assert "Secret" not in kinds, "secrets are named, and never made"


def test_pathcast_knows_each_command_and_its_options(objects: list[Manifest]) -> None:
    looked_at = 0
    for component, container in containers(objects):
        if component == "map" and absent(["map"]) is not None:
            continue  # this version of pathcast has no map yet
        assert absent(container["args"]) is None, container["args"]
        looked_at += 1
    assert looked_at >= 4


def test_no_pod_may_more_than_it_must(objects: list[Manifest]) -> None:
    for pod in pods(objects).values():
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for _, container in containers(objects):
        security = container["securityContext"]
        assert (security["readOnlyRootFilesystem"], security["allowPrivilegeEscalation"]) == (True, False)
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


def test_secrets_are_files_of_named_secrets(everything: list[Manifest]) -> None:
    for pod in pods(everything).values():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert set(mounts.values()) <= volumes.keys() | {"kernels"}
            files = [one["value"] for one in container["env"] if one["name"].endswith(("_FILE", "_CA"))]
            assert files
            for file in files:
                volume = volumes[mounts[file.removesuffix("/value")]]
                assert volume["secret"]["items"][0]["path"] == "value"
            assert not [one for one in container["env"] if one["name"].endswith(("PASSWORD", "TOKEN"))]
    redis = {name for name, pod in pods(everything).items() if "redis-password" in str(pod["volumes"])}
    assert redis == {"worker", "atlas", "serve"}, "only who reads Redis has its password"


def test_probes_ask_the_pages_where_they_are(objects: list[Manifest]) -> None:
    served = set()
    for component, container in containers(objects):
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        if not ports:
            assert "livenessProbe" not in container
            continue
        option = "--metrics=0.0.0.0:" if any("--metrics" in word for word in container["args"]) else "--listen=0.0.0.0:"
        assert f"{option}{ports['pages']}" in container["args"]
        pages = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
        assert {name: (get["path"], get["port"]) for name, get in pages.items()} == {
            "startup": ("/healthz", "pages"),
            "liveness": ("/healthz", "pages"),
            "readiness": ("/readyz", "pages"),
        }
        served.add(component)
    assert served >= {"worker", "latest", "serve", "map"}


def test_every_part_is_looked_after(everything: list[Manifest]) -> None:
    bare = {component for component, container in containers(everything) if "livenessProbe" not in container}
    assert bare == {"worker", "topics"}, "the worker's init container and the job end by themselves"


def test_workers_are_spread_over_nodes_and_zones_and_never_kept_out(everything: list[Manifest]) -> None:
    (workers,) = of_kind(everything, "StatefulSet")
    spread = pods(everything)["worker"]["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for one in spread:
        assert one["labelSelector"] == workers["spec"]["selector"], "it counts the workers"
        assert one["whenUnsatisfiable"] == "ScheduleAnyway"
    assert "topologySpreadConstraints" not in pods(rendered({"workers": {"spreadOver": []}}))["worker"]


def test_a_pod_has_longer_to_end_than_it_needs(everything: list[Manifest]) -> None:
    for component, pod in pods(everything).items():
        if component != "topics":  # a job that ends by itself
            held_s = sum(float(one["lifecycle"]["preStop"]["exec"]["command"][1]) for one in clients_of(pod))
            assert pod["terminationGracePeriodSeconds"] >= 2 * DRAIN_S + held_s
    assert {name for name, pod in pods(everything).items() if clients_of(pod)} == {"serve", "map", "ingest"}


def clients_of(pod: Manifest) -> list[Manifest]:
    """Its containers that go on to serve clients for a while."""
    return [one for one in pod["containers"] if "lifecycle" in one]


def test_each_service_finds_its_pods_and_prometheus_each_service(everything: list[Manifest]) -> None:
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in everything if "template" in one.get("spec", {})]
    services = of_kind(everything, "Service")
    monitors = of_kind(everything, "ServiceMonitor")
    assert len(services) == 12
    tokens = {}
    for service in services:
        own = service["metadata"]["labels"]
        assert sum(service["spec"]["selector"].items() <= one.items() for one in labels) == 1
        (monitor,) = [one for one in monitors if selects(one["spec"]["selector"], own)]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        assert own[monitor["spec"]["jobLabel"]] == "pathcast", "the alerts' job"
        tokens[own["app.kubernetes.io/component"]] = endpoint["authorization"]["credentials"]["name"]
    beside = ("atlas", "archive", "scores", "guard", "refresh", "latest", "arrivals", "avro", "ingest")
    others = dict.fromkeys(("worker", *beside), "metrics")
    assert tokens == {"serve": "clients", "map": "clients", **others}


def selects(selector: Manifest, labels: Manifest) -> bool:
    """Returns what Kubernetes decides of a selector and an object's labels."""
    decided = {"In": lambda label, values: label in values, "NotIn": lambda label, values: label not in values}
    asked = selector.get("matchExpressions", [])
    return selector["matchLabels"].items() <= labels.items() and all(
        decided[one["operator"]](labels.get(one["key"]), one["values"]) for one in asked
    )


def test_there_is_one_copy_of_the_alerts(everything: list[Manifest]) -> None:
    (rules,) = of_kind(everything, "PrometheusRule")
    assert rules["spec"] == yaml.safe_load(RULES.read_text())


@pytest.mark.parametrize(("partitions", "most"), [(8, 8), (64, 32)])
def test_there_are_never_more_workers_than_partitions(partitions: int, most: int) -> None:
    values = changed("topics", to={"partitions": partitions})
    values["scaling"] |= {"minReplicas": 3}
    objects = rendered(values)
    (scaled,) = of_kind(objects, "ScaledObject")
    (workers,) = of_kind(objects, "StatefulSet")
    assert scaled["spec"]["maxReplicaCount"] == most
    assert scaled["spec"]["scaleTargetRef"]["name"] == workers["metadata"]["name"]
    assert "replicas" not in workers["spec"], "an upgrade would undo what KEDA decided"
    assert scaled["spec"]["fallback"]["replicas"] == scaled["spec"]["minReplicaCount"] == 3, "not fewer in need"
    (trigger,) = scaled["spec"]["triggers"]
    group = next(word for word in pods(objects)["worker"]["containers"][0]["args"] if word.startswith("--group="))
    assert trigger["metadata"]["consumerGroup"] == group.removeprefix("--group=")
    assert trigger["metadata"]["topic"] == "pathcast.pings.v1"


def test_the_limit_of_memory_is_enough_for_all_entities_that_a_worker_may_hold() -> None:
    worker = pods(rendered({}))["worker"]["containers"][0]
    limit = worker["resources"]["limits"]["memory"]
    (most,) = [word.partition("=")[2] for word in worker["args"] if word.startswith("--max-entities=")]
    held = FIRST_MIB * MIB + ENTITY_BYTES * int(most)
    assert float(limit[:-2]) * UNITS[limit[-2:]] > 1.25 * held


def test_a_worker_is_told_its_name_and_what_it_shares() -> None:
    objects = rendered(EVERYTHING)
    (workers,) = of_kind(objects, "StatefulSet")
    worker = pods(objects)["worker"]["containers"][0]
    assert "--instance=$(POD_NAME)" in worker["args"]
    assert worker["env"][0]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    mounts = {mount["name"]: mount for mount in worker["volumeMounts"]}
    assert mounts["atlases"]["readOnly"] is mounts["registry"]["readOnly"] is True
    assert [one["metadata"]["name"] for one in workers["spec"]["volumeClaimTemplates"]] == ["kernels"]
    (warm,) = pods(objects)["worker"]["initContainers"]
    assert {mount["name"]: mount["mountPath"] for mount in warm["volumeMounts"]}["kernels"] == warm["env"][0]["value"]
    assert dict(EVERYTHING["storage"])["registry"]["existingClaim"] in str(pods(objects)["worker"]["volumes"])
    assert [one["metadata"]["name"] for one in of_kind(objects, "PersistentVolumeClaim")] == ["fleet-pathcast-atlases"]


def test_topics_are_made_before_anything_else(everything: list[Manifest]) -> None:
    (job,) = of_kind(everything, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args == ["dev", "topics", "--create", "--partitions=32", "--replication=3", "--retention=7d"]
    assert "--no-create" in pods(everything)["worker"]["containers"][0]["args"]
    mounted = job["spec"]["template"]["spec"]["volumes"]
    assert not [volume for volume in mounted if "persistentVolumeClaim" in volume], "no claim is there yet"


def test_clients_reach_only_what_serves_them(everything: list[Manifest]) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(everything, "NetworkPolicy")}
    assert policies.keys() == {
        "fleet-pathcast",
        *(f"fleet-pathcast-{part}" for part in ("avro", "serve", "map", "ingest")),
    }
    assert policies["fleet-pathcast-avro"]["egress"] == [{"ports": [{"port": 8443, "protocol": "TCP"}]}]
    assert policies["fleet-pathcast-ingest"]["ingress"][0]["ports"] == [{"port": "clients"}]
    assert policies["fleet-pathcast"]["ingress"] == [
        {"from": EVERYTHING["networkPolicy"]["metricsFrom"], "ports": [{"port": "pages"}]}
    ]
    reached = [port["port"] for rule in policies["fleet-pathcast"]["egress"] for port in rule["ports"]]
    assert reached == [53, 53, 9095, 9093, 6379, 443, 4318]
    (closed,) = [one["spec"] for one in of_kind(rendered({}), "NetworkPolicy", "fleet-pathcast")]
    assert closed["ingress"] == []


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("workers", "replica"), 3, "replica"),
        (("redis", "url"), "redis://:password@redis:6379/0", "/redis/url"),
        (("kafka", "security"), "TLS", "/kafka/security"),
        (("parts", "scores", "enabled"), False, "parts.guard.enabled needs parts.scores.enabled"),
        (("storage", "atlases", "enabled"), False, "parts.atlas.enabled needs storage.atlases.enabled"),
        (("storage", "registry", "enabled"), False, "need a registry"),
        (("versions", "archive"), "", "parts.archive.enabled needs versions.archive"),
        (("parts", "ingest", "tokenSecret"), {}, "parts.ingest.tokenSecret.name"),
        (("parts", "avro", "schemaRegistry"), {}, "parts.avro.schemaRegistry.url"),
        (("parts", "avro", "schemaRegistry", "url"), "http://user:word@r:8081", "/parts/avro/schemaRegistry/url"),
    ],
)
def test_values_that_cannot_work_are_refused(path: tuple[str, ...], value: Any, says: str) -> None:
    assert says.replace("/", ".").strip(".") in refused(changed(*path, to=value)).replace("/", ".")


def test_names_are_short_enough_for_kubernetes() -> None:
    told = helm_chart.helm("template", "r" * 53, CHART, values=EVERYTHING)
    names = [one["metadata"]["name"] for one in yaml.safe_load_all(told.stdout) if one is not None]
    assert max(map(len, names)) <= 52, "63 characters, of which a StatefulSet's pods and their hash take 11"


def test_the_readmes_values_are_taken() -> None:
    page = (CHART / "README.md").read_text()
    values = yaml.safe_load(page.split("```yaml\n", 1)[1].split("```", 1)[0])
    objects = rendered(values)
    assert pods(objects).keys() == {"worker", "topics", "atlas", "scores", "guard", "latest", "serve", "map"}
