"""The training loss: pinball, free of the data's units."""

import torch
from torch import Tensor

from ..forecaster.context import Context
from ..forecaster.forecaster import Forecaster
from ..inputs.features import error_ratios, units_of

# A miss beyond this many units is a jump that nothing could foretell.
LARGEST_MISS = 30.0
SMALLEST_ERROR = 0.03


def scaled_pinball(quantiles: Tensor, outcomes: Tensor, scales: Tensor, levels: tuple[float, ...]) -> Tensor:
    """The mean pinball loss over all known outcomes and levels, in given units.

    Args:
        quantiles: float64 [N, S, Q, D], NaN where there is no forecast.
        outcomes: What came, NaN where it is not known, float64 [N, S, D].
        scales: The units, float64 [N, D].
        levels: Q of them.
    """
    known = ~(outcomes.isnan() | quantiles[:, :, 0].isnan())
    # Both sides are replaced where unknown, so that no NaN reaches a gradient.
    outcomes = torch.where(known, outcomes, 0.0).unsqueeze(2)
    quantiles = torch.where(known.unsqueeze(2), quantiles, 0.0)
    misses = ((outcomes - quantiles) / scales[:, None, None]).clamp(-LARGEST_MISS, LARGEST_MISS)
    level = torch.tensor(levels, dtype=quantiles.dtype, device=quantiles.device).view(1, 1, -1, 1)
    losses = torch.maximum(level * misses, (level - 1) * misses)
    return losses.sum() / (known.sum().clamp(min=1) * len(levels))


@torch.no_grad()
def local_scale(forecaster: Forecaster, context: Context) -> Tensor:
    """The geometric mean of a series' deviation and its best naive error as it stands, float64 [N, D]."""
    units = units_of(forecaster.naive, context.statistics)
    ratios = error_ratios(forecaster.naive, context.statistics, units)
    best = ratios.mean(-1).amin(-1).clamp(min=SMALLEST_ERROR)
    return units.scale * best.sqrt()
