"""What credential each call carries, and what happens when the server refuses it."""

import asyncio
import itertools
import logging
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from client.guarded import Guarded
from support import WAIT_SECONDS

from statecast.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    Forecast,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    SomeFailed,
    StatecastError,
    Unauthenticated,
)
from statecast.client._bearer import AsyncBearer, Bearer, SyncBearer
from statecast.v1.reasons import Reason

MakeClient = Callable[..., Any]
SECRET = "sck_0123456789ab_do-not-show-this"


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    monkeypatch.delenv("STATECAST_API_KEY", raising=False)
    server = Guarded()
    yield server
    server.stop()


class Tokens:
    """A function that returns token-1, token-2, ...; `asked` is how often it was called."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        return f"token-{self.asked}"

    async def asynchronously(self) -> str:
        await asyncio.sleep(0)
        return self()


def expired(*tokens: str) -> Callable[[str | None], Reason | None]:
    """A server for which these tokens have expired."""
    headers = [f"Bearer {token}" for token in tokens]
    return lambda header: Reason.CREDENTIAL_EXPIRED if header in headers else None


def look_up(client: Any) -> list[Any]:
    return [client.models()]


def observe(client: Any) -> list[Any]:
    return [client.session("a").observe([1.0, 2.0])]


def step_many(client: Any) -> list[Any]:
    pairs = [(client.session(name), 1.0) for name in ("a", "b")]
    try:
        results: list[Any] = client.step_many(pairs, horizon=2)
    except SomeFailed as some:
        results = list(some.results)
    return results


def stream(client: Any) -> list[Any]:
    sessions = [client.session(name) for name in ("a", "b", "c")]
    return [result for _, result in client.stream(((sessions[at % 3], float(at)) for at in range(30)), horizon=1)]


CALLS = [look_up, observe, step_many, stream]
# Calls over a stream. Now and then gRPC for asyncio reports that such a call broke, not how the server ended it
# (https://github.com/grpc/grpc/issues/36066). Then the client tries once more, and the outcome counts as unknown.
OVER_STREAMS = (observe, stream)


def outcomes(call: Callable[[Any], list[Any]], client: Any) -> list[Any]:
    """What a call gives: its results, or its error."""
    try:
        return call(client)
    except StatecastError as error:
        return [error]


@pytest.mark.parametrize("call", CALLS)
def test_every_call_carries_the_api_key(make_client: MakeClient, guarded: Guarded, call: Any) -> None:
    results = call(make_client(guarded.target, api_key=SECRET))
    assert not [result for result in results if isinstance(result, StatecastError)]
    assert {header for _, header in guarded.headers} == {f"Bearer {SECRET}"}


def test_the_calls_of_these_tests_use_every_kind_of_rpc(guarded: Guarded) -> None:
    with Client(guarded.target) as client:
        for call in CALLS:
            call(client)
    kinds = {"ListModels", "Forecast", "ForecastMany", "ForecastStream"}
    assert {method for method, _ in guarded.headers} == kinds


def test_without_a_credential_there_is_no_header(make_client: MakeClient, guarded: Guarded) -> None:
    client = make_client(guarded.target)
    for call in CALLS:
        call(client)
    assert {header for _, header in guarded.headers} == {None}


def test_a_token_is_asked_for_once(make_client: MakeClient, guarded: Guarded) -> None:
    tokens = Tokens()
    client = make_client(guarded.target, token=tokens)
    assert tokens.asked == 0
    for call in CALLS * 2:
        call(client)
    assert tokens.asked == 1
    assert {header for _, header in guarded.headers} == {"Bearer token-1"}


@pytest.mark.parametrize("call", CALLS)
def test_an_expired_token_is_replaced_and_the_call_repeated(
    make_client: MakeClient, guarded: Guarded, call: Any
) -> None:
    guarded.refusal, tokens = expired("token-1"), Tokens()
    client = make_client(guarded.target, token=tokens)
    for _ in range(2):  # the second time it knows better
        assert not [result for result in outcomes(call, client) if isinstance(result, StatecastError)]
    assert tokens.asked == 2
    sent = [str(header) for _, header in guarded.headers]
    assert set(sent) == {"Bearer token-1", "Bearer token-2"}
    assert sent == sorted(sent)
    assert call in OVER_STREAMS or sent.count("Bearer token-1") == 1


@pytest.mark.parametrize("call", CALLS)
def test_it_is_repeated_only_once(make_client: MakeClient, guarded: Guarded, call: Any) -> None:
    guarded.refusal = lambda _: Reason.CREDENTIAL_EXPIRED
    tokens = Tokens()
    results = outcomes(call, make_client(guarded.target, token=tokens, timeout_seconds=WAIT_SECONDS))
    assert {type(result) for result in results} == {Unauthenticated}
    assert {result.reason for result in results} == {Reason.CREDENTIAL_EXPIRED}
    assert guarded.steps.total() == 0
    # The requests of a stream may open it again one by one.
    assert tokens.asked <= 2 * len(results) if call is stream else tokens.asked == 2
    assert len(guarded.headers) == 2 or (call in OVER_STREAMS and len(guarded.headers) <= 5 * len(results))


def test_a_second_refusal_ends_a_call_of_several_frames(make_client: MakeClient, guarded: Guarded) -> None:
    arrived = itertools.count()
    guarded.refusal = lambda _: Reason.QUOTA_EXCEEDED if next(arrived) % 2 else Reason.CREDENTIAL_EXPIRED
    client = make_client(guarded.target, token=Tokens(), timeout_seconds=WAIT_SECONDS)
    with pytest.raises(SomeFailed) as some:
        client.step_many([(client.session(f"s{number}"), 1.0) for number in range(600)], horizon=1)
    kinds = [type(result) for result in some.value.results]
    assert kinds == [Unauthenticated] * 512 + [ResourceExhausted] * 88
    assert len(guarded.headers) == 4


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (Reason.CREDENTIAL_MISSING, Unauthenticated),
        (Reason.CREDENTIAL_INVALID, Unauthenticated),
        (Reason.CREDENTIAL_EXPIRED, Unauthenticated),
        (Reason.ROLE_TOO_LOW, PermissionDenied),
    ],
)
def test_a_refused_api_key_is_an_error_at_once(
    make_client: MakeClient, guarded: Guarded, call: Any, reason: Reason, kind: type[StatecastError]
) -> None:
    guarded.refusal = lambda _: reason
    results = outcomes(call, make_client(guarded.target, api_key=SECRET))
    for result in results:
        assert type(result) is kind
        assert result.reason == reason
        assert call in OVER_STREAMS or not result.outcome_unknown
        assert not result.may_succeed_again
        assert SECRET not in str(result) + repr(vars(result))
    assert len(guarded.headers) == 1 or (call in OVER_STREAMS and len(guarded.headers) <= 5 * len(results))


@pytest.mark.parametrize("reason", [Reason.CREDENTIAL_MISSING, Reason.CREDENTIAL_INVALID, Reason.ROLE_TOO_LOW])
def test_a_token_that_has_not_expired_is_not_replaced(
    make_client: MakeClient, guarded: Guarded, reason: Reason
) -> None:
    guarded.refusal, tokens = lambda _: reason, Tokens()
    client = make_client(guarded.target, token=tokens)
    for _ in range(2):
        with pytest.raises((Unauthenticated, PermissionDenied)):
            client.models()
    assert tokens.asked == 1
    assert len(guarded.headers) == 2


@pytest.mark.parametrize("call", CALLS)
def test_a_quota_is_waited_for(make_client: MakeClient, guarded: Guarded, call: Any) -> None:
    refused = itertools.count()
    guarded.refusal = lambda _: Reason.QUOTA_EXCEEDED if next(refused) < 2 else None
    results = call(make_client(guarded.target, timeout_seconds=WAIT_SECONDS))
    assert not [result for result in results if isinstance(result, StatecastError)]
    assert next(refused) > 2


def test_a_quota_that_lasts_is_an_error_with_its_reason(make_client: MakeClient, guarded: Guarded) -> None:
    guarded.refusal = lambda _: Reason.QUOTA_EXCEEDED
    with pytest.raises(ResourceExhausted) as caught:
        make_client(guarded.target, timeout_seconds=0.3).models()
    assert caught.value.reason == Reason.QUOTA_EXCEEDED
    assert caught.value.retry_after_seconds == 0.02


def test_a_token_may_expire_in_the_middle_of_a_stream(make_client: MakeClient, guarded: Guarded) -> None:
    used: dict[str | None, int] = {}

    def refusal(header: str | None) -> Reason | None:
        """Each token is good for 40 requests."""
        used[header] = used.get(header, 0) + 1
        return Reason.CREDENTIAL_EXPIRED if used[header] > 40 else None

    guarded.refusal, tokens = refusal, Tokens()
    client = make_client(guarded.target, token=tokens, timeout_seconds=WAIT_SECONDS)
    sessions = [client.session(f"s{number}") for number in range(50)]
    results = [result for _, result in client.stream((session, 1.0) for session in sessions)]
    assert not [result for result in results if isinstance(result, StatecastError)]
    assert set(guarded.steps.values()) == {1}
    assert len(guarded.steps) == 50
    assert tokens.asked == 2


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


@pytest.mark.parametrize(
    ("api_key", "says"),
    [
        ("", "is empty"),
        (f"{SECRET}\n", "line break"),
        (f"{SECRET}\r", "line break"),
        (f"{SECRET}ä", "not ASCII"),
        (f"Bearer {SECRET}", "without 'Bearer'"),
        (f"{SECRET}\x00", "control character"),
        (SECRET.encode(), "got bytes"),
    ],
)
def test_an_api_key_that_cannot_be_sent_is_refused_unseen(make_client: MakeClient, api_key: Any, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says) as caught:
        make_client("localhost:50051", api_key=api_key)
    assert caught.value.field == "api_key"
    assert SECRET not in str(caught.value)


def test_there_is_one_credential(make_client: MakeClient) -> None:
    with pytest.raises(InvalidArgument, match="leave out one"):
        make_client("localhost:50051", api_key=SECRET, token=lambda: SECRET)
    with pytest.raises(InvalidArgument, match="expected a function"):
        make_client("localhost:50051", token=SECRET)


def test_the_environment_holds_the_default(
    make_client: MakeClient, guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATECAST_API_KEY", "of-the-environment")
    for arguments in ({}, {"api_key": "mine"}, {"token": lambda: "token"}):
        make_client(guarded.target, **arguments).models()
    monkeypatch.setenv("STATECAST_API_KEY", "")
    make_client(guarded.target).models()
    sent = [header for _, header in guarded.headers]
    assert sent == ["Bearer of-the-environment", "Bearer mine", "Bearer token", None]
    monkeypatch.setenv("STATECAST_API_KEY", f"{SECRET}\n")
    with pytest.raises(InvalidArgument, match="STATECAST_API_KEY: has a line break") as caught:
        make_client(guarded.target)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("bearer", [SyncBearer(SECRET, None), AsyncBearer(SECRET, None)])
def test_a_credential_is_never_shown_or_pickled(bearer: Bearer) -> None:
    assert SECRET not in repr(bearer) + str(bearer)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(bearer)


def test_clients_and_logs_do_not_show_it(
    make_client: MakeClient, guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(guarded.target, api_key=SECRET)
    inner = getattr(client, "_inner", client)
    with caplog.at_level(logging.DEBUG):
        for call in CALLS:
            call(client)
    assert SECRET not in caplog.text
    assert SECRET not in repr(inner) + repr(vars(inner))
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(inner)
