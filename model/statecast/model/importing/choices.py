"""What a file of weights does not tell: how a network was trained, and how its inputs and outputs are meant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..imported.config import CALENDAR

Pair = tuple[float, float]
ORDER = ("horizon", "target", "number")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How a network was trained.

    Attributes:
        name: The model's name.
        version: The model's version; empty for the next number.
        targets: The names of the targets.
        covariates: The names of the covariates.
        inputs: The network's inputs, in order: names of targets and covariates, `NAME@LAG` for the value LAG steps
            before, and readings of the calendar; None for the targets, then the covariates.
        stateful: True if the state was carried from step to step.
        window: How many last inputs the network ran over, from a zero state, at each step.
        scale: The centre and scale of each target and covariate, in that order: the network has seen (value - centre) /
            scale. None if values were not scaled so.
        min_max: The values that became the ends of `min_max_range`, of each target and covariate, in that order.
        min_max_range: The ends of the range to which `min_max` was scaled.
        causal: True if the targets were scaled by the mean and standard deviation of all their values so far; then
            `scale` and `min_max` are those of the covariates alone.
        per_window: "ddof0" or "ddof1" if each window's targets were scaled by their own mean and standard deviation,
            with that `ddof`; then `scale` and `min_max` are those of the covariates alone.
        log1p: True if the targets' log1p was taken, before they were scaled.
        difference: The distance of the differences that replaced the targets, in steps; 0 for the targets themselves.
        frequency: The time between two steps as a pandas alias; empty if only position counts.
        output: What the head tells: "point", "quantile", "normal" or "class".
        spread: What "normal" tells beside the mean: "variance", "deviation", or those after "log_" or "softplus_".
        quantile_levels: The levels of the quantiles; of "normal", those to forecast.
        order: The order in which the head's outputs run, the last one fastest.
        rollout: How many steps to forecast by feeding points back; 0 for the head's own horizon.
        missing: What becomes of a missing value: "refuse", "carry" or "zero".
        classes: The symbols by number from 0, of a network of symbols.
    """

    name: str
    version: str = ""
    targets: Sequence[str] = ("value",)
    covariates: Sequence[str] = ()
    inputs: Sequence[str] | None = None
    stateful: bool = False
    window: int = 0
    scale: Sequence[Pair] | None = None
    min_max: Sequence[Pair] | None = None
    min_max_range: Pair = (0.0, 1.0)
    causal: bool = False
    per_window: str = ""
    log1p: bool = False
    difference: int = 0
    frequency: str = ""
    output: str = ""
    spread: str = ""
    quantile_levels: Sequence[float] | None = None
    order: Sequence[str] = ORDER
    rollout: int = 0
    missing: str = "refuse"
    classes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.stateful == bool(self.window):
            raise ConfigError(
                "window: name the way of training, one of two: window=W if each forecast came from the last W inputs "
                "alone, stateful if the state was carried on from step to step"
            )
        if sorted(self.order) != sorted(ORDER):
            raise ConfigError(f"order: expected {', '.join(ORDER)} in some order, got {', '.join(self.order)}")

    def settings(self) -> Mapping[str, Any]:
        """Return the keys of a configuration that follow from the choices alone.

        Raises:
            ConfigError: The choices contradict each other.
        """
        output = self.output or ("class" if self.classes else "point")
        spread = (self.spread or "log_variance") if output == "normal" else self.spread
        return {
            "targets": ("symbol",) if self.classes else tuple(self.targets),
            "covariates": tuple(self.covariates),
            "classes": tuple(self.classes),
            "frequency": self.frequency,
            "run_steps": self.window,
            "output": output,
            "spread": spread,
            "quantile_levels": self._levels(output),
            "rollout": self.rollout > 0,
            "causal": self.causal,
            "per_window": self.per_window,
            "transform": "log1p" if self.log1p else "",
            "difference": self.difference,
            "missing": self.missing,
            **self._features(),
            **self._scaling(),
        }

    def _levels(self, output: str) -> tuple[float, ...]:
        if self.quantile_levels is not None:
            return tuple(self.quantile_levels)
        if output == "quantile":
            raise ConfigError("quantile_levels: name the levels of the head's quantiles, such as 0.1,0.5,0.9")
        return {"class": (), "normal": (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)}.get(output, (0.5,))

    def _features(self) -> dict[str, Any]:
        if self.classes:
            return {}
        names = [*self.targets, *self.covariates] if self.inputs is None else self.inputs
        pairs = [_feature(each, (*self.targets, *self.covariates)) for each in names]
        return {"features": tuple(name for name, _ in pairs), "feature_lags": tuple(lag for _, lag in pairs)}

    def _scaling(self) -> dict[str, Any]:
        names = ("symbol",) if self.classes else (*self.targets, *self.covariates)
        own = [(0.0, 1.0)] * len(self.targets) if self.causal or self.per_window else []
        names = names[len(own) :]
        if self.scale is not None and self.min_max is not None:
            raise ConfigError("scale: leave out either scale or min_max")
        low, high = self.min_max_range
        if high <= low:
            raise ConfigError(f"min_max_range: expected two ascending numbers, got {low:g},{high:g}")
        key, pairs = ("scale", self.scale) if self.min_max is None else ("min_max", self.min_max)
        pairs = [(0.0, 1.0)] * len(names) if pairs is None else pairs
        if len(pairs) != len(names):
            raise ConfigError(
                f"{key}: expected a pair of numbers for each of {', '.join(names) or 'no covariate'}, got {len(pairs)}"
            )
        if self.min_max is not None:
            steps = [(most - least) / (high - low) for least, most in pairs]
            pairs = [(least - low * step, step) for (least, _), step in zip(pairs, steps, strict=True)]
        for name, (_, scale) in zip(names, pairs, strict=True):
            if not scale > 0:
                wanted = "a scale above 0" if self.min_max is None else "a high value above the low one"
                raise ConfigError(f"{key}: expected {wanted} for {name}")
        pairs = [*own, *pairs]
        return {"centres": tuple(float(a) for a, _ in pairs), "scales": tuple(float(b) for _, b in pairs)}


def _feature(text: str, names: Sequence[str]) -> tuple[str, int]:
    """Return the name and the lag of an input."""
    if text in names or text in CALENDAR:
        return text, 0
    name, _, lag = text.rpartition("@")
    if name in names and lag.isdecimal():
        return name, int(lag)
    raise ConfigError(
        f"inputs: {text!r} is none of {', '.join(names)}, nor one of them with a lag, such as {names[0]}@24, nor of "
        f"{', '.join(CALENDAR)}"
    )
