"""A proxy that loses, refuses and delays calls to a real server, as networks and load balancers do."""

import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from statecast.v1 import forecast_service_pb2 as pb

Fault = Callable[[Any, Callable[[], bytes]], bytes]


def honest(context: Any, forward: Callable[[], bytes]) -> bytes:
    """Forward the call without a fault."""
    return forward()


def lose(context: Any, forward: Callable[[], bytes]) -> bytes:
    """Forward the call, but lose the answer."""
    forward()
    raise context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")


def cut_off(context: Any, forward: Callable[[], bytes]) -> bytes:
    """Forward the call, but lose the answer, with code CANCELLED."""
    forward()
    raise context.abort(grpc.StatusCode.CANCELLED, "stream reset")


def reset(context: Any, forward: Callable[[], bytes]) -> bytes:
    """Forward the call, but lose the answer, with the error of a removed connection."""
    forward()
    raise context.abort(grpc.StatusCode.UNKNOWN, "Stream removed")


def drop(context: Any, forward: Callable[[], bytes]) -> bytes:
    """Lose the request."""
    raise context.abort(grpc.StatusCode.UNAVAILABLE, "no route to host")


def stall(context: Any, forward: Callable[[], bytes]) -> bytes:
    """Forward the call, but delay the answer."""
    answer = forward()
    time.sleep(1)
    return answer


def turn_away(context: Any, forward: Callable[[], bytes]) -> bytes:
    """Refuse the request as a full server does, with a delay for the retry."""
    status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="queue full")
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=Duration(nanos=200_000_000)))
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    raise context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full")


def too_large(context: Any, forward: Callable[[], bytes]) -> bytes:
    """Refuse the message as the transport does."""
    raise context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max")


class Chance:
    """Random faults, each with its share of the calls; the same seed gives the same faults."""

    def __init__(self, shares: Mapping[Fault, float], seed: int) -> None:
        self.injected = 0
        self._shares = dict(shares)
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self) -> Fault:
        with self._lock:
            left = self._random.random()
            for fault, share in self._shares.items():
                if left < share:
                    self.injected += 1
                    return fault
                left -= share
        return honest


class Proxy(grpc.GenericRpcHandler):
    """A proxy to `target` that applies a fault to each call: first those in `faults`, then those from `choose`.

    On a stream each frame of requests has its own fault. A fault that loses a message ends the stream, as a lost
    connection does.
    """

    def __init__(self, target: str, choose: Callable[[], Fault] = lambda: honest, threads: int = 8) -> None:
        self.faults: deque[Fault] = deque()
        self.calls = 0
        self._choose = choose
        self._channel = grpc.insecure_channel(target)
        self._server = grpc.server(ThreadPoolExecutor(threads))
        self._server.add_generic_rpc_handlers((self,))
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method

        def call(request: bytes, context: Any) -> bytes:
            return self._next()(context, lambda: self._forward(method, request, context))

        def stream(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            return self._forward_stream(method, requests, context)

        if method.endswith("Stream"):
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(call)

    def _next(self) -> Fault:
        self.calls += 1
        try:
            return self.faults.popleft()
        except IndexError:
            return self._choose()

    def _forward(self, method: str, request: bytes, context: Any) -> bytes:
        call: Any = self._channel.unary_unary(method)
        try:
            answer: bytes = call(request)
        except grpc.RpcError as error:
            _pass_on(error, context)
        return answer

    def _forward_stream(self, method: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """Forward a frame only after all results of the frame before, so that each frame can have its own fault."""
        frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        call: Any = self._channel.stream_stream(method)
        answers = call(iter(frames.get, None))

        def stop() -> None:
            answers.cancel()
            frames.put(None)

        def forward(frame: bytes) -> bytes:
            frames.put(frame)
            wanted, found = len(pb.ForecastStreamRequest.FromString(frame).requests), pb.ForecastStreamResponse()
            try:
                while len(found.results) < wanted:
                    found.MergeFromString(next(answers))
            except grpc.RpcError as error:
                _pass_on(error, context)
            except StopIteration:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the server has ended the stream")
            return found.SerializeToString()

        context.add_callback(stop)
        for frame in requests:
            yield self._next()(context, partial(forward, frame))

    def stop(self) -> None:
        self._server.stop(0).wait()
        self._channel.close()


def _pass_on(error: grpc.RpcError, context: Any) -> NoReturn:
    failed: Any = error
    context.set_trailing_metadata(failed.trailing_metadata() or ())
    raise context.abort(failed.code(), failed.details())
