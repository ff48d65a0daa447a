"""A client of several replicas keeps each session at one of them, and loses nothing when one dies."""

import asyncio
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from client.guarded import Guarded
from support import await_true
from support.certificates import Authority
from support.redis_process import RedisProcess
from support.servers import ServerProcess

from statecast.client import AsyncClient, Client, StatecastError
from statecast.client import _replicas as replicas_module
from statecast.client._affinity import rank, session_header

MakeClient = Callable[..., Any]
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
COUNT = 24


class Site:
    """Servers on several addresses of this machine, at one port."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self._credentials = credentials
        first = Guarded(credentials, f"{HOSTS[0]}:0")
        self.port = first.port
        self.servers = {HOSTS[0]: first} | {host: self._begin(host) for host in HOSTS[1:]}
        self.target = "ipv4:" + ",".join(f"{host}:{self.port}" for host in HOSTS)

    def _begin(self, host: str) -> Guarded:
        return Guarded(self._credentials, f"{host}:{self.port}")

    def restart(self, host: str) -> Guarded:
        self.servers[host] = self._begin(host)
        return self.servers[host]

    def order(self, session_id: str, hosts: tuple[str, ...] = HOSTS) -> list[Guarded]:
        """Return the servers as the session prefers them."""
        addresses = {f"ipv4:{host}:{self.port}": host for host in hosts}
        return [self.servers[addresses[each]] for each in rank(session_id, addresses)]

    def settle(self, client: Any, hosts: tuple[str, ...] = HOSTS) -> None:
        """Wait until the client keeps sessions at these servers."""
        for host in hosts:
            names = (f"settling {host} {number}" for number in range(1000))
            name = next(each for each in names if self.order(each, hosts)[0] is self.servers[host])
            session, steps = client.session(name), self.servers[host].steps

            def arrives(session: Any = session, steps: Any = steps, name: str = name) -> bool:
                before = steps[name]
                session.observe(1.0)
                return bool(steps[name] > before)

            await_true(arrives)

    def stop(self) -> None:
        for server in self.servers.values():
            server.stop()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.stop()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("ASIDE", 0.1), ("SOONEST", 0.1), ("REFRESH", 0.2)):
        monkeypatch.setattr(replicas_module, f"{name}_SECONDS", seconds)


def names(count: int = COUNT) -> list[str]:
    return [f"pump {number}" for number in range(count)]


def test_a_session_stays_at_its_replica_however_it_is_used(make_client: MakeClient, site: Site) -> None:
    client = make_client(site.target)
    site.settle(client)
    sessions = [client.session(name) for name in names()]
    for session in sessions:
        session.observe([1.0, 2.0])
    client.step_many([(session, 3.0) for session in sessions], 2)
    for _, result in client.stream(((session, 4.0) for session in sessions), 2):
        assert result.version.step == 4
    for name in names():
        assert [each.steps[name] for each in site.order(name)] == [4, 0, 0]
    for server in site.servers.values():
        assert server.frames == [sum(site.order(name)[0] is server for name in names())]


def test_sessions_of_a_lost_replica_move_and_come_back(make_client: MakeClient, site: Site) -> None:
    client = make_client(site.target)
    site.settle(client)
    lost = site.servers[HOSTS[0]]
    mine = [name for name in names() if site.order(name)[0] is lost]
    sessions = {name: client.session(name) for name in names()}
    lost.stop()
    for session in sessions.values():
        session.observe(1.0)
    for name in names():
        first, second, third = site.order(name)
        expected = [0, 1, 0] if name in mine else [1, 0, 0]
        assert [first.steps[name], second.steps[name], third.steps[name]] == expected
    site.restart(HOSTS[0])
    site.settle(client)
    for name in mine:
        sessions[name].observe(1.0)
        assert site.order(name)[0].steps[name] == 1


def test_no_replica_at_all_is_an_ordinary_outage(make_client: MakeClient, site: Site) -> None:
    client = make_client(site.target)
    site.settle(client)
    site.stop()
    threading.Timer(0.5, lambda: list(map(site.restart, HOSTS))).start()
    assert client.session("pump").observe(1.0).version.step == 1


def test_a_replica_that_cannot_serve_is_left_for_a_moment(make_client: MakeClient, site: Site) -> None:
    """As one that drains, or that cannot reach its Redis: it is connected all the while."""
    client = make_client(site.target)
    site.settle(client)
    first, second, _ = site.order("pump")
    first.is_unavailable = True
    receipts = client.stream((client.session("pump"), 1.0) for _ in range(3))
    assert [receipt.version.step for _, receipt in receipts] == [1, 2, 3]
    client.observe_many([(client.session("pump"), 1.0)])
    client.session("pump").observe(1.0)
    assert (first.steps["pump"], second.steps["pump"]) == (0, 5)
    first.is_unavailable = False

    def is_back() -> bool:
        client.session("pump").observe(1.0)
        return first.steps["pump"] > 0

    await_true(is_back)


def test_calls_of_one_session_carry_a_header_to_hash(make_client: MakeClient) -> None:
    server = Guarded()
    client = make_client(server.target)
    client.models()
    client.observe_many([(client.session("ä b"), 1.0), (client.session("c"), 1.0)])
    client.session("ä b").fork("copy")
    list(client.stream([(client.session("ä b"), 1.0)]))
    ((_, value),) = session_header("ä b")
    assert server.affinity == [
        ("ListModels", None),
        ("ForecastMany", value),
        ("ForkSession", value),
        ("ForecastStream", None),
    ]
    with Client(server.target) as plain:
        plain.session("ä b").observe(1.0)
    assert server.affinity[-1] == ("Forecast", value)
    server.stop()


def test_with_one_address_nothing_is_split_and_nothing_is_looked_up(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked up"))
    server = Guarded()
    for target in (server.target, f"ipv4:{server.target}", f"ipv4:{server.target},{server.target}"):
        client = make_client(target)
        for _ in range(2):
            client.observe_many([(client.session(name), 1.0) for name in names(5)])
    assert server.frames == [5] * 6
    server.stop()


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the addresses of localhost; none for a name that is not known."""
    addresses: list[str] = []

    def found(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return [
            (socket.AF_INET6, 1, 6, "", (each, port, 0, 0)) if ":" in each else (socket.AF_INET, 1, 6, "", (each, port))
            for each in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", found)

    def change(*to: str) -> None:
        addresses[:] = to

    return change


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[Site, Path]]:
    """Servers whose certificate names localhost, but none of their addresses."""
    authority = Authority(tmp_path)
    pair = authority.server("localhost")
    site = Site(grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())]))
    yield site, authority.ca
    site.stop()


