"""HAProxy with the configuration of deploy/ before two real servers with TLS, keys and limits.

Their files are those that the commands of docs/deployment.md make, but for Docker, which is not needed for any of that.
"""

import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.error import URLError

import grpc
import pytest
import yaml
from deploy.files import DEPLOY, ROOT, RULES, compose
from deploy.prometheus import free_port, needs_prometheus, prometheus
from support import await_true
from support.programs import needs
from support.redis_process import RedisProcess
from support.servers import ServerProcess
from support.wire import OPEN, observations

from statecast.client import Client, ResourceExhausted, StatecastError, Unavailable
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

pytestmark = [pytest.mark.servers, pytest.mark.slow, needs("haproxy", "openssl", "bash")]

CONFIG = (DEPLOY / "haproxy.cfg").read_text()
TLS: dict[str, dict[str, Any]] = compose("docker-compose.tls.yml")["services"]
CHECK_TLS: str = TLS["balancer"]["environment"]["HEALTH_CHECK_TLS"]
BY_NAME = " resolvers docker resolve-prefer ipv4 init-addr none"
DRAIN_SECONDS = 12
REPLICAS = "  server-template replica 10 server:50051\n"


def configuration(servers: list[ServerProcess], port: int, status_port: int) -> str:
    """Return deploy/haproxy.cfg with these servers, which share an address, instead of those behind a name."""
    text = re.sub(r"^resolvers docker\n(?:  .*\n)+", "", CONFIG, flags=re.MULTILINE)
    plain = [f"  server replica{at} {each.target}" for at, each in enumerate(servers)]
    checked = [f"{line} port {each.metrics_port}" for line, each in zip(plain, servers, strict=True)]
    changes = {
        f"check port 9464 inter 1s fall 2 rise 2{BY_NAME}": ("check inter 1s fall 2 rise 2", 2),
        f"  default-server{BY_NAME}\n": ("", 2),
        "bind :50051": (f"bind 127.0.0.1:{port}", 1),
        "bind :8404": (f"bind 127.0.0.1:{status_port}", 1),
    }
    for old, (new, count) in changes.items():
        assert text.count(old) == count, old
        text = text.replace(old, new)
    sessions, any_session, ready, any_ready, rest = text.split(REPLICAS)
    return "\n".join([sessions, *checked, any_session, *plain, ready, *checked, any_ready, *plain, rest])


def commands() -> str:
    """Return the commands of the page's section about TLS, as a script."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    section = page.split("### TLS and tenants")[1].split("\n## ")[0]
    blocks = re.findall(r"^    ```console\n(.*?)^    ```", section, re.MULTILINE | re.DOTALL)
    return "".join(re.sub(r"^\$ ", "", dedent(block), flags=re.MULTILINE) for block in blocks)


DOCKER = f"""#!{sys.executable}
import os, sys
words = sys.argv[1:]
(folder,) = (word.removesuffix(":/access") for word in words if word.endswith(":/access"))
words = [word.replace("/access/", folder + "/") for word in words[words.index("statecast") + 1 :]]
os.execv(sys.executable, [sys.executable, "-m", "statecast.service", *words])
"""
"""Runs a command of the image in the folder that would be mounted."""


class Files:
    """The folder in which the page's commands have run, and the keys that they have printed."""

    def __init__(self, folder: Path) -> None:
        for name, text in (("docker", DOCKER), ("docker-compose", "#!/bin/sh\n")):
            program = folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(text)
            program.chmod(0o755)
        (folder / "deploy" / "secrets").mkdir(parents=True)
        environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        command = ["bash", "-euc", commands()]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self.keys = dict(zip(("acme", "globex"), done.stdout.split(), strict=True))
        self.folder, self.access = folder, folder / "deploy" / "secrets" / "access"
        self.ca = self.access / "ca.pem"
        self.admin = (folder / "deploy" / "secrets" / "metrics" / "api-key").read_text().strip()

    def options(self) -> Iterator[str]:
        """Yield the options of the servers that docker-compose.tls.yml sets as variables."""
        for name, value in TLS["server-a"]["environment"].items():
            if name not in ("STATECAST_CA", "STATECAST_INSECURE"):  # one is for `statecast health`, one a flag
                option = name.removeprefix("STATECAST_").lower().replace("_", "-")
                yield from (f"--{option}", value.replace("/etc/statecast", str(self.access)))


