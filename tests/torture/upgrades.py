"""A fleet of sessions is upgraded in mid-stream, while servers are killed.

Each session has one caller that streams its values, and another one that moves it to and fro between two versions of
its model. Every version must be that of an uninterrupted run, and every forecast must be there.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from support import short_folder
from support.models import tiny_model
from support.redis_process import RedisProcess, redis_binaries
from support.servers import ServerProcess

from statecast.client import Client, Session, StatecastError
from statecast.model import save_model
from statecast.service.version import START, Version, chain
from torture.callers import hop
from torture.load import Report

SERVERS, STREAMS, UPGRADERS = 2, 4, 8
REST_SECONDS = 0.05
"""Pause of a stream between two values of its sessions, in which others have a turn."""
TIMEOUT_SECONDS = 60.0
HORIZON = 3
VERSIONS = ("2", "1")


@dataclass
class Fleet:
    """The sessions, what they have taken, and what was wrong.

    Attributes:
        targets: Addresses of the servers.
        names: Ids of the sessions.
        stood: Version of each, as in an uninterrupted run.
        moved: Number of times that each was moved.
    """

    targets: Sequence[str]
    names: Sequence[str]
    stood: dict[str, Version] = field(default_factory=dict)
    moved: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        """One gRPC target with all servers."""
        return "ipv4:" + ",".join(self.targets)


def value_of(name: str, step: int) -> float:
    """Return the value of a session's step, counted from 0."""
    return float(int(name) % 5 + step % 7)


def stream(fleet: Fleet, names: Sequence[str]) -> None:
    """Append one value to each session, over and over, and check each answer."""
    with Client(fleet.address, timeout_seconds=TIMEOUT_SECONDS) as client:
        hop(client._replicas)
        sessions = [client.session(name, "tiny", model_version="1") for name in names]
        while not fleet.is_over.is_set():
            _step(fleet, client, sessions)
            time.sleep(REST_SECONDS)


def _step(fleet: Fleet, client: Client, sessions: Sequence[Session]) -> None:
    before = {session.id: fleet.stood.get(session.id, START) for session in sessions}
    values = {name: value_of(name, version.step) for name, version in before.items()}
    for forecast in client.step_many([(session, values[session.id]) for session in sessions], HORIZON):
        name = forecast.session_id
        expected = fleet.stood[name] = chain(before[name], np.array([[values[name]]]), None)
        if (forecast.version.step, forecast.version.tag) != expected:
            fleet.wrong.append(f"{name}: at {forecast.version} instead of {expected}")
        if not np.isfinite(forecast.values).all():
            fleet.wrong.append(f"{name}: no forecast at step {forecast.version.step}")


def upgrade(fleet: Fleet, names: Sequence[str], rounds: int) -> None:
    """Move each session, as often as there are rounds; every second time exactly."""
    with Client(fleet.address, timeout_seconds=TIMEOUT_SECONDS) as client:
        for number in range(rounds):
            version = VERSIONS[number % 2]
            for name in names:
                session = client.session(name, resume_only=True)
                moved = session.upgrade(model_version=version, request_id=f"up-{number}")
                fleet.moved[name] += 1
                if moved.model_version != version or not (moved.reencoded_steps or moved.replayed):
                    fleet.wrong.append(f"{name}: {moved} instead of version {version}")


def sessions_upgraded(kills: int, sessions: int, rounds: int = 1, pause_seconds: float = 0.5) -> Report:
    """Upgrade every session in mid-stream, and kill a server so many times meanwhile."""
    with _servers() as servers:
        fleet = Fleet([server.target for server in servers], [str(number) for number in range(sessions)])
        killed = 0
        with ThreadPoolExecutor(STREAMS + UPGRADERS) as pool:
            streams = [pool.submit(stream, fleet, fleet.names[number::STREAMS]) for number in range(STREAMS)]
            while len(fleet.stood) < sessions and not any(each.done() for each in streams):
                time.sleep(0.05)
            upgrades = [
                pool.submit(upgrade, fleet, fleet.names[number::UPGRADERS], rounds) for number in range(UPGRADERS)
            ]
            while killed < kills or not all(each.done() for each in upgrades):
                time.sleep(pause_seconds)
                if killed < kills:
                    servers[killed % SERVERS] = _killed(servers[killed % SERVERS])
                    killed += 1
            fleet.is_over.set()
            for done in (*streams, *upgrades):
                _note(fleet, done.result)
        _check(fleet, VERSIONS[(rounds - 1) % 2])
    values = sum(version.step for version in fleet.stood.values())
    notes = f"{fleet.moved.total():,} upgrades of {sessions:,} sessions"
    return Report(killed, {"acked": values + fleet.moved.total()}, values, fleet.wrong, notes)


def _check(fleet: Fleet, version: str) -> None:
    """Check where each session stands in the end."""
    with Client(fleet.address, timeout_seconds=TIMEOUT_SECONDS) as client:
        found = {info.session_id: info for info in client.sessions()}
    for name in fleet.names:
        expected = version, *fleet.stood[name]
        stands = found[name].model_version, found[name].version.step, found[name].version.tag
        if stands != expected:
            fleet.wrong.append(f"{name}: stands on {stands} instead of {expected}")


def _note(fleet: Fleet, result: Callable[[], object]) -> None:
    try:
        result()
    except StatecastError as error:
        fleet.wrong.append(f"{type(error).__name__}: {error}")


def _killed(server: ServerProcess) -> ServerProcess:
    """Send SIGKILL to a server, and return another one on its port."""
    port, options = server.port, server._options
    server.kill()
    return ServerProcess(*options, port=port)


@contextmanager
def _servers() -> Iterator[list[ServerProcess]]:
    with short_folder() as folder:
        for version in ("1", "2"):
            save_model(tiny_model(version=version, seed=int(version)), Path(folder) / "models" / "tiny" / version)
        redis = RedisProcess(next(iter(redis_binaries().values())), folder, appendfsync="always")
        options = (
            "--redis-url", redis.url, "--models", str(Path(folder) / "models"), "--default-model", "tiny",
            "--transport", "grpc", "--kernels", "off",
        )  # fmt: skip
        servers = [ServerProcess(*options) for _ in range(SERVERS)]
        try:
            yield servers
        finally:
            for server in servers:
                server.kill()
            redis.kill()
