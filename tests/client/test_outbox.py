"""Requests go into frames in order, and each result to the caller that waits for it."""

from functools import partial

from statecast.client import NotFound, StatecastError, Unavailable, Version
from statecast.client._outbox import MAX_NUMBERS_A_FRAME, MAX_REQUESTS_A_FRAME, Outbox, Settle
from statecast.client._request import Block, Frame, Request, response_key
from statecast.client._response import Response
from statecast.v1 import forecast_service_pb2 as pb

Result = Response | StatecastError


def request(name: str, values: int = 1) -> Request:
    return Request("s", name, Block(b"", values))


def message(frame: Frame | None) -> pb.ForecastStreamRequest:
    return pb.ForecastStreamRequest.FromString(b"" if frame is None else frame.SerializeToString())


def ids(frame: Frame | None) -> list[str]:
    return [each.request_id for each in message(frame).requests]


def response(name: str) -> Response:
    return Response("s", Version(1, 1), response_key("s", name))


def test_requests_leave_in_order_with_their_timeouts() -> None:
    outbox: Outbox[Settle] = Outbox()
    for name in ("a", "b"):
        outbox.put(request(name), 2.25, lambda _: None)
    frame = message(outbox.next_frame())
    assert [each.request_id for each in frame.requests] == ["a", "b"]
    assert frame.requests[0].timeout.ToMilliseconds() == 2250
    assert outbox.next_frame() is None


def test_a_frame_is_bounded_by_requests_and_by_numbers() -> None:
    outbox: Outbox[Settle] = Outbox()
    for number in range(MAX_REQUESTS_A_FRAME + 1):
        outbox.put(request(str(number)), 1.0, lambda _: None)
    assert [len(ids(outbox.next_frame())) for _ in range(3)] == [MAX_REQUESTS_A_FRAME, 1, 0]
    for name in ("a", "b", "c"):
        outbox.put(request(name, MAX_NUMBERS_A_FRAME // 2), 1.0, lambda _: None)
    assert [ids(outbox.next_frame()) for _ in range(2)] == [["a", "b"], ["c"]]


def test_each_result_goes_to_its_caller_once() -> None:
    outbox: Outbox[Settle] = Outbox()
    got = dict[str, list[Result]]()
    for name in ("good", "bad"):
        outbox.put(request(name), 1.0, got.setdefault(name, []).append)
    good, bad = response("good"), NotFound("no such session")
    for _ in range(2):
        outbox.take([(good.key, good), (response_key("s", "bad"), bad), (response_key("s", "of nobody"), good)])
    assert got == {"good": [good], "bad": [bad]}


def test_a_forgotten_request_is_not_sent_and_its_result_is_ignored() -> None:
    outbox: Outbox[Settle] = Outbox()
    got = list[Result]()
    forgotten = outbox.put(request("a"), 1.0, got.append)
    outbox.put(request("b"), 1.0, lambda _: None)
    outbox.forget(forgotten)
    assert ids(outbox.next_frame()) == ["b"]
    outbox.take([(forgotten, response("a"))])
    assert not got


def test_all_who_wait_hear_that_the_stream_has_ended() -> None:
    outbox: Outbox[Settle] = Outbox()
    got = list[Result]()
    outbox.put(request("sent"), 1.0, got.append)
    outbox.next_frame()
    outbox.put(request("unsent"), 1.0, got.append)
    outbox.fail(partial(Unavailable, "the server has ended the stream"))
    assert [type(each) for each in got] == [Unavailable, Unavailable]
    assert got[0] is not got[1]
    assert outbox.next_frame() is None
