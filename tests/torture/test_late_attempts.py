"""A delayed attempt whose caller got its answer from another server must not be carried out again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
from support.hash_model import HORIZON, read
from support.proxy import Proxy

from statecast.client import Client, DeadlineExceeded, Session
from torture.callers import wait_until
from torture.cluster import Setting, Stage, staged

OTHERS = 20
"""Number of other requests; more than a session remembers."""


def held_in_the_server(stage: Stage, session: Session) -> Callable[[], None]:
    """Hold the attempt between load and commit; return a function that releases it."""
    stage.hold_file(0).touch()
    give_up(session)
    assert wait_until(stage.held_file(0).exists), "the attempt never reached its server"
    conflicts = stage.counter(0, "conflicts")

    def release() -> None:
        stage.held_file(0).unlink()
        assert wait_until(lambda: stage.has_grown(0, "conflicts", conflicts)), "the server did not wake up"

    return release


@contextmanager
def proxied(target: str) -> Iterator[Proxy]:
    proxy = Proxy(target)
    yield proxy
    proxy.stop()


def held_on_the_way(proxy: Proxy, session: Session) -> Callable[[], None]:
    """Hold the attempt in the network; return a function that lets it arrive."""
    arrive, arrived = Event(), Event()

    def late(context: Any, forward: Callable[[], bytes]) -> bytes:
        arrive.wait()
        try:
            return forward()
        finally:
            arrived.set()

    proxy.faults.append(late)
    give_up(session)

    def release() -> None:
        arrive.set()
        assert arrived.wait(10)

    return release


def give_up(session: Session) -> None:
    """Try to append 1, and give up because no answer comes in time."""

    def attempt() -> None:
        with pytest.raises(DeadlineExceeded):
            session.observe(1, request_id="first", timeout_seconds=1.0)

    first = Thread(target=attempt)
    first.start()
    first.join()


def append_elsewhere(target: str, release: Callable[[], None]) -> tuple[int, ...]:
    """Repeat the request on another server, append more than a session remembers, and release the late attempt."""
    with Client(target) as client:
        session = client.session("s", "chain")
        assert not session.observe(1, request_id="first").replayed
        for value in range(2, 2 + OTHERS):
            session.observe(value)
        release()
        session.observe(2 + OTHERS)
        return read(session.forecast(HORIZON).values).last


def test_an_attempt_that_a_server_held_is_not_carried_out_when_its_id_is_forgotten() -> None:
    with staged(Setting()) as stage, Client(stage.targets[0]) as client:
        session = client.session("s", "chain")
        session.observe(0)
        last = append_elsewhere(stage.targets[1], held_in_the_server(stage, session))
    assert last == tuple(range(2 + OTHERS, -1, -1))


def test_an_attempt_that_the_network_held_is_not_carried_out_when_its_id_is_forgotten() -> None:
    with staged(Setting()) as stage, proxied(stage.targets[0]) as proxy, Client(proxy.target) as client:
        session = client.session("s", "chain")
        session.observe(0)
        last = append_elsewhere(stage.targets[1], held_on_the_way(proxy, session))
    assert last == tuple(range(2 + OTHERS, -1, -1))
