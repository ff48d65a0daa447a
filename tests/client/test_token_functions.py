"""Functions that return tokens: when they are asked, by whom, and what happens when they fail."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from client.credentials import CALLS, SECRET, Tokens, expired, look_up, outcomes, stream
from client.guarded import Guarded
from support import WAIT_SECONDS

from statecast.client import AsyncClient, Client, DeadlineExceeded, Forecast, InvalidArgument, Unauthenticated
from statecast.client._bearer import SyncBearer
from statecast.v1.reasons import Reason

MakeClient = Callable[..., Any]


def test_a_late_answer_to_an_old_token_does_not_replace_the_new_one() -> None:
    tokens, error = Tokens(), Unauthenticated("too old", Reason.CREDENTIAL_EXPIRED)
    bearer = SyncBearer(None, tokens)
    old = bearer.metadata()
    bearer.failure(error, old)
    new = bearer.metadata()
    assert bearer.failure(error, old) is error
    assert bearer.metadata() is new
    assert error.may_succeed_again
    assert (old, new) == ((("authorization", "Bearer token-1"),), (("authorization", "Bearer token-2"),))


def test_threads_that_share_an_expired_token_replace_it_once(guarded: Guarded) -> None:
    together, tokens = threading.Barrier(8), Tokens()

    def refusal(header: str | None) -> Reason | None:
        if header != "Bearer token-1":
            return None
        together.wait(WAIT_SECONDS)  # all calls are on their way with the old token
        return Reason.CREDENTIAL_EXPIRED

    def slow_token() -> str:
        time.sleep(0.1)  # calls meet while they wait for it
        return tokens()

    guarded.refusal = refusal
    with Client(guarded.target, token=slow_token) as client, ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: client.models(), range(8))) == [[]] * 8
    assert tokens.asked == 2


async def test_tasks_that_share_an_expired_token_replace_it_once(guarded: Guarded) -> None:
    together, tokens = threading.Barrier(8), Tokens()

    def refusal(header: str | None) -> Reason | None:
        if header != "Bearer token-1":
            return None
        together.wait(WAIT_SECONDS)
        return Reason.CREDENTIAL_EXPIRED

    guarded.refusal = refusal
    async with AsyncClient(guarded.target, token=tokens.asynchronously) as client:
        assert await asyncio.gather(*(client.models() for _ in range(8))) == [[]] * 8
        forecast = await client.session("a").step(1.0, 2)
    assert isinstance(forecast, Forecast)
    assert tokens.asked == 2
    assert {header for _, header in guarded.headers} == {"Bearer token-1", "Bearer token-2"}


def test_the_next_event_loop_keeps_the_token(guarded: Guarded) -> None:
    tokens = Tokens()

    async def slow_token() -> str:
        await asyncio.sleep(0.1)  # calls meet while they wait for it
        return tokens()

    client = AsyncClient(guarded.target, token=slow_token)

    async def calls() -> None:
        await asyncio.gather(*(client.models() for _ in range(3)), client.session("a").observe(1.0))

    asyncio.run(calls())
    guarded.refusal = expired("token-1")
    asyncio.run(calls())
    assert tokens.asked == 2


@pytest.mark.parametrize("call", CALLS)
def test_a_token_function_that_fails_is_an_error_without_a_call(
    make_client: MakeClient, guarded: Guarded, call: Any
) -> None:
    def fails() -> str:
        raise RuntimeError(f"no answer to {SECRET}")

    for result in outcomes(call, make_client(guarded.target, token=fails)):
        assert type(result) is Unauthenticated
        assert str(result) == "token: the function raised RuntimeError"
        assert not result.outcome_unknown
    assert guarded.headers == []


@pytest.mark.parametrize("call", [look_up, stream])
@pytest.mark.parametrize("returned", [f"{SECRET}\n", f"{SECRET} x", f"{SECRET}ä", "", None, SECRET.encode(), 7])
def test_what_is_no_token_is_not_sent(make_client: MakeClient, guarded: Guarded, call: Any, returned: Any) -> None:
    for result in outcomes(call, make_client(guarded.target, token=lambda: returned)):
        assert isinstance(result, InvalidArgument)
        assert result.field == "token"
        assert SECRET not in str(result)
    assert guarded.headers == []


def test_the_synchronous_client_takes_no_asynchronous_function(guarded: Guarded) -> None:
    tokens = Tokens()
    with pytest.raises(InvalidArgument, match="AsyncClient"):
        Client(guarded.target, token=tokens.asynchronously)  # type: ignore[arg-type]
    hidden: Any = lambda: tokens.asynchronously()  # noqa: E731
    with Client(guarded.target, token=hidden) as client, pytest.raises(InvalidArgument, match="returned coroutine"):
        client.models()


async def test_a_token_that_does_not_come_is_waited_for_until_time_is_up(guarded: Guarded) -> None:
    never = asyncio.Event()

    async def wait() -> str:
        await never.wait()
        return "token"

    async with AsyncClient(guarded.target, token=wait, timeout_seconds=0.2) as client:
        for call in (client.models(), client.session("a").observe(1.0)):
            with pytest.raises(DeadlineExceeded):
                await call
    assert guarded.headers == []