class Site:
    """Two servers behind a balancer, and the keys of two tenants."""

    def __init__(self, servers: list[ServerProcess], port: int, status_port: int, files: Files) -> None:
        self.servers, self.target, self.status_port = servers, f"localhost:{port}", status_port
        self.ca, self.keys, self.admin = files.ca, files.keys, files.admin

    def client(self, tenant: str = "acme", **others: Any) -> Client:
        return Client(self.target, ca=self.ca, api_key=self.keys[tenant], **others)

    def channel(self) -> grpc.Channel:
        """Return a channel with a connection of its own, on which nothing is repeated."""
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes())
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        return grpc.secure_channel(self.target, credentials, options)

    def await_ready(self, servers: int) -> None:
        """Wait until the balancer has so many servers ready."""
        line = f'haproxy_backend_active_servers{{proxy="ready"}} {servers}\n'
        await_true(lambda: line in self._status())

    def _status(self) -> str:
        """Return the balancer's metrics; nothing while it starts."""
        with suppress(URLError), urllib.request.urlopen(f"http://127.0.0.1:{self.status_port}/metrics") as response:
            text: str = response.read().decode()
            return text
        return ""

    def observed(self, server: ServerProcess) -> float:
        """Return the number of observe requests that a server has answered."""
        request = urllib.request.Request(
            f"https://localhost:{server.metrics_port}/metrics", headers={"authorization": f"Bearer {self.admin}"}
        )
        context = ssl.create_default_context(cafile=self.ca)
        text = urllib.request.urlopen(request, context=context, timeout=10).read().decode()
        found = re.search(r'^statecast_request_seconds_count\{kind="observe"\} (\S+)$', text, re.MULTILINE)
        assert found
        return float(found[1])


