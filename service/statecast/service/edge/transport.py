"""The gRPC server: address, transport options, health and reflection. It knows nothing of what its methods do."""

import errno
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.rpc import status_pb2

from statecast.service.edge.standard import Standard
from statecast.service.errors import StartupError
from statecast.service.rpc.status import STATUS_CODES
from statecast.v1 import forecast_service_pb2, model_service_pb2

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

SERVICES = (
    forecast_service_pb2.DESCRIPTOR.services_by_name["ForecastService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
)
DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class Place:
    """The address to listen on; port 0 picks a free one. The kernel spreads connections over servers that share it."""

    host: str
    port: int
    max_message_bytes: int
    is_shared: bool = False


class Transport:
    """A gRPC server with these methods, by path. Create it in the event loop that runs it."""

    def __init__(self, place: Place, handlers: Mapping[str, Handler]) -> None:
        """Listen, but answer nothing yet.

        Raises:
            StartupError: if the server cannot listen there.
        """
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", int(place.is_shared)),  # else a second server could take the port by mistake
                ("grpc.max_receive_message_length", place.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                # A burst of calls waits to be admitted or refused; beyond these limits the transport drops calls.
                ("grpc.server.max_pending_requests", 100_000),
                ("grpc.server.max_pending_requests_hard_limit", 200_000),
                # Clients may send a keepalive ping every other second.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.keepalive_permit_without_calls", 1),
                # Close connections of clients that have vanished, to free what they hold.
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.http2.ping_timeout_ms", 10_000),
            ],
        )
        self._server.add_generic_rpc_handlers((_Handlers(handlers),))
        self._standard = Standard(SERVICES, self._server)
        try:
            self.port = self._server.add_insecure_port(address(place.host, place.port))
        except RuntimeError as error:
            raise cannot_listen(place) from error

    async def start(self) -> None:
        """Start answering calls."""
        await self._server.start()

    async def set_ready(self, is_ready: bool) -> None:
        """Set the readiness that health reports; calls are answered in any case."""
        self._standard.set_ready(is_ready)

    async def leave(self) -> None:
        """Report NOT_SERVING but keep answering."""
        self._standard.leave()

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, and let those in flight finish within the grace period."""
        self._standard.end()
        await self._server.stop(grace_seconds)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, by_path: Mapping[str, Handler]) -> None:
        self._by_path = by_path

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        return self._by_path.get(handler_call_details.method)


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


def claim(place: Place) -> socket.socket:
    """Return a socket that reserves the port, while it is open, for servers that share it.

    Raises:
        StartupError: if the server cannot listen there.
    """
    family, where = resolve(place)
    claimed = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections of an earlier server in TIME_WAIT must not block the port.
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claimed.bind(where)
    except OSError as error:
        claimed.close()
        raise cannot_listen(place) from error
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return claimed


def cannot_listen(place: Place) -> StartupError:
    """Return the error for a place where no server can listen; binding once more finds the cause."""
    family, where = resolve(place)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
            number = errno.EADDRINUSE  # in use a moment ago
        except OSError as error:
            number = error.errno or 0
    why = {
        errno.EADDRINUSE: "another process listens there; stop it, or choose another --port",
        errno.EADDRNOTAVAIL: f"{place.host} is not an address of this machine; set --host, or 0.0.0.0 for all",
        errno.EACCES: "this user may not listen on ports below 1024; choose another --port",
    }.get(number, os.strerror(number))
    return StartupError(f"cannot listen on {address(place.host, place.port)}: {why}")


def address(host: str, port: int) -> str:
    """Format host and port as gRPC does."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def refuse(context: "grpc.aio.ServicerContext[Any, Any]", status: status_pb2.Status) -> NoReturn:
    """Abort a call with a status and its details."""
    await context.abort(STATUS_CODES[status.code], status.message, ((DETAILS_KEY, status.SerializeToString()),))
