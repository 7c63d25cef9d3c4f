"""Grafana's dashboard asks for metrics that exist, has only fields that Grafana knows, and no panel covers another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_names
import served_metrics

FILE = Path(__file__).parents[3] / "deploy" / "grafana" / "dashboards" / "pathcast.json"
MEANING = 10  # characters of a description that says something


def panels() -> list[dict[str, Any]]:
    """All but rows, of open and closed rows."""
    top = json.loads(FILE.read_text())["panels"]
    found = [one for row in top for one in (row, *row.get("panels", []))]
    return [one for one in found if one["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """The panel's title and the expression."""
    return ((panel["title"], target["expr"]) for panel in panels() for target in panel["targets"])


def test_every_query_speaks_of_metrics_that_a_process_serves() -> None:
    served = served_metrics.names() | {"up", "ALERTS"}
    unknown = [(title, promql_names.names(expr) - served) for title, expr in queries()]
    assert [one for one in unknown if one[1]] == []
    assert all(promql_names.names(expr) for _, expr in queries())


def test_every_process_has_a_query() -> None:
    asked = {name for _, expr in queries() for name in promql_names.names(expr)}
    for process in ("scores", "serve", "ingest", "latest", "avro", "arrivals", "guard", "refresh"):
        assert any(name.startswith(f"pathcast_{process}_") for name in asked), process


def test_every_panel_says_what_it_shows_and_has_a_place_of_its_own() -> None:
    found = panels()
    assert len({one["id"] for one in found}) == len(found)
    assert len({one["title"] for one in found}) == len(found)
    assert [one["title"] for one in found if len(one["description"]) < MEANING] == []
    for one in found:
        place = one["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, one["title"]
        assert len({target["refId"] for target in one["targets"]}) == len(one["targets"])
    opened = [one for one in json.loads(FILE.read_text())["panels"] if one["type"] != "row"]
    for first, second in combinations(opened, 2):
        assert not _overlap(first["gridPos"], second["gridPos"]), (first["title"], second["title"])


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not beside and not above


def test_every_field_is_one_that_grafana_knows() -> None:
    """What its schema does not know is lost when that reads the dashboard."""
    dashboard = json.loads(FILE.read_text())
    assert list(_lost(dashboard, _read_by_grafana(dashboard))) == []


def test_a_field_that_grafana_does_not_know_would_be_found() -> None:
    dashboard = json.loads(FILE.read_text())
    panel = next(one for one in dashboard["panels"] if one["type"] == "timeseries")
    panel["options"]["legend"]["placment"] = panel["options"]["legend"].pop("placement")
    panel["targets"][0]["expression"] = "up"
    lost = list(_lost(dashboard, _read_by_grafana(dashboard)))
    assert [one.rpartition("/")[2] for one in lost] == ["expression", "placment"]


def _read_by_grafana(dashboard: dict[str, Any]) -> Any:
    """The dashboard as the types of Grafana's own SDK have it: of panels, their options and queries, too."""
    from grafana_foundation_sdk.cog import encoder, plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    plugins.register_default_plugins()
    return json.loads(encoder.JSONEncoder().encode(Dashboard.from_json(dashboard)))


def _lost(ours: Any, theirs: Any, where: str = "") -> Iterator[str]:
    """Where `ours` has something that `theirs` has not, or not so."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from _lost(value, theirs[key], f"{where}/{key}")
            else:
                yield f"{where}/{key}"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _lost(one, other, f"{where}/{number}")
    elif ours != theirs:
        yield f"{where}: {ours!r} is not {theirs!r}"
