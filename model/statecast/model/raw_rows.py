"""The raw values that a session's state keeps: where they lie, and how many a model must have taken to forecast."""

from dataclasses import dataclass

from .contract import StreamingModel
from .imported.config import ImportedConfig


@dataclass(frozen=True)
class RawRows:
    """Rows of raw values in a packed state, float64, the oldest first; those before the first step are NaN.

    Attributes:
        start: Where they begin, in bytes.
        rows: How many there are.
        width: Numbers in each: the targets, or also the covariates.
    """

    start: int
    rows: int
    width: int


def raw_rows_of(model: StreamingModel) -> RawRows | None:
    """Return where a model's packed states hold raw values; None if they hold none."""
    name = "last" if isinstance(model.config, ImportedConfig) else "window"
    start = 0
    for part in model.layout.parts:
        if part.name == name and part.dtype == "float64":
            return RawRows(start, part.shape[0], part.shape[1] if len(part.shape) > 1 else 1)
        start += part.nbytes
    return None


def least_steps_of(model: StreamingModel) -> int:
    """Return how many steps a session must have taken before the model forecasts."""
    config = model.config
    return config.warm_up + max(1, config.run_steps) if isinstance(config, ImportedConfig) else 1
