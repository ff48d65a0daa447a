import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.engines import MakeEngine, assert_close, expected, observe, one, refused, standing, step_of, version_of
from support.models import HORIZON, LEVELS, tiny_model
from support.redis_process import RedisProcess

from statecast.service.engine.request import Opening, Outcome, Request, Result
from statecast.service.engine.write import MOST_REPLAYED
from statecast.service.errors import (
    InvalidRequest,
    NotFound,
    Overloaded,
    PreconditionFailed,
    Unavailable,
    VersionMismatch,
)
from statecast.service.models.registry import Model, Registry
from statecast.service.store.record import decode
from statecast.service.version import START, Version
from statecast.v1.reasons import Reason


def test_a_session_is_opened_takes_observations_and_forecasts(make_engine: MakeEngine) -> None:
    outcome = one(make_engine(), observe("a", 1.0, math.nan, 3.0))
    assert outcome.opened
    assert not outcome.replayed
    assert outcome.version == version_of([1.0, math.nan, 3.0])
    assert outcome.forecast is not None
    assert outcome.forecast.values.shape == (HORIZON, len(LEVELS), 1)
    assert_close(outcome.forecast.values, expected([1.0, math.nan, 3.0]))


@pytest.mark.parametrize("snapshot_every", [1, 3, 64])
@pytest.mark.parametrize("capacity", [1, 100])
def test_replicas_that_take_turns_agree_with_one_run(
    make_engine: MakeEngine, snapshot_every: int, capacity: int
) -> None:
    engines = [make_engine(snapshot_every=snapshot_every, capacity=capacity) for _ in range(2)]
    values = np.sin(np.arange(40) / 3) + 0.01 * np.arange(40)
    for step, value in enumerate(values):
        engine = engines[step % 2 if step < 20 else step % 5 // 3]
        results = engine.run({name: [observe(name, value)] for name in "abc"})
        for name in "abc":
            (outcome,) = results[name]
            assert isinstance(outcome, Outcome)
            assert outcome.version == version_of(values[: step + 1])
            assert outcome.forecast is not None
            assert_close(outcome.forecast.values, expected(values[: step + 1]))


@pytest.mark.parametrize("snapshot_every", [1, 2, 100])
def test_each_session_of_a_batch_is_written_as_its_own(make_engine: MakeEngine, snapshot_every: int) -> None:
    histories = {name: [float(place + 1), 10.0 * place, -3.0 * place] for place, name in enumerate("abcd")}
    engine = make_engine(snapshot_every=snapshot_every)
    for step in range(3):
        engine.run({name: [observe(name, values[step])] for name, values in histories.items()})
    results = make_engine().run({name: [Request(name, horizon=HORIZON)] for name in histories})
    for name, values in histories.items():
        (outcome,) = results[name]
        assert isinstance(outcome, Outcome)
        assert outcome.forecast is not None
        assert_close(outcome.forecast.values, expected(values))


def test_queued_requests_of_a_session_are_answered_each_for_itself(make_engine: MakeEngine) -> None:
    requests = [observe("a", 1.0), observe("a", 2.0, 3.0), observe("a"), observe("a", 4.0, horizon=2)]
    results = make_engine().run({"a": requests})["a"]
    for result, taken in zip(results, (1, 3, 3, 4), strict=True):
        assert isinstance(result, Outcome)
        assert result.version == version_of([1.0, 2.0, 3.0, 4.0][:taken])
        assert result.forecast is not None
        steps = len(result.forecast.values)
        wanted = expected([1.0, 2.0, 3.0, 4.0][:taken])[:steps]
        assert_close(result.forecast.values, wanted)


def test_sessions_of_several_models_and_lengths_share_a_batch(make_engine: MakeEngine) -> None:
    long = list(np.cos(np.arange(300) / 5))
    results = make_engine().run(
        {
            "long": [observe("long", *long)],
            "short": [observe("short", 5.0)],
            "three": [observe("three", *range(9), opening=Opening("three"))],
            "empty": [observe("empty")],
        }
    )
    for name, values, model in (("long", long, "tiny"), ("short", [5.0], "tiny"), ("three", range(9), "three")):
        (outcome,) = results[name]
        assert isinstance(outcome, Outcome)
        assert outcome.forecast is not None
        assert_close(outcome.forecast.values, expected(list(values), model))
    (empty,) = results["empty"]
    assert isinstance(empty, Outcome)
    assert empty.version == START
    assert empty.forecast is not None
    assert np.isnan(empty.forecast.values).all()


def test_other_quantile_levels_lie_between_the_models(make_engine: MakeEngine) -> None:
    engine = make_engine()
    own = one(engine, observe("a", 1.0, 2.0)).forecast
    asked = one(engine, observe("a", quantile_levels=(0.5, 0.1, 0.3))).forecast
    assert own is not None
    assert asked is not None
    assert asked.outline.quantile_levels == (0.5, 0.1, 0.3)
    assert_close(asked.values[:, :2], own.values[:, [1, 0]])
    assert_close(asked.values[:, 2], own.values[:, :2].mean(1))


def test_the_same_request_again_appends_nothing_on_any_replica(make_engine: MakeEngine) -> None:
    first, second = make_engine(), make_engine()
    request = observe("a", 1.0, request_id=b"r1")
    applied = one(first, request)
    for engine in (first, second, make_engine(snapshot_every=1)):
        again = one(engine, request)
        assert again.replayed
        assert not again.opened
        assert again.version == applied.version
    one(second, observe("a", 2.0, request_id=b"r2"))
    late = one(first, request)
    assert late.replayed
    assert late.version == version_of([1.0, 2.0])
    assert late.forecast is not None
    assert_close(late.forecast.values, expected([1.0, 2.0]))


def test_a_repetition_inside_one_batch_appends_nothing(make_engine: MakeEngine) -> None:
    first, second = make_engine().run({"a": [observe("a", 1.0, request_id=b"r")] * 2})["a"]
    assert isinstance(first, Outcome)
    assert isinstance(second, Outcome)
    assert (first.replayed, second.replayed) == (False, True)
    assert first.version == second.version == version_of([1.0])


@pytest.mark.parametrize(("steps", "is_rewritten"), [(MOST_REPLAYED, False), (MOST_REPLAYED + 1, True)])
def test_what_took_long_to_read_is_written_anew(
    make_engine: MakeEngine, any_redis: RedisProcess, namespace: str, steps: int, is_rewritten: bool
) -> None:
    engine = make_engine(snapshot_every=1000)
    values = [float(step % 5) for step in range(steps + 1)]
    for value in values[:-1]:  # the first one opens, with a snapshot
        one(engine, observe("a", value))
    entries = steps - 1
    assert _entries(any_redis, namespace) == entries
    one(make_engine(), Request("a", horizon=HORIZON))  # a read writes nothing
    assert _entries(any_redis, namespace) == entries
    outcome = one(make_engine(snapshot_every=1000), observe("a", values[-1]))
    assert _entries(any_redis, namespace) == (0 if is_rewritten else entries + 1)
    assert outcome.forecast is not None
    assert_close(outcome.forecast.values, expected(values))
    again = one(make_engine(), Request("a", horizon=HORIZON))
    assert again.version == outcome.version
    assert again.forecast is not None
    assert_close(again.forecast.values, expected(values))


def _entries(redis: RedisProcess, namespace: str) -> int:
    """Return the number of entries after the snapshot of session a."""
    data = redis.client.get(f"{namespace}:default:a")
    assert isinstance(data, bytes)
    return len(decode("a", data).entries)


@pytest.mark.parametrize("snapshot_every", [1, 100])
def test_sixteen_request_ids_are_remembered(make_engine: MakeEngine, snapshot_every: int) -> None:
    requests = [observe("a", float(number), request_id=b"%d" % number) for number in range(17)]
    for request in requests:
        one(make_engine(snapshot_every=snapshot_every), request)
    assert one(make_engine(), requests[1]).replayed
    assert not one(make_engine(), requests[0]).replayed


def test_an_id_used_for_other_content_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine()
    applied = one(engine, observe("a", 1.0, request_id=b"r"))
    (result,) = engine.run({"a": [observe("a", 2.0, request_id=b"r")]})["a"]
    error = refused(result, InvalidRequest)
    assert error.reason is Reason.REQUEST_ID_REUSED
    assert one(engine, observe("a")).version == applied.version


def test_if_version_is_compared_with_the_newest_state_not_with_a_stale_copy(make_engine: MakeEngine) -> None:
    first, second = make_engine(), make_engine()
    old = one(first, observe("a", 1.0)).version
    new = one(second, observe("a", 2.0)).version
    (result,) = first.run({"a": [observe("a", 9.0, if_version=old)]})["a"]
    error = refused(result, VersionMismatch)
    assert isinstance(error, VersionMismatch)
    assert error.current == new
    assert one(first, observe("a", 3.0, if_version=new)).version == version_of([1.0, 2.0, 3.0])
    same_step = Version(3, 1)
    (result,) = first.run({"a": [observe("a", if_version=same_step)]})["a"]
    refused(result, VersionMismatch)


def test_a_read_only_forecast_notices_that_its_copy_is_stale(make_engine: MakeEngine) -> None:
    first, second = make_engine(), make_engine()
    one(first, observe("a", 1.0))
    one(second, observe("a", 2.0))
    assert one(first, observe("a")).version == version_of([1.0, 2.0])
    assert first._metrics.conflicts._value.get() == 1


def test_what_was_read_is_compared_the_next_time(make_engine: MakeEngine) -> None:
    writer, reader = make_engine(snapshot_every=100), make_engine()
    for taken in range(1, 5):
        one(writer, observe("a", float(taken)))
        if taken > 1:  # with entries to replay
            for _ in range(2):
                version = one(reader, Request("a", horizon=HORIZON)).version
                assert version == version_of([float(each + 1) for each in range(taken)])


def test_a_session_that_is_not_there(make_engine: MakeEngine) -> None:
    engine = make_engine()
    for request in (observe("a", 1.0, opening=None), Request("a"), Request("a", close=True)):
        (result,) = engine.run({"a": [request]})["a"]
        assert refused(result, NotFound).reason is Reason.SESSION_NOT_FOUND
    (result,) = engine.run({"a": [observe("a", opening=Opening("nope"))]})["a"]
    assert refused(result, NotFound).reason is Reason.MODEL_NOT_FOUND


def test_a_closed_session_is_gone_on_every_replica_and_starts_afresh(make_engine: MakeEngine) -> None:
    first, second = make_engine(), make_engine()
    one(first, observe("a", 1.0, request_id=b"r"))
    one(second, observe("a", 2.0))
    assert one(first, Request("a", close=True)).version == version_of([1.0, 2.0])
    for engine in (first, second):
        (result,) = engine.run({"a": [observe("a", 1.0, opening=None)]})["a"]
        refused(result, NotFound)
    # The same first observation gives the same tag, but the old session's cached copy must not pass for the new one.
    third = make_engine()
    one(third, observe("a", 1.0))
    one(first, observe("b"))
    one(third, Request("a", close=True))
    one(first, observe("a", 1.0))
    assert not one(third, observe("a", 1.0, request_id=b"r")).replayed


def test_an_expired_session_is_not_found_even_if_it_is_hot(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, observe("a", 1.0, opening=Opening(ttl_ms=1)))
    result: Result = Outcome  # type: ignore[assignment]
    for _ in range(100):
        (result,) = engine.run({"a": [observe("a", opening=None)]})["a"]
        if isinstance(result, NotFound):
            break
    refused(result, NotFound)
    assert one(engine, observe("a")).opened


def test_another_model_needs_another_session(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, observe("a", 1.0))
    (result,) = engine.run({"a": [observe("a", 2.0, opening=Opening("three"))]})["a"]
    assert refused(result, PreconditionFailed).reason is Reason.OTHER_MODEL
    assert step_of(one(engine, observe("a", 2.0, opening=Opening("tiny", "1")))) == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"values": np.zeros(2), "opening": Opening("three")}, "observations.values"),
        ({"values": np.zeros(1001)}, "observations.values"),
        ({"horizon": HORIZON + 1}, "horizon"),
        ({"quantile_levels": (0.5, 0.0)}, "quantile_levels[1]"),
        ({"quantile_levels": (1.0,)}, "quantile_levels[0]"),
        ({"quantile_levels": (math.nan,)}, "quantile_levels[0]"),
        ({"start_time": 0, "values": np.zeros(1)}, "observations.start_time"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_opened(
    make_engine: MakeEngine, change: dict[str, Any], field: str
) -> None:
    engine = make_engine()
    (result,) = engine.run({"a": [replace(observe("a"), **change)]})["a"]
    error = refused(result, InvalidRequest)
    assert isinstance(error, InvalidRequest)
    assert error.field == field
    (result,) = engine.run({"a": [Request("a")]})["a"]
    refused(result, NotFound)


def test_one_wrong_request_leaves_its_neighbours_alone(make_engine: MakeEngine) -> None:
    requests = [observe("a", 1.0), observe("a", 9.0, horizon=99), observe("a", 2.0)]
    first, second, third = make_engine().run({"a": requests})["a"]
    assert isinstance(first, Outcome)
    refused(second, InvalidRequest)
    assert isinstance(third, Outcome)
    assert third.version == version_of([1.0, 2.0])


def test_damage_is_named_and_stays_with_its_session(
    make_engine: MakeEngine, any_redis: RedisProcess, namespace: str
) -> None:
    for name in "ab":
        one(make_engine(), observe(name, 1.0))
    key = f"{namespace}:default:a"
    value = any_redis.client.get(key)
    assert isinstance(value, bytes)
    data = bytearray(value)
    data[100] ^= 1
    any_redis.client.set(key, bytes(data))
    results = make_engine().run({name: [observe(name, 2.0)] for name in "ab"})
    error = refused(results["a"][0], PreconditionFailed)
    assert error.reason is Reason.RECORD_DAMAGED
    assert "'a'" in error.message
    assert isinstance(results["b"][0], Outcome)
    assert any_redis.client.get(key) == bytes(data)


def test_a_record_of_other_weights_is_refused(make_engine: MakeEngine) -> None:
    one(make_engine(), observe("a", 1.0))
    for registry in (
        Registry([Model(tiny_model(seed=1))], "tiny"),
        Registry([Model(tiny_model(version="2"))], "tiny"),
    ):
        (result,) = make_engine(registry=registry).run({"a": [observe("a", 2.0)]})["a"]
        assert refused(result, PreconditionFailed).reason is Reason.MODEL_CHANGED
    assert step_of(one(make_engine(), observe("a", 2.0))) == 2


def test_a_lost_redis_is_unavailable_and_nothing_is_applied_twice(
    make_engine: MakeEngine, own_redis: RedisProcess
) -> None:
    engine = make_engine(redis=own_redis, timeout_seconds=1.0)
    one(engine, observe("a", 1.0))
    own_redis.kill()
    request = observe("a", 2.0, request_id=b"r")
    (result,) = engine.run({"a": [request]})["a"]
    refused(result, Unavailable)
    own_redis.start()
    assert one(engine, request).version == version_of([1.0, 2.0])


def test_a_commit_whose_answer_was_lost_is_found_by_its_id(make_engine: MakeEngine, own_redis: RedisProcess) -> None:
    engine = make_engine(redis=own_redis, timeout_seconds=0.3)
    one(engine, observe("a", 1.0))
    own_redis.client.client_pause(1000)
    request = observe("a", 2.0, request_id=b"r")
    (result,) = engine.run({"a": [request]})["a"]
    refused(result, Unavailable)
    while isinstance(result, Unavailable):
        (result,) = engine.run({"a": [request]})["a"]
    assert isinstance(result, Outcome)
    assert result.version == version_of([1.0, 2.0])


def test_a_full_redis_refuses_writes_and_serves_reads(make_engine: MakeEngine, own_redis: RedisProcess) -> None:
    engine = make_engine(redis=own_redis)
    for name in "ab":
        one(engine, observe(name, 1.0))
    own_redis.client.config_set("maxmemory", "1")
    results = engine.run({"a": [observe("a", 2.0)], "b": [observe("b")]})
    assert refused(results["a"][0], Overloaded).reason is Reason.STORE_FULL
    assert isinstance(results["b"][0], Outcome)
    own_redis.client.config_set("maxmemory", "0")
    assert one(engine, observe("a", 2.0)).version == version_of([1.0, 2.0])


def test_an_answer_stays_as_it_was_while_the_session_moves_on(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, observe("a", 1.0, request_id=b"x"))
    looks = [standing(one(engine, Request("a"))), standing(one(engine, Request("a", Opening("tiny"))))]
    copied = one(engine, Request("a", copy=True)).seed
    assert copied is not None
    opened = standing(one(engine, Request("b", Opening())))
    for name in "ab":
        one(engine, observe(name, 2.0, request_id=b"y"))
    for before in (*looks, copied.standing):
        assert before.version == version_of([1.0])
        assert list(before.recent) == [b"x"]
        assert len(before.lineage) == 1
    assert (opened.version, opened.recent) == (START, {})


def test_memory_holds_no_more_sessions_than_it_may(make_engine: MakeEngine) -> None:
    engine = make_engine(capacity=3)
    for turn in range(3):
        for number in range(10):
            outcome = one(engine, observe(str(number), float(turn)))
            assert outcome.version == version_of([float(at) for at in range(turn + 1)])
    assert engine._metrics.cached_sessions._value.get() == 3
    assert engine._metrics.cache_misses._value.get() == 30


def test_time(make_engine: MakeEngine) -> None:
    hour = 3_600_000_000_000
    engine = make_engine()
    opening = Opening("hourly")
    (result,) = engine.run({"a": [observe("a", 1.0, opening=opening)]})["a"]
    assert "start_time" in refused(result, InvalidRequest).message
    one(engine, observe("a", 1.0, 2.0, opening=opening, start_time=10 * hour))
    one(engine, observe("a", 3.0))
    assert standing(one(engine, Request("a"))).last_time == 12 * hour
    after_gap = one(make_engine(), observe("a", 6.0, start_time=15 * hour))
    assert step_of(after_gap) == 6
    assert after_gap.forecast is not None
    assert after_gap.forecast.start_time == 16 * hour
    values = [1.0, 2.0, 3.0, math.nan, math.nan, 6.0]
    assert_close(after_gap.forecast.values, expected(values, "hourly"))
    for start, kind in (
        (15 * hour, PreconditionFailed),
        (16 * hour + 1, InvalidRequest),
        (10**5 * hour, InvalidRequest),
    ):
        (result,) = engine.run({"a": [observe("a", 7.0, start_time=start)]})["a"]
        refused(result, kind)
    assert one(make_engine(), observe("a")).version == after_gap.version
