"""The configuration of an imported network: its inputs, its layers, its head, and how its outputs are read."""

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from ..classifier import check_classes
from ..config import Category, StoredConfig, check_levels, check_names
from ..errors import ConfigError

OUTPUTS = ("point", "quantile", "normal", "class")
SPREADS = (
    "variance",
    "log_variance",
    "softplus_variance",
    "deviation",
    "log_deviation",
    "softplus_deviation",
)
PER_WINDOW = ("ddof0", "ddof1")
MISSING = ("refuse", "carry", "zero")
CALENDAR = ("day_sin", "day_cos", "week_sin", "week_cos", "year_sin", "year_cos")
ACTIVATIONS = ("identity", "relu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu", "softplus")
_LONGEST_LAG = 10_000
_MOST_OUTPUTS = 100_000


@dataclass(frozen=True)
class ImportedConfig(StoredConfig):
    """The configuration of an imported network, checked on creation.

    Attributes:
        targets: The names of the targets.
        covariates: The names of the covariates, whose future is known.
        frequency: The time between two steps as a pandas alias; empty if only position counts.
        classes: The symbols by number from 0; empty if values are quantities.
        features: The inputs of the network, in order: targets, covariates, or readings of the calendar ("day_sin",
            ...); empty if values are symbols.
        feature_lags: How many steps before the current one each of them is read.
        run_steps: 0 if the state is carried from step to step. Otherwise the network runs from a zero state over this
            many last inputs at each step.
        projection: The size to which an LSTM projects its hidden state; 0 for no projection.
        nonlinearity: The function of an RNN, "tanh" or "relu".
        embedding_size: The size of a symbol's embedding; 0 for one-hot inputs.
        head_sizes: The outputs of each linear layer of the head.
        head_activations: The function before the first of them, and after each.
        output: What the head tells: "point", "quantile", "normal" (mean and spread), or "class" (logits).
        spread: What "normal" tells beside the mean, such as "log_variance"; empty for other outputs.
        quantile_levels: The levels of a forecast, ascending: 0.5 for points; empty for classes.
        horizon: The longest forecast, in steps.
        rollout: Whether a head of one step is fed its own points to see further.
        transform: "log1p", or empty: applied to the targets before anything else.
        difference: The distance of differences that replace the targets, in steps; 0 for the targets themselves.
        centres: What is subtracted from each target and covariate, after transform and difference.
        scales: By what each of them is then divided.
        causal: Whether the targets are scaled by the mean and standard deviation of all their values so far instead.
        per_window: "ddof0" or "ddof1" if the targets are scaled by the mean and standard deviation of the window
            instead, with that `ddof`; else empty.
        missing: What becomes of a missing value: "refuse", "carry" (the last one forward) or "zero" (after scaling).
    """

    KIND: ClassVar[str] = "imported"
    LATER: ClassVar[tuple[str, ...]] = ("per_window",)

    targets: tuple[str, ...] = ("value",)
    covariates: tuple[str, ...] = ()
    frequency: str = ""
    classes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    feature_lags: tuple[int, ...] = ()
    run_steps: int = 0
    projection: int = 0
    nonlinearity: str = "tanh"
    embedding_size: int = 0
    head_sizes: tuple[int, ...] = (1,)
    head_activations: tuple[str, ...] = ("identity", "identity")
    output: str = "point"
    spread: str = ""
    quantile_levels: tuple[float, ...] = (0.5,)
    horizon: int = 1
    rollout: bool = False
    transform: str = ""
    difference: int = 0
    centres: tuple[float, ...] = (0.0,)
    scales: tuple[float, ...] = (1.0,)
    causal: bool = False
    missing: str = "refuse"
    per_window: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names(self.targets, self.frequency)
        self._check_choices()
        self._check_inputs()
        if self.classes or self.output == "class":
            self._check_classes()
        else:
            self._check_quantities()
        self._check_head()

    @property
    def categories(self) -> tuple[Category, ...]:
        """Empty: an imported network has no categories."""
        return ()

    @property
    def window(self) -> int:
        """The number of inputs that the network runs over at each step; 0 if its state is carried."""
        return self.run_steps

    @property
    def takes_missing(self) -> bool:
        """True unless missing values are refused."""
        return self.missing != "refuse"

    @property
    def needs_future(self) -> bool:
        """True if points are fed back together with covariates, which must be known."""
        return self.rollout and bool(self.covariates) and not self.takes_missing

    @property
    def lower_bound(self) -> float:
        """-1 for log1p, else -inf."""
        return -1.0 if self.transform == "log1p" else -inf

    @property
    def warm_up(self) -> int:
        """How many observations pass before the first input is complete."""
        return max(self.feature_lags, default=0) + self.difference

    @property
    def recent_rows(self) -> int:
        """How many recent observations the state keeps, for lags, differences and values carried forward."""
        return max(self.warm_up, int(self.missing == "carry"))

    @property
    def input_size(self) -> int:
        """The size of the network's input."""
        return (self.embedding_size or len(self.classes)) if self.classes else len(self.features)

    @property
    def numbers_per_value(self) -> int:
        """How many outputs of the head describe one target at one step."""
        return {"point": 1, "normal": 2, "quantile": len(self.quantile_levels), "class": len(self.classes)}[self.output]

    @property
    def head_horizon(self) -> int:
        """How many steps the head itself forecasts."""
        return 1 if self.rollout else self.horizon

    def _check_choices(self) -> None:
        choices = {
            "output": OUTPUTS,
            "missing": MISSING,
            "nonlinearity": ("tanh", "relu"),
            "transform": ("", "log1p"),
            "per_window": ("", *PER_WINDOW),
            "spread": SPREADS if self.output == "normal" else ("",),
        }
        for key, allowed in choices.items():
            if (value := getattr(self, key)) not in allowed:
                raise ConfigError(f"{key}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")
        if self.projection and (self.cell != "lstm" or self.projection >= self.hidden_size):
            raise ConfigError("projection: only an LSTM has one, and it is smaller than hidden_size")
        for name in self.head_activations:
            if name not in ACTIVATIONS:
                raise ConfigError(f"head_activations: expected some of {', '.join(ACTIVATIONS)}, got {name!r}")

    def _check_inputs(self) -> None:
        names = (*self.targets, *self.covariates)
        if len({*names, *CALENDAR}) < len(names) + len(CALENDAR):
            raise ConfigError(f"covariates: targets and covariates need different names, and none of {_list(CALENDAR)}")
        if not all(name and name.isprintable() and len(name) <= 256 for name in names):
            raise ConfigError("covariates: expected names of 1 to 256 printable characters")
        for name, lag in zip(self.features, self.feature_lags, strict=False):
            if name not in (*names, *CALENDAR):
                raise ConfigError(
                    f"features: {name!r} is no target, covariate or reading of the calendar ({_list(names)})"
                )
            if name in CALENDAR and (lag or not self.frequency):
                raise ConfigError(f"features: {name} needs a frequency, and takes no lag")
            if lag > _LONGEST_LAG:
                raise ConfigError(f"feature_lags: at most {_LONGEST_LAG}, got {lag}")
        if len(self.features) != len(self.feature_lags):
            raise ConfigError("feature_lags: expected one for each feature")
        if self.nonlinearity != "tanh" and self.cell != "rnn":
            raise ConfigError("nonlinearity: only an RNN has one")

    def _check_quantities(self) -> None:
        if not self.features:
            raise ConfigError("features: expected one or more")
        check_levels(self.quantile_levels)
        if self.output == "point" and self.quantile_levels != (0.5,):
            raise ConfigError("quantile_levels: of points only 0.5")
        numbers = len(self.targets) + len(self.covariates)
        if len(self.centres) != numbers or len(self.scales) != numbers:
            raise ConfigError(f"scales: expected {numbers}, one for each target and covariate, as of centres")
        if not all(scale > 0 for scale in self.scales):
            raise ConfigError("scales: expected numbers above 0")
        self._check_per_window()
        if self.rollout and self.output != "point":
            raise ConfigError("rollout: only points can be fed back")
        if self.difference and self.output != "point" and self.horizon > self.difference:
            raise ConfigError(
                "difference: quantiles of differences cannot be added up; only points can be, or one step"
            )

    def _check_per_window(self) -> None:
        if not self.per_window:
            return
        least = 2 if self.per_window == "ddof1" else 1
        if self.run_steps < least or self.causal:
            raise ConfigError(f"per_window: {self.per_window} needs a window of {least} or more, and no causal scales")
        now = [name for name, lag in zip(self.features, self.feature_lags, strict=True) if not lag]
        if absent := [target for target in self.targets if target not in now]:
            raise ConfigError(
                f"per_window: needs every target among the inputs, without a lag; there is no {absent[0]}"
            )

    def _check_classes(self) -> None:
        if self.output != "class" or not self.classes:
            raise ConfigError("output: a network of symbols has classes, and tells 'class'")
        check_classes(self.classes)
        kept = (
            "features",
            "covariates",
            "quantile_levels",
            "rollout",
            "difference",
            "transform",
            "causal",
            "per_window",
            "frequency",
        )
        for key in kept:
            if getattr(self, key):
                raise ConfigError(f"{key}: a network of symbols has none")
        if len(self.targets) != 1:
            raise ConfigError("targets: a network of symbols has one")

    def _check_head(self) -> None:
        if not self.head_sizes or len(self.head_activations) != len(self.head_sizes) + 1:
            raise ConfigError("head_activations: expected one before the head's linear layers, and one after each")
        outputs = self.head_horizon * len(self.targets) * self.numbers_per_value
        if outputs > _MOST_OUTPUTS:
            raise ConfigError(f"horizon: times targets and outputs, at most {_MOST_OUTPUTS}, got {outputs}")
        if self.head_sizes[-1] != outputs:
            raise ConfigError(
                f"head_sizes: the last layer has {self.head_sizes[-1]} outputs, but {self.head_horizon} steps of "
                f"{len(self.targets)} targets with {self.numbers_per_value} each are {outputs}"
            )


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)
