"""The streaming forecaster: pure tensors, no network and no store."""

from .config import ModelConfig
from .contract import StreamingModel, StreamingTrace
from .errors import (
    ConfigError,
    FrequencyError,
    ModelError,
    ObservationError,
    StateError,
    WeightsError,
)
from .files import bundled_models, load_model, save_model
from .forecaster import Context, Forecaster, Trace
from .frequency import Frequency
from .state import Part, State, StateLayout

__all__ = [
    "ConfigError",
    "Context",
    "Forecaster",
    "Frequency",
    "FrequencyError",
    "ModelConfig",
    "ModelError",
    "ObservationError",
    "Part",
    "State",
    "StateError",
    "StateLayout",
    "StreamingModel",
    "StreamingTrace",
    "Trace",
    "WeightsError",
    "bundled_models",
    "load_model",
    "save_model",
]
