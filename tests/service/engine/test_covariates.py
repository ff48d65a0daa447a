"""Known inputs: past and future covariates, and the time."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.engines import MakeEngine, assert_close, observe, one, refused, standing, step_of
from support.models import HORIZON, shop_model
from support.redis_process import RedisProcess
from support.rich_model import BEGIN, HOUR, OPENING, future, history

from statecast.model import Frequency, Future
from statecast.service.engine.request import Opening, Outcome, Request
from statecast.service.errors import InvalidRequest, NotFound, PreconditionFailed
from statecast.service.models.registry import Model, Registry
from statecast.service.version import START
from statecast.v1.reasons import Reason


def told(outcome: Outcome) -> Any:
    assert outcome.forecast is not None
    return outcome.forecast.values


@pytest.mark.parametrize("cuts", [[], [1], [7, 8, 20], list(range(1, 40))])
@pytest.mark.parametrize(("snapshot_every", "capacity"), [(1, 100), (4, 1), (100, 100), (1000, 1)])
def test_a_history_is_the_same_however_it_is_cut_and_whoever_takes_it(
    make_engine: MakeEngine, cuts: list[int], snapshot_every: int, capacity: int
) -> None:
    engines = [make_engine(snapshot_every=snapshot_every, capacity=capacity) for _ in range(2)]
    sales, coming = history(40), future()
    for number, request in enumerate(sales.requests("a", cuts)):
        one(engines[number % 2], request)
        one(engines[number % 2], observe("b", 1.0))  # evicts it from a small cache
    for engine in (*engines, make_engine()):
        ahead = one(engine, Request("a", horizon=HORIZON, future_covariates=coming.ravel()))
        assert ahead.version == sales.version
        assert_close(told(ahead), sales.forecast(coming))
    assert np.abs(sales.forecast(coming) - sales.forecast()).max() > 0.1


def test_every_request_of_a_batch_is_answered_for_itself(make_engine: MakeEngine) -> None:
    sales = history(30)
    nearer = future(1, horizon=2)
    results = make_engine().run(
        {
            "a": [
                sales.request("a", 0, 10, horizon=HORIZON, future_covariates=future(2).ravel()),
                sales.request("a", 10, 12),
                sales.request("a", 12, 20, horizon=2, future_covariates=nearer.ravel()),
                sales.request("a", 20, 30, horizon=HORIZON),
            ],
            "b": [history(5, 3).request("b", 0, 5, horizon=1, future_covariates=future(4, horizon=1).ravel())],
        }
    )
    outcomes = [result for result in results["a"] if isinstance(result, Outcome)]
    first, second, third, fourth = (told(outcome) if outcome.forecast else None for outcome in outcomes)
    assert_close(first, replace(sales, rows=sales.rows[:10]).forecast(future(2)))
    assert second is None
    assert_close(third, replace(sales, rows=sales.rows[:20]).forecast(nearer, 2))
    assert_close(fourth, sales.forecast())
    (other,) = results["b"]
    assert isinstance(other, Outcome)
    assert_close(told(other), history(5, 3).forecast(future(4, horizon=1), 1))


@pytest.mark.parametrize("at_once", [1, 7])
def test_times_and_covariates_follow_through_long_batches(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("statecast.service.engine.advance.STEPS_AT_ONCE", at_once)
    sales = history(25)
    outcome = one(make_engine(), sales.request("a", 0, 25, horizon=HORIZON))
    assert_close(told(outcome), sales.forecast())


def test_covariates_make_another_history(make_engine: MakeEngine) -> None:
    engine, sales = make_engine(), history(3)
    other = replace(sales, rows=sales.rows + np.array([0, 0, 0, 1]))
    versions = [one(engine, each.request(name, 0, 3)).version for name, each in (("a", sales), ("b", other))]
    assert versions == [sales.version, other.version]
    assert versions[0] != versions[1]
    unknown = one(engine, sales.request("c", 0, 3, covariates=np.empty(0)))
    rows = sales.rows.copy()
    rows[:, 2:] = np.nan
    assert unknown.version == replace(sales, rows=rows).version


def test_a_gap_has_no_covariates(make_engine: MakeEngine) -> None:
    engine, sales = make_engine(), history(8)
    sales.rows[3:6] = np.nan
    one(engine, sales.request("a", 0, 3))
    after = one(engine, sales.request("a", 6, 8, start_time=BEGIN + 6 * HOUR, horizon=HORIZON))
    assert after.version == sales.version
    assert_close(told(after), sales.forecast())


@pytest.mark.parametrize("snapshot_every", [1, 100])
def test_other_covariates_under_the_same_id_are_refused(make_engine: MakeEngine, snapshot_every: int) -> None:
    engine, sales = make_engine(snapshot_every=snapshot_every), history(3)
    request = sales.request("a", 0, 3, request_id=b"r")
    applied = one(engine, request)
    changed = request.covariates.copy()
    changed[0] = 99.0
    for covariates in (changed, np.empty(0)):
        for replica in (engine, make_engine()):
            (result,) = replica.run({"a": [replace(request, covariates=covariates)]})["a"]
            assert refused(result, InvalidRequest).reason is Reason.REQUEST_ID_REUSED
    again = one(make_engine(), request)
    assert (again.replayed, again.version) == (True, applied.version)


def test_a_value_cannot_be_taken_for_a_covariate(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, Request("a", OPENING, np.ones(2), np.ones(2), start_time=BEGIN, request_id=b"r"))
    (result,) = engine.run({"a": [Request("a", OPENING, np.ones(4), start_time=BEGIN, request_id=b"r")]})["a"]
    assert refused(result, InvalidRequest).reason is Reason.REQUEST_ID_REUSED


def test_garbage_about_the_future_leaves_the_session_alone(make_engine: MakeEngine) -> None:
    sales, engine, calm = history(12), make_engine(snapshot_every=1), make_engine(snapshot_every=1)
    for request in sales.requests("a", [5]):
        garbage = np.resize([1e30, -1e30, 0.0, np.nan], HORIZON * 2)
        outcome = one(engine, replace(request, horizon=HORIZON, future_covariates=garbage))
        # Quantiles never cross, whatever the future covariates are.
        assert not (np.diff(told(outcome), axis=1) < 0).any()
        one(calm, replace(request, session_id="b"))
    for replica in (engine, make_engine()):
        ahead = [one(replica, Request(name, horizon=HORIZON)) for name in "ab"]
        assert ahead[0].version == ahead[1].version == sales.version
        np.testing.assert_array_equal(told(ahead[0]), told(ahead[1]))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "too few": ({"covariates": np.ones(3)}, "observations.covariates"),
    "too many": ({"covariates": np.ones(6)}, "observations.covariates"),
    "of no values": ({"values": np.empty(0), "covariates": np.ones(2)}, "observations.covariates"),
    "of a model without": (
        {"opening": Opening("tiny"), "covariates": np.ones(4), "start_time": None},
        "observations.covariates",
    ),
    "future too short": ({"horizon": 3, "future_covariates": np.ones(4)}, "future_covariates"),
    "future too long": ({"horizon": 1, "future_covariates": np.ones(4)}, "future_covariates"),
    "future of no horizon": ({"horizon": 0, "future_covariates": np.ones(2)}, "future_covariates"),
    "future of a model without": (
        {"opening": Opening("tiny"), "covariates": np.empty(0), "future_covariates": np.ones(1), "start_time": None},
        "future_covariates",
    ),
}


@pytest.mark.parametrize(("change", "field"), WRONG.values(), ids=WRONG.keys())
def test_covariates_that_do_not_fit_are_named(make_engine: MakeEngine, change: dict[str, Any], field: str) -> None:
    engine = make_engine()
    request = Request("a", OPENING, np.ones(4), np.ones(4), start_time=BEGIN, horizon=1)
    (result,) = engine.run({"a": [replace(request, **change)]})["a"]
    error = refused(result, InvalidRequest)
    assert isinstance(error, InvalidRequest)
    assert error.field == field
    (result,) = engine.run({"a": [Request("a")]})["a"]
    refused(result, NotFound)


def test_a_session_that_has_taken_nothing_has_no_time_yet(make_engine: MakeEngine) -> None:
    outcome = one(make_engine(), Request("a", OPENING, horizon=HORIZON, future_covariates=future().ravel()))
    assert outcome.version == START
    assert outcome.forecast is not None
    assert outcome.forecast.start_time is None
    assert np.isnan(outcome.forecast.values).all()


@pytest.mark.parametrize(("frequency", "last_day"), [("h", "2262-04-11T23"), ("B", "2262-04-11"), ("MS", "2262-04-01")])
def test_every_step_that_may_be_forecast_has_a_time(make_engine: MakeEngine, frequency: str, last_day: str) -> None:
    """Otherwise one session at the end of time would fail all others in its batch."""
    registry = Registry([Model(shop_model("late", frequency))], "late")
    engine, grid = make_engine(registry=registry), Frequency.parse(frequency)
    last = int(np.datetime64(last_day, "ns").astype(np.int64))
    latest = grid.add(last, -HORIZON)
    request = Request("a", Opening(max_ahead_ms=0), np.ones(2), start_time=latest, horizon=HORIZON)
    outcome = one(engine, request)
    assert np.isfinite(told(outcome)).all()
    for start in (None, last):
        (result,) = engine.run({"a": [replace(request, start_time=start)]})["a"]
        assert "1677 to 2262" in refused(result, InvalidRequest).message


@pytest.mark.parametrize("frequency", ["B", "MS", "15min"])
def test_times_of_any_frequency(make_engine: MakeEngine, frequency: str) -> None:
    model, grid = shop_model("other", frequency), Frequency.parse(frequency)
    engines = [make_engine(registry=Registry([Model(model)], "other"), snapshot_every=every) for every in (1, 100)]
    begin = 19_782 * 24 * HOUR  # 2024-02-29, a Thursday
    begin = grid.add(begin + 24 * HOUR, 0) if frequency == "MS" else begin
    values = np.random.default_rng(0).normal(size=(9, 2))
    for number, part in enumerate((values[:4], values[4:5], values[5:])):
        outcome = one(
            engines[number % 2],
            Request("a", Opening(), part.ravel(), start_time=None if number else begin, horizon=HORIZON),
        )
    times = torch.tensor([[grid.add(begin, step) for step in range(9 + HORIZON)]])
    rows = torch.from_numpy(np.concatenate([values, np.full((9, 2), np.nan)], axis=1)).unsqueeze(0)
    with torch.inference_mode():
        trace = model.advance(model.initial_state(1), rows, times=times[:, :9])
        context = trace.context(torch.tensor([0]), torch.tensor([9]))
        wanted = model.forecast(context, HORIZON, Future(times[:, 9:]))[0].numpy()
    assert_close(told(outcome), wanted)
    assert standing(one(engines[0], Request("a"))).last_time == int(times[0, 8])


def test_a_record_of_another_width_is_damaged(make_engine: MakeEngine, any_redis: RedisProcess, namespace: str) -> None:
    narrower = shop_model()
    object.__setattr__(narrower.config, "covariates", ("price",))
    one(make_engine(), history(3).request("a", 0, 3))
    model = Model(narrower)
    model.__dict__["digest"] = shop_model().digest
    (result,) = make_engine(registry=Registry([model], "shop")).run({"a": [Request("a")]})["a"]
    assert refused(result, PreconditionFailed).reason is Reason.RECORD_DAMAGED
    assert step_of(one(make_engine(), Request("a"))) == 3
