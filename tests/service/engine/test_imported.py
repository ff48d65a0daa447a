"""Imported networks in the engine: the model's own forecasts, and what a model refuses."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.engines import MakeEngine, assert_close, one, refused
from support.models import imported_model, tiny_model

from statecast.model import Imported
from statecast.service.engine.request import Opening, Request, Result
from statecast.service.errors import InvalidRequest
from statecast.service.models.registry import Model, Registry

HOUR = 3_600_000_000_000
BEGIN = 472_222 * HOUR
VALUES = [20.0, 21.5, 19.0, 22.0, 24.0, 18.5, 20.5]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Imported]:
    folder = tmp_path_factory.mktemp("imported")
    covariates: dict[str, Any] = {"covariates": ["price"], "scale": [(20, 4), (0, 1)]}
    choices: dict[str, dict[str, Any]] = {
        "pump": {},
        "carried": {"stateful": True},
        "hourly": {"frequency": "h"},
        "filled": {"frequency": "h", "missing": "carry"},
        "log": {"log1p": True, "missing": "zero"},
        "rolled": {"rollout": 4, **covariates},
    }
    return {name: imported_model(folder, name, **options) for name, options in choices.items()}


@pytest.fixture
def registry(models: dict[str, Imported]) -> Registry:
    return Registry([Model(tiny_model()), *map(Model, models.values())], "tiny")


def told(name: str, *values: float, **others: Any) -> Request:
    for key in ("covariates", "future_covariates"):
        if key in others:
            others[key] = np.array(others[key], np.float64)
    return Request("a", Opening(name), np.array(values), **{"horizon": 3, **others})


def alone(model: Imported, values: list[float], horizon: int = 3) -> NDArray[np.float32]:
    with torch.inference_mode():
        state = model.advance(model.initial_state(1), torch.tensor(values, dtype=torch.float64).view(1, -1, 1)).state
        result: NDArray[np.float32] = model.forecast(model.context(state), horizon)[0].numpy()
    return result


def problem(result: Result) -> InvalidRequest:
    error = refused(result, InvalidRequest)
    assert isinstance(error, InvalidRequest)
    return error


@pytest.mark.parametrize("snapshot_every", [1, 3, 100])
@pytest.mark.parametrize("name", ["pump", "carried"])
def test_forecasts_are_those_of_the_model_itself(
    make_engine: MakeEngine, models: dict[str, Imported], name: str, snapshot_every: int
) -> None:
    for taken, value in enumerate(VALUES, 1):
        engine = make_engine(snapshot_every=snapshot_every)  # a new one each time: the state comes from Redis
        outcome = one(engine, told(name, value, request_id=bytes([taken])))
        assert outcome.forecast is not None
        assert outcome.forecast.outline.quantile_levels == (0.5,)
        assert_close(outcome.forecast.values, alone(models[name], VALUES[:taken]))
        assert one(engine, told(name, value, request_id=bytes([taken]))).replayed
    results = make_engine().run({"b": [Request("b", Opening(name), np.array([value]), horizon=3) for value in VALUES]})
    for taken, result in enumerate(results["b"], 1):
        assert not isinstance(result, Exception)
        assert result.forecast is not None
        assert_close(result.forecast.values, alone(models[name], VALUES[:taken]))


@pytest.mark.parametrize("others", [[], [1.0]], ids=["opened", "in memory"])
def test_a_missing_value_is_named_and_harms_no_one_else(make_engine: MakeEngine, others: list[float]) -> None:
    engine = make_engine()
    for value in others:
        one(engine, told("pump", value))
    results = engine.run({"a": [told("pump", 20.0, math.nan)], "b": [Request("b", Opening("pump"), np.array([3.0]))]})
    error = problem(results["a"][0])
    assert error.field == "observations.values[1]"
    assert error.message.startswith(
        "observations.values[1]: NaN for value in row 1, but pump version 1 refuses missing"
    )
    assert not isinstance(results["b"][0], Exception)
    (result,) = engine.run({"a": [told("pump", math.nan)]})["a"]
    assert problem(result).field == "observations.values[0]"


def test_a_gap_in_time_is_a_missing_value_too(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, told("hourly", 20.0, start_time=BEGIN))
    (result,) = engine.run({"a": [told("hourly", 21.0, start_time=BEGIN + 3 * HOUR)]})["a"]
    assert problem(result).field == "observations.start_time"
    assert "gap of 2 steps of 'h', and hourly version 1 refuses missing values" in problem(result).message
    times = np.array([BEGIN + HOUR, BEGIN + 3 * HOUR])
    (result,) = engine.run({"a": [told("hourly", 21.0, 22.0, times=times)]})["a"]
    assert problem(result).field == "observations.times"
    assert one(engine, told("hourly", 21.0, start_time=BEGIN + HOUR)).missing == 0


def test_a_gap_is_filled_where_values_are_carried_forward(make_engine: MakeEngine, models: dict[str, Imported]) -> None:
    engine = make_engine()
    one(engine, told("filled", *VALUES, start_time=BEGIN))
    outcome = one(engine, told("filled", 21.0, start_time=BEGIN + (len(VALUES) + 2) * HOUR))
    assert outcome.missing == 2
    assert outcome.forecast is not None
    assert_close(outcome.forecast.values, alone(models["filled"], [*VALUES, VALUES[-1], VALUES[-1], 21.0]))


def test_a_value_without_a_logarithm_is_named(make_engine: MakeEngine) -> None:
    engine = make_engine()
    (result,) = engine.run({"a": [told("log", 0.0, math.nan, -1.0)]})["a"]
    assert problem(result).field == "observations.values[2]"
    assert "-1 for value in row 2 is not greater than -1" in problem(result).message
    one(engine, told("log", 0.0, math.nan, -0.5))
    (result,) = engine.run({"a": [told("log", -2.0)]})["a"]
    assert problem(result).field == "observations.values[0]"


def test_points_are_only_fed_back_beside_known_covariates(make_engine: MakeEngine) -> None:
    engine = make_engine()
    known: dict[str, Any] = {"covariates": [1, 2, 3, 4], "future_covariates": [5, 6, math.nan]}
    outcome = one(engine, told("rolled", *VALUES[:4], **known))  # the last step's covariates are not needed
    assert outcome.forecast is not None
    assert np.isfinite(outcome.forecast.values).all()
    for ahead, field in (([], "future_covariates"), ([5, math.nan, 7], r"future_covariates[1]")):
        for asked in (
            told("rolled", future_covariates=ahead),
            told("rolled", 1.0, covariates=[1], future_covariates=ahead),
        ):
            (result,) = engine.run({"a": [asked]})["a"]
            assert problem(result).field == field
    assert one(engine, told("rolled", horizon=1)).forecast is not None
    for covariates, field in (([], "observations.covariates"), ([math.nan], "observations.covariates[0]")):
        (result,) = engine.run({"a": [told("rolled", 1.0, covariates=covariates, horizon=0)]})["a"]
        assert problem(result).field == field


def test_a_request_that_explains_gets_the_gates(make_engine: MakeEngine, models: dict[str, Imported]) -> None:
    outcome = one(make_engine(), told("pump", *VALUES, explain=True))
    assert outcome.gates is not None
    assert outcome.gates.names == ("reset", "update", "candidate")
    assert outcome.gates.values.shape == (2, 3, 8)
    assert one(make_engine(), told("pump", 1.0, explain=True)).gates is not None
    early = Request("c", Opening("pump"), np.array(VALUES[:2]), explain=True)
    assert one(make_engine(), early).gates is None  # the window is not full


def test_only_the_middle_of_points_is_known(make_engine: MakeEngine) -> None:
    assert one(make_engine(), told("pump", *VALUES, quantile_levels=(0.5,))).forecast is not None
    (result,) = make_engine().run({"a": [told("pump", quantile_levels=(0.9,))]})["a"]
    assert problem(result).field == "quantile_levels[0]"
