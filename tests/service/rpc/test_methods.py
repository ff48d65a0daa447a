"""Every call is measured once, and its error becomes a status with details."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc.aio import EOF
from support.calls import PlainCall

from statecast.service.access.gate import Gate
from statecast.service.errors import NotFound
from statecast.service.metrics import Metrics
from statecast.service.rpc.accounting import Accounts
from statecast.service.rpc.methods import Method, Methods
from statecast.service.rpc.request_log import RequestLog
from statecast.service.rpc.status import STATUS_CODES
from statecast.v1 import admin_service_pb2 as admin
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.reasons import Reason

SERVICE = "statecast.v1.ForecastService"


class Seen:
    """A method and what was counted of it."""

    def __init__(self, answer: Any) -> None:
        self.metrics = Metrics()
        methods = Methods(self.metrics, Accounts(self.metrics, RequestLog()), Gate())
        handler: Any = grpc.unary_unary_rpc_method_handler(answer, pb.GetSessionRequest.FromString)
        methods.add_registered_method_handlers(SERVICE, {"GetSession": handler})
        self.method: Method = methods.by_path[f"/{SERVICE}/GetSession"]

    def count(self, code: str, reason: str = "") -> tuple[float, float]:
        """Return how many RPCs and requests ended with a code."""
        sample = self.metrics.registry.get_sample_value
        rpc = {"grpc_type": "unary", "grpc_service": SERVICE, "grpc_method": "GetSession", "grpc_code": code}
        request = {"kind": "get", "code": code, "reason": reason}
        rpcs = sample("grpc_server_handled_total", rpc) or 0.0
        return rpcs, sample("statecast_requests_total", request) or 0.0


async def test_an_answer_is_encoded_and_counted() -> None:
    async def answer(request: pb.GetSessionRequest, _: object) -> pb.GetSessionResponse:
        response = pb.GetSessionResponse()
        response.session.session_id = request.session_id
        return response

    seen = Seen(answer)
    encoded = await seen.method.answer(
        seen.method.decode(pb.GetSessionRequest(session_id="s").SerializeToString()), PlainCall()
    )
    assert isinstance(encoded, bytes)
    assert pb.GetSessionResponse.FromString(encoded).session.session_id == "s"
    assert seen.count("OK") == (1, 1)


async def test_an_error_becomes_a_status() -> None:
    async def answer(*_: object) -> None:
        raise NotFound("no such session", Reason.SESSION_NOT_FOUND)

    seen = Seen(answer)
    status = await seen.method.answer(pb.GetSessionRequest(), PlainCall())
    assert isinstance(status, status_pb2.Status)
    assert (STATUS_CODES[status.code], status.message) == (grpc.StatusCode.NOT_FOUND, "no such session")
    assert seen.count("NOT_FOUND", "SESSION_NOT_FOUND") == (1, 1)


async def test_the_message_of_a_stream_whose_caller_sends_one_is_read_first() -> None:
    async def answer(request: admin.ExportSessionsRequest, context: Any) -> None:
        await context.write(request.prefix.encode())

    methods = Methods(Metrics(), Accounts(Metrics(), RequestLog()), Gate())
    handler: Any = grpc.unary_stream_rpc_method_handler(answer, admin.ExportSessionsRequest.FromString)
    methods.add_registered_method_handlers("statecast.v1.AdminService", {"ExportSessions": handler})
    method = methods.by_path["/statecast.v1.AdminService/ExportSessions"]
    assert (method.is_stream, method.asks_once) == (True, True)
    for sent, code in ((b"\x0a\x01a", None), (b"\xff", "INVALID_ARGUMENT"), (None, "INVALID_ARGUMENT")):
        call = StreamCall(EOF if sent is None else method.decode(sent))
        answered = await method.answer(None, call)
        if code is None:
            assert (answered, call.written) == (b"", [b"a"])
        else:
            assert isinstance(answered, status_pb2.Status)
            assert (STATUS_CODES[answered.code].name, call.written) == (code, [])


class StreamCall(PlainCall):
    """A stream that carries one message."""

    def __init__(self, message: Any) -> None:
        super().__init__()
        self._message, self.written = message, list[bytes]()

    async def read(self) -> Any:
        return self._message

    async def write(self, message: bytes) -> None:
        self.written.append(message)


async def test_a_caller_that_goes_is_counted_as_cancelled() -> None:
    async def answer(*_: object) -> None:
        await asyncio.Event().wait()

    seen = Seen(answer)
    call = asyncio.ensure_future(seen.method.answer(pb.GetSessionRequest(), PlainCall()))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert seen.count("CANCELLED") == (1, 1)


async def test_bytes_that_are_no_request_are_refused_by_the_method() -> None:
    async def answer(*_: object) -> None:
        raise AssertionError("never called")

    seen = Seen(answer)
    request = seen.method.decode(b"\xff")
    assert isinstance(request, DecodeError)
    status = await seen.method.answer(request, PlainCall())
    assert isinstance(status, status_pb2.Status)
    assert STATUS_CODES[status.code] is grpc.StatusCode.INVALID_ARGUMENT
    assert "generate your client from the server's .proto files" in status.message
