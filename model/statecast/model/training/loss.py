"""The training loss: pinball loss, independent of the data's units."""

import torch
from torch import Tensor

from ..forecaster.context import Context
from ..forecaster.forecaster import Forecaster
from ..inputs.features import error_ratios, units_of

# A larger miss, in units of the scale, is a jump that no model could predict.
LARGEST_MISS = 30.0
SMALLEST_ERROR = 0.03


def scaled_pinball(quantiles: Tensor, outcomes: Tensor, scales: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Return the mean pinball loss over all known outcomes and levels, in given units.

    Args:
        quantiles: The forecasts, NaN if there is none, float64 [N, S, Q, D].
        outcomes: The outcomes, NaN if not known, float64 [N, S, D].
        scales: The units, float64 [N, D].
        levels: The Q levels.
    """
    known = ~(outcomes.isnan() | quantiles[:, :, 0].isnan())
    # Unknown values are replaced on both sides, so that no NaN reaches a gradient.
    outcomes = torch.where(known, outcomes, 0.0).unsqueeze(2)
    quantiles = torch.where(known.unsqueeze(2), quantiles, 0.0)
    misses = ((outcomes - quantiles) / scales[:, None, None]).clamp(-LARGEST_MISS, LARGEST_MISS)
    level = torch.tensor(levels, dtype=quantiles.dtype, device=quantiles.device).view(1, 1, -1, 1)
    losses = torch.maximum(level * misses, (level - 1) * misses)
    return losses.sum() / (known.sum().clamp(min=1) * len(levels))


@torch.no_grad()
def local_scale(forecaster: Forecaster, context: Context) -> Tensor:
    """Return the geometric mean of a series' current deviation and best naive error, float64 [N, D]."""
    units = units_of(forecaster.naive, context.statistics)
    ratios = error_ratios(forecaster.naive, context.statistics, units)
    best = ratios.mean(-1).amin(-1).clamp(min=SMALLEST_ERROR)
    return units.scale * best.sqrt()
