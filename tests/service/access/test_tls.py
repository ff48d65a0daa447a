"""TLS over both transports and on the metrics port: what is refused, who a certificate is, and renewal."""

import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from support import await_true
from support.certificates import Authority, Pair
from support.redis_process import RedisProcess
from support.servers import ServerProcess
from support.wire import OPEN, failure, observations, reason

from statecast.client import Client, Forecast, Unauthenticated
from statecast.service.access import api_keys, certificates
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1 import model_service_pb2
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub
from statecast.v1.model_service_pb2_grpc import ModelServiceStub

Start = Callable[..., ServerProcess]


@dataclass
class Site:
    """A folder of certificates, and servers that use them."""

    authority: Authority
    start: Start

    def channel(self, server: ServerProcess, client: Pair | None = None, ca: Path | None = None) -> grpc.Channel:
        pair = (client.key.read_bytes(), client.cert.read_bytes()) if client else (None, None)
        credentials = grpc.ssl_channel_credentials((ca or self.authority.ca).read_bytes(), *pair)
        # Channels share connections, which would keep an earlier certificate.
        return grpc.secure_channel(server.target, credentials, [("grpc.use_local_subchannel_pool", 1)])


@pytest.fixture(params=["grpc", "envoy"])
def site(
    request: pytest.FixtureRequest, any_redis: RedisProcess, models_folder: Path, tmp_path: Path
) -> Iterator[Site]:
    servers: list[ServerProcess] = []

    def start(*arguments: object) -> ServerProcess:
        common = ("--redis-url", any_redis.url, "--models", models_folder, "--default-model", "tiny")
        servers.append(ServerProcess("--transport", request.param, *map(str, (*common, *arguments))))
        return servers[-1]

    yield Site(Authority(tmp_path), start)
    for server in servers:
        assert server.stop() == 0


def list_models(channel: grpc.Channel, **others: Any) -> int:
    call: Any = ModelServiceStub(channel).ListModels
    return len(call(model_service_pb2.ListModelsRequest(), timeout=20, **others).models)


