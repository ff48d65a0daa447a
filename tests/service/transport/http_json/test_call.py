"""Calls over HTTP/JSON, without a server: what is sent for what is received."""

import asyncio
import json
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from support.asgi import DISCONNECT, Caller, forever, part

from statecast.service.errors import Overloaded, Unauthenticated
from statecast.service.rpc.status import STATUS_CODES, to_status
from statecast.service.transport.asgi_call import LOOK_SECONDS
from statecast.service.transport.http_json.call import CHUNK_BYTES, HTTP_STATUS, MOST_BYTES
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.reasons import Reason

FORECAST = "/statecast.v1.ForecastService/Forecast"
MANY, GET_SESSION = FORECAST + "Many", "/statecast.v1.ForecastService/GetSession"
PATH = "/v1/sessions/boiler%207:forecast"
JSON = (b"content-type", b"application/json; charset=utf-8")


async def horizon(request: Any, context: Any) -> bytes:
    """Answer a request with its own session and horizon."""
    asked = pb.ForecastRequest.FromString(request)
    return pb.ForecastResponse(session_id=asked.session_id, missing_steps=asked.horizon).SerializeToString()


async def call(caller: Caller, *events: Any, **others: Any) -> tuple[int, Any]:
    """Make a call; return the HTTP status and the answer."""
    await asyncio.wait_for(caller.call(*events, **{"path": PATH, "headers": [JSON], **others}), 20)
    return caller.sent[0]["status"], json.loads(caller.body)


def headers_of(caller: Caller) -> dict[bytes, bytes]:
    return dict(caller.sent[0]["headers"])


@pytest.mark.parametrize("events", [[part(b'{"horizon":3}')], [part(b'{"hor', more=True), part(b'izon":3}')]])
async def test_a_call_is_answered(events: list[Any]) -> None:
    caller = Caller(horizon, method=FORECAST)
    status, answer = await call(caller, *events)
    assert (status, answer["sessionId"], answer["missingSteps"]) == (200, "boiler 7", 3)
    assert headers_of(caller)[b"content-type"] == b"application/json"
    assert not any(event["type"] == "http.response.trailers" for event in caller.sent)


async def test_the_body_may_repeat_the_path_and_not_contradict_it() -> None:
    status, _ = await call(Caller(horizon, method=FORECAST), part(b'{"sessionId":"boiler 7"}'))
    assert status == 200


@pytest.mark.parametrize(
    ("others", "status", "said"),
    [
        ({"headers": []}, 415, "content-type: must be application/json"),
        ({"headers": [(b"content-type", b"text/plain")]}, 415, "content-type: must be application/json"),
        ({"headers": [JSON, (b"content-encoding", b"gzip")]}, 415, "content-encoding"),
        ({"headers": [JSON, (b"grpc-timeout", b"soon")]}, 400, "grpc-timeout 'soon'"),
        ({"path": "/v1/nothing"}, 404, "there is no 'POST' '/v1/nothing' here; there are: POST /v1/sessions/{session"),
        ({"path": "/v1/sessions/a/b:forecast"}, 404, "there is no"),
        ({"path": "/v1/sessions/:forecast"}, 404, "there is no"),
        ({"path": "/v1/sessions/a:forecast/"}, 404, "there is no"),
        ({"path": "/" + "x" * 9000}, 404, "there is no"),
        ({"method": "GET"}, 405, "there is no 'GET'"),
        ({"method": "OPTIONS"}, 405, "there is no 'OPTIONS'"),
    ],
)
async def test_what_is_no_call_is_told_why(others: dict[str, Any], status: int, said: str) -> None:
    caller = Caller(horizon, method=FORECAST)
    number, answer = await call(caller, part(b"{}"), **others)
    assert number == status
    assert said in answer["message"]
    assert len(answer["message"]) < 1000
    assert headers_of(caller).get(b"allow") == (b"POST" if status == 405 else None)


async def test_head_has_no_body() -> None:
    caller = Caller(horizon, method=FORECAST)
    await caller.call(part(b""), path="/", method="HEAD", headers=[])
    assert (caller.sent[0]["status"], caller.body) == (404, b"")


