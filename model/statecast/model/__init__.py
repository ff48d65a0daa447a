"""The streaming forecaster: pure tensors, no network and no store."""

from .cells import Gates
from .classifier import Classifier, ClassifierConfig, SymbolTrace
from .config import Category, ModelConfig
from .context import Context
from .contract import Description, Future, StreamingModel, StreamingTrace
from .errors import (
    ConfigError,
    FrequencyError,
    ModelError,
    ObservationError,
    StateError,
    TimeZoneError,
    WeightsError,
)
from .files import bundled_models, load_model, save_model, version_order
from .forecaster import Forecaster
from .frequency import Frequency
from .state import Part, State, StateLayout
from .trace import Trace
from .zones import UTC, Zone

__all__ = [
    "UTC",
    "Category",
    "Classifier",
    "ClassifierConfig",
    "ConfigError",
    "Context",
    "Description",
    "Forecaster",
    "Frequency",
    "FrequencyError",
    "Future",
    "Gates",
    "ModelConfig",
    "ModelError",
    "ObservationError",
    "Part",
    "State",
    "StateError",
    "StateLayout",
    "StreamingModel",
    "StreamingTrace",
    "SymbolTrace",
    "TimeZoneError",
    "Trace",
    "WeightsError",
    "Zone",
    "bundled_models",
    "load_model",
    "save_model",
    "version_order",
]
