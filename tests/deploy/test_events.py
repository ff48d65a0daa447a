"""What happens to Redis under a load of streams shows within 30 s in an alert, and in the server's JSON log.

Prometheus reads and evaluates as seldom as deploy/prometheus.yml says.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.files import DEPLOY, ROOT
from deploy.prometheus import Prometheus, needs_prometheus, prometheus
from support import await_true
from support.redis_process import RedisProcess
from support.servers import ServerProcess

from statecast.client import Client, Session, StatecastError

pytestmark = [pytest.mark.servers, pytest.mark.slow, needs_prometheus]

VISIBLE_SECONDS = 30.0
Line = dict[str, Any]


class Site:
    """A server under load on one Redis, the Prometheus that reads it, and its log."""

    def __init__(self, redis: RedisProcess, server: ServerProcess, watching: Prometheus) -> None:
        self.redis, self.server, self.watching = redis, server, watching

    @property
    def client(self) -> Any:
        return self.redis.client

    def lines(self) -> list[Line]:
        """Return the lines of the log; each is one object."""
        return [json.loads(line) for line in self.server.log.splitlines(keepends=True) if line.endswith("\n")]

    def await_shown(self, alerts: set[str], **fields: str) -> None:
        """Wait until all these alerts have fired, and a line is there whose fields contain these texts."""
        missing = set(alerts)
        deadline = time.monotonic() + VISIBLE_SECONDS
        has_line = False
        while missing or not has_line:
            assert time.monotonic() < deadline, f"alerts {missing}, line {fields if not has_line else 'found'}"
            missing -= self.watching.firing()
            has_line = has_line or any(
                all(text in str(line.get(name, "")) for name, text in fields.items()) for line in self.lines()
            )
            time.sleep(0.2)


@contextmanager
def load(target: str) -> Iterator[None]:
    """Stream observations of some sessions meanwhile, whatever comes of them."""
    over = threading.Event()

    def observations(sessions: list[Session]) -> Iterator[tuple[Session, float]]:
        while not over.wait(0.02):
            for session in sessions:
                yield session, 20.0

    def call() -> None:
        with Client(target, timeout_seconds=1) as client:
            sessions = [client.session(f"load-{at}", "tiny") for at in range(8)]
            while not over.wait(0.1):
                with suppress(StatecastError):
                    for _ in client.stream(observations(sessions)):
                        pass

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def site(own_redis: RedisProcess, models_folder: Path, tmp_path: Path) -> Iterator[Site]:
    """Run the server with the settings of docs/deployment.md, as far as Redis and the log go."""
    options = ("--redis-url", own_redis.url, "--models", str(models_folder), "--log-format", "json")
    server = ServerProcess(*options)
    interval = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["global"]
    assert interval["scrape_interval"] == interval["evaluation_interval"]
    try:
        with prometheus(tmp_path, [server.metrics_port], interval["scrape_interval"]) as watching, load(server.target):
            await_true(lambda: any(watching.values("rate(statecast_observations_total[1m])")))
            assert watching.firing() <= {"StatecastReplicaDown"}  # there is but one
            yield Site(own_redis, server, watching)
    finally:
        server.kill()


def killed(site: Site) -> None:
    site.redis.kill()


def paused(site: Site) -> None:
    site.redis.pause()


def made_volatile(site: Site) -> None:
    site.client.config_set("appendonly", "no")


def made_to_evict(site: Site) -> None:
    site.client.config_set("maxmemory-policy", "allkeys-lru")


def filled(site: Site) -> None:
    site.client.config_set("maxmemory", "1mb")


def wiped(site: Site) -> None:
    site.client.flushall()


EVENTS: dict[Callable[[Site], None], tuple[set[str], dict[str, str]]] = {
    killed: (
        {"StatecastRedisDown", "StatecastRedisUnusable"},
        {"message": "request failed", "level": "WARNING", "reason": "STORE_UNREACHABLE"},
    ),
    paused: (
        {"StatecastRedisDown", "StatecastRedisUnusable"},
        {"message": "request failed", "level": "WARNING", "reason": "STORE_UNAVAILABLE"},
    ),
    made_volatile: ({"StatecastRedisVolatile"}, {"level": "ERROR", "message": "keeps no append-only file"}),
    made_to_evict: ({"StatecastRedisVolatile"}, {"level": "ERROR", "message": "evicts keys"}),
    filled: ({"StatecastRedisFull"}, {"message": "request failed", "level": "ERROR", "reason": "STORE_FULL"}),
    wiped: ({"StatecastSessionsMissing"}, {"level": "WARNING", "message": "Redis has no trace"}),
}
"""What happens, the alerts that fire, and the fields of a line of the log."""


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_an_event_is_visible_in_time(site: Site, event: Callable[[Site], None]) -> None:
    alerts, line = EVENTS[event]
    event(site)
    try:
        site.await_shown(alerts, **line)
    finally:
        site.redis.resume()


def test_the_table_of_events_names_each_alert_and_line() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    table = page.split("## What happens to Redis")[1].split("\n## ")[0]
    for alerts, line in EVENTS.values():
        for word in (*alerts, *line.values()):
            assert word in table, word
