"""Models of symbols: take whole numbers, forecast probabilities."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.engines import MakeEngine, assert_close, one, refused
from support.models import SYMBOLS, symbol_model

from statecast.service.engine.request import Opening, Request
from statecast.service.errors import InvalidRequest, NotFound

OPENING = Opening("letters")
TEXT = [0.0, 3.0, math.nan, 1.0, 1.0, 2.0, 0.0]


def said(*numbers: float, horizon: int = 3, **others: object) -> Request:
    return Request("a", OPENING, np.array(numbers), horizon=horizon, **others)  # type: ignore[arg-type]


def probabilities(numbers: list[float]) -> NDArray[np.float32]:
    model = symbol_model()
    rows = torch.tensor(numbers, dtype=torch.float64).reshape(1, -1, 1)
    with torch.inference_mode():
        state = model.advance(model.initial_state(1), rows).state
        result: NDArray[np.float32] = model.forecast(model.context(state), 3)[0].numpy()
    return result


@pytest.mark.parametrize("snapshot_every", [1, 100])
def test_probabilities_are_those_of_the_model_itself(make_engine: MakeEngine, snapshot_every: int) -> None:
    for taken in range(len(TEXT)):
        engine = make_engine(snapshot_every=snapshot_every)
        outcome = one(engine, said(TEXT[taken]))
        assert outcome.forecast is not None
        assert outcome.forecast.outline.quantile_levels == ()
        assert outcome.forecast.outline.classes == SYMBOLS
        assert outcome.forecast.values.shape == (3, len(SYMBOLS), 1)
        assert_close(outcome.forecast.values, probabilities(TEXT[: taken + 1]))
        assert outcome.pit is not None
        assert np.isnan(np.frombuffer(outcome.pit, "<f4")).all()


def test_a_session_that_has_heard_nothing_has_probabilities_too(make_engine: MakeEngine) -> None:
    outcome = one(make_engine(), said(horizon=1))
    assert outcome.forecast is not None
    assert_close(outcome.forecast.values.sum(axis=1), 1.0)


@pytest.mark.parametrize("wrong", [4.0, -1.0, 0.5, 1e30, -1e-9])
def test_what_is_no_symbol_is_named(make_engine: MakeEngine, wrong: float) -> None:
    engine = make_engine()
    (result,) = engine.run({"a": [said(0.0, math.nan, wrong, 9.0)]})["a"]
    error = refused(result, InvalidRequest)
    assert isinstance(error, InvalidRequest)
    assert error.field == "observations.values[2]"
    assert error.message.endswith("letters version 1: 0 to 3, or NaN")
    (result,) = engine.run({"a": [Request("a")]})["a"]
    refused(result, NotFound)


def test_probabilities_have_no_quantiles(make_engine: MakeEngine) -> None:
    (result,) = make_engine().run({"a": [said(0.0, quantile_levels=(0.5,))]})["a"]
    error = refused(result, InvalidRequest)
    assert isinstance(error, InvalidRequest)
    assert error.field == "quantile_levels"
