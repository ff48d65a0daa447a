"""`statecast health`, of servers without and with TLS; tests/service/test_readiness.py asks real servers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import grpc
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.certificates import Authority

from statecast.client import Client
from statecast.service.cli.client_options import client_options
from statecast.service.cli.main import main

KEY = "sck_do-not-show-this"


class Health(health_pb2_grpc.HealthServicer):
    """A server that serves, but for the service `ill`; `headers` holds the credentials that came."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.headers: list[str | None] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        health_pb2_grpc.add_HealthServicer_to_server(self, self._server)
        address = "127.0.0.1:0"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self.target = f"127.0.0.1:{self.port}"
        self._server.start()

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.headers.append(dict(context.invocation_metadata()).get("authorization"))
        return health_pb2.HealthCheckResponse(status="NOT_SERVING" if request.service == "ill" else "SERVING")

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATECAST_API_KEY", "STATECAST_CA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def plain() -> Iterator[Health]:
    server = Health()
    yield server
    server.stop()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def mutual(authority: Authority) -> Iterator[Health]:
    """A server with TLS that asks for the client's certificate."""
    own = authority.server("forecasts.example")
    files = [(own.key.read_bytes(), own.cert.read_bytes())]
    server = Health(grpc.ssl_server_credentials(files, authority.ca.read_bytes(), require_client_auth=True))
    yield server
    server.stop()


def health(target: str, *options: str) -> tuple[int, str]:
    """The exit status, and what it says."""
    done = CliRunner().invoke(main, ["health", "--target", target, *options])
    return done.exit_code, done.output.strip()


def test_it_asks_without_a_credential_by_default(plain: Health) -> None:
    assert health(plain.target) == (0, "SERVING")
    assert health(plain.target, "--service", "ill") == (1, "Error: NOT_SERVING")
    assert plain.headers == [None, None]


def test_it_sends_the_credential_that_is_given(plain: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    assert health(plain.target, "--api-key", KEY) == (0, "SERVING")
    monkeypatch.setenv("STATECAST_API_KEY", "of-the-environment")
    assert health(plain.target) == (0, "SERVING")
    assert plain.headers == [f"Bearer {KEY}", "Bearer of-the-environment"]


def test_it_works_with_mutual_tls(mutual: Health, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = authority.client()
    mine = ("--cert", str(pair.cert), "--key", str(pair.key), "--server-name", "forecasts.example")
    assert health(mutual.target, "--ca", str(authority.ca), *mine, "--api-key", KEY) == (0, "SERVING")
    assert health(mutual.target, "--tls", "--ca", str(authority.ca), *mine) == (0, "SERVING")
    monkeypatch.setenv("STATECAST_CA", str(authority.ca))
    assert health(mutual.target, *mine) == (0, "SERVING")
    assert mutual.headers == [f"Bearer {KEY}", None, None]
    for wrong in ((), mine[:4], ("--server-name", "forecasts.example"), ("--no-tls",)):
        status, said = health(mutual.target, *wrong, "--timeout-seconds", "0.5")
        assert status == 1
        assert "UNAVAILABLE" in said or "DEADLINE_EXCEEDED" in said
    assert len(mutual.headers) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--ca", "missing.pem"), "Error: --ca: missing.pem cannot be read: No such file"),
        (("--cert", "client.pem"), "Error: --key: is missing"),
        (("--no-tls", "--ca", "missing.pem"), "Error: --ca: needs TLS"),
        (("--server-name", "forecasts"), "Error: --server-name: needs TLS"),
        (("--api-key", ""), "Error: --api-key: is empty"),
        (("--api-key", f"{KEY}\n"), "Error: --api-key: has a line break"),
        (("--target", "forecasts"), "Error: --target: 'forecasts' names no port"),
        (("--target", "10.0.0.1:1", "--api-key", KEY), "Error: --api-key: is not sent unencrypted to '10.0.0.1:1'"),
    ],
)
def test_a_wrong_option_is_named(options: tuple[str, ...], says: str) -> None:
    status, said = health("localhost:50051", *options)
    assert status == 1
    assert said.startswith(says)
    assert KEY not in said


def test_a_key_of_the_environment_that_may_not_be_sent_stops_no_check(
    plain: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other commands need it; the check does not."""
    monkeypatch.setenv("STATECAST_API_KEY", KEY)
    assert health(f"dns:///{plain.target}?a=b") == (0, "SERVING")  # a target that is not known to be loopback
    assert plain.headers == [None]
    monkeypatch.setenv("STATECAST_API_KEY", f"{KEY}\n")
    status, said = health("localhost:50051")
    assert status == 1
    assert said.startswith("Error: STATECAST_API_KEY: has a line break")
    assert KEY not in said


def test_the_help_warns_of_secrets_on_the_command_line() -> None:
    done = CliRunner().invoke(main, ["health", "--help"], terminal_width=200)
    assert "STATECAST_API_KEY" in done.output
    assert "as with ps" in done.output


def test_the_options_are_the_arguments_of_a_client() -> None:
    found: dict[str, Any] = {}

    @click.command()
    @client_options
    def command(**options: Any) -> None:
        found.update(options)

    CliRunner().invoke(command, ["--tls", "--api-key", KEY], catch_exceptions=False)
    assert found["tls"] is True
    Client("forecasts.example:443", **found).close()
