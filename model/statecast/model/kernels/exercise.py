"""Runs every kernel once, which compiles it or loads it from the cache."""

import torch
from torch import Tensor

from ..classifier import Classifier, ClassifierConfig
from ..config import Category, ModelConfig
from ..contract import Future
from ..forecaster.forecaster import Forecaster
from .fused import FEW
from .stepping import fuse

_HOUR_NS = 3_600_000_000_000
_STEPS = 5  # one more than there are between two checked forecasts


def exercise() -> None:
    """Take few sessions and many some steps further, and forecast."""
    config = ModelConfig(
        name="exercise", version="1", hidden_size=2, head_size=2, horizon=2, quantile_levels=(0.1, 0.5, 0.9), window=3,
        lags=(2,), multiples=1, frequency="h", calendar=("day",), covariates=("x",),
        categories=(Category("kind", ("a",)),), checked_steps=(1, 2), adaptation_rate=0.1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        model = Forecaster(config).eval()
        classifier = Classifier(
            ClassifierConfig(name="exercise", version="1", classes=("a", "b"), hidden_size=2)
        ).eval()
    fuse(model)
    fuse(classifier)
    for sessions in (1, FEW + 1):
        state, times = model.initial_state(sessions), torch.arange(_STEPS + config.horizon) * _HOUR_NS
        values, known = (
            torch.ones(sessions, _STEPS, 2, dtype=torch.float64),
            torch.zeros(sessions, 1, dtype=torch.int64),
        )
        trace = model.advance(state, values, times=_all(times[:_STEPS], sessions), categories=known)
        context = model.context(trace.state, known)
        symbols = classifier.advance(classifier.initial_state(sessions), values[:, :1, :1])
        classifier.forecast(classifier.context(symbols.state), 1)
        model.forecast(context, config.horizon, Future(_all(times[_STEPS:], sessions)))


def _all(times: Tensor, sessions: int) -> Tensor:
    return times.expand(sessions, -1).contiguous()
