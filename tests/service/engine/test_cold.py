"""Sessions that are read from Redis: their states are unpacked once they are needed, and room is shared fairly."""

import pytest
from support.engines import MakeEngine, observe, one, refused
from support.redis_process import RedisProcess

from statecast.service.engine.engine import Engine
from statecast.service.engine.request import Outcome, Request
from statecast.service.errors import InvalidRequest, Unavailable

NAMES = "abcdef"


def engine_without(make_engine: MakeEngine, *, capacity: int = 100) -> Engine:
    """Return an engine that has none of the sessions in memory, each of which has ten entries."""
    writer = make_engine(snapshot_every=1000)
    for name in NAMES:
        for _ in range(11):
            one(writer, observe(name, 1.0))
    return make_engine(snapshot_every=1000, capacity=capacity)


@pytest.mark.parametrize("request_", [Request("a"), Request("a", close=True)], ids=["look", "close"])
def test_a_session_that_cannot_be_replayed_can_be_seen_and_closed(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, request_: Request
) -> None:
    engine = engine_without(make_engine)

    def fail(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("statecast.service.engine.replay._replayed", fail)
    (result,) = engine.run({"a": [Request("a", horizon=1)]})["a"]
    assert isinstance(result, RuntimeError)
    assert isinstance(one(engine, request_), Outcome)


def test_looks_at_sessions_evict_none_in_use(make_engine: MakeEngine) -> None:
    engine = engine_without(make_engine, capacity=2)
    for name in "ab":
        one(engine, Request(name, horizon=1))
    for name in "cdef":
        one(engine, Request(name))
    assert set(engine._cache._sessions) == {"a", "b"}


@pytest.mark.parametrize("capacity", [100, 2])
def test_a_batch_with_too_much_to_replay_gets_on(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, capacity: int
) -> None:
    engine = engine_without(make_engine, capacity=capacity)
    monkeypatch.setattr("statecast.service.engine.engine.MAX_STEPS_A_BATCH", 30)  # room for three of six
    left = set(NAMES)
    for _ in range(4):
        results = engine.run({name: [observe(name, 2.0)] for name in sorted(left)})
        done = {name for name, (each,) in results.items() if isinstance(each, Outcome)}
        assert done or not left
        left -= done
    assert not left


def test_a_wrong_number_of_targets_is_named_without_values_too(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, observe("a", 1.0))
    (result,) = engine.run({"a": [Request("a", horizon=2, target_count=3)]})["a"]
    refused(result, InvalidRequest)


def test_a_load_that_fails_counts_as_no_commit(make_engine: MakeEngine, own_redis: RedisProcess) -> None:
    engine = make_engine(redis=own_redis)
    own_redis.kill()
    (result,) = engine.run({"a": [observe("a", 1.0)]})["a"]
    refused(result, Unavailable)
    value_of = engine._metrics.registry.get_sample_value
    assert value_of("statecast_redis_seconds_count", {"operation": "commit"}) == 0
    assert value_of("statecast_phase_seconds_count", {"phase": "commit"}) == 0
