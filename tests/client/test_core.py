"""What a client knows about a session, and what follows from it for the next request."""

from collections.abc import Callable

import pytest

from statecast.client import NotFound, RequestOutdated, SessionRegressed, StatecastError, Unavailable, Version
from statecast.client._core import SessionCore
from statecast.client._replay_buffer import START
from statecast.client._request import NOTHING, ONLY_APPEND, Block, Options, Request, one_value
from statecast.client._response import Response
from statecast.v1 import forecast_pb2
from statecast.v1.reasons import Reason

ANSWER = Options(b"the options")


def opening() -> forecast_pb2.OpenOptions:
    return forecast_pb2.OpenOptions(model="tiny")


def request(*values: float, request_id: str = "r") -> Request:
    return Request("s", request_id, Block(b"the values", len(values)) if values else NOTHING)


def response(step: int, *, opened: bool = False) -> Response:
    made = Response("s", Version(step, step))
    made.opened = opened
    return made


def opened_core() -> SessionCore:
    core = SessionCore("s", opening())
    core.heard(request(1.0), response(1, opened=True))
    return core


def parts(core: SessionCore, *values: float) -> list[Request]:
    return core.parts([one_value(each) for each in values], ANSWER)


def test_the_first_request_opens_and_later_ones_do_not() -> None:
    core = SessionCore("s", opening())
    first, last = parts(core, 1.0, 2.0)
    assert first.opening == opening()
    assert last.opening is None
    assert (first.options, last.options) == (ONLY_APPEND, ANSWER)
    assert len({first.request_id, last.request_id}) == 2
    core.heard(first, response(1, opened=True))
    assert parts(core, 3.0)[0].opening is None


def test_a_session_that_must_exist_is_not_opened() -> None:
    assert parts(SessionCore("s", None), 1.0)[0].opening is None


def test_a_session_of_several_writers_is_looked_at_before_anything_is_appended() -> None:
    core = opened_core()
    assert not core.is_shared
    core.heard(request(2.0), response(5))
    assert core.is_shared
    look, appending = parts(core, 6.0)
    assert (look.block.values, appending.block.values) == (0, 1)
    core.heard(request(6.0), response(6))
    assert core.is_shared
    core.heard(request(), response(6))
    assert not core.is_shared  # this look found nothing of others
    assert len(parts(core, 7.0)) == 1


def test_each_request_says_what_was_seen_and_a_repeated_one_what_it_said_first() -> None:
    core = opened_core()
    sent = request(2.0)
    core.say_what_was_seen(sent)
    assert sent.last_seen == Version(1, 1)
    lost = Unavailable("the connection broke")
    core.failed(sent, lost)
    assert lost.outcome_unknown
    core.heard(request(3.0, request_id="other"), response(2))
    core.say_what_was_seen(sent)
    assert sent.last_seen == Version(1, 1)
    core.heard(sent, response(3))
    assert not core.unsettled


def test_before_the_first_answer_nothing_was_seen() -> None:
    sent = request(1.0)
    SessionCore("s", opening()).say_what_was_seen(sent)
    assert sent.last_seen == START


def error_at(kind: Callable[..., StatecastError], reason: str, step: int | None) -> StatecastError:
    error = kind("m", reason)
    if step is not None:
        error.current = Version(step, step)  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("was_tried", "current", "expected"), [(False, 40, True), (True, 40, False), (False, None, False)]
)
def test_a_first_attempt_that_is_outdated_may_be_made_again(
    was_tried: bool, current: int | None, expected: bool
) -> None:
    core = opened_core()
    error = error_at(RequestOutdated, Reason.REQUEST_OUTDATED, current)
    assert core.caught_up(request(2.0), error, was_tried) is expected
    assert core.version == (Version(40, 40) if expected else Version(1, 1))
    assert core.is_shared is expected


def test_a_request_of_unknown_outcome_is_never_made_again_as_if_it_were_new() -> None:
    core, sent = opened_core(), request(2.0)
    core.say_what_was_seen(sent)
    core.failed(sent, Unavailable("gone"))
    assert not core.caught_up(sent, error_at(RequestOutdated, Reason.REQUEST_OUTDATED, 40), was_tried=False)


def test_a_session_that_vanished_before_its_time_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    core = opened_core()
    core.time_to_live_seconds = 60.0
    vanished = error_at(NotFound, Reason.SESSION_NOT_FOUND, None)
    assert core.is_lost(vanished)
    assert core.is_lost(error_at(SessionRegressed, Reason.SESSION_REGRESSED, 0))
    assert not core.is_lost(error_at(NotFound, Reason.MODEL_NOT_FOUND, None))
    now = core.heard_at + 61
    monkeypatch.setattr("statecast.client._core.time.monotonic", lambda: now)
    assert not core.is_lost(vanished)  # it has expired
    assert not SessionCore("s", opening()).is_lost(vanished)  # nobody ever saw it


def test_a_closed_session_starts_over() -> None:
    core = opened_core()
    core.closed()
    assert (core.version, core.is_open, core.replay_buffer.since(START)) == (None, True, None)
