"""The probability integral transform: the position of a value in the distribution that quantiles describe."""

from math import log

import torch
from torch import Tensor

NARROWEST = 1e-300
# A value this close to the median, as a share of the series' scale, counts as the median.
ROUNDING_SHARE = 1e-6
MOST_WIDTHS = 1e3


def share_below(quantiles: Tensor, values: Tensor, levels: Tensor, rounding: Tensor | None = None) -> Tensor:
    """Return the probability of values below a value, plus half the probability of the value itself.

    The distribution is linear between quantiles. Beyond the outermost ones, the tail's probability falls exponentially,
    by the same factor as between the outermost two.

    Args:
        quantiles: The quantiles, ascending, float64 [..., Q].
        values: The values, float64 [...].
        levels: The levels of the quantiles, two or more, float64 [Q].
        rounding: The distance from the median within which a value counts as the median, float64 [...]; None for no
            such distance.

    Returns:
        The probability, 0 to 1, float64 [...]; NaN where a quantile or the value is NaN.
    """
    value, lows = values.unsqueeze(-1), quantiles[..., :-1]
    past = (value - lows) / (quantiles[..., 1:] - lows).clamp(min=NARROWEST)
    # The level interpolated between the neighbouring quantiles, found as a maximum: gaps above the value give 0.
    inside = torch.addcmul(levels[:-1], levels.diff(), past.clamp(0, 1)).masked_fill(past <= 0, 0.0).amax(-1)
    lowest, low = levels[:2].tolist()
    high, highest = levels[-2:].tolist()
    fall = torch.exp(log(low / lowest) * past[..., 0].clamp(-MOST_WIDTHS, 0))
    rise = (past[..., -1] - 1).clamp(0, MOST_WIDTHS)
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
    """Replace the probabilities of values that equal several quantiles, and so have a probability themselves.

    Args:
        share: The probability for all other values, [...].
        equal: Whether each quantile is equal to the value, bool [..., Q].
        levels: The levels of the quantiles, [Q].

    Returns:
        For such values, the probability of lower values plus half their own, [...]; for others `share`.
    """
    first = equal.to(torch.uint8).argmax(-1)
    last = first + equal.sum(-1) - 1
    start = torch.where(first > 0, levels[first], 0.0)
    stop = torch.where(last < len(levels) - 1, levels[last.clamp(min=0)], 1.0)
    return torch.where(last > first, (start + stop) / 2, share)
