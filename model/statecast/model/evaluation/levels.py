"""Quantile levels: those that are scored, and interpolation between a model's quantiles."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .windows import EvaluationError

SCORED_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SHOWN_BANDS = (0.8, 0.9)
_SAME_LEVEL = 1e-6


def scored_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Return the levels among 0.1, 0.2 ... 0.9 that lie between the lowest and the highest given level.

    Raises:
        EvaluationError: The median does not lie between them.
    """
    low, high = min(levels) - _SAME_LEVEL, max(levels) + _SAME_LEVEL
    inside = tuple(level for level in SCORED_LEVELS if low <= level <= high)
    if 0.5 not in inside:
        raise EvaluationError(f"levels {list(levels)} have no median between them")
    return inside


def baseline_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Return a model's levels plus those at which it is scored, so that baselines need no interpolation."""
    added = [level for level in scored_levels(levels) if min(abs(level - each) for each in levels) > _SAME_LEVEL]
    return tuple(sorted([*levels, *added]))


def central_bands(levels: Sequence[float]) -> list[tuple[int, int]]:
    """Return the positions of the bounds of each band symmetric about the median, narrowest first."""
    mirrored = [(low, high) for low in range(len(levels)) for high in range(low + 1, len(levels))]
    return [(low, high) for low, high in mirrored if abs(levels[low] + levels[high] - 1) < _SAME_LEVEL][::-1]


def interpolate(
    quantiles: NDArray[np.float64], levels: Sequence[float], wanted: Sequence[float]
) -> NDArray[np.float64]:
    """Return quantiles at wanted levels, interpolated linearly, [..., Q] to [..., len(wanted)]."""
    positions = np.interp(wanted, levels, np.arange(len(levels)))
    nearest = np.rint(positions)
    # A given level is taken unchanged, not mixed with its neighbour because of rounding.
    positions = np.where(np.abs(np.asarray(levels)[nearest.astype(int)] - wanted) < _SAME_LEVEL, nearest, positions)
    low = np.minimum(positions.astype(int), max(len(levels) - 2, 0))
    below, above = quantiles[..., low], quantiles[..., np.minimum(low + 1, len(levels) - 1)]
    return np.asarray(below + (above - below) * (positions - low))


def nearest(stated: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """Return the stated shares nearest to the wanted ones, without repetitions, ascending."""
    return sorted({min(stated, key=lambda each: abs(each - share)) for share in wanted}) if stated else []
