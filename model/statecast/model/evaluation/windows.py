"""Cut-offs, the outcomes after them, and the forecasts made at them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError


class EvaluationError(ModelError):
    """A protocol, a series or a forecast cannot be evaluated; the message names it."""


@dataclass(frozen=True)
class Protocol:
    """The cut-offs at which forecasts are made, and their horizon.

    Attributes:
        horizon: How many steps ahead to forecast.
        season: Steps in a season, for the scale of the scaled scores and for the baselines; 1 for none.
        windows: How many forecasts to make of each series.
        step: Steps from one cut-off to the next; None for the horizon.
        first_cutoff: Steps of each series before the first cut-off; a negative number counts from the end, as in fev.
            If None, the last window ends where the series ends.
        begins: The first cut-off by other means, instead: a share of each series' steps between 0 and 1, or a time
            (ISO 8601), which is that of the first step to forecast.

    Raises:
        EvaluationError: A value is out of range.
    """

    horizon: int
    season: int
    windows: int = 1
    step: int | None = None
    first_cutoff: int | None = None
    begins: float | str | None = None

    def __post_init__(self) -> None:
        for name in ("horizon", "season", "windows"):
            _at_least_one(name, getattr(self, name))
        _at_least_one("step", self.stride)
        if self.begins is not None:
            if self.first_cutoff is not None:
                raise EvaluationError("first_cutoff: given as a number of steps and otherwise; choose one")
            if isinstance(self.begins, float) and not 0 < self.begins < 1:
                raise EvaluationError(f"first_cutoff: expected a share between 0 and 1, got {self.begins:g}")
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
        """The number of steps from one cut-off to the next."""
        return self.horizon if self.step is None else self.step

    @property
    def span(self) -> int:
        """The number of steps from the first cut-off to the end of the last window."""
        return self.horizon + (self.windows - 1) * self.stride

    @property
    def shortest(self) -> int:
        """The length of the shortest series that has all the windows, in steps."""
        if self.first_cutoff is None:
            return self.span + 1
        return self.first_cutoff + self.span if self.first_cutoff > 0 else 1 - self.first_cutoff

    def cutoffs(self, length: int, begin: int | None = None) -> NDArray[np.int64]:
        """Return the number of steps of a series before each cut-off, ascending, int64 [W].

        Args:
            length: The number of steps of the series.
            begin: The number of steps before the time that `begins` tells; None if it tells none.

        Raises:
            EvaluationError: The series is too short for all windows and one step before them.
        """
        if not self.fits(length, begin):
            needed = f"at least {self.shortest} are needed" if self.begins is None else f"the first at {self.begins}"
            raise EvaluationError(
                f"{length} steps are too few for {self.windows} windows of {self.horizon} steps, {self.stride} apart: "
                f"{needed}"
            )
        return self._start(length, begin) + self.stride * np.arange(self.windows, dtype=np.int64)

    def fits(self, length: int, begin: int | None = None) -> bool:
        """Return whether a series has all the windows and a step before them; arguments as of `cutoffs`."""
        return 1 <= self._start(length, begin) <= length - self.span

    def _start(self, length: int, begin: int | None) -> int:
        if begin is not None:
            return begin
        if isinstance(self.begins, str):
            raise EvaluationError(f"first_cutoff: {self.begins} is a time, and the series has none")
        if self.begins is not None:
            return int(length * self.begins + 1e-9)  # 29 % of 100 are 29
        first = -self.span if self.first_cutoff is None else self.first_cutoff
        return first if first > 0 else length + first

    def in_second_half(self, windows: Sequence[int]) -> NDArray[np.bool_]:
        """Return whether each window, by number, lies in the second half; the middle window does not."""
        return 2 * np.asarray(windows, dtype=np.int64) >= self.windows + self.windows % 2


@dataclass(frozen=True)
class Truth:
    """The values and cut-offs of one target of one series.

    Attributes:
        unique_id: The series.
        target: The name of the target.
        values: All values, NaN where missing, in the data's own units, float64 [T].
        cutoffs: The number of steps before each cut-off, ascending, int64 [W].

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
        """The names of series and target, for messages and pictures."""
        return f"{self.unique_id} {self.target}".strip()

    def past(self, window: int) -> NDArray[np.float64]:
        """Return the values before a cut-off, NaN where missing, float64 [cut-off]."""
        return self.values[: self.cutoffs[window]]


@dataclass(frozen=True)
class Forecasts:
    """The forecasts of one forecaster for every series.

    Attributes:
        name: The name of the forecaster.
        levels: The Q quantile levels, ascending, in (0, 1).
        quantiles: For each series, in the order of the truths, float64 [V, H, Q], in the data's own units.
        windows: The V cut-offs at which it forecast, by number from 0, ascending.

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
        # A forecaster must not gain by leaving out difficult steps.
        if not np.isfinite(quantiles).all():
            raise EvaluationError(f"{self.name}: series {index}: a quantile is not finite")

    def at(self, windows: Iterable[int]) -> "Forecasts":
        """Return the forecasts made at some of the cut-offs.

        Raises:
            EvaluationError: There is no forecast at one of them.
        """
        chosen = tuple(windows)
        if missing := sorted(set(chosen) - set(self.windows)):
            raise EvaluationError(f"{self.name}: no forecast at windows {missing}")
        rows = [self.windows.index(window) for window in chosen]
        return replace(self, quantiles=tuple(each[rows] for each in self.quantiles), windows=chosen)


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise EvaluationError(f"{name}: expected 1 or more, got {value}")
