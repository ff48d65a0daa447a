"""What credential each call carries, and what happens when the server refuses it."""

import itertools
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from client.credentials import CALLS, OVER_STREAMS, SECRET, Tokens, expired, outcomes, stream
from client.guarded import Guarded
from support import WAIT_SECONDS

from statecast.client import (
    Client,
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
