"""Each alert can fire, and whoever it wakes finds what to do.

Whoever adds an alert adds three things: a rule with a `runbook_url`, a section of deploy/runbook.md, and a case of
deploy/alerts/pathcast.tests.yaml. The messages here say which of them is missing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
ALERTS = ROOT / "deploy" / "alerts"
RULES = ALERTS / "pathcast.rules.yaml"
CASES = ALERTS / "pathcast.tests.yaml"
CONFIG = ROOT / "deploy" / "prometheus.yaml"
TARGETS = ROOT / "deploy" / "targets.yaml"  # of which the configuration speaks
PROCESSES = [
    *("archive", "arrivals", "atlas", "avro", "guard", "ingest"),
    *("latest", "map", "refresh", "scores", "serve", "worker"),
]
RUNBOOK = "deploy/runbook.md"
PROMTOOL_S = 900.0  # a bound: it computes for ten seconds, and a busy machine may give it a tenth of a core
ENOUGH = 200  # characters of a section that helps somebody


def alerts() -> dict[str, Mapping[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def sections(text: str) -> dict[str, str]:
    """By heading, in their order."""
    _, *found = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return dict(zip(found[::2], found[1::2], strict=True))


def lacks(name: str, rule: Mapping[str, Any], runbook: Mapping[str, str]) -> Iterator[str]:
    """What is missing for the person whom this alert wakes."""
    url = f"{RUNBOOK}#{name.lower()}"
    if rule["annotations"].get("runbook_url") != url:
        yield f"{name}: its annotation runbook_url must be {url}"
    if name not in runbook:
        yield f"{name}: {RUNBOOK} has no section '## {name}'"
        return
    text = " ".join(runbook[name].split())
    if len(text) < ENOUGH:
        yield f"{name}: its section says too little: it must say what the alert means and what to do"
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    if not named:
        yield f"{name}: its section names no test as `tests/....py::name`"
    for path, function in named:
        if not (ROOT / path).is_file() or not re.search(rf"def {function}\(", (ROOT / path).read_text()):
            yield f"{name}: there is no test {path}::{function}"


def test_every_alert_points_to_a_section_that_says_what_it_means_what_to_do_and_which_test_provokes_it() -> None:
    runbook = sections((ROOT / RUNBOOK).read_text())
    missing = [what for name, rule in alerts().items() for what in lacks(name, rule, runbook)]
    assert not missing, "\n".join(missing)


def test_the_runbook_has_the_alerts_in_alphabetical_order_and_nothing_else() -> None:
    assert list(sections((ROOT / RUNBOOK).read_text())) == sorted(alerts())


def test_every_alert_fires_in_a_case_and_is_silent_before() -> None:
    cases = yaml.safe_load(CASES.read_text())["tests"]
    missing = []
    for name in alerts():
        mine = [case for case in cases if case["name"].split(",")[0] == name]
        asked = [ask["exp_samples"] for case in mine for ask in case["promql_expr_test"]]
        fires = [any(f'alertname="{name}"' in one["labels"] for one in samples) for samples in asked]
        if set(fires) != {False, True}:
            missing.append(f"{name}: {CASES.name} needs a case '{name}' in which it is silent, and then fires")
    assert not missing, "\n".join(missing)


def test_the_targets_name_every_process_once() -> None:
    groups = yaml.safe_load(TARGETS.read_text())
    assert sorted(one["labels"]["process"] for one in groups) == PROCESSES
    addresses = [address for one in groups for address in one["targets"]]
    assert len(set(addresses)) == len(addresses)


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(("check", "rules", RULES), id="rules"),
        pytest.param(("test", "rules", CASES), id="cases", marks=pytest.mark.slow),
        pytest.param(("check", "config", CONFIG), id="config"),
    ],
)
def test_prometheus_reads_the_rules_and_they_fire_when_they_should(what: tuple[str, str, Path]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on PATH (Debian's package prometheus has it)")
    told = subprocess.run([promtool, *map(str, what)], capture_output=True, text=True, timeout=PROMTOOL_S, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "WARNING" not in told.stdout + told.stderr, told.stdout + told.stderr