@contextmanager
def haproxy(folder: Path, text: str) -> Iterator[None]:
    (folder / "haproxy.cfg").write_text(text)
    command = ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
    with (folder / "haproxy.log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, "HEALTH_CHECK_TLS": CHECK_TLS}, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def site(own_redis: RedisProcess, models_folder: Path, tmp_path: Path, files: Files) -> Iterator[Site]:
    options = ["--redis-url", own_redis.url, "--models", str(models_folder), "--drain-seconds", str(DRAIN_SECONDS)]
    servers = [ServerProcess(*options, *files.options()) for _ in range(2)]
    site = Site(servers, free_port(), free_port(), files)
    try:
        port = int(site.target.rpartition(":")[2])
        with haproxy(tmp_path, configuration(servers, port, site.status_port)):
            site.await_ready(2)
            yield site
    finally:
        for server in servers:
            server.kill()


def test_two_tenants_call_with_tls_and_one_is_limited(site: Site) -> None:
    with site.client("acme") as acme, site.client("globex", timeout_seconds=3) as globex:
        assert acme.session("a", "tiny").observe([1.0] * 100).version.step == 100
        assert globex.session("a", "tiny").observe([1.0] * 6000).version.step == 6000
        with pytest.raises(ResourceExhausted, match="observations_per_second = 1000"):
            globex.session("a", "tiny").observe(1.0)
        assert [each.session_id for each in acme.sessions()] == ["a"]
    with Client(site.target, timeout_seconds=1) as stranger, pytest.raises(StatecastError):
        stranger.session("a", "tiny").observe(1.0)


def test_the_health_check_of_a_container_says_serving(site: Site) -> None:
    _, _, *words = TLS["server-a"]["healthcheck"]["test"]
    command = [sys.executable, "-m", "statecast.service", *words, "--target", site.servers[0].target]
    environment = {**os.environ, "STATECAST_CA": str(site.ca)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "SERVING\n", done.stderr


def test_a_server_that_leaves_gets_no_new_connections(site: Site) -> None:
    leaving, staying = site.servers
    ended = threading.Thread(target=leaving.stop)
    ended.start()
    site.await_ready(1)
    before = site.observed(leaving), site.observed(staying)
    for _ in range(6):
        with site.client() as client:
            client.session("a", "tiny").observe(1.0)
    assert ended.is_alive()  # it still serves those that it had
    assert (site.observed(leaving), site.observed(staying)) == (before[0], before[1] + 6)
    ended.join()


def test_a_killed_server_costs_errors_that_may_be_retried_and_nothing_else(site: Site) -> None:
    killed = threading.Event()
    codes: set[grpc.StatusCode] = set()

    def call(name: str) -> None:
        """Call without any retry, from before the kill until calls are answered again."""
        metadata, step = (("authorization", f"Bearer {site.keys['acme']}"),), 0
        with site.channel() as channel:
            stub: Any = ForecastServiceStub(channel)
            answered = 0
            while answered < 20:
                step += 1
                asked = pb.ForecastRequest(session_id=name, open=OPEN, observations=observations(step))
                try:
                    stub.Forecast(asked, metadata=metadata, timeout=10)
                    answered += killed.is_set()
                except grpc.RpcError as error:
                    failed: Any = error
                    codes.add(failed.code())

    def client_calls(name: str) -> None:
        with site.client() as client:
            session, steps = client.session(name, "tiny"), 0
            while not killed.is_set() or steps % 50:
                steps += 1
                taken[name] = steps == session.observe(float(steps)).version.step and taken.get(name, True)

    taken: dict[str, bool] = {}
    threads = [threading.Thread(target=call, args=(f"raw-{at}",)) for at in range(4)]
    threads += [threading.Thread(target=client_calls, args=(f"client-{at}",)) for at in range(4)]
    for thread in threads:
        thread.start()
    await_true(lambda: len(taken) == 4 and all(site.observed(server) for server in site.servers))
    site.servers[0].kill()
    killed.set()
    for thread in threads:
        thread.join()
    assert codes <= {grpc.StatusCode.UNAVAILABLE}
    assert list(taken.values()) == [True] * 4


@needs_prometheus
def test_the_alert_for_no_ready_server_fires(site: Site, tmp_path: Path) -> None:
    scraping: dict[str, Any] = {
        "scheme": "https",
        "tls_config": {"ca_file": str(site.ca), "server_name": "localhost"},
        "authorization": {"credentials": site.admin},
    }
    ports = [server.metrics_port for server in site.servers]
    with prometheus(tmp_path, ports, balancer_port=site.status_port, **scraping) as watching:
        await_true(lambda: watching.values('haproxy_backend_active_servers{proxy="ready"}') == [2])
        await_true(lambda: watching.values("sum(up)") == [3])
        for server in site.servers:
            server.process.send_signal(signal.SIGKILL)
        watching.await_alert("StatecastNoReplicaReady", "StatecastNoReplicaUp")
    with site.client(timeout_seconds=1) as client, pytest.raises(Unavailable):
        client.session("a", "tiny").observe(1.0)


def test_the_commands_leave_what_the_files_for_tls_name(files: Files, tmp_path: Path) -> None:
    """Every file is readable by other users, in folders that only their owner reaches."""
    named = {Path(value).name for value in files.options() if value.startswith(str(files.access))}
    assert named == {"cert.pem", "key.pem", "api-keys.json", "tenant-limits.toml"}
    metrics = files.access.with_name("metrics")
    for path in (*(files.access / name for name in named), files.ca, metrics / "ca.pem", metrics / "api-key"):
        assert path.stat().st_mode & 0o777 == 0o644, path
    assert {each.stat().st_mode & 0o777 for each in (files.access, metrics)} == {0o755}
    assert (files.folder / ".env").read_text().startswith("COMPOSE_FILE=docker-compose.yml:docker-compose.tls.yml\n")
    for each in (DEPLOY / "prometheus-tls.yml", RULES):
        (tmp_path / each.name).write_text(each.read_text())
    (tmp_path / "access").symlink_to(metrics)
    config = yaml.safe_load((tmp_path / "prometheus-tls.yml").read_text())
    plain = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    job = config["scrape_configs"][0]
    own = {key: job.pop(key) for key in ("scheme", "tls_config", "authorization")}
    assert config == plain
    assert all((tmp_path / path).exists() for path in (own["tls_config"]["ca_file"], RULES.name))
    assert (tmp_path / own["authorization"]["credentials_file"]).read_text().startswith("sck_")


def test_the_files_for_tls_change_services_that_are_there() -> None:
    services = compose()["services"]
    assert set(TLS) <= set(services)
    assert {name for name in TLS if name.startswith("server-")} == {each for each in services if each[:7] == "server-"}
    mounted = {each.split(":")[1] for each in services["prometheus"]["volumes"]}
    assert TLS["prometheus"]["volumes"][0].split(":")[1] in mounted  # it takes the place of the other file
