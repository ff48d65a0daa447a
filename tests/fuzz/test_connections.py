"""Connections that violate the protocol, or are very slow."""

import contextlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from support import await_true

from fuzz.place import MIB, Bystanders, Place

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
NOISE = random.Random(0).randbytes(100_000)
GARBAGE = {
    "nothing": b"",
    "noise": NOISE,
    "http/1.1": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an endless header": b"GET / HTTP/1.1\r\nX: " + b"a" * 5 * MIB,
    "zeros": bytes(1_000_000),
    "a preface and noise": PREFACE + NOISE,
    "a frame of 16 MiB": PREFACE + SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + NOISE,
    "headers that cannot be decoded": PREFACE + SETTINGS + b"\x00\x00\x08\x01\x04\x00\x00\x00\x01" + b"\xff" * 8,
    "headers without end": PREFACE + SETTINGS + b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82"
    + b"\x00\x40\x00\x09\x00\x00\x00\x00\x01" * 1 + b"\x40" * 0x4000 + b"\x00\x40\x00\x09\x00\x00\x00\x00\x01" * 500,
    "very many pings": PREFACE + SETTINGS + (b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)) * 20_000,
    "very many settings": PREFACE + SETTINGS * 20_000,
    "streams reset as soon as they are opened": PREFACE + SETTINGS + b"".join(
        b"\x00\x00\x01\x01\x04" + number.to_bytes(4) + b"\x83"
        b"\x00\x00\x04\x03\x00" + number.to_bytes(4) + b"\x00\x00\x00\x08"
        for number in range(1, 20_000, 2)
    ),
}  # fmt: skip
SLOW_CONNECTIONS = 200
HANGING_UP_SECONDS = 10.0


@pytest.fixture
def bystanders(fuzzed: Place) -> Iterator[Bystanders]:
    """Check that sessions are unaffected, nothing is logged, no connection stays open and memory hardly grows."""
    found = Bystanders(fuzzed.stub, "connections")
    connections = established(fuzzed)
    fuzzed.forget_peak()
    before = fuzzed.rss()
    yield found
    assert not found.wrong()
    await_true(lambda: established(fuzzed) <= connections)
    assert fuzzed.peak() - before < 50 * MIB
    assert not fuzzed.trouble()


def established(place: Place) -> int:
    """Return the number of connections to the server's port."""
    connections = place.server.engine.net_connections("tcp")
    return sum(each.status == "ESTABLISHED" and each.laddr.port == place.server.port for each in connections)


def connect(place: Place) -> socket.socket:
    return socket.create_connection(("127.0.0.1", place.server.port), timeout=HANGING_UP_SECONDS)


def read_all(connection: socket.socket) -> None:
    """Read until the server closes the connection."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(65_536):
            pass


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.usefixtures("bystanders")
def test_garbage_is_hung_up_on(fuzzed: Place, name: str) -> None:
    with connect(fuzzed) as connection:
        reader = threading.Thread(target=read_all, args=(connection,))
        reader.start()
        with contextlib.suppress(OSError):  # the server may have closed the connection already
            connection.sendall(GARBAGE[name])
            connection.shutdown(socket.SHUT_WR)
        reader.join(HANGING_UP_SECONDS)
        assert not reader.is_alive()


@pytest.mark.usefixtures("bystanders")
def test_a_tls_client(fuzzed: Place) -> None:
    context = ssl.create_default_context()
    with connect(fuzzed) as connection, pytest.raises(OSError, match=r"."):
        context.wrap_socket(connection, server_hostname="localhost")


def test_slow_connections_hold_nobody_up(fuzzed: Place, bystanders: Bystanders) -> None:
    """Slow connections send one byte of the preface at a time."""
    slow = [connect(fuzzed) for _ in range(SLOW_CONNECTIONS)]
    for at in range(5):
        for connection in slow:
            connection.sendall(PREFACE[at : at + 1])
        started = time.monotonic()
        assert not bystanders.wrong()
        assert time.monotonic() - started < 2
    assert established(fuzzed) >= SLOW_CONNECTIONS
    for connection in slow:
        connection.close()
