"""Admission: limits by number, bytes, share and deadline, and the delay that a refusal advises."""

import time

import numpy as np
import pytest

from statecast.service.engine.admission import RETRY_AFTER_SECONDS, SHARE, Admission, Load, Pace
from statecast.service.engine.request import Request, Ticket
from statecast.service.errors import Overloaded
from statecast.service.session_key import DEFAULT_TENANT
from statecast.v1.reasons import Reason

ONE = Request("s", values=np.ones(1))


def queued(admission: Admission, name: str, count: int, request: Request = ONE) -> None:
    for _ in range(count):
        admission._add(name, request.tenant, Load.of([request]), 0)


def leave(admission: Admission, name: str) -> None:
    ONE.ticket = Ticket(name, lambda answered: None, lambda: False)
    admission.leave([ONE])


def refused(admission: Admission, name: str, cost: int = 1, deadline: float | None = None) -> Overloaded:
    with pytest.raises(Overloaded) as caught:
        admission.check(DEFAULT_TENANT, name, cost, deadline)
    assert caught.value.reason is Reason.QUEUE_FULL
    return caught.value


def test_a_queue_is_full_at_its_number_of_requests() -> None:
    admission = Admission(max_requests=10, max_bytes=10**9)
    for name in "abcde":
        queued(admission, name, 2)
    refused(admission, "f")
    leave(admission, "a")
    admission.check(DEFAULT_TENANT, "f", 1, None)


def test_a_queue_is_full_at_its_bytes() -> None:
    large = Request("s", values=np.ones(100_000))
    admission = Admission(max_requests=100, max_bytes=2 * large.nbytes)
    queued(admission, "a", 1, large)
    admission.check(DEFAULT_TENANT, "b", 1, None)
    queued(admission, "b", 1, large)
    assert "MiB" in refused(admission, "c").message


def test_one_caller_alone_gets_four_fifths() -> None:
    admission = Admission(max_requests=100, max_bytes=10**9)
    taken = 0
    while True:
        try:
            admission.check(DEFAULT_TENANT, "greedy", 1, None)
        except Overloaded:
            break
        queued(admission, "greedy", 1)
        taken += 1
    assert taken == 100 * SHARE // (SHARE + 1)
    admission.check(DEFAULT_TENANT, "other", 1, None)


def test_a_first_request_may_be_of_any_size() -> None:
    Admission(max_requests=1, max_bytes=1).check(DEFAULT_TENANT, "a", 10**9, None)


def test_an_answer_that_would_come_too_late_is_refused_at_once() -> None:
    admission = Admission(max_requests=1000, max_bytes=10**9)
    admission.pace.note(seconds=1.0, cost=ONE.cost)
    queued(admission, "a", 5)
    now = time.monotonic()
    admission.check(DEFAULT_TENANT, "a", ONE.cost, now + 60)
    assert "deadline" in refused(admission, "a", ONE.cost, now + 3).message
    # Another caller waits only for its own turns: two of six batches.
    admission.check(DEFAULT_TENANT, "b", ONE.cost, now + 4)


def test_a_refusal_advises_to_wait_until_half_is_done() -> None:
    admission = Admission(max_requests=10, max_bytes=10**9)
    shortest, longest = RETRY_AFTER_SECONDS
    queued(admission, "a", 10)
    assert refused(admission, "b").retry_after_seconds == shortest
    admission.pace.note(seconds=0.2, cost=ONE.cost)
    assert refused(admission, "b").retry_after_seconds == pytest.approx(5 * 0.2)
    admission.pace.note(seconds=1000.0, cost=ONE.cost)
    assert refused(admission, "b").retry_after_seconds == longest


def test_who_has_left_is_forgotten() -> None:
    admission = Admission(max_requests=10, max_bytes=10**9)
    queued(admission, "a", 2)
    leave(admission, "a")
    assert (admission.queued.requests, admission.queued.cost) == (1, ONE.cost)
    leave(admission, "a")
    assert (admission.tenants, admission.queued) == ({}, Load())


def test_the_pace_is_a_moving_average_of_full_batches() -> None:
    pace = Pace()
    assert (pace.seconds(100), pace.cost_within(1.0, 640)) == (0.0, 640)
    pace.note(seconds=0.1, cost=100)
    assert pace.seconds(50) == pytest.approx(0.05)  # part of a batch
    assert pace.seconds(250) == pytest.approx(0.3)  # whole batches
    assert pace.cost_within(0.2, 640) == 200
    assert pace.cost_within(0.001, 640) == 640 // 16
    pace.note(seconds=0.6, cost=100)
    assert pace.batch_seconds == pytest.approx(0.2)
