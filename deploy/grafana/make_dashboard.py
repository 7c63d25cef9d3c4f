"""Makes Grafana's JSON of the dashboard, from the tables of panels.

    python deploy/grafana/make_dashboard.py     # writes dashboards/pathcast.json beside this file

A test holds that file to what this makes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import panels
import panels_beside
from panels import Panel, Row

FILE: Final = Path(__file__).parent / "dashboards" / "pathcast.json"
UID: Final = "pathcast"
SCHEMA: Final = 36  # of Grafana 9.2: later ones read it, and bring it up to their own
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
INSTANCES: Final = 'instance=~"$instance"'
COLUMNS: Final = 24
HEIGHTS: Final = {"stat": 4, "timeseries": 8, "table": 8}
HIDDEN: Final = ("Time", "Value", "__name__", "job")  # columns of a table that say nothing


def made() -> dict[str, Any]:
    """Returns the dashboard."""
    return {
        "uid": UID,
        "title": "pathcast",
        "description": "Workers, the scorer, and what runs beside them. Alerts and runbook: deploy/README.md.",
        "tags": ["pathcast"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one crosshair in all panels
        "timezone": "browser",
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [_datasource(), _instance()]},
        "annotations": {"list": [_alerts()]},
        "links": [],
        "panels": list(_laid_out([*panels.ROWS, *panels_beside.ROWS])),
    }


def expression(text: str) -> str:
    """Returns a query in Grafana's own words."""
    return text.replace("[@]", "[$__rate_interval]").replace("@", INSTANCES)


def _datasource() -> dict[str, Any]:
    return {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "hide": 0}


def _instance() -> dict[str, Any]:
    query = 'label_values(up{job="pathcast"}, instance)'
    return {
        "type": "query",
        "name": "instance",
        "label": "Process",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "instance"},
        "refresh": 2,  # when the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def _alerts() -> dict[str, Any]:
    """Marks where alerts fire, with Grafana's own words for them: alertname and instance."""
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing", alertname=~"Pathcast.*"}',
    }


def _laid_out(rows: list[Row]) -> Iterator[dict[str, Any]]:
    """Yields rows and panels with their places, from the left to the right, and then down."""
    number, y = 0, 0
    for row in rows:
        number, y, inside, x, high = number + 1, y + 1, [], 0, 0
        head = {"id": number, "type": "row", "title": row.title, "collapsed": not row.is_open}
        head["gridPos"] = {"x": 0, "y": y - 1, "w": COLUMNS, "h": 1}
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, high = 0, y + high, 0
            number += 1
            place = {"x": x, "y": y, "w": panel.width, "h": HEIGHTS[panel.kind]}
            inside.append({"id": number, "gridPos": place, **_panel(panel)})
            x, high = x + panel.width, max(high, HEIGHTS[panel.kind])
        yield {**head, "panels": [] if row.is_open else inside}
        if row.is_open:  # a closed row holds its panels, an open one has them below it
            yield from inside
        y = y + high if row.is_open else head["gridPos"]["y"] + 1


def _panel(panel: Panel) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "targets": [
            _target(chr(ord("A") + place), legend, expr, panel.kind)
            for place, (legend, expr) in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": OPTIONS[panel.kind],
    }
    if panel.kind == "table":
        hidden = {"excludeByName": dict.fromkeys(HIDDEN, True), "indexByName": {}, "renameByName": {}}
        found["transformations"] = [{"id": "organize", "options": hidden}]
    return found


def _target(ref: str, legend: str, expr: str, kind: str) -> dict[str, Any]:
    shape = {"instant": True, "range": False} if kind != "timeseries" else {"instant": False, "range": True}
    found = {"refId": ref, "datasource": SOURCE, "expr": expression(expr), "legendFormat": legend, **shape}
    return {**found, "format": "table" if kind == "table" else "time_series", "editorMode": "code"}


def _field(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    found: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind != "timeseries":
        return {**found, "color": {"mode": "thresholds"}}
    lines: dict[str, Any] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 30 if panel.stacked else 0}
    lines["showPoints"] = "never"
    lines["stacking"] = {"mode": "normal" if panel.stacked else "none", "group": "A"}
    lines["thresholdsStyle"] = {"mode": "off" if panel.red_from is None else "line"}
    return {**found, "color": {"mode": "palette-classic"}, "custom": lines}


OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""},
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "value",
    },
    "table": {"showHeader": True, "frameIndex": 0},
}


def main() -> None:
    FILE.write_text(json.dumps(made(), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
