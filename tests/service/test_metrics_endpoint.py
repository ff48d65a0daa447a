"""The metrics port: what it answers, to whom, and where it listens."""

import gzip
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_metrics
from support.scraping import HOST, ask, ask_over, connect, few_metrics, is_ended, serving

from statecast.service.errors import StartupError
from statecast.service.metrics_endpoint import MetricsEndpoint

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def registry() -> CollectorRegistry:
    return few_metrics()


@pytest.fixture
def endpoint(registry: CollectorRegistry) -> Iterator[MetricsEndpoint]:
    with serving(registry) as endpoint:
        yield endpoint


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


def test_an_event_loop_that_does_not_answer_is_a_503_without_a_traceback(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    def wait_in_vain(_: str | None) -> bool:
        raise TimeoutError

    with serving(registry, may_read=wait_in_vain) as endpoint:
        assert ask(endpoint)[::2] == (503, b"The server is starting or overloaded; try again.\n")
    assert "/metrics could not be answered: the server is starting or overloaded" in caplog.text
    assert "Traceback" not in caplog.text


def test_many_scrapers_at_once(endpoint: MetricsEndpoint) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(ask(endpoint)[0])) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 32


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
