"""The streaming forecaster: pure tensors, no network and no store."""

from .classifier import Classifier, ClassifierConfig, SymbolTrace
from .config import Category, ModelConfig
from .contract import Description, Future, StreamingModel, StreamingTrace, usual_horizon
from .errors import (
    ConfigError,
    FrequencyError,
    ModelError,
    ObservationError,
    StateError,
    TimeZoneError,
    WeightsError,
)
from .files import bundled_models, load_model, save_model
from .forecaster.context import Context
from .forecaster.forecaster import Forecaster
from .forecaster.trace import Trace
from .frequency import Frequency
from .imported.config import ImportedConfig
from .imported.imported import Imported
from .importing.choices import Choices
from .importing.network import import_torch, import_weights
from .layers.cells import Gates
from .raw_rows import RawRows, least_steps_of, raw_rows_of
from .state import Part, State, StateLayout
from .versions import version_order
from .zones import UTC, Zone

__all__ = [
    "UTC",
    "Category",
    "Choices",
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
    "Imported",
    "ImportedConfig",
    "ModelConfig",
    "ModelError",
    "ObservationError",
    "Part",
    "RawRows",
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
    "import_torch",
    "import_weights",
    "least_steps_of",
    "load_model",
    "raw_rows_of",
    "save_model",
    "usual_horizon",
    "version_order",
]
