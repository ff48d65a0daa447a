"""Begin a training with the weights of a trained model, such as `base`."""

from dataclasses import replace

from ..config import ModelConfig
from ..contract import StreamingModel
from ..data.panel import Panel
from ..data.seasons import season_lags
from ..errors import ConfigError
from ..forecaster.forecaster import Forecaster
from .defaults import Wishes, horizon_for

LEARNING_RATE = 3e-4
"""The usual highest learning rate: the weights are good already."""


def start_from(model: StreamingModel) -> Forecaster:
    """Return the model, if a training can begin with its weights.

    Raises:
        ConfigError: It is a model of symbols, or one that was imported.
    """
    if not isinstance(model, Forecaster):
        raise ConfigError(
            f"from: {model.config.name} {model.config.version} is neither bundled nor a model of numbers that "
            "`statecast train` has made; name one of these, or train without --from"
        )
    return model


def configure_like(start: ModelConfig, panel: Panel, name: str, version: str, wishes: Wishes) -> ModelConfig:
    """Build the configuration of a model that begins with the weights of another.

    All that its weights depend on is the other's, so it can forecast as far.

    Raises:
        ConfigError: The data have other targets, covariates, categories or another frequency than the other model.
    """
    if len(panel.targets) != len(start.targets):
        raise ConfigError(
            f"from: {start.name} forecasts {len(start.targets)} target(s), but the data have {len(panel.targets)} "
            f"({', '.join(panel.targets)}); choose as many with --target, or train without --from"
        )
    known = tuple(category.name for category in start.categories)
    for what, own, given in (
        ("covariates", start.covariates, panel.covariates), ("categories", known, panel.categories)
    ):  # fmt: skip
        if own != given:
            raise ConfigError(
                f"from: {start.name} takes {_listed(what, own)}, but the data have {_listed(what, given)}; choose the "
                "same columns, or train without --from"
            )
    if start.frequency and panel.frequency != start.frequency:
        raise ConfigError(
            f"from: {start.name} was trained on steps of {start.frequency!r}, but the data have "
            f"{panel.frequency or 'no times'!r}; bring them to its frequency, or train without --from"
        )
    return replace(
        start, name=name, version=version, targets=panel.targets, frequency=panel.frequency,
        adaptation_rate=start.adaptation_rate if wishes.adapt else 0.0,
    )  # fmt: skip


def trained_horizon(start: ModelConfig, panel: Panel, wishes: Wishes) -> int:
    """Return how many steps ahead training and validation go; the model itself can go as far as the other.

    Raises:
        ConfigError: A longer horizon is asked for than the other model has.
        DataError: The series are too short.
    """
    if wishes.horizon and wishes.horizon > start.horizon:
        raise ConfigError(
            f"horizon: {wishes.horizon} steps are more than the {start.horizon} of {start.name}; choose fewer"
        )
    lags = start.lags or season_lags(panel)
    return min(horizon_for(panel, lags[0] if lags else 1, wishes.horizon), start.horizon)


def _listed(what: str, names: tuple[str, ...]) -> str:
    return f"{what} {', '.join(names)}" if names else f"no {what}"
