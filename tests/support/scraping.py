"""A metrics endpoint for tests, and clients of it."""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from prometheus_client import CollectorRegistry, Counter, Gauge

from statecast.service.access.certificates import Certificates, read_certificates
from statecast.service.metrics_endpoint import MetricsEndpoint

HOST = "127.0.0.1"


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


def few_metrics() -> CollectorRegistry:
    """Return a registry with two metrics, one of which has a label."""
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
