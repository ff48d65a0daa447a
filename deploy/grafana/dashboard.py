"""Writes statecast.json, the dashboard that Grafana is provisioned with.

    .venv/bin/python -m deploy.grafana.dashboard

A test fails if the file is not what this module makes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.grafana.panels import ROWS, Panel

FILE = Path(__file__).with_name("statecast.json")
SOURCE = {"type": "prometheus", "uid": "statecast-prometheus"}
CHOSEN = 'job="$job",instance=~"$instance"'
"""The servers that the dashboard's variables choose; `@` stands for it in the expressions of panels."""
COLUMNS, WIDTH, HEIGHT = 3, 8, 8


def dashboard() -> dict[str, Any]:
    """Return the dashboard in Grafana's JSON model."""
    return {
        "uid": "statecast",
        "title": "Statecast",
        "tags": ["statecast"],
        "timezone": "browser",
        "editable": True,
        "schemaVersion": 39,
        "version": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                _variable("job", "label_values(statecast_queue_requests, job)"),
                _variable("instance", 'label_values(statecast_queue_requests{job="$job"}, instance)', all_values=True),
            ]
        },
        "panels": [{"id": number, **each} for number, each in enumerate(_panels(), 1)],
    }


def _panels() -> Iterator[dict[str, Any]]:
    y = 0
    for title, panels in ROWS.items():
        yield {
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
            "panels": [],
        }
        y += 1
        for at, panel in enumerate(panels):
            place = {"x": at % COLUMNS * WIDTH, "y": y + at // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT}
            yield _graph(panel, place)
        y += -(-len(panels) // COLUMNS) * HEIGHT


def _graph(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 5, "showPoints": "never"}},
            "overrides": [],
        },
        "options": {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "calcs": ["lastNotNull", "max"],
                "sortBy": "Max",
                "sortDesc": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": SOURCE,
                "expr": expr.replace("@", CHOSEN),
                "legendFormat": legend,
            }
            for at, (legend, expr) in enumerate(panel.lines)
        ],
    }


def _variable(name: str, query: str, *, all_values: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": all_values,
        "includeAll": all_values,
        **({"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}} if all_values else {}),
    }


def text() -> str:
    """Return the contents of the file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
