"""What is forecast when: cut-offs, the outcomes after them, and the forecasts made at them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError


class EvaluationError(ModelError):
    """A protocol, a series or a forecast cannot be evaluated; the message names the offending one."""


@dataclass(frozen=True)
class Protocol:
    """When forecasts are made, and how far ahead.

    Attributes:
        horizon: How many steps ahead.
        season: Steps in a season, for the scale of the scaled scores and for the baselines; 1 for none.
        windows: How many forecasts of each series.
        step: Steps from one cut-off to the next; the horizon if None.
        first_cutoff: How many steps of each series have been seen at the first cut-off; a negative number counts from
            its end, as in fev. If None, the last window ends where the series does.

    Raises:
        EvaluationError: One of them is out of range.
    """

    horizon: int
    season: int
    windows: int = 1
    step: int | None = None
    first_cutoff: int | None = None

    def __post_init__(self) -> None:
        for name in ("horizon", "season", "windows"):
            _at_least_one(name, getattr(self, name))
        _at_least_one("step", self.stride)
        if self.first_cutoff is None:
            return
        if self.first_cutoff == 0:
            raise EvaluationError("first_cutoff: nothing has been seen at 0; give 1 or more, or count from the end")
        if -self.span < self.first_cutoff < 0:
            raise EvaluationError(
                f"first_cutoff: {self.windows} windows end {self.span} steps after the first cut-off, "
                f"which {self.first_cutoff} from the end does not leave"
            )

    @property
    def stride(self) -> int:
        """Steps from one cut-off to the next."""
        return self.horizon if self.step is None else self.step

    @property
    def span(self) -> int:
        """Steps from the first cut-off to the end of the last window."""
        return self.horizon + (self.windows - 1) * self.stride

    @property
    def shortest(self) -> int:
        """Length of the shortest series that has all the windows, in steps."""
        if self.first_cutoff is None:
            return self.span + 1
        return self.first_cutoff + self.span if self.first_cutoff > 0 else 1 - self.first_cutoff

    def cutoffs(self, length: int) -> NDArray[np.int64]:
        """Returns how many steps of a series have been seen at each cut-off, ascending, int64 [W].

        Args:
            length: How many steps the series has.

        Raises:
            EvaluationError: It is too short for all the windows and one step before them.
        """
        if length < self.shortest:
            raise EvaluationError(
                f"{length} steps are too few for {self.windows} windows of {self.horizon} steps, {self.stride} apart: "
                f"at least {self.shortest} are needed"
            )
        first = -self.span if self.first_cutoff is None else self.first_cutoff
        start = first if first > 0 else length + first
        return start + self.stride * np.arange(self.windows, dtype=np.int64)

    def in_second_half(self, windows: Sequence[int]) -> NDArray[np.bool_]:
        """Says of each window by its number whether it lies in the second half; a window in the middle does not."""
        return 2 * np.asarray(windows, dtype=np.int64) >= self.windows + self.windows % 2


@dataclass(frozen=True)
class Truth:
    """One series and target, and where its forecasts are made.

    Attributes:
        unique_id: The series.
        target: Which of its targets.
        values: All of it, NaN where missing, in the data's own units, float64 [T].
        cutoffs: How many steps had been seen at each cut-off, ascending, int64 [W].

    Raises:
        EvaluationError: A value is infinite, or a cut-off has nothing before it or lies outside the series.
    """

    unique_id: str
    target: str
    values: NDArray[np.float64]
    cutoffs: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or self.cutoffs.ndim != 1:
            raise EvaluationError(f"{self.name}: expected values [T] and cut-offs [W]")
        if np.isinf(self.values).any():
            raise EvaluationError(f"{self.name}: step {int(np.isinf(self.values).argmax())} is infinite")
        ascending = bool((np.diff(self.cutoffs) > 0).all())
        if not ascending or not len(self.cutoffs) or self.cutoffs[0] < 1 or self.cutoffs[-1] > len(self.values):
            raise EvaluationError(f"{self.name}: cut-offs must ascend from 1 or more to {len(self.values)} or less")

    @property
    def name(self) -> str:
        """The series and its target, for people."""
        return f"{self.unique_id} {self.target}".strip()

    def past(self, window: int) -> NDArray[np.float64]:
        """Returns what had been seen at a cut-off, NaN where missing, float64 [cut-off]."""
        return self.values[: self.cutoffs[window]]


@dataclass(frozen=True)
class Forecasts:
    """What one forecaster said of every series.

    Attributes:
        name: The forecaster.
        levels: Quantile levels, ascending, in (0, 1); Q of them.
        quantiles: For each series, in the order of the truths, float64 [V, H, Q], in the data's own units.
        windows: At which of the cut-offs it was asked, ascending, from 0; V of them.

    Raises:
        EvaluationError: Levels or windows do not ascend, a shape is wrong, or a quantile is not finite.
    """

    name: str
    levels: tuple[float, ...]
    quantiles: tuple[NDArray[np.float64], ...]
    windows: tuple[int, ...]

    def __post_init__(self) -> None:
        levels, windows = np.asarray(self.levels), np.asarray(self.windows)
        if not len(levels) or not ((levels > 0) & (levels < 1)).all() or (np.diff(levels) <= 0).any():
            raise EvaluationError(f"{self.name}: levels must ascend within (0, 1), got {list(self.levels)}")
        if not len(windows) or windows[0] < 0 or (np.diff(windows) <= 0).any():
            raise EvaluationError(f"{self.name}: windows must ascend from 0 or more, got {list(self.windows)}")
        for index, each in enumerate(self.quantiles):
            self._check(index, each)

    def _check(self, index: int, quantiles: NDArray[np.float64]) -> None:
        shape = (len(self.windows), self.quantiles[0].shape[1], len(self.levels))
        if quantiles.shape != shape:
            raise EvaluationError(f"{self.name}: series {index}: expected {shape}, got {quantiles.shape}")
        # A forecaster that leaves out what it finds hard must not gain by it.
        if not np.isfinite(quantiles).all():
            raise EvaluationError(f"{self.name}: series {index}: a quantile is not finite")

    def at(self, windows: Iterable[int]) -> "Forecasts":
        """Returns those made at some of its cut-offs.

        Raises:
            EvaluationError: It was not asked at one of them.
        """
        chosen = tuple(windows)
        if missing := sorted(set(chosen) - set(self.windows)):
            raise EvaluationError(f"{self.name}: no forecast at windows {missing}")
        rows = [self.windows.index(window) for window in chosen]
        return replace(self, quantiles=tuple(each[rows] for each in self.quantiles), windows=chosen)


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise EvaluationError(f"{name}: expected 1 or more, got {value}")
