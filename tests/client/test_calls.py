"""Retries, pauses and deadlines, without a connection: the operations yield what to send and how long to wait."""

import pytest

from statecast.client import (
    InvalidArgument,
    NotFound,
    PreconditionFailed,
    ResourceExhausted,
    StatecastError,
    Unavailable,
    VersionMismatch,
)
from statecast.client._calls import CLOSE_SESSION, GET_SESSION, Patience, Pause, Send, close_session, exchange
from statecast.v1 import forecast_service_pb2

LOOK = forecast_service_pb2.GetSessionRequest(session_id="s")
FOUND = forecast_service_pb2.GetSessionResponse()
FOUND.session.version.step = 7


def failed(kind: type[StatecastError], *, unknown: bool = False, after: float | None = None) -> StatecastError:
    error = kind("what is wrong")
    error.outcome_unknown, error.retry_after_seconds = unknown, after
    return error


def test_a_request_is_sent_again_after_a_pause_that_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    operation = exchange(GET_SESSION, LOOK, Patience(10.0))
    sent = next(operation)
    assert isinstance(sent, Send)
    assert (sent.method, sent.message) == (GET_SESSION, LOOK)
    assert 9 < sent.timeout_seconds <= 10
    pauses = []
    for _ in range(6):
        pause = operation.throw(failed(Unavailable))
        assert isinstance(pause, Pause)
        pauses.append(pause.seconds)
        assert isinstance(next(operation), Send)
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    with pytest.raises(StopIteration) as done:
        operation.send("answer")
    assert done.value.value == "answer"


def test_the_server_may_ask_for_a_longer_pause() -> None:
    pause = Patience(60.0).pause_after(failed(ResourceExhausted, after=30.0))
    assert pause.seconds == 30.0


def test_what_cannot_succeed_is_not_sent_again() -> None:
    operation = exchange(GET_SESSION, LOOK, Patience(10.0))
    next(operation)
    with pytest.raises(InvalidArgument):
        operation.throw(failed(InvalidArgument))


def test_no_pause_is_longer_than_the_time_left() -> None:
    with pytest.raises(Unavailable):
        Patience(0.5).pause_after(failed(Unavailable, after=0.6))
    patience = Patience(0.0)
    assert patience.is_over
    assert patience.remaining_seconds > 0  # gRPC takes no timeout of 0


def test_an_error_tells_that_an_earlier_attempt_may_have_been_carried_out() -> None:
    patience = Patience(10.0)
    patience.pause_after(failed(Unavailable, unknown=True))
    with pytest.raises(InvalidArgument) as caught:
        patience.pause_after(failed(InvalidArgument))
    assert caught.value.outcome_unknown


def test_a_session_is_closed_as_it_stands() -> None:
    operation = close_session("s", 10.0)
    assert sent_by(next(operation)).method is GET_SESSION
    closing = sent_by(operation.send(FOUND))
    assert closing.method is CLOSE_SESSION
    assert closing.message.if_version.step == 7  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        operation.send(None)


def test_a_session_whose_record_cannot_be_read_is_closed_all_the_same() -> None:
    operation = close_session("s", 10.0)
    next(operation)
    closing = sent_by(operation.throw(failed(PreconditionFailed)))
    assert closing.method is CLOSE_SESSION
    assert not closing.message.HasField("if_version")  # type: ignore[attr-defined]


def test_who_closes_looks_again_if_the_session_has_moved() -> None:
    operation = close_session("s", 10.0)
    next(operation)
    operation.send(FOUND)
    assert sent_by(operation.throw(failed(VersionMismatch))).method is GET_SESSION


@pytest.mark.parametrize("was_unknown", [False, True])
def test_a_session_that_is_gone_counts_as_closed_after_an_unknown_outcome(was_unknown: bool) -> None:
    operation = close_session("s", 10.0)
    next(operation)
    operation.send(FOUND)
    if was_unknown:
        operation.throw(failed(Unavailable, unknown=True))
        next(operation)
    with pytest.raises(StopIteration if was_unknown else NotFound):
        operation.throw(failed(NotFound))


def sent_by(action: Send | Pause) -> Send:
    assert isinstance(action, Send)
    return action
