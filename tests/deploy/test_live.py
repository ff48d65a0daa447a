"""Dashboard and alerts on a real Prometheus that reads real servers: every expression has a value, and alerts fire."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from deploy.files import measured, rules
from deploy.grafana import dashboard
from deploy.prometheus import Prometheus, needs_prometheus, prometheus
from support import WAIT_SECONDS, await_true
from support.certificates import Authority
from support.redis_process import RedisProcess
from support.servers import ServerProcess
from support.wire import OPEN, observations

from statecast.client import Client, SessionRegressed, StatecastError, Unauthenticated
from statecast.service.access import api_keys
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

pytestmark = [pytest.mark.servers, pytest.mark.slow, needs_prometheus]

ELSEWHERE = {"haproxy_backend_active_servers": "the balancer's metric; test_balancer.py has one"}
ENVOY = "envoy_http_"


class Site:
    """Two servers on one Redis, with a Prometheus that reads them."""

    def __init__(self, redis: RedisProcess, servers: list[ServerProcess], watching: Prometheus) -> None:
        self.redis, self.servers, self.watching = redis, servers, watching

    @property
    def target(self) -> str:
        return self.servers[0].target


@pytest.fixture
def site(own_redis: RedisProcess, models_folder: Path, tmp_path: Path) -> Iterator[Site]:
    """Run a site whose queue is so short that a frame fills it."""
    options = ["--redis-url", own_redis.url, "--models", str(models_folder), "--queue-requests", "8"]
    options += ["--tenant-metrics", "2"]
    servers = [ServerProcess(*options, "--redis-timeout-seconds", "0.5") for _ in range(2)]
    try:
        with prometheus(tmp_path, [server.metrics_port for server in servers]) as watching:
            yield Site(own_redis, servers, watching)
    finally:
        for server in servers:
            server.kill()


@contextmanager
def load(target: str) -> Iterator[None]:
    """Observe and forecast meanwhile, and go on if that fails."""
    over = threading.Event()

    def call() -> None:
        with Client(target, timeout_seconds=1) as client:
            sessions = [client.session(f"load-{at}", "base") for at in range(4)]  # it checks its intervals
            while not over.wait(0.05):
                try:
                    for session in sessions:
                        session.step(20.0, 3)
                        session.observe(21.0)
                        session.forecast(3)
                except StatecastError:
                    pass

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def shown() -> Iterator[tuple[str, str]]:
    """Yield where each expression stands, and the expression as Grafana or Prometheus evaluates it."""
    chosen = {"$job": "statecast", "$instance": ".*", "$__rate_interval": "1m"}
    for panel in dashboard.dashboard()["panels"]:
        for target in panel.get("targets", ()):
            expression: str = target["expr"]
            for variable, value in chosen.items():
                expression = expression.replace(variable, value)
            yield f"panel {panel['title']!r}", expression
    for rule in rules():
        for expression in measured(rule["expr"]):
            yield f"alert {rule['alert']}", expression


def test_no_expression_comes_back_empty(site: Site) -> None:
    has_envoy = site.servers[0].engine.pid != site.servers[0].process.pid
    here = [
        (place, expression)
        for place, expression in shown()
        if not any(name in expression for name in ELSEWHERE) and (has_envoy or ENVOY not in expression)
    ]
    assert len(here) > 65

    def unanswered() -> list[tuple[str, str]]:
        """Return what has no value, or a value that is no number."""
        return [(place, expression) for place, expression in here if not is_answered(expression)]

    def is_answered(expression: str) -> bool:
        values = site.watching.values(expression)
        # A quantile of a kind of request that nobody has sent is no number.
        enough: Callable[[Iterable[bool]], bool] = any if " by (le, " in expression else all
        return bool(values) and enough(not math.isnan(value) for value in values)

    with load(site.target):
        deadline = time.monotonic() + WAIT_SECONDS
        while missing := unanswered():
            assert time.monotonic() < deadline, missing
            time.sleep(0.5)
    assert site.watching.firing() == set()


def test_redis_killed_is_told(site: Site) -> None:
    with load(site.target):
        await_true(lambda: any(site.watching.values("statecast_observations_total")))
        site.redis.kill()
        site.watching.await_alert("StatecastRedisDown", "StatecastRedisUnusable", "StatecastRequestsFailing")
        samples = site.watching.query('ALERTS{alertname="StatecastRedisUnusable",alertstate="firing"}')
        assert {sample["metric"]["reason"] for sample in samples} <= {"STORE_UNAVAILABLE", "STORE_UNREACHABLE"}


def test_a_redis_that_evicts_is_told(site: Site) -> None:
    redis: Any = site.redis.client
    redis.config_set("maxmemory-policy", "allkeys-lru")
    site.watching.await_alert("StatecastRedisVolatile")


def test_a_full_queue_is_told(site: Site) -> None:
    frame = pb.ForecastManyRequest(
        requests=[
            pb.ForecastRequest(session_id=f"f-{at}", open=OPEN, observations=observations(*range(50)))
            for at in range(200)
        ]
    )
    over = threading.Event()

    def flood() -> None:
        with grpc.insecure_channel(site.target) as channel:
            stub = ForecastServiceStub(channel)
            while not over.wait(0.05):
                stub.ForecastMany(frame)

    thread = threading.Thread(target=flood)
    await_true(lambda: len(site.watching.query('statecast_requests_total{kind="observe",reason="QUEUE_FULL"}')) == 2)
    thread.start()
    try:
        site.watching.await_alert("StatecastQueueRefusing")
    finally:
        over.set()
        thread.join()
    assert sum(site.watching.values("statecast_rejected_total")) > 0


def test_lost_observations_are_told(site: Site) -> None:
    with Client(site.target) as client:
        session = client.session("lossy", "tiny", replay_requests=0)
        session.observe([1.0, 2.0])
        redis: Any = site.redis.client
        before = {key: redis.get(key) for key in redis.scan_iter("*lossy*")}
        session.observe(3.0)
        await_true(lambda: site.watching.values("statecast_regressed_total") == [0, 0])
        for key, value in before.items():
            redis.set(key, value)
        with pytest.raises(SessionRegressed):
            session.observe(4.0)
    site.watching.await_alert("StatecastObservationsLost")


def test_a_damaged_record_is_told(site: Site) -> None:
    with Client(site.target) as client:
        client.session("damaged", "tiny").observe([1.0, 2.0])
    redis: Any = site.redis.client
    (key,) = redis.scan_iter("*damaged*")
    redis.setrange(key, 20, b"\xff\xff\xff\xff")
    await_true(lambda: len(site.watching.values("statecast_records_refused_total")) == 4)
    # The other server does not have the session in memory.
    with Client(site.servers[1].target) as client, pytest.raises(StatecastError, match="damaged"):
        client.session("damaged", "tiny").observe(3.0)
    site.watching.await_alert("StatecastRecordsRefused")


def test_an_event_loop_without_cpu_is_told(site: Site) -> None:
    await_true(lambda: bool(site.watching.values("statecast_event_loop_lag_seconds_count")))
    over = threading.Event()

    def slow_down() -> None:
        while not over.is_set():
            site.servers[0].engine.suspend()
            time.sleep(1.2)
            site.servers[0].engine.resume()
            over.wait(0.4)  # long enough for Prometheus to read the metrics

    thread = threading.Thread(target=slow_down)
    thread.start()
    try:
        site.watching.await_alert("StatecastEventLoopLag", seconds=90)
    finally:
        over.set()
        thread.join()


def test_servers_that_are_gone_are_told(site: Site) -> None:
    await_true(lambda: site.watching.values("sum(up)") == [2])
    site.servers[1].kill()
    site.watching.await_alert("StatecastReplicaDown")
    assert "StatecastNoReplicaUp" not in site.watching.firing()
    site.servers[0].kill()
    site.watching.await_alert("StatecastNoReplicaUp")
    assert site.watching.values("sum(up)") == [0]


def test_a_model_that_cannot_be_loaded_is_told(own_redis: RedisProcess, tmp_path: Path) -> None:
    broken = tmp_path / "models" / "pump" / "2"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{")
    server = ServerProcess("--redis-url", own_redis.url, "--models", str(tmp_path / "models"))
    try:
        with prometheus(tmp_path, [server.metrics_port]) as watching:
            watching.await_alert("StatecastModelUnavailable")
    finally:
        server.kill()


def test_wrong_credentials_and_the_end_of_a_certificate_are_told(own_redis: RedisProcess, tmp_path: Path) -> None:
    """Prometheus reads over TLS and with a key, as docs/deployment.md says."""
    authority, keys = Authority(tmp_path), tmp_path / "keys.json"
    pair, (_, admin) = authority.server(), api_keys.create(keys, "acme", "admin")
    tls = ("--tls-cert", str(pair.cert), "--tls-key", str(pair.key), "--api-keys", str(keys))
    server = ServerProcess("--redis-url", own_redis.url, *tls, "--max-wrong-credentials", "0")
    scraping: dict[str, Any] = {
        "scheme": "https",
        "tls_config": {"ca_file": str(authority.ca)},
        "authorization": {"credentials": admin},
    }
    try:
        with prometheus(tmp_path, [server.metrics_port], **scraping) as watching:
            watching.await_alert("StatecastCertificateExpiring")  # certificates of tests end within a day
            assert "StatecastCredentialsRefused" not in watching.firing()
            with Client(server.target, ca=authority.ca, api_key=f"{admin[:-1]}x") as client:
                for _ in range(40):
                    with pytest.raises(Unauthenticated):
                        client.session("a").observe(1.0)
            watching.await_alert("StatecastCredentialsRefused")
    finally:
        server.kill()
