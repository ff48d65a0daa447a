"""The synchronous client. Threads may share it."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import grpc
from google.protobuf.message import DecodeError

from . import _calls, _operations, _tracing
from ._affinity import session_header, session_of
from ._ask import Ask, Values
from ._bearer import Metadata, SyncBearer, Token
from ._calls import Method, Operation, Patience, Pause, Send
from ._connection import resolve_connection, resolve_credential
from ._core import SessionCore
from ._frame_stream import FrameStreams
from ._replicas import Part, Replica, merge
from ._response import Result
from ._sync_calls import Calls, Session
from ._sync_replicas import SyncReplicas
from ._sync_stream import Driver
from ._tls import FilePath, Tls
from .errors import Cancelled, StatecastError, unreadable
from .types import Forecast, Receipt

T = TypeVar("T")


class Client(Calls):
    """A connection to a Statecast server, or to several replicas behind one name.

    Methods raise `StatecastError` or one of its subclasses. If the outcome of a request is unknown or the server asks
    for a retry, they send it again until its time is up; the server appends the observations once. `timeout_seconds`
    limits one request, all attempts together. A call that is split into several requests (more than 7,560 values and
    covariates, or hundreds of sessions) has that time for each.

    Threads may share a client. It belongs to the process that made it; a forked process needs its own.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_seconds: float = 10.0,
        tls: Tls = None,
        ca: FilePath | None = None,
        cert: FilePath | None = None,
        key: FilePath | None = None,
        server_name: str | None = None,
        api_key: str | None = None,
        token: Token | None = None,
    ) -> None:
        """Create the client. It connects when it is first used.

        Args:
            target: "host:port", or any other gRPC name such as "dns:///statecast:50051".
            timeout_seconds: Time for each request, unless its call sets another.
            tls: True for an encrypted connection, or grpc.ChannelCredentials to use instead of `ca`, `cert` and `key`.
                False for an unencrypted one. None for an encrypted one if there is a `ca` or `cert`.
            ca: PEM file with the certificates to trust. None for that of the variable STATECAST_CA, unless `tls` is
                False; without one, gRPC's own list.
            cert: PEM file with the client's certificates, for mutual TLS; needs `key`.
            key: PEM file with the private key of `cert`, without a password.
            server_name: Name to expect in the server's certificate, if the target has another.
            api_key: API key to send with every call. None for that of the variable STATECAST_API_KEY, unless there is a
                `token`.
            token: Function that returns a token to send instead. It is called before the first call, and again when the
                server says that the token has expired.

        Raises:
            InvalidArgument: An argument is wrong, a file cannot be used, or the credential would be sent unencrypted to
                another machine.
        """
        self._timeout_seconds = _operations.check_timeout(timeout_seconds)
        self._closed = False
        # One lock per session in use, shared by all objects of that session.
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._making_locks = threading.Lock()
        self._process_id = os.getpid()
        api_key, credential = resolve_credential(api_key, token, may_wait=False)
        self._bearer = SyncBearer(api_key, token)
        self._connection = resolve_connection(
            target, tls=tls, ca=ca, cert=cert, key=key, server_name=server_name, credential=credential
        )
        self._replicas = SyncReplicas(self._connection)

    def stream(
        self,
        pairs: Iterable[tuple["Session", Values]],
        horizon: int = 0,
        *,
        quantile_levels: Sequence[float] = (),
        explain: bool = False,
        timeout_seconds: float | None = None,
    ) -> Iterator[tuple["Session", Forecast | Receipt | StatecastError]]:
        """Append, and forecast if asked to, as sessions and values come; yield the results in the same order.

        At most 256 requests are in flight; a separate thread reads `pairs`, only as far ahead. If a request fails, its
        result is the error, and the stream goes on. After a broken connection, unanswered requests are sent again. Do
        not use the sessions otherwise until the stream has ended.

        Args:
            pairs: Sessions of this client, each with its next values or `Observations`; may be endless.
            horizon: Number of steps to forecast; 0 to only append, which yields receipts.
            quantile_levels: Levels between the model's lowest and highest; empty for the model's own.
            explain: True to return the gates of each request's last time step.
            timeout_seconds: Time for each request; None for the client's.
        """
        timeout, ask = self._timeout(timeout_seconds), Ask(horizon, quantile_levels, explain)

        def work() -> Iterator[tuple[Session, str, Operation[Any]]]:
            for pair in pairs:
                core, observed = _operations.split_pair(pair, Session, self)
                yield pair[0], core.session_id, _operations.forward(core, observed, ask, timeout)

        if self._closed:
            raise StatecastError("the client is closed")
        _operations.check_process(self._process_id)
        span = _tracing.begin(_calls.FORECAST_STREAM)
        streams = FrameStreams(self._replicas, self._bearer, span.headers if span else ())
        driver: Driver[Session] = Driver(streams)
        return driver.run(work()) if span is None else span.around(driver.run(work()))

    def close(self) -> None:
        """Close the connection. The sessions stay on the server."""
        self._closed = True
        if self._process_id == os.getpid():  # the connection belongs to the process that made it
            self._replicas.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _new_session(self, core: SessionCore) -> "Session":
        _operations.check_process(self._process_id)
        with self._making_locks:
            lock = self._locks.setdefault(core.session_id, threading.Lock())
        return Session(self, core, lock)

    def _run_alone(self, operation: Operation[T], sessions: Iterable["Session"], timeout_seconds: float) -> T:
        """Run an operation while no other request of its sessions is in flight.

        A session remembers only its last 16 requests: others must not push out one whose outcome is unknown.
        """
        _operations.check_process(self._process_id)
        end = time.monotonic() + timeout_seconds
        locks, held = {session.id: session._lock for session in sessions}, []
        try:
            for session_id in sorted(locks):  # one order for all, so that two calls cannot wait for each other
                if not locks[session_id].acquire(timeout=max(0.0, end - time.monotonic())):
                    raise _operations.kept_waiting(session_id, timeout_seconds)
                held.append(locks[session_id])
            return self._run(operation)
        finally:
            for lock in held:
                lock.release()

    def _send(self, action: Send) -> Any:
        span = _tracing.begin(action.method, action.message)
        if span is None:
            return self._send_with((), action)
        with span:
            return self._send_with(span.headers, action)

    def _send_with(self, headers: Metadata, action: Send) -> Any:
        """Call a method; a frame is split if its sessions belong to several replicas."""
        patience = Patience(action.timeout_seconds)  # to ask for a token takes time, too
        metadata, message = self._bearer.metadata(), action.message
        if parts := self._replicas.parts(message):
            return self._send_parts(parts, action.method, patience, metadata, headers)
        replica = self._replicas.of(session_of(message))
        call = partial(
            replica.method(action.method),
            message,
            timeout=patience.remaining_seconds,
            metadata=metadata + headers + session_header(session_of(message)),
        )
        return self._answer(replica, action.method, metadata, call)

    def _send_parts(
        self,
        parts: Sequence[Part[Replica]],
        method: Method,
        patience: Patience,
        metadata: Metadata,
        headers: Metadata,
    ) -> list[Result]:
        """Send the parts of a frame at the same time."""
        calls: list[Any] = []
        outcomes: list[Any] = []
        try:
            for replica, frame, _ in parts:
                sent = metadata + headers + session_header(session_of(frame))
                call = replica.method(method).future(frame, timeout=patience.remaining_seconds, metadata=sent)
                calls.append(call)
            for part, call in zip(parts, calls, strict=True):
                try:
                    outcomes.append(self._answer(part.replica, method, metadata, call.result))
                except StatecastError as error:
                    outcomes.append(error)
        finally:
            for call in calls:
                call.cancel()
        return merge(parts, outcomes)

    def _answer(self, replica: Replica, method: Method, metadata: Metadata, call: Callable[[], bytes]) -> Any:
        try:
            return method.read(call())
        except grpc.RpcError as error:
            failure = self._bearer.failure(error, metadata)
            replica.note_failure(failure)
            raise failure from error
        except DecodeError as error:
            raise unreadable(error) from error

    def _run(self, operation: Operation[T]) -> T:
        """Run an operation."""
        if self._closed:
            raise StatecastError("the client is closed")
        _operations.check_process(self._process_id)
        try:
            action = next(operation)
            while True:
                if isinstance(action, Pause):
                    time.sleep(action.seconds)
                    action = next(operation)
                    continue
                try:
                    response = self._send(action)
                except StatecastError as error:
                    action = operation.throw(Cancelled("the client was closed") if self._closed else error)
                except ValueError as error:  # raised by gRPC if the channel was closed meanwhile
                    raise Cancelled("the client was closed") from error
                else:
                    action = operation.send(response)
        except StopIteration as stop:
            result: T = stop.value
            return result
