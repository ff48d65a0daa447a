"""A failure stays confined to its session, request or cached state."""

from dataclasses import replace

import numpy as np
import pytest
from support.engines import MakeEngine, assert_close, expected, observe, one, refused, step_of, version_of
from support.models import tiny_model
from support.redis_process import RedisProcess

from statecast.model import Forecaster, State
from statecast.service.engine.counters import BatchCounters
from statecast.service.engine.request import Opening, Outcome, Request
from statecast.service.engine.session_cache import StatePool
from statecast.service.errors import (
    InvalidRequest,
    Overloaded,
    PreconditionFailed,
    StoreRefuses,
    Unavailable,
    VersionMismatch,
)
from statecast.service.models.registry import Model, Registry
from statecast.service.version import START
from statecast.v1.reasons import Reason


def test_a_session_that_cannot_be_read_can_be_closed(
    make_engine: MakeEngine, any_redis: RedisProcess, namespace: str
) -> None:
    for name in "ab":
        one(make_engine(), observe(name, 1.0))
    any_redis.client.setrange(f"{namespace}:default:b", 40, b"damage")
    other = Registry([Model(tiny_model(seed=7))], "tiny")
    engine = make_engine(registry=other)
    (result,) = engine.run({"a": [observe("a", 2.0)]})["a"]
    assert refused(result, PreconditionFailed).reason is Reason.MODEL_CHANGED
    (result,) = engine.run({"a": [Request("a", if_version=START, close=True)]})["a"]
    refused(result, VersionMismatch)  # it is unusable, but it is read
    (result,) = engine.run({"b": [Request("b", if_version=START, close=True)]})["b"]
    refused(result, PreconditionFailed)
    assert one(engine, Request("a", close=True)).version == version_of([1.0])
    assert one(engine, Request("b", close=True)).version is None
    for name in "ab":
        assert one(engine, observe(name, 1.0)).opened


def test_what_is_committed_is_answered_so_even_if_it_cannot_be_counted(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(counters: BatchCounters, done: object) -> None:
        raise MemoryError

    engine = make_engine()
    with monkeypatch.context() as patch:
        patch.setattr(BatchCounters, "count", broken)
        assert one(engine, observe("a", 1.0)).version == version_of([1.0])
    assert one(engine, observe("a", 2.0)).version == version_of([1.0, 2.0])


def test_nothing_is_decided_on_a_copy_that_could_not_be_compared(
    make_engine: MakeEngine, own_redis: RedisProcess
) -> None:
    stale, other = (make_engine(redis=own_redis, timeout_seconds=0.5) for _ in range(2))
    one(stale, observe("a", 1.0))
    newest = one(other, observe("a", 2.0)).version
    own_redis.kill()
    (result,) = stale.run({"a": [observe("a", 3.0, if_version=newest)]})["a"]
    refused(result, Unavailable)
    own_redis.start()
    assert step_of(one(stale, observe("a", 3.0, if_version=newest))) == 3


def test_nothing_is_decided_on_what_was_not_committed(make_engine: MakeEngine, own_redis: RedisProcess) -> None:
    engine = make_engine(redis=own_redis)
    version = one(engine, observe("a", 1.0)).version
    one(engine, observe("b", 1.0))
    own_redis.client.config_set("maxmemory", 1)
    requests = {"a": [observe("a", 2.0), observe("a", 3.0, if_version=version)], "b": [Request("b", close=True)]}
    results = engine.run(requests)
    for result in results["a"]:
        refused(result, Overloaded)
    assert isinstance(results["b"][0], Outcome)  # closing frees memory
    own_redis.client.config_set("maxmemory", 0)
    assert one(engine, Request("a")).version == version


def test_a_write_that_redis_refuses_leaves_the_others_and_itself_whole(
    make_engine: MakeEngine, own_redis: RedisProcess
) -> None:
    engine = make_engine(redis=own_redis, snapshot_every=1000)
    for name in "ab":
        one(engine, observe(name, 1.0))
    own_redis.client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-append"], keys=["*"])
    results = engine.run({"a": [observe("a", 2.0)], "c": [observe("c", 1.0)]})
    assert "nothing was appended" in refused(results["a"][0], StoreRefuses).message
    assert isinstance(results["c"][0], Outcome)
    own_redis.client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"], keys=["*"])
    assert step_of(one(engine, observe("a", 2.0))) == 2


def test_a_state_that_cannot_be_kept_in_memory_is_read_again(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(snapshot_every=100)
    one(engine, observe("a", 1.0, 2.0, 3.0))

    def fail(pool: StatePool, rows: list[int], state: State) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(StatePool, "write", fail)
        assert step_of(one(engine, observe("a", 100.0, 200.0))) == 5
    outcome = one(engine, observe("a", 7.0))
    assert outcome.forecast is not None
    assert_close(outcome.forecast.values, expected([1.0, 2.0, 3.0, 100.0, 200.0, 7.0]))


def test_a_session_whose_batch_failed_is_compared_again(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, other = make_engine(), make_engine()
    one(other, observe("a", 1.0))

    def fail(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("statecast.service.engine.advance._compute", fail)
        (result,) = engine.run({"a": [Request("a", horizon=2)]})["a"]
        assert isinstance(result, RuntimeError)
    one(other, observe("a", 2.0))
    assert one(engine, Request("a", horizon=2)).version == version_of([1.0, 2.0])


def test_a_defect_in_one_request_stays_there(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("statecast.service.engine.plan.place", fail)
    engine = make_engine()
    results = engine.run({"a": [observe("a", 1.0, opening=Opening("hourly"), start_time=0)], "b": [observe("b", 1.0)]})
    assert isinstance(results["a"][0], ZeroDivisionError)
    assert isinstance(results["b"][0], Outcome)


def test_a_time_cannot_be_taken_for_a_value(make_engine: MakeEngine) -> None:
    engine, opening = make_engine(), Opening("hourly")
    bits = int(np.array([2.5]).view(np.int64)[0])
    one(engine, observe("a", 1.0, opening=opening, start_time=0))
    one(engine, observe("a", 7.0, 2.5, opening=opening, request_id=b"x"))
    (result,) = engine.run({"a": [observe("a", 7.0, opening=opening, start_time=bits, request_id=b"x")]})["a"]
    assert isinstance(result, InvalidRequest)
    assert result.reason is Reason.REQUEST_ID_REUSED


def test_a_model_of_one_quantile_level(make_engine: MakeEngine) -> None:
    config = replace(tiny_model().config, quantile_levels=(0.5,))
    engine = make_engine(registry=Registry([Model(Forecaster(config).eval())], "tiny"))
    own = one(engine, observe("a", 1.0, 2.0)).forecast
    asked = one(engine, observe("a", quantile_levels=(0.5,))).forecast
    assert own is not None
    assert asked is not None
    assert_close(asked.values, own.values)
    assert np.isfinite(asked.values).all()
