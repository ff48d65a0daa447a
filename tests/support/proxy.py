"""A proxy that loses, refuses and delays calls on the way to a real server, as networks and balancers do."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

Fault = Callable[[Any, Callable[[], bytes]], bytes]


def honest(context: Any, forward: Callable[[], bytes]) -> bytes:
    """Nothing goes wrong."""
    return forward()


def lose(context: Any, forward: Callable[[], bytes]) -> bytes:
    """The server does its work, but its answer never arrives."""
    forward()
    raise context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")


def cut_off(context: Any, forward: Callable[[], bytes]) -> bytes:
    """The same, under another code."""
    forward()
    raise context.abort(grpc.StatusCode.CANCELLED, "stream reset")


def drop(context: Any, forward: Callable[[], bytes]) -> bytes:
    """The request never arrives."""
    raise context.abort(grpc.StatusCode.UNAVAILABLE, "no route to host")


def stall(context: Any, forward: Callable[[], bytes]) -> bytes:
    """The server does its work, but its answer takes too long."""
    answer = forward()
    time.sleep(1)
    return answer


def turn_away(context: Any, forward: Callable[[], bytes]) -> bytes:
    """The server has no room, and says when to try again."""
    status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="queue full")
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=Duration(nanos=200_000_000)))
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    raise context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full")


def too_large(context: Any, forward: Callable[[], bytes]) -> bytes:
    """The transport refuses the message."""
    raise context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max")


class Proxy(grpc.GenericRpcHandler):
    """Forwards every unary call to `target`; the first ones meet the faults that were put into `faults`."""

    def __init__(self, target: str) -> None:
        self.faults: deque[Fault] = deque()
        self.calls = 0
        self._channel = grpc.insecure_channel(target)
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((self,))
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        def call(request: bytes, context: Any) -> bytes:
            self.calls += 1

            def forward() -> bytes:
                return self._forward(handler_call_details.method, request, context)

            return self.faults.popleft()(context, forward) if self.faults else forward()

        return grpc.unary_unary_rpc_method_handler(call)

    def _forward(self, method: str, request: bytes, context: Any) -> bytes:
        call: Any = self._channel.unary_unary(method)
        try:
            answer: bytes = call(request)
        except grpc.RpcError as error:
            failed: Any = error
            context.set_trailing_metadata(failed.trailing_metadata())
            context.abort(failed.code(), failed.details())
        return answer

    def stop(self) -> None:
        self._server.stop(0).wait()
        self._channel.close()
