"""Requests go into frames in order, and each result to the caller that waits for it."""

from functools import partial

from google.rpc import code_pb2

from statecast.client import NotFound, StatecastError, Unavailable
from statecast.client._core import Request, Response
from statecast.client._outbox import MAX_NUMBERS_A_FRAME, MAX_REQUESTS_A_FRAME, Outbox
from statecast.v1 import forecast_service_pb2

Result = Response | StatecastError


def request(name: str, values: int = 1) -> Request:
    made = Request(session_id="s", request_id=name)
    made.observations.values.extend([0.0] * values)
    return made


def ids(frame: forecast_service_pb2.ForecastStreamRequest | None) -> list[str]:
    return [] if frame is None else [each.request_id for each in frame.requests]


def test_requests_leave_in_order_with_their_timeouts() -> None:
    outbox = Outbox()
    for name in ("a", "b"):
        outbox.put(request(name), 2.25, lambda _: None)
    frame = outbox.next_frame()
    assert frame is not None
    assert ids(frame) == ["a", "b"]
    assert frame.requests[0].timeout.ToMilliseconds() == 2250
    assert outbox.next_frame() is None


def test_a_frame_is_bounded_by_requests_and_by_numbers() -> None:
    outbox = Outbox()
    for number in range(MAX_REQUESTS_A_FRAME + 1):
        outbox.put(request(str(number)), 1.0, lambda _: None)
    assert [len(ids(outbox.next_frame())) for _ in range(3)] == [MAX_REQUESTS_A_FRAME, 1, 0]
    for name in ("a", "b", "c"):
        outbox.put(request(name, MAX_NUMBERS_A_FRAME // 2), 1.0, lambda _: None)
    assert [ids(outbox.next_frame()) for _ in range(2)] == [["a", "b"], ["c"]]


def test_each_result_goes_to_its_caller_once() -> None:
    outbox, got = Outbox(), dict[str, list[Result]]()
    for name in ("good", "bad"):
        outbox.put(request(name), 1.0, got.setdefault(name, []).append)
    frame = forecast_service_pb2.ForecastStreamResponse()
    frame.results.add(response=Response(session_id="s", request_id="good"))
    refused = frame.results.add(session_id="s", request_id="bad")
    refused.status.code, refused.status.message = code_pb2.NOT_FOUND, "no such session"
    frame.results.add(response=Response(session_id="s", request_id="of nobody"))
    for _ in range(2):
        outbox.take(frame)
    assert got["good"] == [frame.results[0].response]
    assert [type(each) for each in got["bad"]] == [NotFound]


def test_a_forgotten_request_is_not_sent_and_its_result_is_ignored() -> None:
    outbox, got = Outbox(), list[Result]()
    forgotten = outbox.put(request("a"), 1.0, got.append)
    outbox.put(request("b"), 1.0, lambda _: None)
    outbox.forget(forgotten)
    assert ids(outbox.next_frame()) == ["b"]
    outbox.take(
        forecast_service_pb2.ForecastStreamResponse(
            results=[forecast_service_pb2.ForecastResult(response=Response(session_id="s", request_id="a"))]
        )
    )
    assert not got


def test_all_who_wait_hear_that_the_stream_has_ended() -> None:
    outbox, got = Outbox(), list[Result]()
    outbox.put(request("sent"), 1.0, got.append)
    outbox.next_frame()
    outbox.put(request("unsent"), 1.0, got.append)
    outbox.fail(partial(Unavailable, "the server has ended the stream"))
    assert [type(each) for each in got] == [Unavailable, Unavailable]
    assert got[0] is not got[1]
    assert outbox.next_frame() is None
