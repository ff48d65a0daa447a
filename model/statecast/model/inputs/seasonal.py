"""Look up the past periods of a step: the values whole seasons before it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..frequency import Frequency
from ..zones import DAY_NS
from .known_inputs import SATURDAY, weekday_of


@dataclass(frozen=True)
class Seasonal:
    """The values of each lag's past periods, float64, 0 if all of them were missing.

    Attributes:
        single: The value of the most recent observed period, [..., D, K].
        mean: The mean of the last periods, [..., D, K].
        known: Whether any of the periods was observed, bool [..., D, K].
    """

    single: Tensor
    mean: Tensor
    known: Tensor

    @staticmethod
    def none(values: Tensor) -> "Seasonal":
        """Return an empty result, for values [..., D] in a model without lags."""
        nothing = values.unsqueeze(-1)[..., :0]
        return Seasonal(nothing, nothing, nothing.bool())


def period_offsets(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return the offsets of each step ahead's past periods from the next step.

    Returns:
        Negative offsets, int64 [horizon, K, multiples], and whether they lie inside the window, bool of the same
        shape. Offsets outside the window are replaced by -1, the last value.
    """
    offsets = torch.arange(config.horizon).view(-1, 1, 1) - _steps_back(config)
    reachable = offsets >= -config.window
    return torch.where(reachable, offsets, -1), reachable


def _steps_back(config: ModelConfig) -> Tensor:
    """Return the distance from each step ahead back to its past periods, int64 [horizon, K, multiples]."""
    ahead = torch.arange(config.horizon).view(-1, 1, 1)
    lags = torch.tensor(config.lags, dtype=torch.int64).view(1, -1, 1)
    # The most recent period in the past lies ceil((ahead + 1) / lag) periods back.
    periods = torch.div(ahead, lags, rounding_mode="floor") + 1
    return (periods + torch.arange(config.multiples).view(1, 1, -1)) * lags


class DaysAlike(nn.Module):
    """Past periods on days of the same kind, working day or weekend, as the step to forecast.

    Only lags of whole days distinguish days, and only in a model whose calendar has the weekend.
    """

    table: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        step_ns = Frequency.parse(config.frequency).step_ns if "weekend" in config.calendar else None
        self.is_on = step_ns is not None and any(lag * step_ns % DAY_NS == 0 for lag in config.lags)
        self.step_ns = step_ns or 0
        self.register_buffer("table", self._table(config), persistent=False)

    def _table(self, config: ModelConfig) -> Tensor:
        """Return whether days are alike, by weekday and step ahead, bool [7, horizon, K, multiples]; or empty."""
        if not self.is_on:
            return torch.empty(0, dtype=torch.bool)
        days_back = torch.div(_steps_back(config) * self.step_ns, DAY_NS, rounding_mode="floor")
        weekdays = torch.arange(7).view(-1, 1, 1, 1)
        alike = ((weekdays - days_back) % 7 >= SATURDAY) == (weekdays >= SATURDAY)
        part_days = torch.tensor(config.lags).view(-1, 1) * self.step_ns % DAY_NS != 0
        return alike | part_days

    def of_steps(self, times: Tensor | None, chosen: Tensor | int) -> Tensor | None:
        """Return whether the past periods of steps lie on days of the same kind.

        Args:
            times: The times of the steps, int64 [N, S].
            chosen: How many steps ahead they are, counted from 0, int64 [N, S], or one number for all.

        Returns:
            Whether each past period does, bool [N, S, 1, K, multiples]; None if days are not distinguished.
        """
        if times is None or not self.is_on:
            return None
        return self.table[weekday_of(times), chosen].unsqueeze(2)

    def after(self, times: Tensor | None) -> Tensor | None:
        """Return the same as `of_steps`, for the step after each of the given times."""
        return self.of_steps(None if times is None else times + self.step_ns, 0)


def look_up(periods: Tensor, reachable: Tensor, alike: Tensor | None) -> Seasonal:
    """Summarise past periods.

    Args:
        periods: The values at the past periods of each step, most recent first, NaN where missing, float64
            [..., D, K, multiples].
        reachable: Whether to use each period, bool, broadcastable to [..., 1, K, multiples].
        alike: Whether each period is preferred, bool, broadcastable likewise. If a preferred period was observed, only
            preferred periods are used. None prefers none.

    Returns:
        The summary, [..., D, K].
    """
    observed = ~periods.isnan() & reachable
    if alike is not None:
        preferred = observed & alike
        observed = torch.where(preferred.any(-1, keepdim=True), preferred, observed)
    values = torch.where(observed, periods, 0.0)
    counts = observed.sum(-1)
    # The most recent observed period, since argmax returns the first of equal values.
    first = observed.to(torch.uint8).argmax(-1, keepdim=True)
    single = values.gather(-1, first).squeeze(-1)
    return Seasonal(single, values.sum(-1) / counts.clamp(min=1), counts > 0)


def read_all(history: Tensor, positions: Tensor) -> Tensor:
    """Read every row of history [B, S, D] at the same positions [T, ...]: [B, T, D, ...]."""
    values = history.index_select(1, positions.flatten())
    return values.view(history.shape[0], *positions.shape, history.shape[2]).movedim(-1, 2)


def read_rows(history: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """Read rows [N] of history [B, S, D] at positions [N, S, K, multiples] of each: [N, S, D, K, multiples]."""
    return history[rows.view(-1, 1, 1, 1), positions].movedim(-1, 2)
