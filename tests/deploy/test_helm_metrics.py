"""The chart's alerts are those of deploy/ for one release, and its autoscaler's metrics come from the adapter."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.charts import CHART, NAME, NAMESPACE, Document, needs_helm, of_kind
from deploy.files import rules
from deploy.prometheus import needs_prometheus
from deploy.test_alerts import CASES

pytestmark = needs_helm


def alerts(documents: list[Document]) -> dict[str, Document]:
    (group,) = of_kind(documents, "PrometheusRule")["spec"]["groups"]
    return {each["alert"]: each for each in group["rules"]}


def test_the_alerts_are_those_of_the_file_with_the_numbers_of_the_values(rendered: dict[str, list[Document]]) -> None:
    found = alerts(rendered["everything"])
    assert list(found) == list(CASES)
    assert found["StatecastReplicaDown"]["expr"].endswith(" < 3")
    assert "of 3 " in found["StatecastReplicaDown"]["annotations"]["summary"]
    assert f"/ {3 * 2**29} >" in found["StatecastMemoryHigh"]["expr"]
    assert found["StatecastRedisDown"]["annotations"]["runbook_url"].startswith(
        "https://docs.example/docs/deployment.md#"
    )
    assert CASES.keys() - alerts(rendered["other sources"]).keys() == {"StatecastReplicaDown"}  # a single replica


SERVERS = f'namespace="{NAMESPACE}",job="{NAME}"'
METRIC = re.compile(r"\b(?:up|process_resident_memory_bytes|statecast_[a-z_]+)\b")


def test_the_alerts_look_at_the_servers_of_their_release_alone(rendered: dict[str, list[Document]]) -> None:
    originals = {each["alert"]: each["expr"] for each in rules()}
    for name, found in alerts(rendered["everything"]).items():
        if name in ("StatecastNoReplicaReady", "StatecastReplicaDown", "StatecastMemoryHigh"):
            continue  # their expressions are others
        expected, expr = originals[name].replace('{job="statecast"}', ""), found["expr"]
        assert expr.replace(f"{{{SERVERS}}}", "").replace(f"{SERVERS},", "") == expected
        assert expr.count(SERVERS) == len(METRIC.findall(expected)) > 0


def promtool(folder: Path, rules: Document, tests: list[Document]) -> None:
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    config = {"rule_files": ["rules.yml"], "evaluation_interval": "5s", "tests": tests}
    (folder / "tests.yml").write_text(yaml.safe_dump(config))
    command = ["promtool", "test", "rules", "tests.yml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
@pytest.mark.servers
def test_alerts_fire_for_the_servers_of_their_release_alone(
    rendered: dict[str, list[Document]], tmp_path: Path
) -> None:
    deployment = f'namespace="{NAMESPACE}",deployment="{NAME}"'
    fewer = {
        f'up{{{SERVERS},pod="{each}"}}': values for each, values in {"a": "1x20", "b": "1x20", "c": "1x2 stale"}.items()
    }
    firing = {
        "StatecastReplicaDown": fewer,
        "StatecastNoReplicaReady": {f"kube_deployment_status_replicas_available{{{deployment}}}": "2x2 0x20"},
        "StatecastRedisVolatile": {f"statecast_redis_volatile{{{SERVERS}}}": "0x4 1x20"},
        "StatecastRedisFull": {f'statecast_requests_total{{{SERVERS},reason="STORE_FULL"}}': "0x4 1+1x20"},
        "StatecastMemoryHigh": {f"process_resident_memory_bytes{{{SERVERS}}}": f"{int(1.45 * 2**30)}x20"},
    }
    healthy = {f'up{{{SERVERS},pod="{each}"}}': "1x20" for each in "abc"}
    tests = []
    for name, series in firing.items():
        away = {key.replace(NAMESPACE, "elsewhere"): value for key, value in series.items()}
        for given, fired in ((series, 1), ({**away, **healthy}, 0)):
            count = f'count by (alertname) (ALERTS{{alertstate="firing",alertname="{name}"}})'
            samples = [{"labels": f'{{alertname="{name}"}}', "value": 1}] * fired
            tests.append(
                {
                    "interval": "5s",
                    "input_series": [{"series": key, "values": values} for key, values in given.items()],
                    "promql_expr_test": [{"expr": count, "eval_time": "90s", "exp_samples": samples}],
                }
            )
    promtool(tmp_path, of_kind(rendered["everything"], "PrometheusRule")["spec"], tests)


@needs_prometheus
@pytest.mark.servers
def test_the_adapter_makes_the_metrics_of_the_autoscaler(rendered: dict[str, list[Document]], tmp_path: Path) -> None:
    rules = {each["name"]["as"]: each for each in adapter()["rules"]["custom"]}
    scaler = of_kind(rendered["everything"], "HorizontalPodAutoscaler")["spec"]
    targets = {each["pods"]["metric"]["name"]: each["pods"]["target"]["averageValue"] for each in scaler["metrics"]}
    assert targets == {"statecast_queue_milliseconds": "20", "statecast_engine_busy_percent": "70"}
    assert rules.keys() == targets.keys()
    pod_labels = f'namespace="{NAMESPACE}",pod="a"'
    series = {
        f'statecast_phase_seconds_sum{{{pod_labels},phase="queue"}}': "0+0.5x60",
        f'statecast_phase_seconds_count{{{pod_labels},phase="queue"}}': "0+20x60",
        f'statecast_phase_seconds_sum{{{pod_labels},phase="load"}}': "0+9x60",
        f"statecast_engine_busy_seconds_total{{{pod_labels}}}": "0+7x60",
        f"statecast_engine_threads{{{pod_labels}}}": "2x60",
    }
    expected = {"statecast_queue_milliseconds": 25.0, "statecast_engine_busy_percent": 70.0}

    def query(name: str) -> str:
        text: str = rules[name]["metricsQuery"]
        return text.replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", pod_labels)

    test: dict[str, Any] = {
        "interval": "5s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"round({query(name)}, 0.001)",
                "eval_time": "5m",
                "exp_samples": [{"labels": '{pod="a"}', "value": value}],
            }
            for name, value in expected.items()
        ],
    }
    promtool(tmp_path, {"groups": []}, [test])


def adapter() -> Document:
    found: Document = yaml.safe_load((CHART / "files" / "prometheus-adapter.yml").read_text())
    return found
