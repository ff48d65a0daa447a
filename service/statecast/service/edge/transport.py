"""The gRPC server: it knows where to listen, and not what its methods do."""

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
    """Where to listen: port 0 is any free one; with others that share it, what comes goes to one of them."""

    host: str
    port: int
    max_message_bytes: int
    is_shared: bool = False


class Transport:
    """A gRPC server with these methods, by path; created in the event loop that it is to run in."""

    def __init__(self, place: Place, handlers: Mapping[str, Handler]) -> None:
        """Listen, but answer nothing yet.

        Raises:
            StartupError: if the place cannot be had.
        """
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", int(place.is_shared)),  # a second server on the port is a mistake, not a helper
                ("grpc.max_receive_message_length", place.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                # A burst of calls waits its turn to be admitted or turned away; beyond, the transport drops them.
                ("grpc.server.max_pending_requests", 100_000),
                ("grpc.server.max_pending_requests_hard_limit", 200_000),
                # Clients may ask every other second whether the server is still there.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.keepalive_permit_without_calls", 1),
                # Callers that have vanished give back what they hold.
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
        """Answer, and say so to whoever asks for its health."""
        await self._server.start()

    async def set_ready(self, is_ready: bool) -> None:
        """Say whether the services are ready; all is answered in any case."""
        self._standard.set_ready(is_ready)

    async def leave(self) -> None:
        """Go on answering, but say NOT_SERVING."""
        self._standard.leave()

    async def stop(self, grace_seconds: float) -> None:
        """Take no more calls, and give those in flight some time."""
        self._standard.end()
        await self._server.stop(grace_seconds)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, by_path: Mapping[str, Handler]) -> None:
        self._by_path = by_path

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        return self._by_path.get(handler_call_details.method)


def resolve(place: Place) -> tuple[socket.AddressFamily, Any]:
    """The first address of the place, as sockets know it.

    Raises:
        StartupError: if the host is none.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(place.host or None, place.port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        hint = f"; leave out the brackets: {place.host[1:-1]}" if place.host[:1] == "[" else ""
        raise StartupError(f"host {place.host!r} is not an address: {error.strerror}{hint}") from error
    return family, where


def claim(place: Place) -> socket.socket:
    """A socket that keeps the place for those who share it, and for nobody else, for as long as it is open.

    Raises:
        StartupError: if the place cannot be had.
    """
    family, where = resolve(place)
    claimed = socket.socket(family, socket.SOCK_STREAM)
    try:
        # What is left of connections of an earlier server is no reason not to.
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claimed.bind(where)
    except OSError as error:
        claimed.close()
        raise cannot_listen(place) from error
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return claimed


def cannot_listen(place: Place) -> StartupError:
    """The error of a place where no server can listen, as trying once more shows it."""
    family, where = resolve(place)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
            number = errno.EADDRINUSE  # it was a moment ago
        except OSError as error:
            number = error.errno or 0
    why = {
        errno.EADDRINUSE: "another process listens there; stop it, or choose another --port",
        errno.EADDRNOTAVAIL: f"{place.host} is no address of this machine; choose one, or 0.0.0.0 for all, by --host",
        errno.EACCES: "this user may not listen on ports below 1024; choose another --port",
    }.get(number, os.strerror(number))
    return StartupError(f"port {address(place.host, place.port)} cannot be had: {why}")


def address(host: str, port: int) -> str:
    """As gRPC writes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def refuse(context: "grpc.aio.ServicerContext[Any, Any]", status: status_pb2.Status) -> NoReturn:
    """End a call with a status and its details."""
    await context.abort(STATUS_CODES[status.code], status.message, ((DETAILS_KEY, status.SerializeToString()),))
