"""Where a value lies in the distribution that quantiles describe: the probability integral transform."""

from math import log

import torch
from torch import Tensor

NARROWEST = 1e-300
_MOST_WIDTHS = 1e3


def share_below(quantiles: Tensor, values: Tensor, levels: Tensor, rounding: Tensor | None = None) -> Tensor:
    """The probability of what is lower than a value, and half of that of the very value.

    Linear between quantiles; beyond the outermost, the density falls on as it does between the outermost two.

    Args:
        quantiles: Ascending, float64 [..., Q].
        values: float64 [...].
        levels: Of the quantiles, two or more, float64 [Q].
        rounding: How close to the median a value is as good as the median, float64 [...]; None for not at all.

    Returns:
        float64 [...], 0 to 1; NaN where a quantile or the value is.
    """
    value, lows = values.unsqueeze(-1), quantiles[..., :-1]
    past = (value - lows) / (quantiles[..., 1:] - lows).clamp(min=NARROWEST)
    # Between the two quantiles that a value lies between; where it has not come so far yet, nothing.
    inside = torch.addcmul(levels[:-1], levels.diff(), past.clamp(0, 1)).masked_fill(past <= 0, 0.0).amax(-1)
    lowest, low = levels[:2].tolist()
    high, highest = levels[-2:].tolist()
    fall = torch.exp(log(low / lowest) * past[..., 0].clamp(-_MOST_WIDTHS, 0))
    rise = (past[..., -1] - 1).clamp(0, _MOST_WIDTHS)
    above = 1 - (1 - highest) * torch.exp(log((1 - highest) / (1 - high)) * rise)
    share = torch.where(rise > 0, above, torch.maximum(lowest * fall, inside))
    if rounding is not None:
        median = quantiles[..., int((levels - 0.5).abs().argmin())]
        share = torch.where((values - median).abs() <= rounding, 0.5, share)
    equal = quantiles == value
    if bool((equal.sum(-1) > 1).any()):
        return _halved(share, equal, levels)
    return share


def _halved(share: Tensor, equal: Tensor, levels: Tensor) -> Tensor:
    """Where several quantiles are equal to the value, it has a probability of its own: half of that, and what is lower.

    Args:
        share: For all others, [...].
        equal: Which quantiles are equal to the value, bool [..., Q].
        levels: Of the quantiles, [Q].
    """
    first = equal.to(torch.uint8).argmax(-1)
    last = first + equal.sum(-1) - 1
    start = torch.where(first > 0, levels[first], 0.0)
    stop = torch.where(last < len(levels) - 1, levels[last.clamp(min=0)], 1.0)
    return torch.where(last > first, (start + stop) / 2, share)
