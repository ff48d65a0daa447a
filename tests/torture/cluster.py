"""Two servers on one private Redis; each can be killed and restarted on its port.

One server speaks gRPC by grpcio, the other by Envoy.
"""

import os
import re
import signal
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support import WAIT_SECONDS, short_folder
from support.hash_model_server import HELD_SUFFIX, HOLD_VARIABLE
from support.redis_cluster import RedisCluster, WatchedRedis
from support.redis_process import RedisProcess, redis_binaries
from support.servers import ServerProcess

TRANSPORTS = ("grpc", "envoy")
SERVERS = len(TRANSPORTS)
MODULE = ("support.hash_model_server",)
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Setting:
    """The `appendfsync` of Redis or the nodes that take its place, and options of both servers."""

    appendfsync: str = "always"
    server_options: Sequence[str] = ()
    nodes: Callable[[Path], RedisCluster | WatchedRedis] | None = None


class Stage:
    """The servers and their Redis."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.folder = folder
        self._nodes = setting.nodes(folder) if setting.nodes else None
        self._redis = None if self._nodes else _lone_redis(folder, setting)
        self._options = ("--redis-url", (self._nodes or self.redis).url, *setting.server_options)
        self.servers = [self._start(number) for number in range(SERVERS)]
        self.ports: list[int] = []

    @property
    def redis(self) -> RedisProcess:
        """The only Redis."""
        assert self._redis is not None
        return self._redis

    @property
    def cluster(self) -> RedisCluster:
        """The cluster."""
        assert isinstance(self._nodes, RedisCluster)
        return self._nodes

    @property
    def watched(self) -> WatchedRedis:
        """The primary and its replica."""
        assert isinstance(self._nodes, WatchedRedis)
        return self._nodes

    def wait(self) -> None:
        """Wait until all servers serve."""
        self.ports = [server.port for server in self.servers]

    @property
    def targets(self) -> list[str]:
        return [f"127.0.0.1:{port}" for port in self.ports]

    def kill_server(self, number: int) -> None:
        """Send SIGKILL to a server, and restart it on the same port."""
        self.servers[number].kill()
        self.servers[number] = self._start(number, self.ports[number])
        assert self.servers[number].port == self.ports[number]

    def kill_envoy(self) -> int:
        """Send SIGKILL to Envoy alone, wait for the end of its server, and restart that; return its exit status."""
        number = TRANSPORTS.index("envoy")
        server = self.servers[number]
        server.engine.kill()
        status = server.process.wait(WAIT_SECONDS)
        self.servers[number] = self._start(number, self.ports[number])
        assert self.servers[number].port == self.ports[number]
        return status

    def hold_file(self, number: int) -> Path:
        """Return the file that makes the server's next batch wait between load and commit."""
        return self.folder / f"hold-{number}"

    def held_file(self, number: int) -> Path:
        """Return the file that exists while the server's batch waits."""
        return self.folder / f"hold-{number}{HELD_SUFFIX}"

    def signal_server(self, number: int, signal_number: signal.Signals) -> None:
        self.servers[number].signal_all(signal_number)

    def counter(self, number: int, name: str) -> float:
        """Return a counter of the server's metrics; its name is "conflicts" for statecast_conflicts_total."""
        url = f"http://127.0.0.1:{self.servers[number].metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = re.search(rf"^statecast_{name}_total (\S+)", answer.read().decode(), re.MULTILINE)
        assert found is not None
        return float(found.group(1))

    def has_grown(self, number: int, name: str, before: float) -> bool:
        """Return whether the counter is greater than `before`."""
        return self.counter(number, name) > before

    def stop(self) -> None:
        for server in self.servers:
            server.kill()
        if self._nodes is not None:
            self._nodes.stop()
        else:
            self.redis.kill()

    def _start(self, number: int, port: int = 0) -> ServerProcess:
        path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
        environment = {"PYTHONPATH": path, HOLD_VARIABLE: str(self.hold_file(number))}
        options = (*self._options, "--transport", TRANSPORTS[number])
        return ServerProcess(*options, port=port, module=MODULE, environment=environment)


def _lone_redis(folder: Path, setting: Setting) -> RedisProcess:
    return RedisProcess(next(iter(redis_binaries().values())), folder, appendfsync=setting.appendfsync)


@contextmanager
def staged(setting: Setting) -> Iterator[Stage]:
    """Run a stage, and stop it afterwards."""
    with short_folder() as folder:
        stage = Stage(folder, setting)
        try:
            stage.wait()
            yield stage
        finally:
            stage.stop()


def address(targets: Sequence[str]) -> str:
    """Return one gRPC target with the addresses of several servers."""
    return "ipv4:" + ",".join(targets)
