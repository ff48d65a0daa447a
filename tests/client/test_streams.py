"""Requests without end, over one stream that breaks and comes back."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import HORIZON
from support.proxy import Proxy, cut_off, drop, lose, turn_away
from support.redis_process import RedisProcess
from support.servers import ServerProcess, ServerThread

from statecast.client import AsyncClient, Client, Forecast, InvalidArgument, NotFound, Receipt, StatecastError

MakeClient = Any


def test_results_come_in_the_order_given(client: Any, session_id: str) -> None:
    sessions = [client.session(f"{session_id}-{number}", "tiny") for number in range(7)]
    pairs = [(sessions[at % 7], [float(at)] * (at % 3 + 1)) for at in range(700)]
    results = list(client.stream(pairs, horizon=HORIZON))
    assert [session.id for session, _ in results] == [session.id for session, _ in pairs]
    taken = dict.fromkeys((session.id for session in sessions), 0)
    for (session, values), (_, result) in zip(pairs, results, strict=True):
        taken[session.id] += len(values)
        assert isinstance(result, Forecast)
        assert result.version.step == taken[session.id]


def test_without_a_horizon_it_gives_receipts(client: Any, session_id: str) -> None:
    session = client.session(session_id, "tiny")
    ((_, receipt),) = client.stream([(session, 1.0)])
    assert isinstance(receipt, Receipt)
    assert receipt.opened


def test_an_error_is_a_result_and_ends_nothing(client: Any, session_id: str) -> None:
    good, bad = client.session(session_id, "tiny"), client.session(session_id + "-missing", resume_only=True)
    results = [result for _, result in client.stream([(good, 1.0), (bad, 1.0), (good, float("inf")), (good, 2.0)])]
    assert [type(result) for result in results] == [Receipt, NotFound, InvalidArgument, Receipt]
    assert good.info().version.step == 2


def test_what_breaks_is_sent_again(make_client: MakeClient, proxy: Proxy, session_id: str) -> None:
    client = make_client(proxy.target)
    sessions = [client.session(f"{session_id}-{number}", "tiny") for number in range(5)]
    proxy.faults.extend([lose, drop, lose, cut_off, turn_away, lose])
    results = [result for _, result in client.stream((session, at) for at in range(20) for session in sessions)]
    assert not [result for result in results if isinstance(result, StatecastError)]
    assert [result.version.step for result in results] == [step for step in range(1, 21) for _ in sessions]
    assert any(result.replayed for result in results)
    whole = client.session(session_id + "-whole", "tiny").observe(np.arange(20.0)).version
    assert {session.info().version for session in sessions} == {whole}


def test_it_goes_on_with_a_server_that_came_back(
    make_client: MakeClient, any_redis: RedisProcess, models_folder: Path, session_id: str
) -> None:
    arguments = ("--redis-url", any_redis.url, "--models", str(models_folder), "--namespace", session_id)
    server = ServerProcess(*arguments)
    port = server.port
    client = make_client(server.target, timeout_seconds=30)
    sessions = [client.session(f"s-{number}", "tiny") for number in range(5)]

    def pairs() -> Iterator[tuple[Any, float]]:
        nonlocal server
        for at in range(40):
            if at == 20:
                server.kill()
                server = ServerProcess(*arguments, port=port)
            yield from ((session, float(at)) for session in sessions)

    results = [result for _, result in client.stream(pairs())]
    assert [result.version.step for result in results] == [step for step in range(1, 41) for _ in sessions]
    assert server.stop() == 0


def test_an_endless_stream_reads_only_so_far_ahead(server: ServerThread, session_id: str) -> None:
    taken = 0

    def endless(session: Any) -> Iterator[tuple[Any, float]]:
        nonlocal taken
        for taken in itertools.count(1):
            yield session, float(taken)

    with Client(server.target) as client:
        results = client.stream(endless(client.session(session_id, "tiny")))
        for step in range(1, 500):
            _, result = next(results)
            assert isinstance(result, Receipt)
            assert result.version.step == step
            assert taken <= step + 258
        results.close()  # type: ignore[attr-defined]


def test_what_the_source_raises_comes_through(client: Any, session_id: str) -> None:
    def broken() -> Iterator[tuple[Any, float]]:
        yield client.session(session_id, "tiny"), 1.0
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(client.stream(broken()))
    with pytest.raises(InvalidArgument, match="pairs"):
        list(client.stream([1.0]))


async def test_an_asynchronous_source(server: ServerThread, session_id: str) -> None:
    async with AsyncClient(server.target) as client:
        session = client.session(session_id, "tiny")
        arrived = asyncio.Event()

        async def source() -> AsyncIterator[tuple[Any, float]]:
            yield session, 1.0
            await arrived.wait()  # only the first result lets it go on
            yield session, 2.0

        steps = []
        async for _, result in client.stream(source()):
            assert not isinstance(result, StatecastError)
            steps.append(result.version.step)
            arrived.set()
        assert steps == [1, 2]


async def test_what_is_asked_at_the_same_time_travels_together(proxy: Proxy, session_id: str) -> None:
    async with AsyncClient(proxy.target) as client:
        sessions = [client.session(f"{session_id}-{number}", "tiny") for number in range(100)]
        for _ in range(3):
            await asyncio.gather(*(session.step(1.0, HORIZON) for session in sessions))
        assert proxy.calls < 30


async def test_who_gives_up_harms_nobody(server: ServerThread, session_id: str) -> None:
    async with AsyncClient(server.target) as client:
        sessions = [client.session(f"{session_id}-{number}", "tiny") for number in range(50)]
        tasks = [asyncio.ensure_future(session.observe(1.0)) for session in sessions]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, Receipt) for result in results] == [False, True] * 25


async def test_who_waits_when_the_client_closes_is_told(proxy: Proxy, session_id: str) -> None:
    client = AsyncClient(proxy.target)
    proxy.faults.extend([lose] * 100)
    task = asyncio.ensure_future(client.session(session_id, "tiny").observe(1.0))
    await asyncio.sleep(0.1)
    await client.close()
    with pytest.raises(StatecastError):
        await asyncio.wait_for(task, 15)


async def test_who_asks_in_the_moment_of_closing_is_told(server: ServerThread, session_id: str) -> None:
    client = AsyncClient(server.target)
    task = asyncio.ensure_future(client.session(session_id, "tiny").observe(1.0))
    await asyncio.sleep(0)  # it has asked, and the stream has not begun
    await client.close()
    with pytest.raises(StatecastError, match="closed"):
        await asyncio.wait_for(task, 15)


def test_what_came_before_a_source_broke_is_told(client: Any, session_id: str) -> None:
    session = client.session(session_id, "tiny")

    def broken() -> Iterator[tuple[Any, float]]:
        for at in range(20):
            yield session, float(at)
        raise ZeroDivisionError

    results = []
    with pytest.raises(ZeroDivisionError):
        results += list(client.stream(broken()))
    for _, result in itertools.islice(client.stream([(session, 1.0)]), 1):
        assert result.version.step == 21


def test_a_client_that_is_closed_meanwhile_says_so(server: ServerThread, session_id: str) -> None:
    client = Client(server.target)
    session = client.session(session_id, "tiny")
    results = client.stream((session, float(at)) for at in range(10_000))
    next(results)
    client.close()
    rest = [result for _, result in results]
    assert isinstance(rest[-1], StatecastError)
    with pytest.raises(StatecastError, match="closed"):
        session.observe(1.0)


def test_a_session_of_another_client_is_refused(client: Any, server: ServerThread, session_id: str) -> None:
    with Client(server.target) as other, pytest.raises(InvalidArgument, match="client"):
        list(client.stream([(other.session(session_id), 1.0)]))
