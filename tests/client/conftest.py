import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.proxy import Proxy
from support.servers import ServerThread

from statecast.client import AsyncClient, AsyncSession, Client

MakeClient = Callable[..., Any]


class Blocking:
    """An AsyncClient or AsyncSession used from ordinary code, so that one suite runs over both clients."""

    def __init__(self, inner: AsyncClient | AsyncSession, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*map(unwrap, args), **kwargs)
            if inspect.iscoroutine(result):
                result = self._loop.run_until_complete(result)
            return self._iterate(result) if inspect.isasyncgen(result) else self._wrap(result)

        return call

    def _wrap(self, result: Any) -> Any:
        if isinstance(result, tuple):
            return tuple(self._wrap(each) for each in result)
        return Blocking(result, self._loop) if isinstance(result, AsyncSession) else result

    def _iterate(self, results: Any) -> Iterator[Any]:
        while True:
            try:
                yield self._wrap(self._loop.run_until_complete(anext(results)))
            except StopAsyncIteration:
                return


def unwrap(argument: Any) -> Any:
    if inspect.isgenerator(argument):
        return (unwrap(each) for each in argument)
    if isinstance(argument, list):
        return [unwrap(each) for each in argument]
    if isinstance(argument, tuple):
        return tuple(unwrap(each) for each in argument)
    return argument._inner if isinstance(argument, Blocking) else argument


@pytest.fixture(params=["sync", "async"])
def make_client(request: pytest.FixtureRequest) -> Iterator[MakeClient]:
    """Makes clients of either kind; both read the same."""
    loop = asyncio.new_event_loop()
    made: list[Any] = []

    def make(target: str, **settings: Any) -> Any:
        made.append(
            Client(target, **settings) if request.param == "sync" else Blocking(AsyncClient(target, **settings), loop)
        )
        return made[-1]

    yield make
    for client in made:
        client.close()
    loop.close()


@pytest.fixture
def client(make_client: MakeClient, server: ServerThread) -> Any:
    return make_client(server.target)


@pytest.fixture
def proxy(server: ServerThread) -> Iterator[Proxy]:
    proxy = Proxy(server.target)
    yield proxy
    proxy.stop()
