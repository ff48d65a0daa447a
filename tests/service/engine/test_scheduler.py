import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.service.engine.admission import Load
from statecast.service.engine.request import OVERHEAD_BYTES, Request, Ticket
from statecast.service.engine.scheduler import Batch, BatchLimits, Scheduler
from statecast.service.errors import Overloaded, Unavailable
from statecast.v1.reasons import Reason


def request(session_id: str, values: int = 0, *, wanted: bool = True, caller: str = "", **others: Any) -> Request:
    """Return a request that costs one more than its number of values, with its ticket."""
    made = Request(session_id, values=np.zeros(values), **others)
    made.ticket = Ticket(caller, lambda answered: None, lambda: not wanted)
    return made


def submit(scheduler: Scheduler, asked: Request) -> None:
    """Queue a request that must not be refused.

    Raises:
        ServiceError: if it is.
    """
    _, error = scheduler.submit(asked.ticket, [asked])
    if error is not None:
        raise error


def sizes(batch: Batch | None) -> dict[str, int]:
    assert batch is not None
    return {session_id: len(requests) for session_id, requests in batch.sessions.items()}


def requests_of(batch: Batch) -> list[Request]:
    return [each for requests in batch.sessions.values() for each in requests]


def take(scheduler: Scheduler) -> Batch:
    batch = scheduler.take()
    assert batch is not None
    return batch


def test_what_gathered_is_one_batch_in_order_of_arrival() -> None:
    scheduler = Scheduler(BatchLimits())
    for name in "baab":
        submit(scheduler, request(name))
    assert list(sizes(scheduler.take()).items()) == [("b", 2), ("a", 2)]
    assert scheduler.queued_requests == 0


def test_a_session_is_in_one_batch_at_a_time() -> None:
    scheduler = Scheduler(BatchLimits())
    submit(scheduler, request("a"))
    first = take(scheduler)
    submit(scheduler, request("a"))
    submit(scheduler, request("b"))
    assert sizes(scheduler.take()) == {"b": 1}
    scheduler.done(first)
    assert sizes(scheduler.take()) == {"a": 1}


def test_bounds_leave_the_rest_for_the_next_batch() -> None:
    scheduler = Scheduler(BatchLimits(sessions=2, cost=10))
    for name, values in (("a", 3), ("a", 3), ("a", 3), ("b", 0), ("c", 0)):
        submit(scheduler, request(name, values))
    assert sizes(scheduler.take()) == {"a": 3}  # the last one crosses the limit; nothing follows it
    assert sizes(scheduler.take()) == {"b": 1, "c": 1}


def test_a_request_larger_than_the_bound_still_goes() -> None:
    scheduler = Scheduler(BatchLimits(cost=10))
    submit(scheduler, request("a", 1000))
    assert sizes(scheduler.take()) == {"a": 1}


def test_a_close_goes_alone() -> None:
    scheduler = Scheduler(BatchLimits())
    for close in (False, True, False, False):
        submit(scheduler, request("a", close=close))
    seen = []
    for _ in range(3):
        batch = take(scheduler)
        seen.append([each.close for each in batch.sessions["a"]])
        scheduler.done(batch)
    assert seen == [[False], [True], [False, False]]


def test_who_has_gone_is_left_out() -> None:
    scheduler = Scheduler(BatchLimits())
    submit(scheduler, request("a", wanted=False))
    submit(scheduler, request("b", wanted=False))
    submit(scheduler, request("b"))
    assert sizes(scheduler.take()) == {"b": 1}
    assert scheduler.queued_requests == 0


def test_whose_deadline_has_passed_is_told_so_and_does_not_reach_the_model() -> None:
    scheduler = Scheduler(BatchLimits())
    late = request("a", deadline=time.monotonic() - 1)
    submit(scheduler, late)
    submit(scheduler, request("a", deadline=time.monotonic() + 100))
    batch = take(scheduler)
    assert sizes(batch) == {"a": 1}
    assert batch.late == [late]


def test_a_full_queue_turns_requests_away() -> None:
    scheduler = Scheduler(BatchLimits(queued_requests=1))
    submit(scheduler, request("a"))
    with pytest.raises(Overloaded) as caught:
        submit(scheduler, request("a"))
    assert caught.value.reason is Reason.QUEUE_FULL
    assert caught.value.retry_after_seconds > 0


