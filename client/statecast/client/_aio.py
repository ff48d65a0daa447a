"""The asyncio client."""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from . import _operations, _tracing
from ._affinity import session_header, session_of
from ._aio_replicas import AsyncReplica, AsyncReplicas
from ._aio_stream import in_order
from ._ask import Ask, Values
from ._async_calls import AsyncCalls, AsyncSession
from ._bearer import AsyncBearer, AsyncToken, Metadata
from ._calls import Operation, Patience, Pause, Send
from ._connection import resolve_connection, resolve_credential
from ._core import SessionCore
from ._replicas import merge
from ._request import Request
from ._tls import FilePath, Tls
from ._turns import SessionLock, Turn
from .errors import Cancelled, StatecastError, unreadable
from .types import Forecast, Receipt

T = TypeVar("T")


class AsyncClient(AsyncCalls):
    """An asyncio connection to a Statecast server, or to several replicas behind one name.

    Methods raise `StatecastError` or one of its subclasses. If the outcome of a request is unknown or the server asks
    for a retry, they send it again until its time is up; the server appends the observations once. `timeout_seconds`
    limits one request, all attempts together. A call that is split into several requests (more than 7,560 values and
    covariates, or hundreds of sessions) has that time for each.

    Tasks may share a client. It belongs to one process, and to one event loop at a time. Once that loop has ended,
    another loop may use the client, which then reconnects.
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
        token: AsyncToken | None = None,
    ) -> None:
        """Create the client. It connects when it is first used.

        Args:
            target: "host:port", or any other gRPC name such as "dns:///statecast:50051".
            timeout_seconds: Time for each request, unless its call sets another.
            tls: As for `Client`, and so are `ca`, `cert`, `key`, `server_name` and `api_key`.
            ca: PEM file with the certificates to trust.
            cert: PEM file with the client's certificates.
            key: PEM file with the private key of `cert`.
            server_name: Name to expect in the server's certificate.
            api_key: API key to send with every call.
            token: Function, plain or asynchronous, that returns a token to send instead. It is called before the first
                call, and again when the server says that the token has expired.

        Raises:
            InvalidArgument: As for `Client`.
        """
        self._timeout_seconds = _operations.check_timeout(timeout_seconds)
        self._closed = False
        # One lock per session in use, shared by all objects of that session.
        self._locks: WeakValueDictionary[str, SessionLock] = WeakValueDictionary()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process_id = os.getpid()
        api_key, credential = resolve_credential(api_key, token, may_wait=True)
        self._bearer = AsyncBearer(api_key, token)
        self._connection = resolve_connection(
            target, tls=tls, ca=ca, cert=cert, key=key, server_name=server_name, credential=credential
        )
        self._replicas: AsyncReplicas | None = None

    def stream(
        self,
        pairs: AsyncIterable[tuple["AsyncSession", Values]] | Iterable[tuple["AsyncSession", Values]],
        horizon: int = 0,
        *,
        quantile_levels: Sequence[float] = (),
        explain: bool = False,
        timeout_seconds: float | None = None,
    ) -> AsyncIterator[tuple["AsyncSession", Forecast | Receipt | StatecastError]]:
        """Append, and forecast if asked to, as sessions and values come; yield the results in the same order.

        At most 256 requests are in flight; `pairs` is read only as far ahead. If a request fails, its result is the
        error, and the stream goes on. After a broken connection, unanswered requests are sent again.

        Args:
            pairs: Sessions of this client, each with its next values or `Observations`; may be endless.
            horizon: Number of steps to forecast; 0 to only append, which yields receipts.
            quantile_levels: Levels between the model's lowest and highest; empty for the model's own.
            explain: True to return the gates of each request's last time step.
            timeout_seconds: Time for each request; None for the client's.
        """
        timeout, ask = self._timeout(timeout_seconds), Ask(horizon, quantile_levels, explain)

        async def forward(pair: Any) -> tuple[AsyncSession, Forecast | Receipt | StatecastError]:
            core, observed = _operations.split_pair(pair, AsyncSession, self)
            operation = _operations.forward(core, observed, ask, timeout)
            _tracing.leave_out()  # of this task: a stream may be endless
            try:
                return pair[0], await self._run_alone(operation, pair[:1], timeout)
            except StatecastError as error:
                return pair[0], error

        return in_order(pairs, forward)

    async def close(self) -> None:
        """Close the connection. The sessions stay on the server."""
        self._closed = True
        if asyncio.get_running_loop() is not self._loop or self._process_id != os.getpid():
            return  # the connection belongs to another loop or process
        if self._replicas is not None:
            await self._replicas.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _new_session(self, core: SessionCore) -> "AsyncSession":
        return AsyncSession(self, core)

    def _turn(self, session: AsyncSession) -> SessionLock:
        """Return the session's lock on this loop."""
        lock: SessionLock | None = session._lock
        if lock is None or lock.home is not self._locks:  # the session's reference keeps it alive
            lock = session._lock = self._locks.setdefault(session.id, SessionLock(self._locks))
        return lock

    def _enter_loop(self) -> None:
        """Reconnect if the event loop has changed since the last call.

        Raises:
            StatecastError: The previous loop still runs, or this is another process.
        """
        _operations.check_process(self._process_id)
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        if self._loop is not None and self._loop.is_running():
            raise StatecastError("this AsyncClient is in use on another event loop; make one for each loop")
        self._loop, self._replicas = loop, None
        self._locks = WeakValueDictionary()
        self._bearer.enter_loop()

    def _connect(self) -> AsyncReplicas:
        if self._replicas is None:  # not made by the constructor, which may run before the loop does
            self._replicas = AsyncReplicas(self._connection, self._bearer)
        return self._replicas

    def _act(self, action: Send | Pause) -> Awaitable[Any]:
        """Carry out an action, and trace a call if the application traces."""
        if isinstance(action, Pause):
            return asyncio.sleep(action.seconds)
        span = _tracing.begin(action.method, action.message)
        return self._untraced(action) if span is None else self._traced(action, span)

    async def _traced(self, action: Send, span: _tracing.CallSpan) -> Any:
        with span:
            if span.is_sampled:  # the server learns of the span by the call's own metadata
                return await self._send(action, span.headers)
            return await self._untraced(action, span.headers)

    def _untraced(self, action: Send, headers: Metadata = ()) -> Awaitable[Any]:
        """Call a method. Forecasts requested at the same time travel together on one stream."""
        if isinstance(request := action.message, Request):
            return self._connect().of(request.session_id).stream.ask(request, action.timeout_seconds)
        return self._send(action, headers)

    async def _send(self, action: Send, headers: Metadata = ()) -> Any:
        """Call a method; a frame is split if its sessions belong to several replicas."""
        patience = Patience(action.timeout_seconds)  # to ask for a token takes time, too
        metadata = await self._bearer.metadata(action.timeout_seconds)
        replicas, message = self._connect(), action.message
        if not (parts := replicas.parts(message)):
            return await self._send_to(replicas.of(session_of(message)), action, patience, metadata, headers)
        outcomes = await asyncio.gather(
            *(
                self._send_to(replica, action._replace(message=part), patience, metadata, headers)
                for replica, part, _ in parts
            ),
            return_exceptions=True,
        )
        return merge(parts, outcomes)

    async def _send_to(
        self, replica: AsyncReplica, action: Send, patience: Patience, metadata: Metadata, headers: Metadata
    ) -> Any:
        headers += session_header(session_of(action.message))
        try:
            answer = await replica.method(action.method)(
                action.message, timeout=patience.remaining_seconds, metadata=metadata + headers
            )
            return action.method.read(answer)
        except grpc.RpcError as error:
            failure = self._bearer.failure(error, metadata)
            replica.note_failure(failure)
            raise failure from error
        except DecodeError as error:
            raise unreadable(error) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if not replica.is_retired or (task is not None and task.cancelling()):
                raise
            raise Cancelled("the replica's address is gone") from error  # closing the channel cancels its calls

    async def _run_alone(
        self, operation: Operation[T], sessions: Iterable["AsyncSession"], timeout_seconds: float
    ) -> T:
        """Run an operation while no other request of its sessions is in flight.

        A session remembers only its last 16 requests: others must not push out one whose outcome is unknown.
        """
        self._enter_loop()
        turn = Turn({session.id: self._turn(session) for session in sessions}, timeout_seconds)
        await turn.begin()
        try:
            return await self._carry_out(operation)
        finally:
            turn.end()

    async def _run(self, operation: Operation[T]) -> T:
        """Run an operation."""
        if not self._closed:
            self._enter_loop()
        return await self._carry_out(operation)

    async def _carry_out(self, operation: Operation[T]) -> T:
        if self._closed:
            raise StatecastError("the client is closed")
        try:
            action = next(operation)
            while True:
                try:
                    response = await self._act(action)
                except StatecastError as error:
                    action = operation.throw(error)
                else:
                    action = operation.send(response)
        except StopIteration as stop:
            result: T = stop.value
            return result
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise
            raise Cancelled("the client was closed") from error  # closing the channel cancels its calls
        except grpc.aio.UsageError as error:
            raise Cancelled("the client was closed") from error