def served_by(server: ServerProcess) -> bytes:
    """Return the certificate that a new connection to the gRPC port gets."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", server.port), timeout=20))


def test_callers_with_tls_are_served_and_others_are_not(site: Site) -> None:
    pair = site.authority.server()
    server = site.start("--tls-cert", pair.cert, "--tls-key", pair.key)
    with site.channel(server) as channel:
        assert list_models(channel) > 0
    with grpc.insecure_channel(server.target) as channel:
        code, _ = failure(lambda: list_models(channel))
        assert code is grpc.StatusCode.UNAVAILABLE
    context = ssl.create_default_context(cafile=site.authority.ca)
    url = f"https://localhost:{server.metrics_port}"
    text = urllib.request.urlopen(f"{url}/metrics", context=context, timeout=20).read().decode()
    (line,) = (line for line in text.splitlines() if line.startswith("statecast_tls_certificate_expiry_seconds "))
    expires_at = certificates.read_certificates(pair.cert, pair.key, None).expires_at
    assert float(line.split()[1]) == expires_at
    assert urllib.request.urlopen(f"{url}/readyz", context=context, timeout=20).status == 200


def test_a_certificate_is_a_tenant_and_a_role(site: Site, tmp_path: Path, session_id: str) -> None:
    pair, subjects = site.authority.server(), tmp_path / "subjects.toml"
    subjects.write_text(
        '[subjects."CN=writer"]\ntenant = "acme"\nrole = "write"\n'
        '[subjects."CN=reader"]\ntenant = "acme"\nrole = "read"\n'
    )
    tls = ("--tls-cert", pair.cert, "--tls-key", pair.key, "--tls-client-ca", site.authority.ca)
    server = site.start(*tls, "--tls-subjects", subjects)
    writer, reader, nobody = (site.authority.client(name, file=name) for name in ("writer", "reader", "nobody"))
    appended = pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(1))
    with site.channel(server, writer) as channel:
        assert ForecastServiceStub(channel).Forecast(appended).version.step == 1
    with site.channel(server, reader) as channel:
        code, status = failure(lambda: ForecastServiceStub(channel).Forecast(appended))
        assert (code, reason(status)) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_TOO_LOW")
        look = pb.ForecastRequest(session_id=session_id)
        assert ForecastServiceStub(channel).Forecast(look).version.step == 1
    with site.channel(server, nobody) as channel:
        code, status = failure(lambda: list_models(channel))
        assert (code, reason(status)) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_MISSING")
        forged = (("x-forwarded-client-cert", f'Cert="{writer.cert.read_text()}"'.replace("\n", "%0A")),)
        code, _ = failure(lambda: list_models(channel, metadata=forged))
        assert code is grpc.StatusCode.UNAUTHENTICATED
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").client("writer")
    for client in (None, stranger):
        with site.channel(server, client) as channel:
            code, _ = failure(lambda channel=channel: list_models(channel))  # type: ignore[misc]
            assert code is grpc.StatusCode.UNAVAILABLE


def test_a_renewed_certificate_is_used_and_open_connections_stay(site: Site) -> None:
    pair = site.authority.server()
    server = site.start("--tls-cert", pair.cert, "--tls-key", pair.key)
    with site.channel(server) as channel:
        assert list_models(channel) > 0
        before = served_by(server)
        renewed = site.authority.server(file="renewed")
        pair.cert.write_bytes(renewed.cert.read_bytes())  # for a moment, the key does not match
        pair.key.write_bytes(renewed.key.read_bytes())
        await_true(lambda: served_by(server) != before)
        assert served_by(server) == ssl.PEM_cert_to_DER_cert(renewed.cert.read_text())
        assert list_models(channel) > 0
    assert ssl.get_server_certificate(("127.0.0.1", server.metrics_port)) == renewed.cert.read_text()


def test_the_python_client_and_the_health_command_do_all_of_it(site: Site, tmp_path: Path, session_id: str) -> None:
    pair, client = site.authority.server(), site.authority.client()
    keys = tmp_path / "keys.json"
    _, key = api_keys.create(keys, "acme", "write")
    tls = ("--tls-cert", pair.cert, "--tls-key", pair.key, "--tls-client-ca", site.authority.ca)
    server = site.start(*tls, "--api-keys", keys)
    files: dict[str, Any] = {"ca": site.authority.ca, "cert": client.cert, "key": client.key}
    with Client(server.target, api_key=key, **files) as caller:
        session = caller.session(session_id)
        assert session.step([1.0, 2.0, 3.0], horizon=2).version.step == 3
        ((_, forecast),) = caller.stream([(session, 4.0)], horizon=2)
        assert isinstance(forecast, Forecast)
        assert forecast.version.step == 4
        assert [each.session_id for each in caller.sessions(session_id)] == [session_id]
    with Client(server.target, **files) as stranger, pytest.raises(Unauthenticated, match="asks for a credential"):
        stranger.session(session_id).observe(1.0)
    options = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    command = [sys.executable, "-m", "statecast.service", "health", "--target", server.target]
    assert subprocess.run([*command, *options], capture_output=True, text=True, check=False).stdout == "SERVING\n"
    without = subprocess.run([*command, "--ca", str(files["ca"])], capture_output=True, text=True, check=False)
    assert without.returncode == 1


def test_metrics_ask_for_an_admins_credential(site: Site, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    made = {role: api_keys.create(keys, "acme", role)[1] for role in ("write", "admin")}
    server = site.start("--api-keys", keys)
    url = f"http://localhost:{server.metrics_port}"
    for path in ("/livez", "/readyz"):
        assert urllib.request.urlopen(url + path, timeout=20).status == 200
    for key, expected in (("", 401), (made["write"], 401), (made["admin"], 200)):
        request = urllib.request.Request(f"{url}/metrics", headers={"authorization": f"Bearer {key}"} if key else {})
        try:
            status = urllib.request.urlopen(request, timeout=20).status
        except urllib.error.HTTPError as error:
            status = error.code
        assert status == expected
