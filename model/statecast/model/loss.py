"""The training loss: pinball, free of the data's units."""

import torch
from torch import Tensor

from .context import Context
from .contract import Future
from .features import error_ratios, units_of
from .forecaster import Forecaster

# A miss beyond this many units is a jump that nothing could foretell.
LARGEST_MISS = 30.0
SMALLEST_ERROR = 0.03


def scaled_pinball(
    forecaster: Forecaster,
    context: Context,
    steps: Tensor,
    outcomes: Tensor,
    largest_scale: Tensor,
    future: Future | None = None,
) -> Tensor:
    """The mean pinball loss in units between the deviation and the best naive error.

    Args:
        forecaster: The model.
        context: N sessions.
        steps: Which steps ahead, int64 [N, S].
        outcomes: What came, NaN where it is not known, float64 [N, S, D].
        largest_scale: How far the series range but for wild values, float64 [N, 1]; the loss is not in larger units, so
            that what follows upon a wild value counts as much as anything else.
        future: What is known of those steps, [N, S, ...].

    Returns:
        The mean over all known outcomes and quantile levels, a scalar.
    """
    quantiles = forecaster.quantiles(context, steps, future or Future())
    levels = torch.tensor(forecaster.config.quantile_levels, device=quantiles.device)
    scale = loss_scale(forecaster, context).minimum(largest_scale).unsqueeze(1)
    known = ~outcomes.isnan() & (context.statistics.count > 0).unsqueeze(1)
    # Both sides are replaced where unknown, so that no NaN reaches a gradient.
    outcomes = torch.where(known, outcomes, 0.0).unsqueeze(2)
    quantiles = torch.where(known.unsqueeze(2), quantiles, 0.0)
    misses = ((outcomes - quantiles) / scale.unsqueeze(2)).clamp(-LARGEST_MISS, LARGEST_MISS)
    levels = levels.view(1, 1, -1, 1)
    losses = torch.maximum(levels * misses, (levels - 1) * misses)
    return losses.sum() / (known.sum().clamp(min=1) * levels.numel())


@torch.no_grad()
def loss_scale(forecaster: Forecaster, context: Context) -> Tensor:
    """The geometric mean of a series' deviation and its best naive error, float64 [N, D]."""
    units = units_of(forecaster.naive, context.statistics)
    ratios = error_ratios(forecaster.naive, context.statistics, units)
    best = ratios.mean(-1).amin(-1).clamp(min=SMALLEST_ERROR)
    return units.scale * best.sqrt()
