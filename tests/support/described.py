"""Models with a configuration but no weights, for code that uses no tensors."""

from types import SimpleNamespace
from typing import Any

from statecast.model import Category, ClassifierConfig, ModelConfig
from statecast.service.models.registry import Model


def described(name: str = "m", **fields: Any) -> Model:
    """Return a model with one target, unless the given fields of the configuration say otherwise."""
    usual = {
        "targets": ("y",), "horizon": 6, "hidden_size": 8, "window": 24, "lags": (12,),
        "quantile_levels": (0.1, 0.5, 0.9),
    }  # fmt: skip
    return _model(ModelConfig(name=name, version="1", **{**usual, **fields}))


def described_classes(*classes: str) -> Model:
    """Return a classifier with these classes."""
    return _model(ClassifierConfig(name="letters", version="1", hidden_size=8, classes=classes, horizon=3))


def region(*values: str) -> tuple[Category, ...]:
    """Return one category, `region`."""
    return (Category("region", values),)


def _model(config: Any) -> Model:
    return Model(SimpleNamespace(config=config))
