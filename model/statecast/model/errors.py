"""Errors that the model package raises on bad input.

ModelError
  ConfigError       a configuration has an unknown, missing or wrong key
  WeightsError      a model's files are absent, damaged or do not fit its configuration
  StateError        a session's state does not fit the model's layout
  ObservationError  observations or a horizon have a shape or a value that the model cannot take
  FrequencyError    a frequency is unknown, or a time does not lie on its grid
  TimeZoneError     there is no such time zone
  DataError         training data cannot be read, or no panel of series can be made of it
"""


class ModelError(Exception):
    """Base of all errors of the model package; the message names the wrong key or field."""


class ConfigError(ModelError):
    """A configuration has an unknown, missing or wrong key."""


class WeightsError(ModelError):
    """A model's files are absent, damaged or do not fit its configuration."""


class StateError(ModelError):
    """A session's state does not fit the model's layout."""


class ObservationError(ModelError):
    """Observations or a horizon have a shape or a value that the model cannot take."""


class FrequencyError(ModelError):
    """A frequency is unknown, or a time does not lie on its grid."""


class TimeZoneError(ModelError):
    """There is no such time zone."""


class DataError(ModelError):
    """Training data cannot be read, or no panel of series can be made of it."""
