"""A session that brings a frequency to a model without one is like a session of a model that has it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from support.engines import MakeEngine, observe, one, refused, standing, step_of
from support.models import HORIZON
from support.redis_process import RedisProcess

from statecast.model import Frequency, Zone
from statecast.service.engine.request import Fork, Opening, Outcome, Request
from statecast.service.engine.transfer import Arrival, Exported, Taken, Transfer
from statecast.service.errors import InvalidRequest, PreconditionFailed
from statecast.service.models.registry import Registry
from statecast.service.store.connection import connect
from statecast.service.store.record import WITH_OPTIONS, decode
from statecast.service.store.redis_store import Store
from statecast.v1.reasons import Reason

HOUR = 3_600_000_000_000
BEGIN = 472_222 * HOUR
HOURLY = Opening("tiny", frequency=Frequency.parse("h"), max_ahead_ms=0)
MODELS = Opening("hourly", max_ahead_ms=0)
ROWS: Sequence[tuple[Sequence[int], bool]] = (
    ([0], True), ([1, 2], True), ([3], False), ([4], False), ([9], True), ([10, 14], True), ([15], False), ([16], False)
)  # fmt: skip
"""Hours of each request's rows, and True if it names them."""


def requests(name: str, opening: Opening) -> list[Request]:
    made = []
    for number, (hours, is_dated) in enumerate(ROWS):
        others: dict[str, Any] = {}
        if is_dated:
            times = np.array([BEGIN + HOUR * hour for hour in hours], np.int64)
            others = {"start_time": int(times[0])} if len(hours) == 1 else {"times": times}
        values = [float(hour % 5) for hour in hours]
        made.append(observe(name, *values, opening=opening, request_id=b"r%d" % number, **others))
    return made


def told(outcome: Outcome) -> tuple[Any, ...]:
    assert outcome.forecast is not None
    outline = outcome.forecast.outline
    return outcome.version, outcome.missing, outcome.replayed, outcome.forecast.start_time, outline.frequency


def forecast(outcome: Outcome) -> NDArray[np.float32]:
    assert outcome.forecast is not None
    return outcome.forecast.values


@pytest.mark.parametrize("snapshot_every", [1, 3, 100])
@pytest.mark.parametrize("restarts", [False, True])
def test_it_is_like_a_session_of_a_model_with_that_frequency(
    make_engine: MakeEngine, snapshot_every: int, restarts: bool
) -> None:
    engine = make_engine(snapshot_every=snapshot_every)
    for own, models in zip(requests("own", HOURLY), requests("model", MODELS), strict=True):
        if restarts:
            engine = make_engine(snapshot_every=snapshot_every)
        results = engine.run({"own": [own], "model": [models]})
        (left,), (right,) = results["own"], results["model"]
        assert isinstance(left, Outcome), left
        assert isinstance(right, Outcome), right
        assert told(left) == told(right)
        np.testing.assert_allclose(forecast(left), forecast(right), rtol=1e-4, atol=1e-5)
        again = one(engine, replace(own))
        assert (again.replayed, again.version) == (True, left.version)
    last = one(make_engine(), Request("own", horizon=HORIZON))
    assert (step_of(last), *told(last)[3:]) == (17, BEGIN + 17 * HOUR, "h")
    assert standing(one(make_engine(), Request("own"))).last_instant == BEGIN + 16 * HOUR


def test_its_frequency_is_in_the_record(make_engine: MakeEngine, any_redis: RedisProcess, namespace: str) -> None:
    one(make_engine(), observe("a", 1.0, opening=HOURLY, start_time=BEGIN))
    data = any_redis.client.get(f"{namespace}:default:a")
    assert isinstance(data, bytes)
    record = decode("a", data)
    assert (data[4], record.snapshot.frequency) == (WITH_OPTIONS, "h")


