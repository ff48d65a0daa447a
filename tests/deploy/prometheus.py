"""A real Prometheus with the alerts of deploy/, which reads servers of the tests."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from deploy.files import RULES
from support import await_true
from support.programs import needs

needs_prometheus = needs("prometheus", "promtool")
ALERT_SECONDS = 45.0
"""The longest time until an alert fires: its rate has to rise, and the rules have to be evaluated."""


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    @property
    def is_ready(self) -> bool:
        try:
            with urlopen(f"{self._url}/-/ready", timeout=5) as response:
                return bool(response.status == 200)
        except (URLError, ConnectionError):
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        with urlopen(f"{self._url}/api/v1/query?{urlencode({'query': expression})}", timeout=10) as response:
            found: list[dict[str, Any]] = json.load(response)["data"]["result"]
        return found

    def values(self, expression: str) -> list[float]:
        """Return the values of an instant query."""
        return [float(each["value"][1]) for each in self.query(expression)]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now."""
        return {each["metric"]["alertname"] for each in self.query('ALERTS{alertstate="firing"}')}

    def await_alert(self, *names: str, seconds: float = ALERT_SECONDS) -> None:
        """Wait until all these alerts fire."""
        deadline = time.monotonic() + seconds
        while not set(names) <= (firing := self.firing()):
            assert time.monotonic() < deadline, f"{names} should fire, but these do: {firing}"
            time.sleep(0.2)


@contextmanager
def prometheus(
    folder: Path,
    metrics_ports: Sequence[int],
    interval: str = "1s",
    balancer_port: int | None = None,
    **scraping: Any,
) -> Iterator[Prometheus]:
    """Run a Prometheus that reads servers at these ports, as often as `interval` says.

    Args:
        folder: Where it keeps its files.
        metrics_ports: Ports of the servers' metrics.
        interval: Time between two scrapes, and between two evaluations of the alerts.
        balancer_port: Port of a balancer's metrics.
        scraping: Further settings of the servers' job, such as tls_config.
    """
    jobs = [_job("statecast", metrics_ports, scraping)]
    if balancer_port is not None:
        jobs.append(_job("balancer", [balancer_port], {}))
    config = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(RULES)],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=log, stdout=log)
    try:
        found = Prometheus(port)
        await_true(lambda: found.is_ready or process.poll() is not None)
        if process.poll() is not None:
            pytest.fail((folder / "prometheus.log").read_text())
        yield found
    finally:
        process.terminate()
        process.wait(30)


def _job(name: str, ports: Sequence[int], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}], **settings}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
