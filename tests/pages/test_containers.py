"""What the blocks of containers name is there. CI has neither a Docker engine nor a cluster, so these blocks are not
run (`Not` in page_verdicts.py); all that can be looked up without them is looked up here."""

from __future__ import annotations

import re
import shlex
from functools import cache
from typing import Any

import compose_file
import helm_chart
import pytest
import yaml
from page_blocks import ROOT, all_blocks, blocks_of, commands
from page_runs import Not
from page_verdicts import VERDICTS

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
CHART_PAGE = ROOT / "deploy" / "helm" / "pathcast" / "README.md"
RELEASE = "pathcast"
LINES = [
    (block.name, line.partition(" # ")[0])
    for block in all_blocks()
    for line in commands(block.text)
    if line.startswith(("docker ", "helm ", "kubectl "))
]
WITHOUT_VALUE = ("--build", "--detach", "--no-deps", "--pull", "--rm")


@cache
def chart() -> list[Any]:
    """The objects of the page's `helm install`, with the page's values."""
    values = yaml.safe_load(CHART_PAGE.read_text().split("```yaml\n", 1)[1].split("```", 1)[0])
    told = helm_chart.helm("template", RELEASE, helm_chart.CHART, values=values)
    assert told.returncode == 0, told.stderr
    return [one for one in yaml.safe_load_all(told.stdout) if one is not None]


def absent(line: str) -> str | None:
    """What a line names that is not there."""
    match shlex.split(line):
        case ["docker", "compose", "-f", path, *rest]:
            return absent_of_compose(path, rest)
        case ["docker", "build", "-f", path, "--target", target, "-t", tag, "."]:
            if ROOT / path != DOCKERFILE or f" AS {target}\n" not in DOCKERFILE.read_text():
                return f"{path} has no {target}"
            return None if tag in {f"pathcast:{target}", *images()} else f"nothing runs {tag}"
        case ["helm", *verb, name, path, "--values", "mine.yaml"] if verb in (["install"], ["diff", "upgrade"]):
            return absent_of_helm(name, path)
        case ["helm", "upgrade", name, path, "--values", "mine.yaml", "--wait", "--timeout", _]:
            return absent_of_helm(name, path)
        case ["kubectl", "create", "secret", "generic", name, word]:
            key = word.removeprefix("--from-literal=").partition("=")[0]
            return None if secret(name, key) else f"no pod reads {key} of {name}"
        case ["kubectl", "rollout", "status", which]:
            kind, _, name = which.partition("/")
            there = {(one["kind"].lower(), one["metadata"]["name"]) for one in chart()}
            return None if (kind, name) in there else f"the chart makes no {which}"
    return f"nobody has thought of {line}"


def absent_of_compose(path: str, words: list[str]) -> str | None:
    if not (ROOT / path).is_file():
        return f"there is no {path}"
    services, left = compose_file.services(), [word for word in words if word not in WITHOUT_VALUE]
    if left[0] == "--profile":
        known = {one for how in services.values() for one in how.get("profiles", ())}
        if left[1] not in known:
            return f"{path} has no profile {left[1]}"
        left = left[2:]
    if left[0] not in ("up", "build", "run", "ps"):
        return f"what does {left[0]} do?"
    return next((f"{path} has no service {name}" for name in left[1:] if name not in services), None)


def absent_of_helm(name: str, path: str) -> str | None:
    return None if (name, ROOT / path) == (RELEASE, helm_chart.CHART) else f"{name} or {path} is another"


def images() -> set[str]:
    return {container["image"] for _, container in helm_chart.containers(chart())}


def secret(name: str, key: str) -> bool:
    """Whether a pod mounts that key of that secret."""
    volumes = [volume for pod in helm_chart.pods(chart()).values() for volume in pod.get("volumes", ())]
    mounted = re.findall(rf"'secretName': '{name}'[^}}]*|'name': '{name}'[^}}]*", str(volumes))
    return bool(mounted) and f"'key': '{key}'" in str(volumes)


def test_all_blocks_that_want_docker_or_a_cluster_are_looked_through() -> None:
    assert len(LINES) > 14
    assert [f"{name}: {told}" for name, line in LINES if (told := absent(line))] == []


def test_services_of_the_upgrade_wait_for_each_other_as_the_page_says() -> None:
    """One worker after the other: `--no-deps` starts nothing but the one that is named."""
    text = (ROOT / "deploy" / "UPGRADES.md").read_text()
    named = [line for block in blocks_of("deploy/UPGRADES.md", text) for line in commands(block.text)]
    workers = {word for line in named for word in shlex.split(line) if word.startswith("worker-")}
    assert workers == {name for name in compose_file.services() if name.startswith("worker-")}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("docker compose -f deploy/compose.yaml up --detach worker-9", "no service worker-9"),
        ("docker compose -f deploy/compose.yaml --profile made-up up", "no profile made-up"),
        ("docker compose -f deploy/made-up.yaml up", "there is no"),
        ("docker build -f deploy/Dockerfile --target made-up -t pathcast:made-up .", "has no made-up"),
        ("docker build -f deploy/Dockerfile --target worker -t REGISTRY/pathcast:0.2.0-tool .", "nothing runs"),
        ("helm install pathcast deploy/helm/made-up --values mine.yaml", "is another"),
        ("kubectl create secret generic kafka-password --from-literal=made-up=...", "no pod reads made-up"),
        ("kubectl rollout status statefulset/pathcast-workers", "the chart makes no"),
        ("docker run pathcast", "nobody has thought of"),
    ],
)
def test_what_is_made_up_is_found(line: str, why: str) -> None:
    assert why in (absent(line) or "")


def test_nothing_else_is_left_out() -> None:
    """A verdict `Not` is for what is looked through here."""
    unrun = {
        (page, begin): one for page, given in VERDICTS.items() for begin, one in given.items() if isinstance(one, Not)
    }
    by_hand = {name for name, one in unrun.items() if not one.like}
    assert {page for page, _ in by_hand} == {"deploy/PRODUCTION.md", "stream/api/map/README.md"}, "and these by hand"
    assert {begin.split()[0] for _, begin in unrun.keys() - by_hand} <= {"docker", "helm"}
