"""The address that a server listens on, and the error if it cannot."""

import errno
import os
import socket
from dataclasses import dataclass
from typing import Any

from statecast.service.errors import StartupError


@dataclass(frozen=True)
class Place:
    """The address to listen on; port 0 picks a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        """Format host and port as gRPC does."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def resolve(place: Place) -> tuple[socket.AddressFamily, Any]:
    """Return the address family and socket address of the place.

    Raises:
        StartupError: if its host cannot be resolved.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(place.host or None, place.port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        hint = f"; leave out the brackets: {place.host[1:-1]}" if place.host[:1] == "[" else ""
        raise StartupError(f"host {place.host!r} is not an address: {error.strerror}{hint}") from error
    return family, where


def check_free(place: Place) -> None:
    """Check that a server could listen there.

    Raises:
        StartupError: if it could not.
    """
    family, where = resolve(place)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections of an earlier server in TIME_WAIT must not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
            probe.listen(1)
        except OSError as error:
            raise _cannot_listen(place, error.errno or 0) from error


def cannot_listen(place: Place) -> StartupError:
    """Return the error for a place where no server can listen; binding once more finds the cause."""
    try:
        check_free(place)
    except StartupError as error:
        return error
    return _cannot_listen(place, errno.EADDRINUSE)  # in use a moment ago


def _cannot_listen(place: Place, number: int) -> StartupError:
    why = {
        errno.EADDRINUSE: "another process listens there; stop it, or choose another --port",
        errno.EADDRNOTAVAIL: f"{place.host} is not an address of this machine; set --host, or 0.0.0.0 for all",
        errno.EACCES: "this user may not listen on ports below 1024; choose another --port",
    }.get(number, os.strerror(number))
    return StartupError(f"cannot listen on {place}: {why}")
