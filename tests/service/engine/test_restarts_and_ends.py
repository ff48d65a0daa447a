"""Sessions that begin in place of another, and sessions that end: one commit each, and safe to repeat."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.engines import MakeEngine, assert_close, expected, observe, one, refused, step_of, version_of
from support.models import HORIZON, tiny_model
from support.redis_process import RedisProcess

from statecast.service.engine.engine import Engine
from statecast.service.engine.request import ENDED_TTL_MS, Entrance, Fork, Opening, Outcome, Request
from statecast.service.errors import AlreadyExists, InvalidRequest, NotFound, Overloaded, PreconditionFailed
from statecast.service.models.registry import Model, Registry
from statecast.service.store.catalog import Catalog, Listing
from statecast.service.store.connection import connect
from statecast.service.store.redis_store import Store
from statecast.v1.reasons import Reason

RESTART, RESUME = Opening("tiny", entrance=Entrance.RESTART), Opening("tiny", entrance=Entrance.RESUME)


def start(*values: float, **others: Any) -> Request:
    return observe("a", *values, opening=RESTART, **others)


def go_on(*values: float, **others: Any) -> Request:
    return observe("a", *values, opening=RESUME, **others)


def failed(engine: Engine, request: Request, kind: type[Exception]) -> Exception:
    (result,) = engine.run({request.session_id: [request]})[request.session_id]
    assert isinstance(result, kind), result
    return result


def forecast(outcome: Outcome) -> object:
    assert outcome.forecast is not None
    return outcome.forecast.values


@pytest.mark.parametrize("capacity", [1, 100])
def test_a_session_begins_in_place_of_another(make_engine: MakeEngine, capacity: int) -> None:
    engine = make_engine(capacity=capacity)
    assert one(engine, start(1.0, 2.0)).opened
    one(engine, observe("b", 1.0))  # the smaller cache now lacks "a"
    again = one(engine, start(5.0))
    assert not again.opened  # one existed, so the tenant has no more than before
    assert again.version == version_of([5.0])
    assert_close(forecast(again), expected([5.0]))
    one(engine, observe("b", 1.0))
    for replica in (engine, make_engine()):
        assert one(replica, go_on(horizon=HORIZON)).version == version_of([5.0])
    assert_close(forecast(one(engine, go_on(6.0))), expected([5.0, 6.0]))


def test_it_may_begin_on_another_model(make_engine: MakeEngine, registry: Registry) -> None:
    engine = make_engine()
    one(engine, start(1.0))
    moved = one(engine, observe("a", 1.0, 2.0, 3.0, opening=Opening("three", entrance=Entrance.RESTART)))
    assert moved.model is registry.get("three", "")
    assert isinstance(failed(engine, go_on(1.0, 2.0, 3.0), PreconditionFailed), PreconditionFailed)
    assert one(engine, start(4.0)).version == version_of([4.0])


def test_a_repeated_start_is_a_replay(make_engine: MakeEngine) -> None:
    engine, replica = make_engine(), make_engine()
    first = one(engine, start(1.0, request_id=b"s"))
    for each in (engine, replica):
        repeated = one(each, start(1.0, request_id=b"s"))
        assert repeated.replayed
        assert repeated.version == first.version
    one(engine, go_on(2.0, request_id=b"n"))
    late = one(replica, start(1.0, request_id=b"s"))
    assert late.replayed
    assert step_of(late) == 2  # it did not begin again
    assert one(engine, start(1.0, request_id=b"t")).version == version_of([1.0])


@pytest.mark.parametrize(
    "other",
    [
        lambda: go_on(1.0, request_id=b"s"),
        lambda: start(2.0, request_id=b"s"),
        lambda: start(1.0, request_id=b"s", ends=True),
    ],
)
def test_an_id_belongs_to_one_request(make_engine: MakeEngine, other: Callable[[], Request]) -> None:
    engine = make_engine()
    one(engine, start(1.0, request_id=b"s"))
    error = failed(engine, other(), InvalidRequest)
    assert isinstance(error, InvalidRequest)
    assert error.reason is Reason.REQUEST_ID_REUSED


def test_an_invalid_start_leaves_the_session(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, start(1.0))
    failed(engine, start(1.0, target_count=2), InvalidRequest)
    failed(engine, start(1.0, horizon=HORIZON + 1), InvalidRequest)
    assert step_of(one(engine, go_on(2.0))) == 2


def test_a_stale_replica_does_not_overwrite_a_restart(make_engine: MakeEngine) -> None:
    engine, replica = make_engine(), make_engine()
    one(engine, start(1.0))
    one(replica, go_on(2.0))
    one(engine, start(9.0))  # whose copy was stale, too
    assert one(replica, go_on(10.0)).version == version_of([9.0, 10.0])
    assert one(engine, go_on(11.0)).version == version_of([9.0, 10.0, 11.0])


def test_without_a_start_the_session_must_exist(make_engine: MakeEngine) -> None:
    error = failed(make_engine(), go_on(1.0), NotFound)
    assert isinstance(error, NotFound)
    assert error.reason is Reason.SESSION_NOT_FOUND


def test_a_tenant_with_all_its_sessions_may_restart_one(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, start(1.0))
    assert step_of(one(engine, start(1.0, is_full=True))) == 1
    failed(engine, observe("b", 1.0, opening=RESTART, is_full=True), Overloaded)


def test_what_is_replaced_need_not_be_readable(
    make_engine: MakeEngine, any_redis: RedisProcess, namespace: str
) -> None:
    engine = make_engine()
    one(engine, start(1.0))
    client = connect(any_redis.url, 2.0)
    client.setrange(f"{namespace}:default:a", 20, b"\xff\xff")
    replica = make_engine()
    failed(replica, go_on(2.0), PreconditionFailed)
    assert one(replica, start(3.0)).version == version_of([3.0])
    other = Registry([Model(tiny_model(seed=1))], "tiny")  # the same version with other weights
    retrained = make_engine(registry=other)
    failed(retrained, go_on(4.0), PreconditionFailed)
    assert one(retrained, start(5.0)).version == version_of([5.0])


def left_ms(redis: RedisProcess, namespace: str) -> int:
    left = connect(redis.url, 2.0).pttl(f"{namespace}:default:a")
    assert isinstance(left, int)
    return left


def test_the_end_is_one_commit_with_a_shorter_life(
    make_engine: MakeEngine, any_redis: RedisProcess, namespace: str
) -> None:
    engine = make_engine()
    day = replace(RESTART, ttl_ms=30 * 86_400_000)
    one(engine, observe("a", 1.0, opening=day))
    last = one(engine, go_on(2.0, request_id=b"e", ends=True))
    assert last.version == version_of([1.0, 2.0])
    assert last.ttl_ms == ENDED_TTL_MS
    assert_close(forecast(last), expected([1.0, 2.0]))
    # As long again as it lives, the record says why it is gone.
    assert ENDED_TTL_MS < left_ms(any_redis, namespace) <= 2 * ENDED_TTL_MS


def test_the_end_does_not_lengthen_a_life(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, observe("a", 1.0, opening=replace(RESTART, ttl_ms=5000)))
    assert one(engine, go_on(2.0, ends=True)).ttl_ms == 5000


@pytest.mark.parametrize("capacity", [1, 100])
def test_an_ended_session_answers_repeated_requests_only(make_engine: MakeEngine, capacity: int) -> None:
    engine = make_engine(capacity=capacity)
    one(engine, start(1.0, request_id=b"s"))
    last = one(engine, go_on(2.0, request_id=b"e", ends=True))
    one(engine, observe("b", 1.0))
    for each in (engine, make_engine()):
        for repeated in (go_on(2.0, request_id=b"e", ends=True), start(1.0, request_id=b"s")):
            outcome = one(each, repeated)
            assert outcome.replayed
            assert outcome.version == last.version
            assert_close(forecast(outcome), forecast(last))
        for further in (
            go_on(3.0), go_on(3.0, request_id=b"n"), go_on(3.0, ends=True), observe("a", 3.0), observe("a"),
            Request("a"), Request("a", close=True), Request("a", copy=True),
        ):  # fmt: skip
            error = failed(each, further, NotFound)
            assert isinstance(error, NotFound)
            assert error.reason is Reason.SESSION_CLOSED
        refused(each.run({"a": [go_on(2.0, request_id=b"e")]})["a"][0], InvalidRequest)
    assert one(engine, start(7.0)).version == version_of([7.0])
    assert one(make_engine(), go_on(8.0)).version == version_of([7.0, 8.0])


def test_a_session_may_begin_and_end_at_once(make_engine: MakeEngine) -> None:
    engine = make_engine()
    only = one(engine, start(1.0, request_id=b"o", ends=True))
    assert only.version == version_of([1.0])
    assert one(make_engine(), start(1.0, request_id=b"o", ends=True)).replayed
    failed(engine, go_on(2.0), NotFound)
    again = one(engine, start(1.0, request_id=b"p", ends=True))
    assert again.version == only.version
    assert not again.replayed


def test_requests_behind_a_start_or_an_end_wait_for_their_own_batch() -> None:
    assert start(1.0).goes_alone
    assert go_on(1.0, ends=True).goes_alone
    assert not go_on(1.0).goes_alone


async def test_an_ended_session_is_not_listed(make_engine: MakeEngine, any_redis: RedisProcess, namespace: str) -> None:
    engine = make_engine()
    one(engine, start(1.0))
    one(engine, observe("b", 1.0))
    one(engine, go_on(2.0, ends=True))
    catalog = Catalog(Store(connect(any_redis.url, 2.0), namespace))
    found, token = [], "0"
    while token:  # a page may have none
        page = await catalog.page(Listing(cursor=int(token)))
        found += [each.session_id for each in page.sessions]
        token = page.next_page_token
    catalog.close()
    assert found == ["b"]


def test_a_forecast_may_go_as_far_as_the_sessions_model_does(make_engine: MakeEngine) -> None:
    engine = make_engine()
    for request in (start(1.0), go_on(2.0)):
        request.horizon, request.up_to_horizon = 100, True
        outcome = one(engine, request)
        assert outcome.forecast is not None
        assert outcome.forecast.outline.horizon == HORIZON
    failed(engine, go_on(2.0, horizon=100), InvalidRequest)


def test_a_copy_does_not_take_the_place_of_an_ended_session(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, start(1.0, ends=True))
    one(engine, observe("b", 1.0))
    seed = one(engine, Request("b", copy=True)).seed
    failed(engine, Request("a", fork=Fork("b", seed)), AlreadyExists)
