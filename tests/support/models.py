"""Tiny real models: few units and seeded random weights."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from statecast.model import (
    Category,
    Classifier,
    ClassifierConfig,
    Forecaster,
    Imported,
    ModelConfig,
    import_torch,
    load_model,
    save_model,
)

HORIZON = 6
LEVELS = (0.1, 0.5, 0.9)
TARGETS = {"tiny": ("value",), "three": ("flow", "pressure", "heat"), "hourly": ("value",)}
COVARIATES = ("price", "holiday")
CATEGORIES = (Category("region", ("north", "south")), Category("kind", ("small", "large", "huge")))
SYMBOLS = ("a", "b", "c", "d")


def tiny_model(name: str = "tiny", version: str = "1", seed: int = 0) -> Forecaster:
    """Return a model of one of the names in TARGETS; "hourly" declares a frequency."""
    config = ModelConfig(
        name=name,
        version=version,
        targets=TARGETS[name],
        hidden_size=8,
        head_size=8,
        horizon=HORIZON,
        quantile_levels=LEVELS,
        window=24,
        lags=(4, 12),
        frequency="h" if name == "hourly" else "",
    )
    torch.manual_seed(seed)
    return Forecaster(config).eval()


def as_if_trained(config: ModelConfig) -> Forecaster:
    """Return a model whose weights all have an effect, drawn with seed 0."""
    torch.manual_seed(0)
    model = Forecaster(config)
    with torch.no_grad():
        # A new model uses only its candidates, so covariates would not change its forecasts.
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def shop_model(name: str = "shop", frequency: str = "h") -> Forecaster:
    """Return a model with everything: two targets, covariates, categories, the calendar, and intervals that adapt."""
    config = ModelConfig(
        name=name,
        version="1",
        targets=("sold", "returned"),
        layers=2,
        hidden_size=8,
        head_size=8,
        horizon=HORIZON,
        quantile_levels=(0.05, 0.1, 0.5, 0.9, 0.95),
        window=24,
        lags=(4, 12),
        frequency=frequency,
        covariates=COVARIATES,
        calendar=("day", "week"),
        categories=CATEGORIES,
        checked_steps=(1, 4),
        adaptation_rate=0.1,
    )
    return as_if_trained(config)


def symbol_model() -> Classifier:
    """Return a classifier of the symbols in SYMBOLS."""
    config = ClassifierConfig(name="letters", version="1", hidden_size=8, classes=SYMBOLS, horizon=3)
    torch.manual_seed(0)
    return Classifier(config).eval()


def write_models(folder: Path) -> Path:
    """Write a models folder with every model of TARGETS, and return it."""
    for name in TARGETS:
        save_model(tiny_model(name), folder / name / "1")
    return folder


def write_rich_models(folder: Path) -> Path:
    """Write a models folder that also has the shop model and the classifier, and return it."""
    for model in (shop_model(), symbol_model()):
        save_model(model, folder / model.config.name / "1")
    return write_models(folder)


def imported_folder(folder: Path, name: str = "pump", seed: int = 0, **choices: Any) -> Path:
    """Import a GRU with seeded weights into a folder of models, and return the model's folder.

    Without other choices it runs over windows of 4 values of one target and forecasts 3 points.
    """
    torch.manual_seed(seed)
    chosen: dict[str, Any] = {"window": 0 if choices.get("stateful") else 4, "scale": [(20.0, 4.0)], **choices}
    inputs = len(chosen.get("targets", ("value",))) + len(chosen.get("covariates", ()))
    head = nn.Linear(8, 1 if chosen.get("rollout") else 3)
    return import_torch(nn.GRU(inputs, 8, 2, batch_first=True), head, name=name, models=folder, **chosen)


def imported_model(folder: Path, name: str = "pump", **choices: Any) -> Imported:
    """Return the model that `imported_folder` writes."""
    model = load_model(imported_folder(folder, name, **choices))
    assert isinstance(model, Imported)
    return model
