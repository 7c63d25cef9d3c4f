"""What the chart makes, against Kubernetes' own schemas; and against short ones of ours for what others define."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

import jsonschema
import pytest
from helm_chart import EVERYTHING, Manifest, of_kind, rendered

kubernetes = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
OLDEST, NEWEST = "1.25", "1.37"  # Chart.yaml's kubeVersion; the newest whose schemas the package has


def shape(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


TEXT: Final = {"type": "string", "minLength": 1}
COUNT: Final = {"type": "integer", "minimum": 0}
TEXTS: Final = {"type": "object", "additionalProperties": TEXT}
SPAN: Final = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$"}
KAFKA_TRIGGER: Final = (
    "bootstrapServers",
    "consumerGroup",
    "topic",
    "lagThreshold",
    "offsetResetPolicy",
    "allowIdleConsumers",
)
SCALE_DOWN: Final = shape((), scaleDown=shape((), stabilizationWindowSeconds=COUNT))
# KEDA 2.16: keda.sh/v1alpha1. A trigger's metadata are texts, numbers and truths too.
SCALED_OBJECT: Final = shape(
    ("scaleTargetRef", "triggers"),
    scaleTargetRef=shape(("name",), apiVersion=TEXT, kind=TEXT, name=TEXT),
    pollingInterval=COUNT,
    cooldownPeriod=COUNT,
    minReplicaCount=COUNT,
    maxReplicaCount={"type": "integer", "minimum": 1},
    fallback=shape(("failureThreshold", "replicas"), failureThreshold=COUNT, replicas=COUNT),
    advanced=shape((), horizontalPodAutoscalerConfig=shape((), behavior=SCALE_DOWN)),
    triggers={
        "type": "array",
        "minItems": 1,
        "items": shape(
            ("type", "metadata"),
            type={"const": "kafka"},
            metadata=shape(KAFKA_TRIGGER, **dict.fromkeys(KAFKA_TRIGGER, TEXT)),
            authenticationRef=shape(("name",), name=TEXT),
        ),
    },
)
EXPRESSION: Final = shape(
    ("key", "operator", "values"),
    key=TEXT,
    operator={"enum": ["In", "NotIn"]},
    values={"type": "array", "items": TEXT},
)
RELABELLING: Final = shape(("targetLabel",), sourceLabels={"type": "array", "items": TEXT}, targetLabel=TEXT)
# The Prometheus operator 0.80: monitoring.coreos.com/v1.
SERVICE_MONITOR: Final = shape(
    ("selector", "endpoints"),
    jobLabel=TEXT,
    selector=shape(("matchLabels",), matchLabels=TEXTS, matchExpressions={"type": "array", "items": EXPRESSION}),
    endpoints={
        "type": "array",
        "minItems": 1,
        "items": shape(
            ("port",),
            port=TEXT,
            interval=SPAN,
            relabelings={"type": "array", "items": RELABELLING},
            authorization=shape(("credentials",), credentials=shape(("name", "key"), name=TEXT, key=TEXT)),
        ),
    },
)
RULE: Final = shape(
    ("alert", "expr"), **{"alert": TEXT, "expr": TEXT, "for": SPAN, "labels": TEXTS, "annotations": TEXTS}
)
PROMETHEUS_RULE: Final = shape(
    ("groups",),
    groups={"type": "array", "items": shape(("name", "rules"), name=TEXT, rules={"type": "array", "items": RULE})},
)
OTHERS: Final = {"ScaledObject": SCALED_OBJECT, "ServiceMonitor": SERVICE_MONITOR, "PrometheusRule": PROMETHEUS_RULE}


def check(one: Manifest, version: str) -> None:
    """Raises ValidationError if there is anything that is not in the schema."""
    if one["kind"] in OTHERS:
        jsonschema.validate(one["spec"], OTHERS[one["kind"]])
    else:
        kubernetes.validate(one, version, strict=True)


@pytest.fixture(scope="module")
def everything() -> list[Manifest]:
    return rendered(EVERYTHING)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_what_its_schema_says(everything: list[Manifest], version: str) -> None:
    for one in [*everything, *rendered({})]:
        check(one, version)


def test_what_is_in_no_schema_is_found(everything: list[Manifest]) -> None:
    for kind, path, wrong in (
        ("StatefulSet", ("spec", "serviceNam"), "x"),
        ("Deployment", ("spec", "template", "spec", "containers"), {}),
        ("NetworkPolicy", ("spec", "policyTypes"), "Ingress"),
        ("ScaledObject", ("spec", "maxReplicas"), 3),
        ("ServiceMonitor", ("spec", "endpoints"), []),
    ):
        spoilt = deepcopy(of_kind(everything, kind)[0])
        at = spoilt
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = wrong
        with pytest.raises((kubernetes.ValidationError, jsonschema.ValidationError)):
            check(spoilt, NEWEST)
