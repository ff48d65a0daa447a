"""The compose file keeps its promises, as far as a file can; deploy/compose_check.py runs it."""

import re
import subprocess
from typing import Any

import pytest
from deploy.files import DEPLOY, compose, seconds
from support.programs import needs

from statecast.service.envoy.launcher import ENGINE_SECONDS
from statecast.service.settings import Settings

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
SERVERS = {name: each for name, each in SERVICES.items() if name.startswith("server-")}
HAPROXY = (DEPLOY / "haproxy.cfg").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_locked_down_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["mem_limit"]
    assert service["cpus"]
    assert "deploy" not in service  # docker-compose 1.29 ignores it
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    if name not in SERVERS:  # the Dockerfile has both
        assert service["user"] not in ("root", "0")
        assert service["healthcheck"]
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?", service["image"])


def test_only_the_balancer_and_the_screens_are_published() -> None:
    assert {name for name, each in SERVICES.items() if each.get("ports")} == {"balancer", "prometheus", "grafana"}


def test_only_the_servers_share_a_network_with_redis() -> None:
    on_store = {name for name, each in SERVICES.items() if "store" in each.get("networks", ["default"])}
    assert on_store == {"redis", *SERVERS}
    assert SERVICES["redis"]["networks"] == ["store"]
    assert compose()["networks"]["store"] == {"internal": True}


def test_no_password_stands_in_the_file() -> None:
    secrets = compose()["secrets"]
    assert {name for name, each in SERVICES.items() if each.get("secrets")} == {"redis", "grafana", *SERVERS}
    assert all(list(each) == ["file"] for each in secrets.values())
    assert "*" in (DEPLOY / "secrets" / ".gitignore").read_text().splitlines()


def test_a_server_leaves_after_the_balancer_has_noticed() -> None:
    check = re.search(r"check port 9464 inter (\d+)s fall (\d+)", HAPROXY)
    timeout = re.search(r"timeout check (\d+)s", HAPROXY)
    assert check
    assert timeout
    noticed_after = int(check[2]) * (int(check[1]) + int(timeout[1]))
    for server in SERVERS.values():
        drain = float(server["environment"]["STATECAST_DRAIN_SECONDS"])
        assert drain > noticed_after
        assert seconds(server["stop_grace_period"]) > drain + Settings().grace_seconds + ENGINE_SECONDS


def test_every_variable_of_a_server_is_a_setting() -> None:
    tls = compose("docker-compose.tls.yml")["services"]
    environments = [each["environment"] for each in (*SERVERS.values(), *(tls[name] for name in SERVERS))]
    names = {name.removeprefix("STATECAST_").lower() for each in environments for name in each}
    assert names - {"ca"} <= set(Settings.__dataclass_fields__)  # `statecast health` reads that one
    assert len(SERVERS) == 2


def test_the_override_for_gpus_names_the_same_servers() -> None:
    assert set(compose("docker-compose.gpu.yml")["services"]) == set(SERVERS)


@needs("haproxy")
def test_haproxy_accepts_its_configuration() -> None:
    command = ["haproxy", "-c", "-f", str(DEPLOY / "haproxy.cfg")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
