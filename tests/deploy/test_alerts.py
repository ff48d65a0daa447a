"""Alerts fire on made-up series, stay silent in health, and tell their reader what to do."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.files import DEPLOY, ROOT, RULES, compose, rule, rules, seconds
from deploy.prometheus import needs_prometheus

REQUESTS = "statecast_requests_total"
UP = 'up{job="statecast",instance="%s"}'
INSIDE = 'statecast_interval_observations_total{model="base",level="80",inside="%s"}'
LAG = 'statecast_event_loop_lag_seconds_bucket{instance="a",le="%s"}'
GIB = 2**30

CASES: dict[str, dict[str, str]] = {
    "StatecastNoReplicaUp": {UP % "a": "0x20", UP % "b": "0x20"},
    "StatecastReplicaDown": {UP % "a": "1x20", UP % "b": "1x2 stale"},
    "StatecastNoReplicaReady": {'haproxy_backend_active_servers{proxy="ready"}': "2x2 0x20"},
    "StatecastRedisDown": {'statecast_redis_up{instance="a"}': "1x30", 'statecast_redis_up{instance="b"}': "1x4 0x20"},
    "StatecastRedisUnusable": {REQUESTS + '{code="UNAVAILABLE",reason="STORE_UNREACHABLE"}': "0x4 1+1x20"},
    "StatecastRedisFull": {REQUESTS + '{code="RESOURCE_EXHAUSTED",reason="STORE_FULL"}': "0x4 1+1x20"},
    "StatecastRedisVolatile": {"statecast_redis_volatile": "0x4 1x20"},
    "StatecastObservationsLost": {"statecast_regressed_total": "0x10 1x20"},
    "StatecastSessionsMissing": {"statecast_sessions_missing_total": "0x10 1x20"},
    "StatecastRecordsRefused": {'statecast_records_refused_total{reason="RECORD_DAMAGED"}': "0x10 1x20"},
    "StatecastRequestsFailing": {
        REQUESTS + '{code="OK",reason=""}': "0+100x30",
        REQUESTS + '{code="INTERNAL",reason=""}': "0+2x30",
    },
    "StatecastQueueRefusing": {
        REQUESTS + '{code="OK",reason=""}': "0+100x30",
        REQUESTS + '{code="RESOURCE_EXHAUSTED",reason="QUEUE_FULL"}': "0+20x30",
    },
    "StatecastLatencyHigh": {
        'statecast_request_seconds_bucket{kind="observe",le="0.3"}': "0+90x60",
        'statecast_request_seconds_bucket{kind="observe",le="1.0"}': "0+100x60",
        'statecast_request_seconds_bucket{kind="observe",le="+Inf"}': "0+100x60",
    },
    "StatecastEngineSaturated": {
        'statecast_engine_busy_seconds_total{instance="a"}': "0+9.5x200",
        'statecast_engine_threads{instance="a"}': "2x200",
    },
    "StatecastEventLoopLag": {
        LAG % "0.1": "0+5x30",
        LAG % "0.3": "0+10x30",
        LAG % "+Inf": "0+10x30",
    },
    "StatecastCredentialsRefused": {REQUESTS + '{code="UNAUTHENTICATED",reason="CREDENTIAL_INVALID"}': "0x4 1+2x20"},
    "StatecastIntervalCoverageOff": {INSIDE % "true": "0+60x400", INSIDE % "false": "0+40x400"},
    "StatecastModelUnavailable": {'statecast_model_unavailable{model="pump",model_version="2"}': "1x20"},
    "StatecastCertificateExpiring": {"statecast_tls_certificate_expiry_seconds": "864000x20"},
    "StatecastMemoryHigh": {'process_resident_memory_bytes{job="statecast"}': f"{int(1.95 * GIB)}x20"},
}
"""Series that make each alert fire, a sample every five seconds."""

HEALTHY = {
    **{UP % each: "1x400" for each in "ab"},
    'haproxy_backend_active_servers{proxy="ready"}': "2x400",
    REQUESTS + '{code="OK",reason=""}': "0+1000x400",
    # A few failures are usual, those of a rolling restart in any number.
    REQUESTS + '{code="UNAVAILABLE",reason="CONTENDED"}': "0+1x400",
    REQUESTS + '{code="UNAVAILABLE",reason="DRAINING"}': "0+100x400",
    REQUESTS + '{code="RESOURCE_EXHAUSTED",reason="QUEUE_FULL"}': "0+1x400",
    REQUESTS + '{code="UNAVAILABLE",reason="STORE_UNREACHABLE"}': "0x400",
    # Somebody always tries a wrong key; a server that is busy half of the time has room.
    REQUESTS + '{code="UNAUTHENTICATED",reason="CREDENTIAL_INVALID"}': "0x40 1x40 2x320",
    'statecast_engine_busy_seconds_total{instance="a"}': "0+5x400",
    'statecast_engine_threads{instance="a"}': "2x400",
    LAG % "0.01": "0+9x400",
    LAG % "0.1": "0+10x400",
    LAG % "+Inf": "0+10x400",
    "statecast_redis_up": "1x400",
    'statecast_records_refused_total{reason="MODEL_CHANGED"}': "2x400",
    "statecast_redis_volatile": "0x400",
    "statecast_regressed_total": "3x400",
    "statecast_sessions_missing_total": "3x400",
    'statecast_request_seconds_bucket{kind="observe",le="0.3"}': "0+100x400",
    'statecast_request_seconds_bucket{kind="observe",le="+Inf"}': "0+100x400",
    INSIDE % "true": "0+82x400",
    INSIDE % "false": "0+18x400",
    "statecast_tls_certificate_expiry_seconds": "0x400",
    'process_resident_memory_bytes{job="statecast"}': f"{GIB}x400",
}


def promtool(folder: Path, series: dict[str, str], at: str, expected: list[str], only: str = ".*") -> None:
    """Check with promtool which alerts fire on series."""
    test: dict[str, Any] = {
        "interval": "5s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count by (alertname) (ALERTS{{alertstate="firing",alertname=~"{only}"}})',
                "eval_time": at,
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected],
            }
        ],
    }
    file = folder / "test.yml"
    config = {"rule_files": [str(RULES)], "evaluation_interval": "5s", "tests": [test]}
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
@pytest.mark.servers
@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires(name: str, tmp_path: Path) -> None:
    at = {
        "StatecastLatencyHigh": "4m", "StatecastEngineSaturated": "11m", "StatecastIntervalCoverageOff": "25m"
    }.get(name, "90s")  # fmt: skip
    promtool(tmp_path, CASES[name], at, [name], only=name)


@needs_prometheus
@pytest.mark.servers
def test_no_alert_fires_in_health(tmp_path: Path) -> None:
    for at in ("30s", "2m", "30m"):
        promtool(tmp_path, HEALTHY, at, [])


@needs_prometheus
@pytest.mark.servers
@pytest.mark.parametrize("command", [("check", "rules", "prometheus-rules.yml"), ("check", "config", "prometheus.yml")])
def test_prometheus_accepts_the_files(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    assert list(CASES) == [each["alert"] for each in rules()]


@pytest.mark.parametrize("name", CASES)
def test_an_alert_says_what_to_do(name: str) -> None:
    found = rule(name)
    assert found["labels"]["severity"] in ("critical", "warning")
    notes = found["annotations"]
    for text in (notes["summary"], notes["description"]):
        assert text.endswith(".")
        assert all(len(sentence.split()) <= 25 for sentence in re.split(r"(?<=[.;]) ", text)), text
    page, _, anchor = notes["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in [heading.lower().replace(" ", "-") for heading in headings]


def test_an_alert_of_something_broken_fires_within_ten_seconds() -> None:
    slow = {each["alert"] for each in rules() if seconds(each.get("for", "0s")) > 10}
    assert slow == {"StatecastLatencyHigh", "StatecastEngineSaturated", "StatecastIntervalCoverageOff"}


def test_the_numbers_are_those_of_the_compose_file() -> None:
    services = compose()["services"]
    servers = [each for name, each in services.items() if name.startswith("server-")]
    assert rule("StatecastReplicaDown")["expr"].endswith(f"< {len(servers)}")
    assert {each["mem_limit"] for each in servers} == {"2g"}
    assert f"/ {2 * GIB} >" in rule("StatecastMemoryHigh")["expr"]


def test_every_alert_but_the_slow_ones_is_caused_for_real() -> None:
    """The others fire on made-up series alone: they take minutes, or most of the machine's memory."""
    here = Path(__file__)
    caused = {
        name
        for file in here.parent.glob("test_*.py")
        if file != here
        for name in re.findall(r'"(Statecast\w+)"', file.read_text())
    }
    made_up = {
        "StatecastLatencyHigh", "StatecastIntervalCoverageOff", "StatecastEngineSaturated", "StatecastMemoryHigh"
    }  # fmt: skip
    assert {each["alert"] for each in rules()} == caused | made_up
