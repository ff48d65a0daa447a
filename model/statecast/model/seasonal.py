"""Looks up what a series' past periods say about a step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .config import ModelConfig


@dataclass(frozen=True)
class Seasonal:
    """What each lag's past periods say, float64, 0 where they were all missing.

    Attributes:
        single: The value of the most recent period that was observed, [..., D, K].
        mean: The mean of the last periods, [..., D, K].
        known: Whether any of them was observed, bool [..., D, K].
    """

    single: Tensor
    mean: Tensor
    known: Tensor


def period_offsets(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Where the past periods of each step ahead lie, counted from the next step.

    Returns:
        Negative offsets, int64 [horizon, K, multiples], and whether they lie inside the window, bool of the same
        shape. Those that do not are clipped to the last value.
    """
    ahead = torch.arange(config.horizon).view(-1, 1, 1)
    lags = torch.tensor(config.lags, dtype=torch.int64).view(1, -1, 1)
    # ceil((ahead + 1) / lag) periods back is the most recent one that lies in the past.
    periods = torch.div(ahead, lags, rounding_mode="floor") + 1
    offsets = ahead - (periods + torch.arange(config.multiples).view(1, 1, -1)) * lags
    reachable = offsets >= -config.window
    return torch.where(reachable, offsets, -1), reachable


def look_up(periods: Tensor, reachable: Tensor) -> Seasonal:
    """Sums past periods up.

    Args:
        periods: The values at the past periods of each step, most recent first, NaN where missing, float64
            [..., D, K, multiples].
        reachable: Which of them to look at, bool, broadcastable to [..., 1, K, multiples].

    Returns:
        What they say, [..., D, K].
    """
    observed = ~periods.isnan() & reachable
    values = torch.where(observed, periods, 0.0)
    counts = observed.sum(-1)
    # The first period that was observed; argmax gives the first of equal ones.
    first = observed.to(torch.uint8).argmax(-1, keepdim=True)
    single = values.gather(-1, first).squeeze(-1)
    return Seasonal(single, values.sum(-1) / counts.clamp(min=1), counts > 0)


def read_all(history: Tensor, positions: Tensor) -> Tensor:
    """Reads every row of history [B, S, D] at the same positions [T, ...]: [B, T, D, ...]."""
    values = history.index_select(1, positions.flatten())
    return values.view(len(history), *positions.shape, history.shape[2]).movedim(-1, 2)


def read_rows(history: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """Reads rows [N] of history [B, S, D] at positions [N, S, K, multiples] of each: [N, S, D, K, multiples]."""
    return history[rows.view(-1, 1, 1, 1), positions].movedim(-1, 2)
