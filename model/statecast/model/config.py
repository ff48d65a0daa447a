"""Configurations of models: name, cell, targets, quantile levels and the statistics that a model keeps."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from math import inf, isfinite
from typing import Any, ClassVar, Self

from .errors import ConfigError
from .frequency import Frequency

CELLS = ("lstm", "gru", "rnn")
CYCLES = ("day", "weekend", "week", "year")
# Names become folders, metric labels and parts of messages.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
# Far more than is useful, but little enough that refusing a wrong file does not exhaust the memory.
_LARGEST = {
    "layers": 8,
    "hidden_size": 2048,
    "head_size": 2048,
    "horizon": 10_000,
    "window": 100_000,
    "multiples": 64,
    "periods": 16,
    "run_steps": 10_000,
    "projection": 2048,
    "embedding_size": 2048,
    "difference": 10_000,
}
_LONGEST = {
    "targets": 1000,
    "quantile_levels": 256,
    "lags": 256,
    "covariates": 1000,
    "categories": 100,
    "checked_steps": 16,
    "classes": 4096,
    "features": 4096,
    "head_sizes": 16,
}
_MOST_VALUES = 100_000
_FASTEST_ADAPTATION = 1.0
_MOST_LOOKUPS = 10_000_000
# Means with closer half-lives are nearly equal; a trend between them would be rounding noise.
_CLOSEST_HALF_LIVES = 1.1
_HALF_LIFE_STEPS = (0.5, 10_000.0)


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{key}: expected text, got {value!r}")
    return value


def _count(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{key}: expected a whole number of at least 1, got {value!r}")
    return value


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{key}: expected a number, got {value!r}")
    try:
        number = float(value)
    except OverflowError as error:
        raise ConfigError(f"{key}: expected a number of ordinary size") from error
    if not isfinite(number):
        raise ConfigError(f"{key}: expected a finite number, got {value!r}")
    return number


def _whole(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{key}: expected a whole number of at least 0, got {value!r}")
    return value


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key}: expected true or false, got {value!r}")
    return value


def _many(each: Callable[[str, object], Any]) -> Callable[[str, object], tuple[Any, ...]]:
    def convert(key: str, value: object) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{key}: expected a list, got {value!r}")
        return tuple(each(key, item) for item in value)

    return convert


@dataclass(frozen=True)
class Category:
    """A static property of a session, such as its region.

    Attributes:
        name: The category's name.
        values: The values that the model knows.
    """

    name: str
    values: tuple[str, ...]

    def index(self, value: str) -> int:
        """Return the value's position from 1, or 0 if the model does not know it."""
        return self.values.index(value) + 1 if value in self.values else 0


def _category(key: str, value: object) -> Category:
    if isinstance(value, Category):
        return value
    if not isinstance(value, Mapping) or set(value) != {"name", "values"}:
        raise ConfigError(f"{key}: expected a name and values, got {value!r}")
    return Category(_text(key, value["name"]), _many(_text)(key, value["values"]))


_CONVERTERS: Mapping[str, Callable[[str, object], Any]] = {
    "name": _text,
    "version": _text,
    "cell": _text,
    "layers": _count,
    "hidden_size": _count,
    "head_size": _count,
    "targets": _many(_text),
    "horizon": _count,
    "quantile_levels": _many(_number),
    "window": _count,
    "lags": _many(_count),
    "multiples": _count,
    "frequency": _text,
    "half_lives": _many(_number),
    "carry_half_lives": _many(_number),
    "error_half_lives": _many(_number),
    "covariates": _many(_text),
    "calendar": _many(_text),
    "categories": _many(_category),
    "checked_steps": _many(_count),
    "adaptation_rate": _number,
    "classes": _many(_text),
    "features": _many(_text),
    "feature_lags": _many(_whole),
    "run_steps": _whole,
    "projection": _whole,
    "nonlinearity": _text,
    "embedding_size": _whole,
    "head_sizes": _many(_count),
    "head_activations": _many(_text),
    "output": _text,
    "spread": _text,
    "rollout": _flag,
    "causal": _flag,
    "per_window": _text,
    "transform": _text,
    "difference": _whole,
    "centres": _many(_number),
    "scales": _many(_number),
    "missing": _text,
    "periods": _whole,
}


