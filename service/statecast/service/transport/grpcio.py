"""gRPC by grpcio, in this process."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.rpc import status_pb2

from statecast.service.access.certificates import Certificates, subject_of
from statecast.service.access.principal import ANYBODY
from statecast.service.engine.request import Request
from statecast.service.rpc.methods import Method
from statecast.service.rpc.status import DETAILS_KEY, STATUS_CODES
from statecast.service.transport.place import Place, cannot_listen, resolve

if TYPE_CHECKING:  # an optional extra
    from statecast.service.tracing.spans import CallTrace

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class GrpcioTransport:
    """A gRPC server with these methods, by path. Create it in the event loop that runs it."""

    def __init__(
        self,
        place: Place,
        methods: Mapping[str, Method],
        max_message_bytes: int,
        certificates: Certificates | None = None,
    ) -> None:
        """Listen, but answer nothing yet; with certificates, speak TLS.

        Raises:
            StartupError: if the server cannot listen there.
        """
        resolve(place)
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # else a second server could take the port by mistake
                ("grpc.max_receive_message_length", max_message_bytes),
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
        self._server.add_generic_rpc_handlers((_Handlers({path: _handler(each) for path, each in methods.items()}),))
        try:
            if certificates is None:
                self._port = self._server.add_insecure_port(str(place))
            else:
                self._port = self._server.add_secure_port(str(place), self._credentials(certificates))
        except RuntimeError as error:
            raise cannot_listen(place) from error

    def renew(self, certificates: Certificates) -> None:
        """Show these certificates to new connections."""
        self._certificates = _configuration(certificates)

    def _credentials(self, certificates: Certificates) -> grpc.ServerCredentials:
        self.renew(certificates)
        asks_clients = certificates.client_ca is not None
        return grpc.dynamic_ssl_server_credentials(self._certificates, lambda: self._certificates, asks_clients)

    async def start(self) -> int:
        """Start answering calls; return the port."""
        await self._server.start()
        return self._port

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, and let those in flight finish within the grace period."""
        await self._server.stop(grace_seconds)


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    pair = [(certificates.key, certificates.chain)]
    return grpc.ssl_server_certificate_configuration(pair, certificates.client_ca)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, by_path: Mapping[str, Handler]) -> None:
        self._by_path = by_path

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        return self._by_path.get(handler_call_details.method)


class _Call:
    """One call; implements rpc.methods.StreamContext."""

    def __init__(self, context: Context) -> None:
        self.principal = ANYBODY
        self.asked: Request | None = None
        self.trace: CallTrace | None = None
        self._context = context
        self.read, self.write = context.read, context.write

    def peer(self) -> str:
        """Return the address of the caller's connection."""
        return self._context.peer()

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None without one."""
        return self._context.time_remaining()

    def authorization(self) -> str | None:
        """Return the header `authorization`; None without one."""
        return self.header("authorization")

    def traceparent(self) -> str | None:
        """Return the header `traceparent`; None without one."""
        return self.header("traceparent")

    def subject(self) -> str | None:
        """Return the subject of the caller's certificate; None without one."""
        certificates = self._context.auth_context().get("x509_pem_cert", ())
        return next(map(subject_of, certificates), None)

    def header(self, name: str) -> str | None:
        """Return a header by its lower-case name; None without it."""
        metadata = self._context.invocation_metadata() or ()
        found = [_text(value) for key, value in metadata if key == name]
        return ", ".join(found) if found else None  # as HTTP does; of two credentials, neither is right


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _handler(method: Method) -> Handler:
    async def admitted(context: Context) -> _Call:
        call = _Call(context)
        if method.admit is not None and (refusal := method.admit(call)):
            await _refuse(context, refusal)
        return call

    async def call(request: Any, context: Context) -> bytes | None:
        answer = method.answer(request, await admitted(context))
        del request  # an aborted call keeps this frame alive until the next garbage collection
        answered = await answer
        if isinstance(answered, status_pb2.Status):
            await _refuse(context, answered)
        return answered

    async def stream(_: object, context: Context) -> None:
        answered = await method.answer(None, await admitted(context))
        if isinstance(answered, status_pb2.Status):
            await _refuse(context, answered)

    if method.is_stream:
        return grpc.stream_stream_rpc_method_handler(stream, method.decode)
    return grpc.unary_unary_rpc_method_handler(call, method.decode)


async def _refuse(context: Context, status: status_pb2.Status) -> NoReturn:
    """Abort a call with a status and its details."""
    await context.abort(STATUS_CODES[status.code], status.message, ((DETAILS_KEY, status.SerializeToString()),))