def test_a_queue_full_of_bytes_turns_requests_away() -> None:
    scheduler = Scheduler(BatchLimits(queued_bytes=10 * OVERHEAD_BYTES))
    submit(scheduler, request("a", 9 * OVERHEAD_BYTES // 8))
    with pytest.raises(Overloaded, match="MiB"):
        submit(scheduler, request("b", caller="other"))
    take(scheduler)
    submit(scheduler, request("b", caller="other"))


def test_one_caller_leaves_room_for_the_others() -> None:
    scheduler = Scheduler(BatchLimits(queued_requests=100))
    for number in range(80):
        submit(scheduler, request(f"greedy-{number}", caller="greedy"))
    with pytest.raises(Overloaded, match="80 of them on this connection"):
        submit(scheduler, request("greedy", caller="greedy"))
    for number in range(10):
        submit(scheduler, request(f"modest-{number}", caller="modest"))


def test_callers_take_turns_whatever_they_have_queued() -> None:
    scheduler = Scheduler(BatchLimits(sessions=4))
    for number in range(50):
        submit(scheduler, request(f"greedy-{number}", caller="greedy"))
    submit(scheduler, request("modest", caller="modest"))
    assert "modest" in sizes(scheduler.take())


def test_turns_count_by_their_cost() -> None:
    scheduler = Scheduler(BatchLimits(sessions=1))
    for number in range(20):
        submit(scheduler, request(f"long-{number}", 99, caller="long"))
        submit(scheduler, request(f"short-{number}", 9, caller="short"))
    taken = []
    for _ in range(22):
        batch = take(scheduler)
        taken += list(batch.sessions)
        scheduler.done(batch)
    assert sum(name.startswith("short") for name in taken) >= 18


def test_tenants_take_turns_whatever_connections_they_have() -> None:
    scheduler = Scheduler(BatchLimits(sessions=4))
    for number in range(8):
        submit(scheduler, request(f"many {number}", caller=f"connection {number}", tenant="many"))
    for number in range(4):
        submit(scheduler, request(f"one {number}", caller="connection", tenant="one"))
    for _ in range(2):
        assert sorted(request.tenant for request in requests_of(take(scheduler))) == ["many"] * 2 + ["one"] * 2
    assert [request.tenant for request in requests_of(take(scheduler))] == ["many"] * 4


def test_within_a_tenant_connections_take_turns() -> None:
    scheduler = Scheduler(BatchLimits(sessions=4))
    for tenant in ("a", "b"):
        for number in range(8):
            submit(scheduler, request(f"x {number}", caller="greedy", tenant=tenant))
        submit(scheduler, request("y", caller="modest", tenant=tenant))
    batch = take(scheduler)
    assert sorted((each.tenant, each.session_id[0]) for each in requests_of(batch)) == [
        ("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")
    ]  # fmt: skip


def test_equal_names_of_two_tenants_are_two_sessions() -> None:
    scheduler = Scheduler(BatchLimits())
    for tenant in ("a", "b"):
        submit(scheduler, request("s", tenant=tenant))
    assert len(take(scheduler).sessions) == 2


def test_one_tenant_leaves_room_for_another() -> None:
    scheduler = Scheduler(BatchLimits(queued_requests=17 * 4))
    for number in range(16 * 4):
        submit(scheduler, request(f"s {number}", caller=f"connection {number}", tenant="greedy"))
    with pytest.raises(Overloaded):
        submit(scheduler, request("s", caller="another connection", tenant="greedy"))
    assert scheduler.queued_requests == 16 * 4
    submit(scheduler, request("s", tenant="modest"))


def test_a_newcomer_has_no_credit_from_before() -> None:
    scheduler = Scheduler(BatchLimits(sessions=1))
    for number in range(40):
        submit(scheduler, request(f"old-{number}", caller="old"))
    for _ in range(20):
        scheduler.done(take(scheduler))
    for number in range(10):
        submit(scheduler, request(f"new-{number}", caller="new"))
    taken = []
    for _ in range(10):
        taken += list(take(scheduler).sessions)
    assert 4 <= sum(name.startswith("new") for name in taken) <= 6


def test_who_cannot_be_answered_in_time_is_turned_away_at_once() -> None:
    scheduler = Scheduler(BatchLimits(sessions=10))
    for number in range(1000):
        submit(scheduler, request(f"old-{number}", caller="old"))
    in_time = time.monotonic() + 0.5
    submit(scheduler, request("unknown speed", caller="old", deadline=in_time))
    for _ in range(20):
        batch = take(scheduler)
        batch.taken_at -= 0.1  # a batch of 10 takes 0.1 s, so 800 take 8 s
        scheduler.done(batch)
    with pytest.raises(Overloaded, match="would take about") as caught:
        submit(scheduler, request("late", caller="old", deadline=in_time))
    assert 1 < caught.value.retry_after_seconds <= 5
    submit(scheduler, request("late", caller="old", deadline=time.monotonic() + 20))
    submit(scheduler, request("late", caller="old"))
    submit(scheduler, request("whose turn comes first", caller="new", deadline=in_time))


def test_everything_that_waits_can_be_taken_back() -> None:
    scheduler = Scheduler(BatchLimits())
    submit(scheduler, request("a"))
    batch = take(scheduler)
    waiting = [request("a"), request("b", caller="other"), request("a", caller="other")]
    for each in waiting:
        submit(scheduler, each)
    assert {id(each) for each in scheduler.take_all()} == {id(each) for each in waiting}
    assert scheduler.queued_requests == 0
    submit(scheduler, request("a"))
    scheduler.done(batch)
    assert sizes(scheduler.take()) == {"a": 1}


def test_after_close_what_waits_is_served_and_nothing_more_is_taken() -> None:
    scheduler = Scheduler(BatchLimits())
    submit(scheduler, request("a"))
    scheduler.close()
    with pytest.raises(Unavailable):
        submit(scheduler, request("a"))
    assert sizes(scheduler.take()) == {"a": 1}
    assert scheduler.take() is None


def test_take_waits_for_a_request() -> None:
    scheduler = Scheduler(BatchLimits())
    taken: list[dict[str, int]] = []
    thread = threading.Thread(target=lambda: taken.append(sizes(scheduler.take())))
    thread.start()
    submit(scheduler, request("a"))
    thread.join(10)
    assert taken == [{"a": 1}]


def test_a_session_that_always_has_more_does_not_starve_the_others() -> None:
    scheduler = Scheduler(BatchLimits(cost=10))
    for name in ("big", "big", "big", "small"):
        submit(scheduler, request(name, 8 if name == "big" else 1))
    first = take(scheduler)
    assert sizes(first) == {"big": 2}
    scheduler.done(first)
    submit(scheduler, request("big", 8))
    assert sizes(scheduler.take()) == {"small": 1, "big": 1}


def frame(scheduler: Scheduler, caller: str, *names: str, deadline: float | None = None) -> tuple[int, object]:
    """Queue a frame of requests with one value each; return how many were queued, and the error."""
    requests = [Request(name, values=np.zeros(1), deadline=deadline) for name in names]
    return scheduler.submit(Ticket(caller, lambda answered: None, lambda: False), requests)


def test_a_frame_is_one_batch_in_order() -> None:
    scheduler = Scheduler(BatchLimits())
    assert frame(scheduler, "x", *"badca") == (5, None)
    assert list(sizes(scheduler.take()).items()) == [("b", 1), ("a", 2), ("d", 1), ("c", 1)]
    assert scheduler._books.queued == Load()


def test_of_a_frame_as_much_is_queued_as_one_by_one() -> None:
    for deadline in (None, time.monotonic() + 100):
        scheduler = Scheduler(BatchLimits(queued_requests=10))
        taken, error = frame(scheduler, "x", *map(str, range(20)), deadline=deadline)
        one_by_one = Scheduler(BatchLimits(queued_requests=10))
        for number in range(taken):
            submit(one_by_one, request(str(number), 1, caller="x"))
        with pytest.raises(Overloaded):
            submit(one_by_one, request("next", 1, caller="x"))
        assert isinstance(error, Overloaded)
        assert scheduler._books.queued == one_by_one._books.queued


def test_a_frame_does_not_keep_others_waiting() -> None:
    scheduler = Scheduler(BatchLimits(sessions=4))
    frame(scheduler, "greedy", *map(str, range(50)))
    submit(scheduler, request("modest", caller="modest"))
    assert "modest" in sizes(scheduler.take())


def test_a_frame_whose_session_is_busy_waits_for_that_one_only() -> None:
    scheduler = Scheduler(BatchLimits())
    submit(scheduler, request("a"))
    first = take(scheduler)
    frame(scheduler, "x", *"abc")
    submit(scheduler, request("b", caller="y"))
    assert sizes(scheduler.take()) == {"b": 2, "c": 1}
    scheduler.done(first)
    assert sizes(scheduler.take()) == {"a": 1}


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.sampled_from("abcd"),
            st.sampled_from("xyz"),
            st.integers(0, 12),
            st.booleans(),
            st.sampled_from(["t", "u", "default"]),
        ),
        st.sampled_from([("take",), ("done",), ("take_all",)]),
    ),
    max_size=60,
)