@dataclass(frozen=True)
class StoredConfig:
    """The configuration keys that all kinds of models share; every value is checked on creation.

    Attributes:
        name: The model's name.
        version: The model's version.
        cell: The recurrent cell: "lstm", "gru" or "rnn" (tanh).
        layers: The number of recurrent layers.
        hidden_size: The size of each layer's hidden state.
    """

    KIND: ClassVar[str] = ""
    """The value of the key "kind"; empty if there is no such key."""
    LATER: ClassVar[tuple[str, ...]] = ()
    """Keys that came later: left out where they are empty, so that earlier models keep their files and their digest."""

    name: str
    version: str
    cell: str = "lstm"
    layers: int = 1
    hidden_size: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            value = _CONVERTERS[field.name](field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        self._check_sizes()
        for key in ("name", "version"):
            if not _NAME.fullmatch(getattr(self, key)):
                raise ConfigError(f"{key}: expected letters, digits and . _ + -, got {getattr(self, key)!r}")
        if self.cell not in CELLS:
            raise ConfigError(f"cell: expected one of {', '.join(CELLS)}, got {self.cell!r}")

    @property
    def takes_missing(self) -> bool:
        """True if values may be missing."""
        return True

    @property
    def needs_future(self) -> bool:
        """True if a forecast needs the covariates of its steps."""
        return False

    @property
    def lower_bound(self) -> float:
        """The number that every target's values must exceed."""
        return -inf

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Build a configuration from exactly the keys that `to_dict` writes.

        Raises:
            ConfigError: A key is unknown, missing, or has a value of the wrong type or range.
        """
        if cls.KIND and values.get("kind", cls.KIND) != cls.KIND:
            raise ConfigError(f"kind: expected {cls.KIND!r}, got {values['kind']!r}")
        known = {field.name for field in fields(cls)}
        expected = known | {"kind"} if cls.KIND else known
        for key in values:
            if key not in expected:
                raise ConfigError(f"{key}: unknown key")
        for key in sorted(expected - {*cls.LATER}):
            if key not in values:
                raise ConfigError(f"{key}: missing key")
        return cls(**{key: values[key] for key in known if key in values})  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain values that JSON can hold."""
        kind = {"kind": self.KIND} if self.KIND else {}
        values = {key: value for key, value in asdict(self).items() if value or key not in self.LATER}
        return kind | {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def _check_sizes(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            largest, longest = _LARGEST.get(field.name), _LONGEST.get(field.name)
            if largest is not None and value > largest:
                raise ConfigError(f"{field.name}: at most {largest}, got {value}")
            if longest is not None and len(value) > longest:
                raise ConfigError(f"{field.name}: at most {longest} of them, got {len(value)}")


def check_names(targets: tuple[str, ...], frequency: str) -> None:
    """Raise ConfigError unless the targets have different, printable names and the frequency is known or empty."""
    if not targets or not all(targets) or len(set(targets)) < len(targets):
        raise ConfigError("targets: expected one or more different names")
    if not all(target.isprintable() and len(target) <= 256 for target in targets):
        raise ConfigError("targets: expected names of at most 256 printable characters")
    if frequency:
        try:
            Frequency.parse(frequency)
        except Exception as error:
            raise ConfigError(f"frequency: {error}") from error


def check_levels(levels: tuple[float, ...]) -> None:
    """Raise ConfigError unless the quantile levels are between 0 and 1, and ascending."""
    if not levels or not all(0 < level < 1 for level in levels):
        raise ConfigError("quantile_levels: expected one or more numbers between 0 and 1")
    if list(levels) != sorted(set(levels)):
        raise ConfigError("quantile_levels: must be ascending")


@dataclass(frozen=True)
class ModelConfig(StoredConfig):
    """The configuration of a quantile forecaster, checked on creation.

    Attributes:
        head_size: The width of the head's hidden layers.
        targets: The names of the targets; a time step has one value for each.
        horizon: The longest forecast, in steps.
        quantile_levels: Ascending, each between 0 and 1.
        window: How many recent time steps the state keeps unchanged.
        lags: Candidate periods, in steps, ascending, none longer than the window.
        multiples: How many past periods of a lag a seasonal mean spans at most.
        frequency: The time between two steps as a pandas alias; empty if only position counts.
        half_lives: Half-lives of the exponential means, in observed steps, ascending; the normaliser uses the last
            one.
        carry_half_lives: Half-lives of the smoothed seasonal residuals, in observed steps.
        error_half_lives: Half-lives of the tracked absolute errors, in observed steps, ascending.
        covariates: The names of the covariates, whose future is known.
        calendar: The cycles of the calendar that the model sees: "day", "weekend", "week", "year".
        categories: The static categories of a session.
        checked_steps: The steps ahead whose intervals are checked against outcomes, ascending, the first one 1; steps
            between them adapt with their neighbours. If empty, observations get no surprise score (`pit`).
        adaptation_rate: The share by which a quantile's distance from the median changes on a miss; 0 leaves intervals
            as the model emits them.
        periods: How many periods each session finds in its own window, instead of lags; 0 for none.
    """

    head_size: int = 64
    targets: tuple[str, ...] = ("value",)
    horizon: int = 24
    quantile_levels: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 0.9)
    window: int = 48
    lags: tuple[int, ...] = (12, 24)
    multiples: int = 4
    frequency: str = ""
    half_lives: tuple[float, ...] = (3.0, 24.0, 200.0)
    carry_half_lives: tuple[float, ...] = (1.0, 12.0)
    error_half_lives: tuple[float, ...] = (24.0, 200.0)
    covariates: tuple[str, ...] = ()
    calendar: tuple[str, ...] = ()
    categories: tuple[Category, ...] = ()
    checked_steps: tuple[int, ...] = ()
    adaptation_rate: float = 0.0
    periods: int = 0

    LATER = ("periods",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names(self.targets, self.frequency)
        check_levels(self.quantile_levels)
        self._check_lags()
        self._check_half_lives()
        self._check_known()
        self._check_adaptation()

    @property
    def classes(self) -> tuple[str, ...]:
        """Empty: values are quantities, not symbols."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain values that JSON can hold."""
        categories = [{"name": each.name, "values": list(each.values)} for each in self.categories]
        return {**super().to_dict(), "categories": categories}

    def _check_sizes(self) -> None:
        super()._check_sizes()
        lookups = self.horizon * (len(self.lags) or self.periods) * self.multiples
        if lookups > _MOST_LOOKUPS:
            raise ConfigError(f"horizon: times periods and multiples, at most {_MOST_LOOKUPS}, got {lookups}")

    def _check_lags(self) -> None:
        if list(self.lags) != sorted(set(self.lags)):
            raise ConfigError("lags: must be ascending")
        if self.lags and self.lags[-1] > self.window:
            raise ConfigError(f"lags: {self.lags[-1]} is longer than the window of {self.window}")
        if self.lags and self.periods:
            raise ConfigError("periods: a model with lags finds no others; choose either")

    def _check_half_lives(self) -> None:
        # Below half a step, the weights of the exponential means would leave the range of float64.
        shortest, longest = _HALF_LIFE_STEPS
        for key in ("half_lives", "carry_half_lives", "error_half_lives"):
            values = getattr(self, key)
            if not values or any(after < _CLOSEST_HALF_LIVES * before for before, after in pairwise(values)):
                raise ConfigError(f"{key}: expected one or more numbers, each a tenth larger than the one before")
            if values[0] < shortest or values[-1] > longest:
                raise ConfigError(f"{key}: expected numbers from {shortest:g} to {longest:g}")

    def _check_known(self) -> None:
        names = (*self.targets, *self.covariates, *(category.name for category in self.categories))
        if len(set(names)) < len(names):
            raise ConfigError("covariates: targets, covariates and categories need different names")
        if not all(name and name.isprintable() and len(name) <= 256 for name in names):
            raise ConfigError("covariates: expected names of 1 to 256 printable characters, as of categories")
        for category in self.categories:
            if not category.values or len(set(category.values)) < len(category.values):
                raise ConfigError(f"categories: {category.name}: expected one or more different values")
            if len(category.values) > _MOST_VALUES:
                raise ConfigError(f"categories: {category.name}: at most {_MOST_VALUES} values")
        if not set(self.calendar) <= set(CYCLES) or len(set(self.calendar)) < len(self.calendar):
            raise ConfigError(f"calendar: expected some of {', '.join(CYCLES)}, got {', '.join(self.calendar)}")
        if self.calendar and not self.frequency:
            raise ConfigError("calendar: needs a frequency")

    def _check_adaptation(self) -> None:
        steps = self.checked_steps
        if steps and (steps[0] != 1 or list(steps) != sorted(set(steps)) or steps[-1] > self.horizon):
            raise ConfigError("checked_steps: expected ascending numbers from 1 up to the horizon")
        if not 0 <= self.adaptation_rate <= _FASTEST_ADAPTATION:
            raise ConfigError(f"adaptation_rate: expected 0 to {_FASTEST_ADAPTATION:g}")
        if steps and len(self.quantile_levels) < 2:
            raise ConfigError("checked_steps: needs two quantile levels or more")
        if self.adaptation_rate and not steps:
            raise ConfigError("adaptation_rate: needs checked_steps")
