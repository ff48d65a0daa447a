"""Connections to the metrics port: silent, slow and many ones, TLS, and the end of the server."""

import http.client
import logging
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge
from support.scraping import (
    HOST,
    Answer,
    ask,
    ask_over,
    connect,
    few_metrics,
    is_ended,
    issue,
    over_tls,
    serving,
    trusting,
    until,
)

from statecast.service import metrics_endpoint
from statecast.service.access.certificates import Certificates
from statecast.service.metrics_endpoint import MetricsEndpoint


@pytest.fixture
def registry() -> CollectorRegistry:
    return few_metrics()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return issue(tmp_path, "first")


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
