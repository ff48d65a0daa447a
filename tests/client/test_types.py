"""Forecasts of symbols, and what a result says when it is asked for what it does not have."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from statecast.client import Forecast, ModelInfo, Receipt, SessionInfo, Version, _messages
from statecast.client._response import to_response
from statecast.v1 import forecast_pb2, forecast_service_pb2, model_service_pb2


def forecast(values: Any, classes: tuple[str, ...] = (), levels: tuple[float, ...] = (), targets: int = 1) -> Forecast:
    array = np.array(values, np.float32)
    message = forecast_pb2.Forecast(
        horizon=len(array),
        quantile_levels=levels,
        classes=classes,
        targets=[f"target {number}" for number in range(targets)],
        values=array.ravel(),
    )
    response = forecast_service_pb2.ForecastResponse(session_id="s", forecast=message)
    return _messages.to_forecast(to_response(response))


@pytest.fixture
def symbols() -> Forecast:
    return forecast([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], classes=("a", "b", "\n"))


@pytest.fixture
def quantiles() -> Forecast:
    return forecast([[1.0, 2.0], [3.0, 4.0]], levels=(0.1, 0.9))


def test_symbols_have_probabilities(symbols: Forecast) -> None:
    assert symbols.classes == ("a", "b", "\n")
    assert symbols.quantile_levels == ()
    assert symbols.values.shape == (2, 3, 1)
    np.testing.assert_array_equal(symbols.probability("b"), [0.25, 0.125])
    assert list(symbols.most_likely) == ["a", "\n"]


def test_symbols_of_several_targets() -> None:
    several = forecast([[[0.5, np.nan], [0.5, np.nan]], [[0.1, 0.9], [0.9, 0.1]]], classes=("a", "b"), targets=2)
    assert several.most_likely.tolist() == [["a", None], ["b", "a"]]
    np.testing.assert_allclose(several.probability("a"), [[0.5, np.nan], [0.1, 0.9]])
    frame = several.to_pandas()
    assert [*frame.columns] == [(f"target {number}", symbol) for number in (0, 1) for symbol in "ab"]
    np.testing.assert_allclose(frame[("target 1", "a")], [np.nan, 0.9])


def test_a_frame_of_symbols_has_a_column_each(symbols: Forecast) -> None:
    frame = symbols.to_pandas()
    assert list(frame.columns) == ["a", "b", "\n"]
    assert frame.columns.name == "symbol"
    assert list(frame.index) == [1, 2]
    np.testing.assert_allclose(frame.sum(axis=1), 1.0)


@pytest.mark.parametrize(
    "ask", [lambda each: each.most_likely, lambda each: each.probability("a")], ids=["most_likely", "probability"]
)
def test_quantiles_have_no_symbols(quantiles: Forecast, ask: Callable[[Forecast], object]) -> None:
    with pytest.raises(ValueError, match=r"of quantiles has no symbols.*\(0\.1, 0\.9\)"):
        ask(quantiles)


@pytest.mark.parametrize("ask", [lambda each: each.median, lambda each: each.quantile(0.1)], ids=["median", "quantile"])
def test_symbols_have_no_quantiles(symbols: Forecast, ask: Callable[[Forecast], object]) -> None:
    with pytest.raises(ValueError, match=r"of symbols has no quantiles.*'a', 'b'"):
        ask(symbols)


def test_a_symbol_that_the_model_does_not_know_has_no_probability(symbols: Forecast) -> None:
    with pytest.raises(ValueError, match="'c' is not among the symbols"):
        symbols.probability("c")


def test_what_sessions_and_models_have_is_told() -> None:
    session = _messages.to_session_info(forecast_pb2.Session(session_id="s", categories={"region": "north"}))
    assert session.categories == {"region": "north"}
    model = _messages.to_model_info(
        model_service_pb2.Model(
            name="demand",
            covariates=["price", "holiday"],
            categories=[model_service_pb2.Category(name="region", values=["north", "south"])],
            classes=["a", "b"],
            adaptive=True,
        )
    )
    assert model.covariates == ("price", "holiday")
    assert model.categories == {"region": ("north", "south")}
    assert model.classes == ("a", "b")
    assert model.adaptive


def test_values_are_compared_and_hashed_as_before() -> None:
    version = Version(1, 2)
    pit = np.zeros((1, 1), np.float32)
    assert Receipt(version, True, False, pit) == Receipt(version, True, False)
    infos = [
        SessionInfo("s", "m", "1", version, timedelta(1), datetime(2026, 1, 1, tzinfo=UTC), {"region": region})
        for region in ("north", "north", "south")
    ]
    assert infos[0] == infos[1] != infos[2]
    assert len(set(infos)) == 2
    assert isinstance(hash(_messages.to_model_info(model_service_pb2.Model())), int)
    assert isinstance(_messages.to_model_info(model_service_pb2.Model()), ModelInfo)
