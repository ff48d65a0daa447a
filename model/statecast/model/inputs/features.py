"""The features of a series for the learned parts: its statistics, independent of units."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers.decayed_sums import decayed_weights
from .naive import NaiveForecasters, Statistics

# A deviation below this share of the level is rounding noise.
LEVEL_SHARE = 1e-10
# The assumed deviation before the second value, as a share of the level.
PRIOR_SHARE = 0.1
TINY = 1e-36
# Errors below this share of the deviation count as equal. It is tiny because an extreme value inflates the deviation
# for a long time, and the errors at ordinary values must remain distinguishable meanwhile.
ERROR_SHARE = 1e-7
# The prior on a forecaster's error halves with every so many judgements.
JUDGED_HALF_LIFE = 4.0
# Smaller errors make no difference to the learned parts, which have seen few series so regular.
LEAST_LOG_ERROR = -6.0
LARGEST_RATIO = 1e15
FARTHEST_ZERO = 20.0
# Higher counts make no difference to the learned parts.
LARGEST_COUNT = 1e3


@dataclass(frozen=True)
class Units:
    """The affine map that removes a series' units, float64 [..., D]."""

    centre: Tensor
    scale: Tensor


def compress(ratio: Tensor) -> Tensor:
    """Return the arcsinh of a unit-free ratio, float32."""
    return torch.asinh(ratio.clamp(-LARGEST_RATIO, LARGEST_RATIO).float())


def units_of(naive: NaiveForecasters, statistics: Statistics) -> Units:
    """Return the normaliser: the slowest exponential mean and its mean absolute error.

    A prior makes the first values usable; it fades within about thirty observations.
    """
    centre, deviation, count = naive.normaliser(statistics)
    prior = PRIOR_SHARE * torch.exp2(-count) + LEVEL_SHARE
    return Units(centre, deviation + centre.abs() * prior + TINY)


def error_ratios(naive: NaiveForecasters, statistics: Statistics, units: Units) -> Tensor:
    """Return mean absolute errors in units of the deviation, float64 [..., D, F, E].

    A prior of 1 prevents a forecaster with few judgements from looking perfect.
    """
    counts = statistics.error_counts.unsqueeze(-1)
    errors = statistics.errors / decayed_weights(counts, naive.error_decay)
    return _drawn_to_one(errors / units.scale[..., None, None], counts)


def _recent_ratios(naive: NaiveForecasters, statistics: Statistics, units: Units) -> Tensor:
    """Return `error_ratios` of the shortest memory, for the forecasters in step features, float64 [..., D, judges]."""
    counts = statistics.error_counts[..., : naive.judges]
    errors = statistics.errors[..., : naive.judges, 0] / decayed_weights(counts, naive.error_decay[0])
    return _drawn_to_one(errors / units.scale.unsqueeze(-1), counts)


def _drawn_to_one(ratios: Tensor, counts: Tensor) -> Tensor:
    assumed = torch.exp2(-counts / JUDGED_HALF_LIFE)
    return ratios.clamp(max=LARGEST_RATIO) * (1 - assumed) + assumed


def log_errors(ratios: Tensor) -> Tensor:
    """Return the logarithms of error ratios, float32 of the same shape."""
    return torch.log(ratios + ERROR_SHARE).float()


def step_features(naive: NaiveForecasters, after: Statistics, history: Tensor) -> Tensor:
    """Return the features of each observation for the recurrent layers.

    Args:
        naive: The naive forecasters.
        after: The statistics before the first observation and after each one, [B, T + 1, ...].
        history: The window and the observations, float64 [B, W + T, D].

    Returns:
        The features, float32 [B, T, D * step_size(naive)].
    """
    values = history[:, naive.window :].unsqueeze(-1)
    before = after.last[:, :-1].unsqueeze(-1)
    after = after.at(slice(None), slice(1, None))
    units = units_of(naive, after)
    seen = ~values.isnan()
    steps = torch.where(seen & ~before.isnan(), values - before, 0.0) / units.scale.unsqueeze(-1)
    errors = log_errors(_recent_ratios(naive, after, units)).clamp(min=LEAST_LOG_ERROR)
    return torch.cat([seen.float(), compress(steps), errors], dim=-1).flatten(2)


def step_size(naive: NaiveForecasters) -> int:
    """Return the number of features of a step for each target."""
    return 2 + naive.judges


def standing_features(naive: NaiveForecasters, statistics: Statistics, units: Units, ratios: Tensor) -> Tensor:
    """Return the features of a series' current state for the head, the same for every step ahead.

    Returns:
        The features, float32 [..., D, standing_size(naive)].
    """
    # The distance from 0 matters only within some deviations.
    zero = (-units.centre / units.scale).clamp(-FARTHEST_ZERO, FARTHEST_ZERO)
    errors = log_errors(ratios).flatten(-2).clamp(min=LEAST_LOG_ERROR)
    features = [errors, compress(zero).unsqueeze(-1), log_count(statistics.count).unsqueeze(-1)]
    if naive.finds:
        features.append(log_count(statistics.periods))
    return torch.cat(features, dim=-1)


def standing_size(naive: NaiveForecasters) -> int:
    """Return the number of `standing_features` for each target."""
    return naive.size * naive.memories + 2 + (naive.slots if naive.finds else 0)


def log_count(count: Tensor) -> Tensor:
    """Return the logarithm of a count, scaled for the learned parts, float32."""
    return torch.log1p(count.clamp(max=LARGEST_COUNT)).float() / 5.0
