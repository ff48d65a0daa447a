"""One ForecastStream for any number of threads: requests sent at about the same time share a frame."""

import threading
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from ._bearer import Metadata, SyncBearer
from ._calls import FORECAST_STREAM
from ._outbox import Outbox, Settle
from ._replicas import Replica
from ._request import Key, Request
from ._response import read_results
from ._sync_replicas import SyncReplicas
from .errors import StatecastError, Unavailable, unreadable


class FrameStream:
    """A stream that is opened when there is something to send, and opened again after it has broken. Thread-safe."""

    def __init__(self, replica: Replica, bearer: SyncBearer, headers: Metadata) -> None:
        """Open streams to the replica, with the bearer's credential and these headers."""
        self._method, self._bearer, self._headers = replica.method(FORECAST_STREAM), bearer, headers
        self._outbox: Outbox[Settle] = Outbox(replica.note_failure)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._call: Any = None
        self._has_unsent = False

    def put(self, request: Request, timeout_seconds: float, settle: Settle) -> Key:
        """Queue a request for `flush`; another thread passes its result to `settle`."""
        with self._lock:
            self._has_unsent = True
            return self._outbox.put(request, timeout_seconds, settle)

    def flush(self) -> None:
        """Send what was put."""
        if not self._has_unsent:
            return
        with self._lock:
            self._has_unsent = False
            if self._call is None:
                self._open()
            self._changed.notify_all()

    def _open(self) -> None:
        try:
            call = _Call(self._bearer.metadata())
            call.inner = self._method(self._frames(call), metadata=call.metadata + self._headers)
        except StatecastError as error:  # there is no token
            self._outbox.fail(partial(copy, error))
        except ValueError:  # raised by gRPC if the channel was closed
            self._outbox.fail(partial(StatecastError, "the client is closed"))
        else:
            self._call = call
            threading.Thread(target=self._read, args=(call,), name="statecast-stream", daemon=True).start()

    def forget(self, key: Key) -> None:
        """Drop a request; its result, if one comes, is ignored."""
        with self._lock:
            self._outbox.forget(key)

    def close(self) -> None:
        """End the stream."""
        with self._lock:
            call = self._call
        if call is not None:
            call.inner.cancel()

    def _frames(self, call: "_Call") -> Iterator[Any]:
        while True:
            with self._lock:
                while not call.is_over and (frame := self._outbox.next_frame()) is None:
                    self._changed.wait()
                if call.is_over:
                    return
            yield frame

    def _read(self, call: "_Call") -> None:
        make_error: Callable[[], StatecastError] = partial(Unavailable, "the server has ended the stream")
        try:
            for frame in call.inner:
                results = read_results(frame)
                with self._lock:
                    self._outbox.take(results)
        except grpc.RpcError as error:
            make_error = partial(copy, self._bearer.failure(error, call.metadata))
        except DecodeError as error:
            make_error = partial(unreadable, error)
            call.inner.cancel()
        finally:
            with self._lock:
                call.is_over, self._call = True, None
                self._outbox.fail(make_error)
                self._changed.notify_all()


class FrameStreams:
    """A stream to each replica that has a request. Not thread-safe."""

    def __init__(self, replicas: SyncReplicas, bearer: SyncBearer, headers: Metadata) -> None:
        self._replicas, self._bearer, self._headers = replicas, bearer, headers
        self._streams: dict[Replica, FrameStream] = {}

    def put(self, request: Request, timeout_seconds: float, settle: Settle) -> "Sent":
        """Queue a request for `flush`; another thread passes its result to `settle`."""
        replica = self._replicas.of(request.session_id)
        stream = self._streams.get(replica)
        if stream is None:
            self._streams = {other: each for other, each in self._streams.items() if not other.is_retired}
            stream = self._streams[replica] = FrameStream(replica, self._bearer, self._headers)
        return Sent(stream, stream.put(request, timeout_seconds, settle))

    def flush(self) -> None:
        """Send what was put."""
        for stream in self._streams.values():
            stream.flush()

    def close(self) -> None:
        """End the streams."""
        for stream in self._streams.values():
            stream.close()


class Sent(NamedTuple):
    """A request that was put, and its stream."""

    stream: FrameStream
    key: Key

    def forget(self) -> None:
        """Drop the request; its result, if one comes, is ignored."""
        self.stream.forget(self.key)


@dataclass
class _Call:
    """One stream RPC."""

    metadata: Metadata
    inner: Any = None
    is_over: bool = False
