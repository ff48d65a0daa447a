import asyncio
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from client.guarded import Guarded
from support.models import CATEGORIES, COVARIATES, HORIZON, LEVELS, symbol_model, tiny_model, write_models
from support.proxy import Proxy
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import AsyncClient, AsyncSession, Client
from statecast.model import Forecaster, ModelConfig, save_model
from statecast.service.settings import Settings

MakeClient = Callable[..., Any]
DAYS = pd.date_range("2024-03-29", periods=4, tz="Europe/Berlin")


def series(*times: str) -> "pd.Series[float]":
    """Return the values 1, 2, ... at these times."""
    return pd.Series(np.arange(1.0, len(times) + 1), pd.DatetimeIndex(times))


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


def demand() -> Forecaster:
    """A model with two covariates and a category, whose intervals adapt, and whose forecasts depend on all of it."""
    model = Forecaster(
        ModelConfig(
            name="demand",
            version="1",
            hidden_size=8,
            head_size=8,
            horizon=HORIZON,
            quantile_levels=LEVELS,
            window=24,
            lags=(4, 12),
            covariates=COVARIATES,
            categories=CATEGORIES[:1],
            checked_steps=(1, 3),
            adaptation_rate=0.1,
        )
    )
    for weights in model.head.parameters():  # a new head begins with what is known of the past alone
        torch.nn.init.normal_(weights, std=0.3)
    return model


@pytest.fixture(scope="session")
def knowing_server(any_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    """A server whose models take covariates and categories, or symbols."""
    folder: Path = write_models(tmp_path_factory.mktemp("knowing"))
    torch.manual_seed(0)
    daily = Forecaster(replace(tiny_model("hourly").config, name="daily", frequency="D"))
    dated = Forecaster(replace(demand().config, name="dated", frequency="D"))
    for model in (demand(), symbol_model(), daily, dated):
        save_model(model, folder / model.config.name / "1")
    thread = ServerThread(Settings(redis_url=any_redis.url, models=folder, namespace="knowing"))
    yield thread
    thread.stop()


@pytest.fixture
def knowing(make_client: MakeClient, knowing_server: ServerThread) -> Any:
    """A client of that server."""
    return make_client(knowing_server.target)


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    monkeypatch.delenv("STATECAST_API_KEY", raising=False)
    server = Guarded()
    yield server
    server.stop()
