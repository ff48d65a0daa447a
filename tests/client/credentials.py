"""Credentials for tests of the clients, and every kind of call that carries one."""

import asyncio
from collections.abc import Callable
from typing import Any

from statecast.client import SomeFailed, StatecastError
from statecast.v1.reasons import Reason

SECRET = "sck_0123456789ab_do-not-show-this"


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
