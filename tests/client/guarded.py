"""A small server that asks for a credential and refuses calls as the real one does."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1 import model_service_pb2
from statecast.v1.reasons import Reason

CODES = {
    Reason.ROLE_TOO_LOW: grpc.StatusCode.PERMISSION_DENIED,
    Reason.QUOTA_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Guarded(grpc.GenericRpcHandler):
    """It takes each credential that `refusal` takes; `headers` holds those that came, by method, in order.

    `affinity` holds what proxies would hash, in the same way, and `frames` the number of requests in each frame. While
    `is_unavailable`, it answers no call.
    A request adds its values to its session, once for each request id.
    """

    def __init__(self, credentials: grpc.ServerCredentials | None = None, address: str = "127.0.0.1:0") -> None:
        self.headers: list[tuple[str, str | None]] = []
        self.affinity: list[tuple[str, str | None]] = []
        self.frames: list[int] = []
        self.is_unavailable = False
        self.steps: Counter[str] = Counter()
        self.refusal: Callable[[str | None], Reason | None] = lambda _: None
        self._taken: set[str] = set()
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers((self,))
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self.target = f"127.0.0.1:{self.port}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        calls: dict[str, tuple[type[Message], Callable[[Any], Message]]] = {
            "ListModels": (model_service_pb2.ListModelsRequest, lambda _: model_service_pb2.ListModelsResponse()),
            "Forecast": (pb.ForecastRequest, self._answer),
            "ForecastMany": (pb.ForecastManyRequest, self._answer_all),
            "ForkSession": (pb.ForkSessionRequest, lambda _: pb.ForkSessionResponse()),
        }
        method = handler_call_details.method.rpartition("/")[2]
        if method == "ForecastStream":
            return grpc.stream_stream_rpc_method_handler(self._stream, pb.ForecastStreamRequest.FromString, _to_bytes)
        request, answer = calls[method]

        def call(message: Message, context: Any) -> Message:
            self._check(method, context)
            return answer(message)

        return grpc.unary_unary_rpc_method_handler(call, request.FromString, _to_bytes)

    def _stream(self, frames: Iterator[Any], context: Any) -> Iterator[Message]:
        """Look at the credential again before each request: it may have expired meanwhile."""
        header = self._check("ForecastStream", context)
        for frame in frames:
            for request in frame.requests:
                self._check_available(context)
                if reason := self.refusal(header):
                    self._refuse(reason, context)
                yield pb.ForecastStreamResponse(results=[pb.ForecastResult(response=self._answer(request))])

    def _answer_all(self, frame: Any) -> Message:
        self.frames.append(len(frame.requests))
        return pb.ForecastManyResponse(
            results=[pb.ForecastResult(response=self._answer(request)) for request in frame.requests]
        )

    def _answer(self, request: Any) -> Any:
        with self._lock:
            replayed = request.request_id in self._taken
            if not replayed:
                self._taken.add(request.request_id)
                self.steps[request.session_id] += len(request.observations.values)
            response = pb.ForecastResponse(
                session_id=request.session_id, request_id=request.request_id, replayed=replayed
            )
            response.version.step = self.steps[request.session_id]
        if request.horizon:
            response.forecast.horizon = request.horizon
            response.forecast.quantile_levels.append(0.5)
            response.forecast.targets.append("y")
            response.forecast.values.extend([0.0] * request.horizon)
        return response

    def _check(self, method: str, context: Any) -> str | None:
        metadata = dict(context.invocation_metadata())
        header = metadata.get("authorization")
        with self._lock:
            self.headers.append((method, header))
            self.affinity.append((method, metadata.get("x-statecast-session")))
        self._check_available(context)
        if reason := self.refusal(header):
            self._refuse(reason, context)
        return header

    def _check_available(self, context: Any) -> None:
        if self.is_unavailable:
            context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

    def _refuse(self, reason: Reason, context: Any) -> NoReturn:
        """Every refusal has a RetryInfo, which the client heeds only for a quota."""
        code = CODES.get(reason, grpc.StatusCode.UNAUTHENTICATED)
        status = status_pb2.Status(code=code.value[0], message=f"refused: {reason}")
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="statecast"))
        pause = Duration(nanos=20_000_000 if reason == Reason.QUOTA_EXCEEDED else 10_000_000)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=pause))
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, status.message)
        raise AssertionError("abort raises")


def _to_bytes(message: Message) -> bytes:
    return message.SerializeToString()
