"""The replay buffer holds an unbroken history from its first version on, or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.client import Version
from statecast.client._replay_buffer import MAX_NUMBERS, START, ReplayBuffer
from statecast.client._request import NOTHING, Block, Request
from statecast.client._response import Response


def request(*values: float, request_id: str = "", targets: int = 0, covariates: int = 0) -> Request:
    block = Block(b"the values", len(values), covariates, targets) if values else NOTHING
    return Request("s", request_id, block)


def response(step: int, tag: int = 0, *, opened: bool = False, missing_steps: int = 0) -> Response:
    made = Response("s", Version(step, tag or step))
    made.opened, made.missing_steps = opened, missing_steps
    return made


def at(step: int) -> Version:
    return Version(step, step)


def filled(steps: int, max_requests: int = 32) -> ReplayBuffer:
    """Return the buffer of a session that was opened here and took one value in each request."""
    buffer = ReplayBuffer(max_requests)
    before: Version | None = None
    for step in range(1, steps + 1):
        assert buffer.note(request(float(step), request_id=str(step)), response(step, opened=step == 1), before)
        before = at(step)
    return buffer


def ids(buffer: ReplayBuffer, since: Version) -> list[str] | None:
    taken = buffer.since(since)
    return None if taken is None else [each.request_id for each in taken]


def test_it_returns_the_requests_after_a_version() -> None:
    buffer = filled(4)
    assert buffer.first == START
    assert ids(buffer, START) == ["1", "2", "3", "4"]
    assert ids(buffer, at(2)) == ["3", "4"]
    assert ids(buffer, at(4)) == []
    assert ids(buffer, Version(2, 99)) is None  # another history


@given(steps=st.integers(1, 40), room=st.integers(0, 8))
def test_the_oldest_requests_leave_first(steps: int, room: int) -> None:
    buffer = filled(steps, room)
    kept = min(steps, room)
    first = at(steps - kept) if steps > kept else START
    assert buffer.first == first
    assert ids(buffer, first) == [str(step) for step in range(steps - kept + 1, steps + 1)]


def test_numbers_are_bounded_covariates_included() -> None:
    buffer = ReplayBuffer(32)
    large = request(*[0.0] * (MAX_NUMBERS // 2), covariates=MAX_NUMBERS // 2)
    buffer.note(large, response(MAX_NUMBERS // 2, opened=True), None)
    assert ids(buffer, START) == [""]
    buffer.note(request(1.0), response(MAX_NUMBERS // 2 + 1), at(MAX_NUMBERS // 2))
    assert ids(buffer, START) is None
    assert buffer.first == at(MAX_NUMBERS // 2)


@pytest.mark.parametrize(
    ("sent", "step", "missing_steps", "is_alone"),
    [
        (request(1.0), 4, 0, True),
        (request(1.0), 5, 0, False),  # another caller appended a step
        (request(1.0), 5, 1, True),
        (request(1.0, 2.0), 5, 0, True),
        (request(1.0, 2.0), 4, 0, True),  # of two targets
        (request(1.0, 2.0, targets=1), 4, 0, False),
        (request(1.0, 2.0, 3.0), 5, 0, False),
        (request(), 3, 0, True),
        (request(), 4, 0, False),
    ],
)
def test_other_writers_are_noticed_by_the_steps(sent: Request, step: int, missing_steps: int, is_alone: bool) -> None:
    buffer = filled(3)
    assert buffer.note(sent, response(step, missing_steps=missing_steps), at(3)) is is_alone
    assert (ids(buffer, at(3)) is not None) is is_alone
    assert buffer.since(at(step)) == []


def test_a_session_of_unknown_history_is_kept_from_its_first_answer_on() -> None:
    buffer = ReplayBuffer(32)
    assert buffer.note(request(1.0, request_id="a"), response(100), None)
    assert (buffer.first, ids(buffer, at(100))) == (at(100), [])
    buffer.note(request(1.0, request_id="b"), response(101), at(100))
    assert ids(buffer, at(100)) == ["b"]


def test_a_session_that_was_opened_again_starts_over() -> None:
    buffer = filled(3)
    buffer.note(request(7.0, request_id="new"), response(1, 50, opened=True), at(3))
    assert ids(buffer, START) == ["new"]
    assert ids(buffer, at(2)) is None


def test_an_empty_one_of_the_same_size_is_made_for_a_fork() -> None:
    fork = filled(5, max_requests=2).begun_at(at(5))
    assert ids(fork, at(5)) == []
    for step in (6, 7, 8):
        fork.note(request(1.0, request_id=str(step)), response(step), at(step - 1))
    assert ids(fork, at(6)) == ["7", "8"]
