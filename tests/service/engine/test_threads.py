"""Several engine threads over the same sessions."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from support.engines import MakeEngine, assert_close, expected, observe, one, version_of
from support.redis_process import RedisProcess

from statecast.service.engine.advance import advance
from statecast.service.engine.engine import Engine
from statecast.service.engine.request import Outcome, Request, Result, Ticket
from statecast.service.engine.scheduler import BatchLimits, Scheduler
from statecast.service.engine.session_cache import SessionCache
from statecast.service.engine.table import Table
from statecast.service.engine.threads import Delivery, EngineThreads
from statecast.service.errors import DeadlinePassed
from statecast.service.metrics import Metrics

FULL = 4


def deliver(delivery: Delivery) -> None:
    for ticket, answered in delivery.items():
        ticket.deliver(answered)


def submit(scheduler: Scheduler, request: Request, resolve: Callable[[Result], None] = lambda _: None) -> None:
    """Queue a request; `resolve` takes its result."""
    ticket = Ticket("", lambda answered: resolve(answered[0][1]), lambda: False)
    assert scheduler.submit(ticket, [request]) == (1, None)


def _note(answered: threading.Event, result: Result) -> None:
    answered.set()


@contextmanager
def working(scheduler: Scheduler, engines: list[Engine]) -> Iterator[None]:
    threads = EngineThreads(scheduler, engines, Metrics(), deliver).start()
    try:
        yield
    finally:
        scheduler.close()
        done, _ = wait(threads, timeout=30)
    assert len(done) == len(engines)
    assert not any(thread.exception() for thread in done)


def test_sessions_keep_their_states_and_their_order(make_engine: MakeEngine) -> None:
    cache = SessionCache(capacity=3)
    engines = [make_engine(cache=cache, snapshot_every=5) for _ in range(3)]
    scheduler = Scheduler(BatchLimits(sessions=FULL))
    results: dict[tuple[str, int], Result] = {}
    names = [f"session-{number}" for number in range(11)]
    values = {name: [float(place * 7 % 5 + step) for step in range(12)] for place, name in enumerate(names)}
    with working(scheduler, engines):
        for step in range(12):
            for name in names:
                resolve = partial(results.__setitem__, (name, step))
                submit(scheduler, observe(name, values[name][step]), resolve)
    assert len(results) == 12 * len(names)
    for (name, step), result in results.items():
        assert isinstance(result, Outcome), result
        assert result.version is not None
        assert result.version.step == step + 1
        assert result.forecast is not None
        assert_close(result.forecast.values, expected(values[name][: step + 1]))


def test_nobody_sleeps_while_a_request_waits(make_engine: MakeEngine) -> None:
    cache = SessionCache(capacity=10)
    scheduler = Scheduler(BatchLimits(sessions=FULL))
    with working(scheduler, [make_engine(cache=cache) for _ in range(3)]):
        for number in range(50):
            answered = threading.Event()
            submit(scheduler, observe("a", float(number)), partial(_note, answered))
            assert answered.wait(10)


def test_what_an_engine_knows_of_an_outage_that_is_over_strands_nobody(
    make_engine: MakeEngine, own_redis: RedisProcess
) -> None:
    engine = make_engine(redis=own_redis)
    one(engine, observe("a", 1.0))
    scheduler = Scheduler(BatchLimits())
    engine_threads = EngineThreads(scheduler, [engine], Metrics(), deliver)

    def delivered(*requests: Request) -> list[Result]:
        """Return the results of the first request's batch, while the others wait."""
        submit(scheduler, requests[0])
        batch = scheduler.take()
        assert batch is not None
        for request in requests[1:]:
            submit(scheduler, request)
        delivery = engine_threads._carry_out(engine, batch)
        results = [result for answered in delivery.values() for _, result in answered]
        scheduler.done(batch)
        return results

    own_redis.kill()
    assert len(delivered(observe("a", 2.0), observe("b", 1.0))) == 2
    own_redis.start()
    (result,) = delivered(observe("a", 2.0, deadline=time.monotonic()), observe("b", 1.0))  # needs nothing from Redis
    assert isinstance(result, DeadlinePassed)
    assert one(engine, observe("a", 2.0)).version == version_of([1.0, 2.0])
    engine_threads._threads.shutdown()


def test_a_session_in_a_batch_is_not_overwritten(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SessionCache(capacity=1)
    slow, quick = make_engine(cache=cache), make_engine(cache=cache)
    one(slow, observe("a", 1.0, 5.0))
    begun, go_on = threading.Event(), threading.Event()

    def wait_first(table: Table, cache: SessionCache) -> None:
        if threading.current_thread().name == "slow":
            begun.set()
            assert go_on.wait(20)
        advance(table, cache)

    monkeypatch.setattr("statecast.service.engine.engine.advance", wait_first)
    found: list[Outcome] = []
    thread = threading.Thread(target=lambda: found.append(one(slow, observe("a", 2.0))), name="slow")
    thread.start()
    assert begun.wait(20)
    with torch.inference_mode():
        for number in range(5):  # enough to reuse its row, if it were unpinned
            one(quick, observe(f"b-{number}", 100.0, -3.0))
    go_on.set()
    thread.join(20)
    assert found[0].forecast is not None
    assert_close(found[0].forecast.values, expected([1.0, 5.0, 2.0]))
    one(quick, observe("c", 1.0))
    assert len(cache) == 1


def test_a_second_engine_waits_for_a_full_batch(make_engine: MakeEngine) -> None:
    scheduler = Scheduler(BatchLimits(sessions=FULL))
    for number in range(FULL - 1):
        submit(scheduler, observe(f"s-{number}", 1.0))
    taken: list[int] = []

    def second() -> None:
        while (batch := scheduler.take(only_full=True)) is not None:
            taken.append(len(batch.sessions))
            scheduler.done(batch)

    thread = threading.Thread(target=second)
    thread.start()
    first = scheduler.take()
    assert first is not None
    assert len(first.sessions) == FULL - 1
    for number in range(FULL):
        submit(scheduler, observe(f"t-{number}", 1.0))
    submit(scheduler, observe("u", 1.0))
    scheduler.done(first)
    scheduler.close()
    thread.join(20)
    assert taken == [FULL]
    left = scheduler.take()
    assert left is not None
    assert list(left.sessions) == ["u"]
