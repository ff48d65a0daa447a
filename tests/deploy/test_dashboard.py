"""The dashboard is what its module makes, and what Grafana takes."""

import json
from itertools import combinations
from typing import Any

import pytest
import yaml
from deploy.files import DEPLOY, compose
from deploy.grafana import dashboard

FOUND: dict[str, Any] = json.loads(dashboard.FILE.read_text())
PANELS = [each for each in FOUND["panels"] if each["type"] != "row"]


def test_the_file_is_what_the_module_makes() -> None:
    assert dashboard.FILE.read_text() == dashboard.text(), "run python -m deploy.grafana.dashboard"


def test_grafanas_own_types_take_it_and_lose_nothing() -> None:
    types = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    prometheus = pytest.importorskip("grafana_foundation_sdk.models.prometheus")
    parsed = types.Dashboard.from_json(FOUND)
    assert (parsed.uid, parsed.title) == (FOUND["uid"], FOUND["title"])
    assert [each.title for each in parsed.panels] == [each["title"] for each in FOUND["panels"]]
    assert [each.name for each in parsed.templating.list_val] == ["job", "instance"]
    for panel in PANELS:
        read = types.Panel.from_json(panel)
        place = read.grid_pos
        assert {"x": place.x, "y": place.y, "w": place.w, "h": place.h} == panel["gridPos"]
        for target in panel["targets"]:
            assert prometheus.Dataquery.from_json(target).expr == target["expr"]


def test_every_panel_says_what_it_shows() -> None:
    for panel in PANELS:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        assert len({each["refId"] for each in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert target["expr"].strip()
            assert 'job="$job",instance=~"$instance"' in target["expr"]
    assert len({each["id"] for each in FOUND["panels"]}) == len(FOUND["panels"])
    assert len({each["title"] for each in PANELS}) == len(PANELS)


def test_panels_do_not_overlap() -> None:
    def meet(one: dict[str, int], other: dict[str, int]) -> bool:
        return all(
            one[at] < other[at] + other[size] and other[at] < one[at] + one[size]
            for at, size in (("x", "w"), ("y", "h"))
        )

    places = [each["gridPos"] for each in FOUND["panels"]]
    assert not [pair for pair in combinations(places, 2) if meet(*pair)]
    assert all(each["x"] + each["w"] <= 24 for each in places)


def test_everything_asks_the_provisioned_data_source() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasources.yml").read_text())["datasources"]
    asked = [part["datasource"]["uid"] for panel in PANELS for part in (panel, *panel["targets"])]
    asked += [each["datasource"]["uid"] for each in FOUND["templating"]["list"]]
    assert set(asked) == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"


def test_grafana_finds_the_files_where_compose_puts_them() -> None:
    mounts = dict(each.split(":")[:2] for each in compose()["services"]["grafana"]["volumes"])
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yml").read_text())["providers"]
    assert mounts["./deploy/grafana/statecast.json"].startswith(provider["options"]["path"])
    assert mounts["./deploy/grafana/datasources.yml"].startswith("/etc/grafana/provisioning/datasources/")
