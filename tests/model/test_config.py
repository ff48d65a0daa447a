"""Configurations are checked at construction, and errors name the key."""

from typing import Any

import pytest

from statecast.model import ConfigError, ModelConfig, usual_horizon


@pytest.mark.parametrize("others", [{"targets": ("a", "b"), "frequency": "30min"}, {"lags": (), "periods": 4}])
def test_a_configuration_survives_its_dictionary(others: dict[str, Any]) -> None:
    config = ModelConfig(name="m", version="1", **others)
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_a_model_of_any_series_forecasts_64_steps_unless_asked_for_more() -> None:
    def usual(horizon: int, **others: Any) -> int:
        return usual_horizon(ModelConfig(name="m", version="1", horizon=horizon, **others))

    assert usual(1000) == 1000
    assert usual(1000, lags=(), periods=2) == 64
    assert usual(6, lags=(), periods=2) == 6


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", ""),
        ("name", "../x"),
        ("name", "a\nb"),
        ("name", "half \ud800"),
        ("version", "1/2"),
        ("name", 3),
        ("version", None),
        ("cell", "transformer"),
        ("layers", 0),
        ("layers", True),
        ("layers", 1.5),
        ("hidden_size", -1),
        ("head_size", "8"),
        ("targets", "value"),
        ("targets", ["a", "a"]),
        ("targets", [""]),
        ("horizon", 0),
        ("quantile_levels", []),
        ("quantile_levels", [0.5, 0.1]),
        ("quantile_levels", [0.1, 0.1]),
        ("quantile_levels", [0.0, 0.5]),
        ("quantile_levels", [0.5, float("nan")]),
        ("window", 0),
        ("window", 10**9),
        ("layers", 20_000),
        ("hidden_size", 10**12),
        ("head_size", 20_000),
        ("horizon", 2**63),
        ("multiples", 300_000),
        ("horizon", 10_001),
        ("targets", [str(number) for number in range(1001)]),
        ("targets", ["a\nb"]),
        ("quantile_levels", [10**400]),
        ("lags", [49]),
        ("lags", [0]),
        ("lags", [24, 12]),
        ("periods", 1),
        ("periods", -1),
        ("periods", 17),
        ("multiples", 0),
        ("frequency", "fortnight"),
        ("half_lives", []),
        ("half_lives", [0.1]),
        ("half_lives", [3.0, 3.0000000000000004]),
        ("half_lives", [1e5, 1e6]),
        ("half_lives", [10**400]),
        ("carry_half_lives", [float("inf")]),
        ("error_half_lives", [20, 10]),
    ],
)
def test_a_wrong_value_is_refused_by_key(key: str, value: Any) -> None:
    values = ModelConfig(name="m", version="1").to_dict()
    with pytest.raises(ConfigError, match=f"^{key}"):
        ModelConfig.from_dict({**values, key: value})


@pytest.mark.parametrize("key", ModelConfig(name="m", version="1").to_dict())
def test_every_key_is_needed(key: str) -> None:
    values = ModelConfig(name="m", version="1").to_dict()
    del values[key]
    with pytest.raises(ConfigError, match=f"{key}: missing key"):
        ModelConfig.from_dict(values)
