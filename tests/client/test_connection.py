"""How a client connects: TLS, the files for it, and where a credential may go."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.experimental
import pytest
from client.guarded import Guarded
from support.certificates import Authority, Pair

from statecast.client import InvalidArgument, Unavailable
from statecast.client._target import is_loopback
from statecast.client._tls import kind_that_may_not_encrypt

MakeClient = Callable[..., Any]
KEY = "sck_key"
LOCAL = [
    "localhost:50051", "LocalHost:1", "127.0.0.1:50051", "127.255.0.9:1", "[::1]:50051", "unix:/run/s.sock",
    "unix:///run/s.sock", "unix-abstract:statecast", "dns:localhost:50051", "dns:///localhost", "dns:///127.0.0.1:1",
    "dns:///[::1]:1", "ipv4:127.0.0.1:50051", "ipv4:127.0.0.1:1,127.0.0.2:2", "ipv4:///127.0.0.1:1", "ipv6:[::1]:50051",
    "ipv6:[::1]:1,[::1]:2",
]  # fmt: skip
REMOTE = [
    "forecasts:443", "10.0.0.1:443", "[2001:db8::1]:443", "0.0.0.0:1", "[::]:1", "127.1:443", "127.0.0.1.example:443",
    "localhost.example:443", "example.localhost:443", "localhost.:443", "ip6-localhost:443", "[::1%25eth0]:443",
    "dns:forecasts", "dns:///forecasts:443", "dns://10.0.0.53/localhost:443", "dns://localhost/forecasts:443",
    "dns://localhost", "dns:///localhost/forecasts:443", "dns:///127.0.0.1:1?x", "DNS:///localhost:443",
    "ipv4:10.0.0.1:443", "ipv4:127.0.0.1:1,10.0.0.1:1", "ipv4:127.0.0.1:1,", "ipv6:[::1]:1,[2001:db8::1]:1",
    "ipv6:[::2]:1", "UNIX:/run/s.sock", "vsock:2:443", "xds:///localhost", "google-c2p:///localhost",
    "passthrough:///localhost:443",
]  # fmt: skip
PLAIN = getattr(grpc.experimental, "insecure_channel_credentials")()  # noqa: B009  # it has no type
CALLER = grpc.access_token_call_credentials("x")
WEAK = {
    "local": grpc.local_channel_credentials(),
    "composite-of-local": grpc.composite_channel_credentials(grpc.local_channel_credentials(), CALLER),
    "xds-or-plain": grpc.xds_channel_credentials(PLAIN),
    "composite-of-xds-or-local": grpc.composite_channel_credentials(
        grpc.xds_channel_credentials(grpc.local_channel_credentials()), CALLER
    ),
    "composite-of-plain": grpc.composite_channel_credentials(PLAIN, CALLER),
}
"""Credentials of channels that may not encrypt."""
STRONG = {
    "ssl": grpc.ssl_channel_credentials(),
    "composite-of-ssl": grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), CALLER),
    "xds-or-ssl": grpc.xds_channel_credentials(),
    "alts": grpc.alts_channel_credentials(),
}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATECAST_API_KEY", "STATECAST_CA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    """The client's certificate."""
    return authority.client()


@pytest.fixture
def encrypted(authority: Authority) -> Iterator[Guarded]:
    yield from serving(authority.server())


@pytest.fixture
def mutual(authority: Authority) -> Iterator[Guarded]:
    """A server that asks for the client's certificate."""
    yield from serving(authority.server(), authority.ca)


def serving(own: Pair, client_ca: Path | None = None) -> Iterator[Guarded]:
    roots = client_ca.read_bytes() if client_ca else None
    files = [(own.key.read_bytes(), own.cert.read_bytes())]
    server = Guarded(grpc.ssl_server_credentials(files, roots, require_client_auth=client_ca is not None))
    yield server
    server.stop()


@pytest.mark.parametrize("target", LOCAL)
def test_a_credential_may_go_to_this_machine_unencrypted(make_client: MakeClient, target: str) -> None:
    assert is_loopback(target)
    make_client(target, api_key=KEY)


