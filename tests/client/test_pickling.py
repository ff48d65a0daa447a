"""Everything that a call returns or raises survives a process pool."""

import copy
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from multiprocessing import get_context
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from support.pooled import give_back, throw

from statecast import client
from statecast.client import (
    Forecast,
    Gates,
    InvalidArgument,
    ModelInfo,
    Observations,
    Receipt,
    SeriesFailed,
    SessionInfo,
    SessionRegressed,
    SomeFailed,
    StatecastError,
    Upgraded,
    Version,
)

VERSION = Version(3, 2**64 - 1)
MIDNIGHT = datetime(2024, 3, 31, tzinfo=ZoneInfo("Europe/Berlin"))
GATES = Gates(("input",), np.ones((1, 1, 2), np.float32), None, np.zeros((1, 2), np.float32))
RECEIPT = Receipt(VERSION, opened=True, replayed=False, pit=np.full((1, 1), 0.5, np.float32), gates=GATES)
FORECAST = Forecast(
    "a", VERSION, False, False, MIDNIGHT, "D", ("y",), (0.1, 0.5, 0.9),
    np.arange(6, dtype=np.float32).reshape(2, 3, 1), time_zone="Europe/Berlin",
)  # fmt: skip
RESULTS = [
    VERSION, GATES, RECEIPT, FORECAST, Observations([1.0], start_time=MIDNIGHT),
    Upgraded(VERSION, "base", "2", 640, exact=False, replayed=False),
    SessionInfo("a", "base", "1", VERSION, timedelta(days=1), MIDNIGHT, {"region": "north"}),
    ModelInfo("base", "1", "ab", "h", ("y",), 24, (0.5,), "lstm", 2, 8, 24, 100, categories={"region": ("north",)}),
]  # fmt: skip
MANY = (SomeFailed, SeriesFailed)


def errors() -> Iterator[StatecastError]:
    """One of every kind, with everything that it can carry."""
    for kind in vars(client).values():
        if not (isinstance(kind, type) and issubclass(kind, StatecastError)) or kind in MANY:
            continue
        error = kind("what is wrong", "SOME_REASON", 1.5)
        error.request_id, error.values_taken, error.outcome_unknown = "r1", 7, True
        if isinstance(error, InvalidArgument):
            error.field = "observations.values[3]"
        if isinstance(error, SessionRegressed):
            error.current, error.last_seen = VERSION, Version(4, 1)
        yield error
    yield SeriesFailed({"a": InvalidArgument("no")}, [1.5], 2)
    yield SomeFailed([RECEIPT, InvalidArgument("no"), FORECAST])


EVERYTHING = [*RESULTS, *errors()]


def assert_same(made: Any, expected: Any) -> None:
    assert type(made) is type(expected)
    if isinstance(expected, BaseException):
        assert str(made) == str(expected)
        assert_same(vars(made), vars(expected))
    elif isinstance(expected, dict):
        assert list(made) == list(expected)
        for key, value in expected.items():
            assert_same(made[key], value)
    elif isinstance(expected, (list, tuple)):
        assert len(made) == len(expected)
        for own, other in zip(made, expected, strict=True):
            assert_same(own, other)
    elif is_dataclass(expected):
        for each in fields(expected):
            assert_same(getattr(made, each.name), getattr(expected, each.name))
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(made, expected)
    else:
        assert made == expected


def test_nothing_is_forgotten() -> None:
    public = {
        each for each in vars(client).values() if isinstance(each, type) and each.__module__.startswith("statecast")
    }
    connections = {client.Client, client.AsyncClient, client.Session, client.AsyncSession}
    options = {client.FrameOptions}  # a dictionary
    assert {type(each) for each in EVERYTHING} == public - connections - options


@pytest.mark.parametrize("value", EVERYTHING, ids=lambda value: type(value).__name__)
def test_it_is_the_same_after_pickle_and_copy(value: Any) -> None:
    for made in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value), copy.copy(value)):
        assert_same(made, value)


def test_it_comes_through_a_process_pool() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        for value in EVERYTHING:
            assert_same(pool.submit(give_back, value).result(60), value)
            if isinstance(value, StatecastError):
                caught = pool.submit(throw, value).exception(60)
                assert isinstance(caught, StatecastError)
                assert str(caught) == str(value)
