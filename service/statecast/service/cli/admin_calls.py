"""Calls of AdminService, which go on after the server has gone away for a moment."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from statecast.client import DeadlineExceeded, ResourceExhausted, StatecastError, Unavailable
from statecast.client._bearer import SyncBearer
from statecast.client._calls import Patience
from statecast.client._connection import resolve_connection, resolve_credential
from statecast.client.errors import from_rpc_error, from_status
from statecast.v1 import admin_service_pb2 as pb
from statecast.v1.admin_service_pb2_grpc import AdminServiceStub


class AdminCalls:
    """A connection. Calls wait for each message as long as any request may take, and repeat what may succeed."""

    def __init__(self, connection: dict[str, Any]) -> None:
        """Connect, with the options of a command.

        Raises:
            InvalidArgument: One of them is wrong.
        """
        api_key, credential = resolve_credential(connection["api_key"], None, may_wait=False)
        arguments = {name: connection[name] for name in ("target", "tls", "ca", "cert", "key", "server_name")}
        self._channel = resolve_connection(**arguments, credential=credential).open()
        self._stub: Any = AdminServiceStub(self._channel)
        self._metadata = SyncBearer(api_key, None).metadata()
        self._timeout_seconds: float = connection["timeout_seconds"]

    def ask(self, method: str, request: Any) -> Any:
        """Return the answer of a call that carries one message each way; such calls can be repeated.

        Raises:
            StatecastError: The call has failed.
        """
        patience = Patience(self._timeout_seconds)
        while True:
            try:
                return getattr(self._stub, method)(request, metadata=self._metadata, timeout=patience.remaining_seconds)
            except grpc.RpcError as error:
                time.sleep(patience.pause_after(from_rpc_error(error)).seconds)

    def export(self, prefix: str) -> Iterator[pb.ExportSessionsResponse]:
        """Yield the messages of an export; after an interruption, sessions may come again.

        Raises:
            StatecastError: The call has failed.
        """
        token, patience = "", Patience(self._timeout_seconds)
        while True:
            request = pb.ExportSessionsRequest(prefix=prefix, page_token=token)
            call = self._stub.ExportSessions(request, metadata=self._metadata)
            try:
                while (message := self.receive(call)) is not None:
                    token = message.next_page_token or token
                    patience = Patience(self._timeout_seconds)
                    yield message
                return
            except StatecastError as error:
                time.sleep(patience.pause_after(error).seconds)
            finally:
                call.cancel()

    @contextmanager
    def importing(self, *, replace: bool) -> Iterator["Import"]:
        """Yield what imports sessions."""
        importing = Import(self, replace=replace)
        try:
            yield importing
        finally:
            importing.leave()

    def open_import(self, requests: "queue.SimpleQueue[pb.ImportSessionsRequest | None]") -> Any:
        """Return a call that sends what is put into the queue, until None."""
        return self._stub.ImportSessions(iter(requests.get, None), metadata=self._metadata)

    def patience(self) -> Patience:
        """Return the time for one request."""
        return Patience(self._timeout_seconds)

    def receive(self, call: Any) -> Any:
        """Return the call's next message; None at its end.

        Raises:
            StatecastError: It has failed, or no message comes in time.
        """
        timer = threading.Timer(self._timeout_seconds, call.cancel)
        timer.daemon = True
        timer.start()
        try:
            return next(call, None)
        except grpc.RpcError as error:
            if not timer.is_alive() and call.code() is grpc.StatusCode.CANCELLED:
                raise DeadlineExceeded("the server sends nothing more") from error
            raise from_rpc_error(error) from error
        finally:
            timer.cancel()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


class Import:
    """Imports one frame after the other, over one stream for as long as it lasts."""

    def __init__(self, calls: AdminCalls, *, replace: bool) -> None:
        self._calls, self._replace = calls, replace
        self._requests: queue.SimpleQueue[pb.ImportSessionsRequest | None] = queue.SimpleQueue()
        self._call: Any = None

    def take(self, sessions: Sequence[pb.ExportedSession]) -> list[pb.ImportResult]:
        """Import a frame, and return the result of each session.

        Raises:
            StatecastError: The call has failed, so the frame may have been imported or not; or the server is full.
        """
        results: dict[int, pb.ImportResult] = {}
        patience = self._calls.patience()
        while rest := [at for at in range(len(sessions)) if at not in results]:
            try:
                answered = dict(zip(rest, self._ask([sessions[at] for at in rest]), strict=True))
            except StatecastError as error:
                self.leave()
                time.sleep(patience.pause_after(error).seconds)
                continue
            failed = {at: from_status(each.status) for at, each in answered.items() if each.HasField("status")}
            again = {at: error for at, error in failed.items() if error.may_succeed_again}
            try:
                if again:
                    time.sleep(patience.pause_after(next(iter(again.values()))).seconds)
            except ResourceExhausted:
                raise
            except StatecastError:  # the fault of these sessions alone
                again = {}
            results |= {at: result for at, result in answered.items() if at not in again}
        return [results[at] for at in range(len(sessions))]

    def leave(self) -> None:
        """End the stream, if there is one."""
        if self._call is not None:
            self._requests.put(None)
            self._call.cancel()
            self._call = None

    def _ask(self, sessions: Sequence[pb.ExportedSession]) -> Sequence[pb.ImportResult]:
        if self._call is None:
            self._requests = queue.SimpleQueue()
            self._call = self._calls.open_import(self._requests)
        self._requests.put(pb.ImportSessionsRequest(sessions=sessions, replace=self._replace))
        answer = self._calls.receive(self._call)
        if answer is None:
            raise Unavailable("the server has ended the stream")
        results: Sequence[pb.ImportResult] = answer.results
        return results