async def test_a_malformed_request_reaches_the_method_as_an_error() -> None:
    """So it is counted, logged and answered like one over gRPC."""
    asked: list[Any] = []

    async def answer(request: Any, _: object) -> status_pb2.Status:
        asked.append(request)
        return status_pb2.Status(code=3)

    status, _ = await call(Caller(answer, method=FORECAST), part(b'{"horizon":"far"}'))
    assert (status, asked[0].field) == (400, "horizon")
    await call(Caller(answer, method=FORECAST), part(b'{"sessionId":"other"}'))
    assert asked[1].problem == "'other' is not 'boiler 7' of the path; leave it out of the body"
    await call(Caller(answer, method=FORECAST), part(b"{}"), query=b"horizon=3")
    assert asked[2].field == "query"
    await call(Caller(answer, method=FORECAST), part(b"{}"), path="/v1/sessions/%ff:forecast")
    assert asked[3].field == "session_id"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (b"", None),
        (b"a=1", "a"),
        (b"session_id=x&sessionId=x", "session_id"),
        (b"x=1&x=2", "x"),
        (b"x=1&x.y=2", "'x.y'"),
        (b"x", "query"),
        (b"x=%ff", "query"),
        (b"x=\xff", "query"),
        (b"&".join(b"x%d=1" % index for index in range(100)), "query"),
        (b"x." * 9000 + b"y=1", "x"),
    ],
)
async def test_a_query_is_checked(query: bytes, field: str | None) -> None:
    asked: list[Any] = []

    async def answer(request: Any, _: object) -> bytes:
        asked.append(request)
        return b""

    caller = Caller(answer, method=GET_SESSION)
    await call(caller, part(b""), path="/v1/sessions/x", method="GET", headers=[], query=query)
    assert getattr(asked[0], "field", None) == field


async def test_a_body_of_get_is_refused() -> None:
    asked: list[Any] = []

    async def answer(request: Any, _: object) -> bytes:
        asked.append(request)
        return b""

    await call(Caller(answer, method=GET_SESSION), part(b"{}"), path="/v1/sessions/x", method="GET", headers=[])
    assert asked[0].problem == "GET takes no body; put its fields into the query, after ?"


@pytest.mark.parametrize("code", list(grpc.StatusCode)[1:])
async def test_each_code_has_its_http_status(code: grpc.StatusCode) -> None:
    async def answer(*_: object) -> status_pb2.Status:
        return to_status(Overloaded("later", Reason.QUEUE_FULL)) if code.name == "RESOURCE_EXHAUSTED" else status

    status = status_pb2.Status(code=code.value[0], message="no")
    number, said = await call(Caller(answer, method=FORECAST), part(b"{}"))
    assert number == HTTP_STATUS[code] >= 400
    assert STATUS_CODES[said["code"]] is code


async def test_an_error_has_details_and_the_headers_of_http() -> None:
    async def full(*_: object) -> status_pb2.Status:
        return to_status(Overloaded("the queue is full", Reason.QUEUE_FULL))

    async def strange(*_: object) -> status_pb2.Status:
        return to_status(Unauthenticated("who?", Reason.CREDENTIAL_MISSING))

    caller = Caller(full, method=FORECAST)
    _, said = await call(caller, part(b"{}"))
    reason, retry = said["details"]
    assert (reason["reason"], retry["retryDelay"]) == ("QUEUE_FULL", "0.100s")
    assert headers_of(caller)[b"retry-after"] == b"1"
    caller = Caller(strange, method=FORECAST)
    assert (await call(caller, part(b"{}")))[0] == 401
    assert headers_of(caller)[b"www-authenticate"] == b"Bearer"


@pytest.mark.parametrize("most", [1000, 2 * MOST_BYTES])
async def test_a_body_that_is_too_large_is_refused_before_it_ends(most: int) -> None:
    caller = Caller(horizon, method=FORECAST, most=most)
    number, said = await call(caller, part(b" " * min(most, MOST_BYTES), more=True), part(b"{", more=True))
    assert (number, said["code"]) == (413, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    assert "larger than" in said["message"]
    assert said["details"] == []


async def test_a_deadline_ends_the_call() -> None:
    headers = [JSON, (b"grpc-timeout", b"50m")]
    number, said = await call(Caller(forever, method=FORECAST), part(b"{}"), headers=headers)
    assert (number, said["message"]) == (504, "the deadline has passed")


async def test_a_caller_that_goes_cancels_its_call() -> None:
    cancelled = asyncio.Event()

    async def answer(*_: object) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    caller = Caller(answer, method=FORECAST)
    await caller.transport.start()
    made = asyncio.ensure_future(caller.call(part(b"{}"), DISCONNECT, path=PATH, headers=[JSON]))
    await asyncio.wait_for(cancelled.wait(), 10 * LOOK_SECONDS)
    await made
    assert caller.sent == []
    await caller.transport.stop(0)


async def test_a_large_frame_is_sent_in_parts() -> None:
    forecast = pb.ForecastResponse(pit=[0.125] * 2000)
    answered = pb.ForecastManyResponse(results=[pb.ForecastResult(response=forecast)] * 50).SerializeToString()

    async def answer(*_: object) -> bytes:
        return answered

    caller = Caller(answer, method=MANY)
    _, said = await call(caller, part(b"{}"), path="/v1/sessions:forecastMany")
    assert len(said["results"]) == 50
    sizes = [len(event["body"]) for event in caller.sent if event["type"] == "http.response.body"]
    assert len(sizes) > 5
    assert max(sizes) < 2 * CHUNK_BYTES
