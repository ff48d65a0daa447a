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
    WeightsError,
)
from .files import bundled_models, load_model, save_model, version_order
from .forecaster import Forecaster
from .frequency import Frequency
from .state import Part, State, StateLayout
from .trace import Trace

__all__ = [
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
    "Trace",
    "WeightsError",
    "bundled_models",
    "load_model",
    "save_model",
    "version_order",
]