class Watched:
    """A scheduler with its invariants."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(BatchLimits(sessions=2, cost=16, queued_requests=12))
        self.waiting: dict[str, list[Request]] = {}
        self.under_way: list[Batch] = []

    def submit(self, session_id: str, caller: str, values: int, close: bool, tenant: str) -> None:
        each = request(session_id, values, caller=caller, close=close, tenant=tenant)
        try:
            submit(self.scheduler, each)
        except Overloaded:
            return
        self.waiting.setdefault(each.key, []).append(each)

    def take(self) -> None:
        busy = {key for batch in self.under_way for key in batch.sessions}
        if any(line and name not in busy for name, line in self.waiting.items()):
            batch = take(self.scheduler)
            assert not busy & set(batch.sessions)
            for key, requests in batch.sessions.items():
                for each in requests:
                    assert self.waiting[key].pop(0) is each
            self.under_way.append(batch)

    def done(self) -> None:
        if self.under_way:
            self.scheduler.done(self.under_way.pop(0))

    def take_all(self) -> None:
        assert len(self.scheduler.take_all()) == sum(map(len, self.waiting.values()))
        self.waiting.clear()


@given(STEPS)
def test_every_request_leaves_once_and_in_the_order_of_its_session(steps: list[tuple[Any, ...]]) -> None:
    watched = Watched()
    for name, *arguments in steps:
        getattr(watched, name)(*arguments)
        assert watched.scheduler.queued_requests == sum(map(len, watched.waiting.values()))
    while watched.under_way or any(watched.waiting.values()):
        watched.take()
        watched.done()
    scheduler = watched.scheduler
    books = scheduler._books
    assert not books.tenants
    assert (books.queued, scheduler._turns, scheduler._busy) == (Load(), [], set())