def test_times_are_checked_on_its_grid(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, observe("a", 1.0, opening=HOURLY, start_time=BEGIN))
    for fault, kind, reason in (
        ({"start_time": BEGIN + HOUR // 2}, InvalidRequest, Reason.INVALID_FIELD),
        ({"start_time": BEGIN}, PreconditionFailed, Reason.TIME_ORDER),
    ):
        (result,) = engine.run({"a": [observe("a", 2.0, **fault)]})["a"]
        assert refused(result, kind).reason is reason
    (result,) = engine.run({"b": [observe("b", 2.0, opening=HOURLY)]})["b"]
    assert "first observations need start_time or times" in refused(result, InvalidRequest).message


def test_days_are_those_of_its_zone(make_engine: MakeEngine) -> None:
    zone = Zone.parse("Europe/Berlin")
    days = pd.date_range("2024-03-29", periods=4, tz="Europe/Berlin").as_unit("ns").asi8
    opening = Opening("tiny", zone=zone, frequency=Frequency.parse("D"), max_ahead_ms=0)
    one(make_engine(), observe("a", 1.0, 2.0, opening=opening, times=days[[0, 1]]))
    outcome = one(make_engine(), observe("a", 4.0, opening=None, start_time=int(days[3])))
    assert outcome.missing == 1
    assert outcome.forecast is not None
    assert outcome.forecast.start_time == int(pd.Timestamp("2024-04-02", tz="Europe/Berlin").value)
    assert standing(outcome).is_on_wall_clock


def test_a_fork_and_a_moved_session_keep_it(
    make_engine: MakeEngine, any_redis: RedisProcess, namespace: str, registry: Registry
) -> None:
    engine = make_engine()
    one(engine, observe("a", 1.0, opening=HOURLY, start_time=BEGIN))
    one(engine, observe("a", 2.0, opening=None))
    one(engine, Request("b", fork=Fork("a", one(engine, Request("a", copy=True)).seed)))
    transfer = Transfer(Store(connect(any_redis.url, 2.0), namespace), registry)
    (session,) = transfer.read(["a"])
    assert isinstance(session, Exported)
    taken = transfer.take([Arrival("c", session.record, session.left_ms)], replace=False, full=None)
    assert taken["c"] == Taken()
    outcomes = [one(make_engine(), observe(name, 5.0, opening=None, start_time=BEGIN + 4 * HOUR)) for name in "abc"]
    for outcome in outcomes:
        assert (step_of(outcome), outcome.missing) == (5, 2)
        assert outcome.version == outcomes[0].version


def test_an_empty_session_keeps_it(make_engine: MakeEngine) -> None:
    one(make_engine(), Request("a", HOURLY))
    outcome = one(make_engine(), observe("a", 1.0, opening=None, start_time=BEGIN))
    assert told(outcome)[3:] == (BEGIN + HOUR, "h")


@pytest.mark.parametrize(
    ("first", "then", "says"),
    [
        (HOURLY, Opening(frequency=Frequency.parse("D")), "has steps of 'h'; close it first to open it with 'D'"),
        (Opening(), HOURLY, "has no frequency; close it first to open it with 'h'"),
        (MODELS, Opening(frequency=Frequency.parse("D")), "has steps of 'h'; its model has them"),
    ],
)
def test_another_frequency_is_refused_for_a_live_session(
    make_engine: MakeEngine, first: Opening, then: Opening, says: str
) -> None:
    engine = make_engine()
    dated = {"start_time": BEGIN} if first.frequency or first.model == "hourly" else {}
    before = one(engine, observe("a", 1.0, opening=first, **dated)).version
    (result,) = engine.run({"a": [observe("a", 2.0, opening=then)]})["a"]
    error = refused(result, PreconditionFailed)
    assert error.reason is Reason.OTHER_FREQUENCY
    assert says in error.message
    assert one(engine, Request("a", horizon=HORIZON)).version == before


@pytest.mark.parametrize("alias", ["h", "60min"])
def test_the_same_grid_by_another_name_is_no_other_frequency(make_engine: MakeEngine, alias: str) -> None:
    engine, opening = make_engine(), Opening(frequency=Frequency.parse(alias), max_ahead_ms=0)
    one(engine, observe("a", 1.0, opening=HOURLY, start_time=BEGIN))
    assert step_of(one(engine, observe("a", 2.0, opening=opening))) == 2
    of_model = one(engine, observe("b", 1.0, opening=replace(opening, model="hourly"), start_time=BEGIN))
    assert standing(of_model).own_frequency is None


def test_a_model_with_a_frequency_takes_no_other(make_engine: MakeEngine) -> None:
    opening = Opening("hourly", frequency=Frequency.parse("15min"))
    (result,) = make_engine().run({"a": [observe("a", 1.0, opening=opening, start_time=BEGIN)]})["a"]
    error = refused(result, InvalidRequest)
    assert isinstance(error, InvalidRequest)
    assert error.field == "open.frequency"
    assert "hourly version 1 has steps of 'h'" in error.message


@pytest.mark.parametrize(
    ("model", "frequency", "says"),
    [
        ("tiny", "no such", "its frequency is 'no such': not a pandas frequency alias"),
        ("hourly", "h", "it has a frequency, 'h', and so has its model"),
    ],
)
def test_a_record_whose_frequency_cannot_be_is_damaged(
    make_engine: MakeEngine, any_redis: RedisProcess, namespace: str, registry: Registry, model: str, frequency: str,
    says: str,
) -> None:  # fmt: skip
    one(make_engine(), observe("a", 1.0, opening=Opening(model), start_time=BEGIN if model == "hourly" else None))
    transfer = Transfer(Store(connect(any_redis.url, 2.0), namespace), registry)
    (session,) = transfer.read(["a"])
    assert isinstance(session, Exported)
    record = replace(session.record, snapshot=replace(session.record.snapshot, frequency=frequency))
    result = transfer.take([Arrival("b", record, None)], replace=False, full=None)["b"]
    assert isinstance(result, PreconditionFailed)
    assert says in result.message
    assert result.reason is Reason.RECORD_DAMAGED