def test_a_name_with_several_addresses_is_followed_as_they_change(
    make_client: MakeClient, encrypted: tuple[Site, Path], resolve: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("_sync_replicas", "_aio_replicas"):
        monkeypatch.setattr(f"statecast.client.{module}.RETIRED_SECONDS", 0.1)
    site, ca = encrypted
    resolve(HOSTS[0])
    client = make_client(f"localhost:{site.port}", ca=ca)
    client.session("pump").observe(1.0)
    resolve(*HOSTS)
    site.settle(client)
    resolve()  # the name service fails: nothing changes
    moving = [name for name in names() if site.order(name)[0] is site.servers[HOSTS[2]]]
    sessions = {name: client.session(name) for name in names()}
    for session in sessions.values():
        session.observe(1.0)
    assert all(site.order(name)[0].steps[name] == 1 for name in names())
    resolve(*HOSTS[:2])
    site.settle(client, HOSTS[:2])
    site.servers[HOSTS[2]].stop()
    for name in moving:
        sessions[name].observe(1.0)
        assert site.order(name, HOSTS[:2])[0].steps[name] >= 1
    resolve(HOSTS[0])

    def is_one() -> bool:
        sessions[moving[0]].observe(1.0)
        return not replicas(client)._ring.by_address

    await_true(is_one)


def replicas(client: Any) -> Any:
    return getattr(client, "_inner", client)._replicas


def test_of_two_families_the_one_that_can_be_reached_is_used(
    make_client: MakeClient, site: Site, resolve: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas_module, "ASIDE_SECONDS", 5.0)  # as it is
    resolve("::1", "::2", "::3", *HOSTS)
    client = make_client(f"localhost:{site.port}")
    site.settle(client)


def test_a_process_may_fork_while_its_client_has_several_replicas(site: Site) -> None:
    """As without this, if no call is in flight: gRPC must have nothing under way then."""
    with Client(site.target) as client:
        site.settle(client)
        for _ in range(5):
            if not (child := os.fork()):
                os._exit(_is_refused(client))
            assert os.waitpid(child, 0)[1] == 0
            assert client.session("pump").observe(1.0)


def _is_refused(client: Client) -> int:
    """Return 0 if the client refuses to be used in this process."""
    try:
        client.session("pump")
    except StatecastError:
        client.close()
        return 0
    return 1


def test_an_asyncio_client_finds_its_replicas_again_on_another_loop(site: Site) -> None:
    client = AsyncClient(site.target)

    async def observe() -> None:
        for _ in range(200):
            await asyncio.gather(*(client.session(name).observe(1.0) for name in names(6)))
            if all(site.order(name)[0].steps[name] for name in names(6)):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("sessions do not reach their replicas")

    for _ in range(2):
        asyncio.run(observe())
        for server in site.servers.values():
            server.steps.clear()
    asyncio.run(client.close())


class RealSite:
    """Three servers on one Redis, which tests kill."""

    def __init__(self, redis: RedisProcess, models: Path) -> None:
        options = ["--redis-url", redis.url, "--models", str(models), "--transport", "grpc"]
        self.servers = [ServerProcess(*options) for _ in range(3)]
        self.target = "ipv4:" + ",".join(server.target for server in self.servers)

    def misses(self) -> int:
        """Return how often a server has read a session from Redis."""
        return sum(map(_misses, self.servers))

    def stop(self) -> None:
        for server in self.servers:
            server.kill()


def _misses(server: ServerProcess) -> int:
    text = urlopen(server.metrics_url).read().decode()
    return int(float(re.findall(r"^statecast_cache_misses_total (\S+)$", text, re.MULTILINE)[0]))


@pytest.fixture
def real(own_redis: RedisProcess, models_folder: Path) -> Iterator[RealSite]:
    site = RealSite(own_redis, models_folder)
    yield site
    site.stop()


class Load:
    """Sessions in use in several ways, each of whose steps is checked; `steps` counts them."""

    def __init__(self, target: str) -> None:
        self._target, self._over = target, threading.Event()
        self.steps = {"frames": 0, "stream": 0, "tasks": 0}
        self._threads = ThreadPoolExecutor(3)
        work = (self._frames, self._stream, lambda: asyncio.run(self._tasks()))
        self._running = [self._threads.submit(each) for each in work]

    @property
    def has_failed(self) -> bool:
        return any(each.done() for each in self._running)

    def advance(self) -> None:
        reached = {name: count + 5 for name, count in self.steps.items()}
        await_true(lambda: all(self.steps[name] >= count for name, count in reached.items()) or self.has_failed)

    def stop(self) -> None:
        self._over.set()
        self._threads.shutdown()
        for each in self._running:
            each.result()

    def _sessions(self, client: Any, name: str) -> list[Any]:
        return [client.session(f"{name} {number}", "tiny") for number in range(60)]

    def _frames(self) -> None:
        with Client(self._target, timeout_seconds=30) as client:
            sessions = self._sessions(client, "frames")
            while not self._over.is_set():
                self._count("frames", client.observe_many([(session, 1.0) for session in sessions]))

    def _stream(self) -> None:
        def pairs() -> Iterator[tuple[Any, float]]:
            while not self._over.is_set():
                yield from ((session, 1.0) for session in sessions)

        with Client(self._target, timeout_seconds=30) as client:
            sessions = self._sessions(client, "stream")
            results: Iterator[Any] = client.stream(pairs())
            for at, (_, receipt) in enumerate(results):
                self.steps["stream"] = at // 60 + 1
                assert receipt.version.step == self.steps["stream"]

    async def _tasks(self) -> None:
        async with AsyncClient(self._target, timeout_seconds=30) as client:
            sessions = self._sessions(client, "tasks")
            while not self._over.is_set():
                self._count("tasks", await asyncio.gather(*(session.observe(1.0) for session in sessions)))

    def _count(self, name: str, receipts: list[Any]) -> None:
        self.steps[name] += 1
        assert {receipt.version.step for receipt in receipts} == {self.steps[name]}


def test_a_replica_that_dies_under_load_costs_nothing_and_gets_its_sessions_back(real: RealSite) -> None:
    load = Load(real.target)
    try:
        load.advance()
        real.servers[0].kill()
        load.advance()
        real.servers[0].start()
        await_true(lambda: _misses(real.servers[0]) > 30 or load.has_failed)  # its sessions are back
        load.advance()
        before = real.misses()
        load.advance()
        assert real.misses() == before  # and none hops
    finally:
        load.stop()