@pytest.mark.parametrize("target", REMOTE)
def test_a_credential_does_not_leave_this_machine_unencrypted(
    make_client: MakeClient, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_loopback(target)
    for arguments in ({"api_key": KEY}, {"token": lambda: KEY}, {"api_key": KEY, "tls": False}):
        with pytest.raises(InvalidArgument, match="turn on TLS with tls or ca") as caught:
            make_client(target, **arguments)
        assert caught.value.field == next(iter(arguments))
        assert KEY not in str(caught.value)
    make_client(target)
    make_client(target, tls=True, api_key=KEY)
    monkeypatch.setenv("STATECAST_API_KEY", KEY)
    with pytest.raises(InvalidArgument, match=r"^STATECAST_API_KEY: is not sent unencrypted"):
        make_client(target)


def test_a_refused_argument_is_a_value_error(make_client: MakeClient) -> None:
    with pytest.raises(ValueError, match=r"^api_key: is not sent unencrypted to 'forecasts:80'; turn on TLS"):
        make_client("forecasts:80", api_key=KEY)


class Listener:
    """A stand-in for a proxy: it notes what connects, and hangs up."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.heard.append(connection.recv(100))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy", "GRPC_ADDRESS_HTTP_PROXY"])
def test_an_unencrypted_credential_goes_through_no_proxy(
    make_client: MakeClient, listener: Listener, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv(variable, listener.address if variable.isupper() else f"http://{listener.address}")
    monkeypatch.setenv("GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES", "127.0.0.1")
    server = Guarded()
    assert make_client(server.target, api_key=KEY).models() == []
    assert make_client(server.target, token=lambda: KEY).models() == []
    assert listener.heard == []
    with pytest.raises(Unavailable):  # without a credential it does
        make_client(server.target, timeout_seconds=0.3).models()
    assert listener.heard[0].startswith(b"CONNECT 127.0.0.1:")
    server.stop()


def test_a_ca_turns_tls_on(make_client: MakeClient, encrypted: Guarded, authority: Authority) -> None:
    for arguments in ({}, {"tls": True}):
        client = make_client(encrypted.target, ca=authority.ca, api_key=KEY, **arguments)
        assert client.session(f"a{len(arguments)}").observe([1.0, 2.0]).version.step == 2
        assert client.models() == []
    assert {header for _, header in encrypted.headers} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("arguments", [{}, {"tls": True}])
def test_a_server_that_is_not_trusted_is_not_talked_to(
    make_client: MakeClient, encrypted: Guarded, arguments: dict[str, Any], tmp_path: Path
) -> None:
    other = Authority(tmp_path, "somebody else")
    for ca in ({}, {"ca": other.ca}):
        with pytest.raises(Unavailable):  # plaintext where neither turns TLS on
            make_client(encrypted.target, timeout_seconds=0.5, **arguments, **ca).models()
    assert encrypted.headers == []


def test_the_name_in_the_certificate_is_checked(make_client: MakeClient, authority: Authority) -> None:
    for server in serving(authority.server("forecasts.example", file="named")):
        with pytest.raises(Unavailable, match=r"Hostname Verification Check failed|certificate"):
            make_client(server.target, ca=authority.ca, timeout_seconds=0.5).models()
        arguments = {"ca": authority.ca, "server_name": "forecasts.example", "api_key": KEY}
        assert make_client(server.target, **arguments).models() == []


def test_mutual_tls(make_client: MakeClient, mutual: Guarded, authority: Authority, pair: Pair) -> None:
    client = make_client(mutual.target, ca=str(authority.ca), cert=str(pair.cert), key=str(pair.key))
    assert client.models() == []
    assert client.session("a").observe(1.0).version.step == 1
    with pytest.raises(Unavailable):
        make_client(mutual.target, ca=authority.ca, timeout_seconds=0.5).models()


def test_ready_made_credentials_are_used(
    make_client: MakeClient, encrypted: Guarded, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATECAST_CA", "of-no-interest.pem")
    credentials = grpc.ssl_channel_credentials(authority.ca.read_bytes())
    assert make_client(encrypted.target, tls=credentials, api_key=KEY).models() == []


def test_the_environment_names_the_ca(
    make_client: MakeClient, encrypted: Guarded, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STATECAST_CA", str(authority.ca))
    assert make_client(encrypted.target).models() == []
    plain = Guarded()
    assert make_client(plain.target, tls=False).models() == []
    plain.stop()
    monkeypatch.setenv("STATECAST_CA", str(tmp_path / "missing.pem"))
    assert make_client(encrypted.target, ca=authority.ca).models() == []
    with pytest.raises(InvalidArgument, match=r"STATECAST_CA: .*missing\.pem cannot be read: No such file"):
        make_client(encrypted.target)
    monkeypatch.setenv("STATECAST_CA", "")
    make_client("localhost:50051", tls=None)


@pytest.mark.parametrize("kind", WEAK)
def test_ready_made_credentials_that_may_not_encrypt_keep_the_key_on_this_machine(
    make_client: MakeClient, kind: str
) -> None:
    for target in ("forecasts:443", "dns:///forecasts:443", "xds:///forecasts", "dns://10.0.0.53/localhost:443"):
        for arguments in ({"api_key": KEY}, {"token": lambda: KEY}):
            with pytest.raises(
                InvalidArgument, match=r"may not encrypt, so .* is not sent to .*; give grpc\.ssl"
            ) as caught:
                make_client(target, tls=WEAK[kind], **arguments)
            assert caught.value.field == "tls"
            assert next(iter(arguments)) in str(caught.value)
            assert KEY not in str(caught.value)
    for target in ("localhost:50051", "unix:/run/s.sock"):
        make_client(target, tls=WEAK[kind], api_key=KEY)
    make_client("forecasts:443", tls=WEAK[kind])


@pytest.mark.parametrize("kind", STRONG)
def test_ready_made_credentials_that_encrypt_carry_a_key_anywhere(make_client: MakeClient, kind: str) -> None:
    for target in ("forecasts:443", "xds:///forecasts", "unix:/run/s.sock"):
        make_client(target, tls=STRONG[kind], api_key=KEY)


def test_credentials_of_compute_engine_encrypt() -> None:  # a channel with them opens there only
    assert kind_that_may_not_encrypt(grpc.compute_engine_channel_credentials(CALLER)) is None


def test_an_unencrypted_credential_of_local_channels_goes_through_no_proxy(
    make_client: MakeClient, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.lower() == "no_proxy"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("http_proxy", f"http://{listener.address}")
    server = Guarded()
    assert make_client(server.target, api_key=KEY, tls=WEAK["local"]).models() == []
    assert {header for _, header in server.headers} == {f"Bearer {KEY}"}
    assert listener.heard == []
    server.stop()


READY = grpc.ssl_channel_credentials()


@pytest.mark.parametrize(
    ("arguments", "field", "says"),
    [
        ({"tls": False, "ca": "ca.pem"}, "ca", "tls turns off"),
        ({"tls": False, "cert": "client.pem", "key": "client-key.pem"}, "cert", "tls turns off"),
        ({"cert": "client.pem"}, "key", "mutual TLS needs cert and key"),
        ({"key": "client-key.pem"}, "cert", "mutual TLS needs key and cert"),
        ({"tls": READY, "ca": "ca.pem"}, "ca", "say it all"),
        ({"tls": READY, "cert": "client.pem", "key": "client-key.pem"}, "cert", "say it all"),
        ({"tls": PLAIN}, "tls", "do not encrypt"),
        ({"tls": "yes"}, "tls", "got str"),
        ({"tls": 1}, "tls", "got int"),
        ({"server_name": "forecasts"}, "server_name", "needs TLS"),
        ({"server_name": "", "tls": True}, "server_name", "is empty"),
        ({"server_name": 5, "tls": True}, "server_name", "is not text"),
        ({"ca": "missing.pem"}, "ca", "missing.pem cannot be read: No such file"),
        ({"ca": "."}, "ca", "cannot be read: Is a directory"),
        ({"ca": "text.pem"}, "ca", "text.pem has no PEM block 'BEGIN CERTIFICATE'"),
        ({"ca": "client-key.pem"}, "ca", "has no PEM block 'BEGIN CERTIFICATE'"),
        ({"ca": "damaged.pem"}, "ca", "damaged.pem has a certificate that cannot be read"),
        ({"ca": 5}, "ca", "got int"),
        ({"ca": "-----BEGIN CERTIFICATE-----"}, "ca", "got PEM text"),
        ({"cert": "missing.pem", "key": "client-key.pem"}, "cert", "missing.pem cannot be read: No such file"),
        ({"cert": "client.pem", "key": "missing.pem"}, "key", "missing.pem cannot be read: No such file"),
        ({"cert": "client-key.pem", "key": "client.pem"}, "cert", "has no PEM block 'BEGIN CERTIFICATE'"),
        ({"cert": "client.pem", "key": "client.pem"}, "key", "has no PEM block 'BEGIN PRIVATE KEY'"),
        ({"cert": "client.pem", "key": "other-key.pem"}, "key", "does not belong to the certificate client.pem"),
        ({"cert": "damaged.pem", "key": "client-key.pem"}, "cert", "cannot be read"),
        ({"cert": "client.pem", "key": "locked.pem"}, "key", "is protected by a password"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    make_client: MakeClient, files: None, arguments: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        make_client("localhost:50051", **arguments)
    assert caught.value.field == field
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{field}: ")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the table above."""
    monkeypatch.chdir(tmp_path)
    authority = Authority(tmp_path)
    authority.client()
    authority.client(file="other")
    Path("text.pem").write_text("nothing of that kind")
    Path("damaged.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    Path("locked.pem").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
