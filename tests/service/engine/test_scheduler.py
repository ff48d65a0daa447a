import threading

import numpy as np
import pytest

from statecast.service.engine.request import Request
from statecast.service.engine.scheduler import BatchLimits, Scheduler, Ticket
from statecast.service.errors import Overloaded, Unavailable


def ticket(session_id: str, values: int = 1, *, close: bool = False, wanted: bool = True) -> Ticket:
    request = Request(session_id, values=np.zeros(values), close=close)
    return Ticket(request, lambda result: None, lambda: wanted)


def sizes(batch: dict[str, list[Ticket]] | None) -> dict[str, int]:
    assert batch is not None
    return {session_id: len(tickets) for session_id, tickets in batch.items()}


def test_what_gathered_is_one_batch_in_order_of_arrival() -> None:
    scheduler = Scheduler(BatchLimits())
    for name in "baab":
        scheduler.submit(ticket(name))
    batch = scheduler.take()
    assert list(sizes(batch).items()) == [("b", 2), ("a", 2)]
    assert scheduler.queued_requests == 0


def test_a_session_is_in_one_batch_at_a_time() -> None:
    scheduler = Scheduler(BatchLimits())
    scheduler.submit(ticket("a"))
    first = scheduler.take()
    assert first is not None
    scheduler.submit(ticket("a"))
    scheduler.submit(ticket("b"))
    assert sizes(scheduler.take()) == {"b": 1}
    scheduler.done(first)
    assert sizes(scheduler.take()) == {"a": 1}


def test_bounds_leave_the_rest_for_the_next_batch() -> None:
    scheduler = Scheduler(BatchLimits(sessions=2, values=10))
    for name, values in (("a", 4), ("a", 4), ("a", 4), ("b", 1), ("c", 1)):
        scheduler.submit(ticket(name, values))
    first = scheduler.take()
    assert sizes(first) == {"a": 3}  # the last one crosses the bound; nothing comes after it
    assert sizes(scheduler.take()) == {"b": 1, "c": 1}


def test_a_request_larger_than_the_bound_still_goes() -> None:
    scheduler = Scheduler(BatchLimits(values=10))
    scheduler.submit(ticket("a", 1000))
    assert sizes(scheduler.take()) == {"a": 1}


def test_a_close_goes_alone() -> None:
    scheduler = Scheduler(BatchLimits())
    for close in (False, True, False, False):
        scheduler.submit(ticket("a", close=close))
    seen = []
    for _ in range(3):
        batch = scheduler.take()
        assert batch is not None
        seen.append([each.request.close for each in batch["a"]])
        scheduler.done(batch)
    assert seen == [[False], [True], [False, False]]


def test_who_has_gone_is_left_out() -> None:
    scheduler = Scheduler(BatchLimits())
    scheduler.submit(ticket("a", wanted=False))
    scheduler.submit(ticket("b", wanted=False))
    scheduler.submit(ticket("b"))
    assert sizes(scheduler.take()) == {"b": 1}


def test_a_full_queue_turns_requests_away() -> None:
    scheduler = Scheduler(BatchLimits(queued_requests=1))
    scheduler.submit(ticket("a"))
    with pytest.raises(Overloaded):
        scheduler.submit(ticket("a"))


def test_after_close_what_waits_is_served_and_nothing_more_is_taken() -> None:
    scheduler = Scheduler(BatchLimits())
    scheduler.submit(ticket("a"))
    scheduler.close()
    with pytest.raises(Unavailable):
        scheduler.submit(ticket("a"))
    assert sizes(scheduler.take()) == {"a": 1}
    assert scheduler.take() is None


def test_take_waits_for_a_request() -> None:
    scheduler = Scheduler(BatchLimits())
    taken: list[dict[str, int]] = []
    thread = threading.Thread(target=lambda: taken.append(sizes(scheduler.take())))
    thread.start()
    scheduler.submit(ticket("a"))
    thread.join(10)
    assert taken == [{"a": 1}]


def test_a_session_that_always_has_more_does_not_starve_the_others() -> None:
    scheduler = Scheduler(BatchLimits(values=10))
    for name in ("big", "big", "big", "small"):
        scheduler.submit(ticket(name, 8 if name == "big" else 1))
    first = scheduler.take()
    assert sizes(first) == {"big": 2}
    assert first is not None
    scheduler.done(first)
    scheduler.submit(ticket("big", 8))
    second = scheduler.take()
    assert sizes(second) == {"small": 1, "big": 2}
