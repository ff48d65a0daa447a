"""Where a value lies in the distribution that quantiles describe: the probability integral transform."""

import torch
from torch import Tensor

NARROWEST = 1e-300
_MOST_WIDTHS = 1e3


def share_below(quantiles: Tensor, values: Tensor, levels: Tensor) -> Tensor:
    """The probability of what is lower than a value, and half of that of the very value.

    Linear between quantiles; beyond the outermost, the density falls on as it does between the outermost two.

    Args:
        quantiles: Ascending, float64 [..., Q].
        values: float64 [...].
        levels: Of the quantiles, two or more, float64 [Q].

    Returns:
        float64 [...], 0 to 1; NaN where a quantile or the value is.
    """
    count = len(levels)
    value = values.unsqueeze(-1)
    upto, under = (quantiles <= value).sum(-1), (quantiles < value).sum(-1)
    above = upto.clamp(1, count - 1)
    low, high = _pick(quantiles, above - 1), _pick(quantiles, above)
    level_low, level_high = levels[above - 1], levels[above]
    width = (high - low).clamp(min=NARROWEST)
    inside = level_low + (level_high - level_low) * ((values - low) / width).clamp(0, 1)
    fall = (level_high / level_low).log() * ((low - values) / width).clamp(0, _MOST_WIDTHS)
    rise = ((1 - level_low) / (1 - level_high)).log() * ((values - high) / width).clamp(0, _MOST_WIDTHS)
    share = torch.where(upto == 0, levels[0] * torch.exp(-fall), inside)
    share = torch.where(under == count, 1 - (1 - levels[-1]) * torch.exp(-rise), share)
    # Where several quantiles are equal to the value, it has a probability of its own.
    start = torch.where(under > 0, levels[under.clamp(max=count - 1)], 0.0)
    stop = torch.where(upto < count, levels[(upto - 1).clamp(min=0)], 1.0)
    share = torch.where(upto - under > 1, (start + stop) / 2, share)
    return share.masked_fill(values.isnan() | quantiles.isnan().any(-1), torch.nan)


def _pick(quantiles: Tensor, index: Tensor) -> Tensor:
    return quantiles.gather(-1, index.unsqueeze(-1)).squeeze(-1)
