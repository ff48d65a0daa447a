import gzip
import http.client
import ipaddress
import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_metrics

from statecast.service import metrics_endpoint
from statecast.service.access.certificates import Certificates, read_certificates
from statecast.service.errors import StartupError
from statecast.service.metrics_endpoint import MetricsEndpoint

HOST = "127.0.0.1"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def issue(folder: Path, name: str) -> Certificates:
    """Write a self-signed certificate for 127.0.0.1, and read it as the server does."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .sign(key, SHA256())
    )
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    paths[1].chmod(0o600)
    return read_certificates(*paths, None)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return issue(tmp_path, "first")


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("calls", "Calls.", ["name"], registry=registry).labels("é").inc(3)
    Gauge("depth", "Depth.", registry=registry).set(2)
    return registry


@contextmanager
def serving(registry: CollectorRegistry, *arguments: Any, host: str = HOST, **named: Any) -> Iterator[MetricsEndpoint]:
    endpoint = MetricsEndpoint(registry, host, 0, *arguments, **named)
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.stop()


@pytest.fixture
def endpoint(registry: CollectorRegistry) -> Iterator[MetricsEndpoint]:
    with serving(registry) as endpoint:
        yield endpoint


Answer = tuple[int, http.client.HTTPMessage, bytes]


def ask(
    endpoint: MetricsEndpoint, path: str = "/metrics", method: str = "GET", body: bytes | None = None, **headers: str
) -> Answer:
    connection = HTTPConnection(HOST, endpoint.port, timeout=20)
    try:
        return ask_over(connection, path, method, body, **headers)
    finally:
        connection.close()


def ask_over(
    connection: HTTPConnection, path: str = "/metrics", method: str = "GET", body: bytes | None = None, **headers: str
) -> Answer:
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    return response.status, response.headers, response.read()


def trusting(certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=certificates.chain.decode())


def over_tls(endpoint: MetricsEndpoint, certificates: Certificates) -> HTTPSConnection:
    return HTTPSConnection(HOST, endpoint.port, timeout=20, context=trusting(certificates))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def connect(endpoint: MetricsEndpoint) -> socket.socket:
    return socket.create_connection((HOST, endpoint.port), timeout=20)


def is_ended(connection: socket.socket) -> bool:
    """Wait for the server to end the connection."""
    with suppress(ConnectionResetError, ssl.SSLError):
        return connection.recv(1) == b""
    return True


@pytest.mark.parametrize("path", ["/metrics", "/", "/?x=1"])
def test_plain_text_by_default(endpoint: MetricsEndpoint, path: str) -> None:
    status, headers, body = ask(endpoint, path)
    assert (status, headers["Content-Length"]) == (200, str(len(body)))
    assert headers["Content-Type"].startswith("text/plain; version=")
    values = {sample.name: sample.value for family in plain_metrics(body.decode()) for sample in family.samples}
    assert (values["calls_total"], values["depth"]) == (3.0, 2.0)
    assert "Python" not in headers["Server"]


def test_openmetrics_and_gzip_if_accepted(endpoint: MetricsEndpoint) -> None:
    status, headers, body = ask(endpoint, Accept=OPEN_METRICS, Accept_Encoding="deflate, gzip")
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    text = gzip.decompress(body).decode()
    assert text.endswith("# EOF\n")
    assert {family.name for family in open_metrics(text)} == {"calls", "depth"}  # type: ignore[no-untyped-call]


def test_names_filter(endpoint: MetricsEndpoint) -> None:
    _, _, body = ask(endpoint, "/metrics?name[]=depth&name%5B%5D=unknown")
    assert [family.name for family in plain_metrics(body.decode())] == ["depth"]


def test_head_has_the_same_headers(endpoint: MetricsEndpoint) -> None:
    for path in ("/?name[]=depth", "/livez", "/nothing"):
        connection = HTTPConnection(HOST, endpoint.port, timeout=20)
        status, headers, body = ask_over(connection, path)
        head = ask_over(connection, path, "HEAD")
        assert (head[0], head[2]) == (status, b"")
        assert head[1]["Content-Length"] == headers["Content-Length"] == str(len(body))
        connection.close()


def test_a_credential_is_asked_for_if_there_is_a_check(registry: CollectorRegistry) -> None:
    seen: list[str | None] = []

    def may_read(authorization: str | None) -> bool:
        seen.append(authorization)
        return authorization == "Bearer good"

    with serving(registry, may_read=may_read) as endpoint:
        for path in ("/", "/metrics", "/metrics?name[]=depth"):
            status, headers, body = ask(endpoint, path)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert body == (
                b"Metrics need a credential: send the header Authorization: Bearer, with an API key or a token.\n"
            )
        assert ask(endpoint, Authorization="Bearer bad")[0] == 401
        assert ask(endpoint, method="HEAD")[0] == 401
        assert ask(endpoint, Authorization="Bearer good")[0] == 200
        assert seen == [None, None, None, "Bearer bad", None, "Bearer good"]
        assert [ask(endpoint, path)[0] for path in ("/livez", "/readyz", "/nothing")] == [200, 200, 404]
        assert len(seen) == 6


def test_livez_and_readyz(registry: CollectorRegistry) -> None:
    is_ready = threading.Event()
    with serving(registry, is_ready=is_ready.is_set) as endpoint:
        assert ask(endpoint, "/livez")[::2] == (200, b"ok\n")
        assert ask(endpoint, "/readyz")[::2] == (503, b"not ready\n")
        is_ready.set()
        assert ask(endpoint, "/readyz")[::2] == (200, b"ok\n")
        assert ask(endpoint, "/livez")[::2] == (200, b"ok\n")


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/livez/x", "//livez/..", "http://x/metrics"])
def test_other_paths(endpoint: MetricsEndpoint, path: str) -> None:
    status, headers, body = ask(endpoint, path)
    assert (status, headers.get_content_type()) == (404, "text/plain")
    assert body == b"This server has the paths /metrics, /livez and /readyz.\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_other_verbs(endpoint: MetricsEndpoint, method: str) -> None:
    for body in (None, b"x" * 50_000):
        status, headers, text = ask(endpoint, method=method, body=body)
        assert (status, headers["Allow"], text) == (405, "GET, HEAD", b"Use GET or HEAD.\n")


def test_connections_are_kept(endpoint: MetricsEndpoint) -> None:
    connection = HTTPConnection(HOST, endpoint.port, timeout=20)
    ask_over(connection)
    place = connection.sock.getsockname()
    for path in ("/metrics", "/livez", "/nothing", "/"):
        ask_over(connection, path)
        assert connection.sock.getsockname() == place
    connection.close()


def test_a_body_is_not_the_next_request(endpoint: MetricsEndpoint) -> None:
    hidden = b"GET /livez HTTP/1.1\r\n\r\n"
    for header in (b"Content-Length: %d" % len(hidden), b"Transfer-Encoding: chunked", b"Content-Length: \xb2"):
        with connect(endpoint) as connection:
            connection.sendall(b"GET /nothing HTTP/1.1\r\n" + header + b"\r\n\r\n" + hidden)
            received = b""
            with suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    received += part
            assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "noise", [b"\x16\x03\x01\x02\x00\x01\xfc\r\n", b"GET / HTTP/3.0\r\n\r\n", b"x" * 70_000, b"\r\n"]
)
def test_noise_ends_only_its_connection(
    endpoint: MetricsEndpoint, noise: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with connect(endpoint) as connection, suppress(ConnectionResetError, BrokenPipeError):
        connection.sendall(noise)
        while connection.recv(65536):
            pass
    with connect(endpoint) as connection:  # a client that goes without a goodbye
        connection.sendall(b"GET /metrics HT")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert ask(endpoint)[0] == 200
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_requests_are_not_logged(
    endpoint: MetricsEndpoint, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for path in ("/metrics", "/livez", "/nothing"):
        ask(endpoint, path)
    ask(endpoint, method="POST")
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_a_bug_is_a_500_and_is_logged(registry: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object = None) -> bool:
        raise OSError("disk")

    with serving(registry, may_read=fail, is_ready=fail) as endpoint:
        for path in ("/metrics", "/readyz"):
            assert ask(endpoint, path)[::2] == (500, b"The server's log has the reason.\n")
            assert f"{path} could not be answered" in caplog.text
            assert "OSError: disk" in caplog.text
            caplog.clear()
        assert ask(endpoint, "/livez")[0] == 200


def test_silent_and_slow_clients_do_not_block_others(registry: CollectorRegistry, certificates: Certificates) -> None:
    with serving(registry, certificates) as endpoint, ExitStack() as stack:
        for first in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"):  # TLS handshakes that never end
            for _ in range(5):
                stack.enter_context(connect(endpoint)).sendall(first)
        slow = trusting(certificates).wrap_socket(connect(endpoint), server_hostname=HOST)
        stack.enter_context(slow).sendall(b"GET /metrics HTTP/1.1\r\nHost:")
        start = time.monotonic()
        connection = over_tls(endpoint, certificates)
        assert ask_over(connection)[0] == 200
        connection.close()
        assert time.monotonic() - start < metrics_endpoint.REQUEST_SECONDS / 2
        slow.sendall(b" x\r\n\r\n")
        assert slow.recv(12) == b"HTTP/1.1 200"


def test_silence_ends_a_connection(
    registry: CollectorRegistry, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_endpoint, "REQUEST_SECONDS", 0.5)
    with serving(registry, certificates) as secure, serving(registry) as endpoint, ExitStack() as stack:
        kept = HTTPConnection(HOST, endpoint.port, timeout=20)
        ask_over(kept, "/livez")
        place = kept.sock.getsockname()
        clients = [stack.enter_context(connect(each)) for each in (secure, endpoint, endpoint)]
        clients[2].sendall(b"GET /metrics HTTP/1.1\r\nHost:")
        assert all(map(is_ended, clients))
        ask_over(kept, "/livez")  # between two requests, silence may last longer
        assert kept.sock.getsockname() == place
        kept.close()
        monkeypatch.setattr(metrics_endpoint, "IDLE_SECONDS", 0.05)
        ask_over(kept, "/livez")
        assert is_ended(kept.sock)
        kept.close()


def test_a_client_that_reads_nothing_is_ended(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_endpoint, "REQUEST_SECONDS", 0.1)
    Gauge("long", "x" * 20_000_000, registry=registry)
    with serving(registry) as endpoint, connect(endpoint) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        until(lambda: connection.recv(1, socket.MSG_PEEK) != b"")
        server = endpoint._server
        assert server is not None
        until(lambda: not server._connections)


@pytest.mark.parametrize("is_secure", [False, True])
def test_too_many_connections_end_the_most_silent(
    registry: CollectorRegistry, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, is_secure: bool
) -> None:
    monkeypatch.setattr(metrics_endpoint, "MAX_CONNECTIONS", 4)
    with serving(registry, certificates if is_secure else None) as endpoint, ExitStack() as stack:
        scraper = over_tls(endpoint, certificates) if is_secure else HTTPConnection(HOST, endpoint.port, timeout=20)
        ask_over(scraper)
        place = scraper.sock.getsockname()
        silent = []
        for _ in range(8):
            silent.append(stack.enter_context(connect(endpoint)))
            assert ask_over(scraper)[0] == 200
        assert scraper.sock.getsockname() == place
        assert all(map(is_ended, silent[:5]))
        server = endpoint._server
        assert server is not None
        assert len(server._connections) <= 4
        scraper.close()


def test_many_scrapers_at_once(endpoint: MetricsEndpoint) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(ask(endpoint)[0])) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 32


def test_tls(registry: CollectorRegistry, certificates: Certificates) -> None:
    with serving(registry, certificates) as endpoint:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = trusting(certificates)
            context.minimum_version = context.maximum_version = version
            connection = HTTPSConnection(HOST, endpoint.port, timeout=20, context=context)
            for _ in range(2):
                assert ask_over(connection, "/livez")[::2] == (200, b"ok\n")
            connection.close()
        old = trusting(certificates)
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLS"):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError), connect(endpoint) as raw:
            old.wrap_socket(raw, server_hostname=HOST)


def test_http_to_the_tls_port_is_ended_quietly(
    registry: CollectorRegistry,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(registry, certificates) as endpoint:
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(endpoint)
        with pytest.raises(ssl.SSLError):  # a client that does not trust the certificate
            ask_over(HTTPSConnection(HOST, endpoint.port, timeout=20))
        connection = over_tls(endpoint, certificates)
        assert ask_over(connection)[0] == 200
        connection.close()
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_new_connections_get_the_new_certificate(
    registry: CollectorRegistry, certificates: Certificates, tmp_path: Path
) -> None:
    new = issue(tmp_path, "second")
    with serving(registry, certificates) as endpoint:
        kept = over_tls(endpoint, certificates)
        ask_over(kept)
        place = kept.sock.getsockname()
        endpoint.renew(new)
        fresh = over_tls(endpoint, new)
        assert ask_over(fresh)[0] == 200
        assert ask_over(kept)[0] == 200
        assert kept.sock.getsockname() == place
        with pytest.raises(ssl.SSLCertVerificationError):
            ask_over(over_tls(endpoint, certificates))
        fresh.close()
        kept.close()


def test_a_renewal_before_the_start_counts(
    registry: CollectorRegistry, certificates: Certificates, tmp_path: Path
) -> None:
    endpoint, new = MetricsEndpoint(registry, HOST, 0, certificates), issue(tmp_path, "second")
    endpoint.renew(new)
    endpoint.start()
    assert ask_over(over_tls(endpoint, new))[0] == 200
    endpoint.stop()


def test_ipv6(registry: CollectorRegistry) -> None:
    with serving(registry, host="::1") as endpoint:
        connection = HTTPConnection("::1", endpoint.port, timeout=20)
        assert ask_over(connection)[0] == 200
        connection.close()
        with pytest.raises(StartupError, match=rf"cannot serve metrics on \[::1\]:{endpoint.port}: "):
            MetricsEndpoint(registry, "::1", endpoint.port).start()


def test_a_port_in_use(registry: CollectorRegistry, endpoint: MetricsEndpoint) -> None:
    expected = (
        f"cannot serve metrics on 127.0.0.1:{endpoint.port}: Address already in use; choose another --metrics-port or "
        "--metrics-host"
    )
    with pytest.raises(StartupError) as info:
        MetricsEndpoint(registry, HOST, endpoint.port).start()
    assert str(info.value) == expected
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind((HOST, endpoint.port))


def test_a_wrong_host(registry: CollectorRegistry) -> None:
    with pytest.raises(StartupError) as info:
        MetricsEndpoint(registry, "[::1]", 0).start()
    assert str(info.value).startswith("cannot serve metrics on [[::1]]:0: host '[::1]' is not an address: ")
    assert str(info.value).endswith("; choose another --metrics-port or --metrics-host")


def test_the_port_is_free_after_the_end(registry: CollectorRegistry) -> None:
    endpoint = MetricsEndpoint(registry, HOST, 0)
    endpoint.stop()
    endpoint.start()
    port = endpoint.port
    kept = HTTPConnection(HOST, port, timeout=20)
    ask_over(kept)
    endpoint.stop()
    endpoint.stop()
    assert is_ended(kept.sock)
    endpoint.start()
    assert endpoint.port == port
    assert ask(endpoint)[0] == 200
    endpoint.stop()
    kept.close()


@pytest.mark.parametrize("is_secure", [False, True])
def test_an_answer_under_way_is_sent_at_the_end(certificates: Certificates, is_secure: bool) -> None:
    registry, has_begun, may_go_on = CollectorRegistry(), threading.Event(), threading.Event()

    def slow() -> float:
        has_begun.set()
        may_go_on.wait(20)
        return 1.0

    Gauge("slow", "Slow.", registry=registry).set_function(slow)
    found: list[Answer] = []
    with serving(registry, certificates if is_secure else None) as endpoint:
        client = over_tls(endpoint, certificates) if is_secure else HTTPConnection(HOST, endpoint.port, timeout=20)
        thread = threading.Thread(target=lambda: found.append(ask_over(client)))
        thread.start()
        assert has_begun.wait(20)
        endpoint.stop()
        may_go_on.set()
        thread.join()
        assert is_ended(client.sock)
        client.close()
    assert found[0][0] == 200
    assert b"slow 1.0" in found[0][2]
