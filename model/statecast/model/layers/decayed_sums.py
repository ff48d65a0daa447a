"""Exponentially decaying sums over time, without a Python step per observation."""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

# Long enough to amortise the Python step, short enough that 2 ** (CHUNK_STEPS / half-life) stays far inside float64
# for half-lives down to half a step.
CHUNK_STEPS = 64


def log_decays(half_lives: Sequence[float]) -> Tensor:
    """Return the logarithms of the factors per step that halve a sum after `half_lives` steps; float64 [K]."""
    return torch.tensor([-log(2.0) / half_life for half_life in half_lives], dtype=torch.float64)


def decayed_sums(initial: Tensor, terms: Tensor, counts: Tensor, log_decay: Tensor) -> Tensor:
    """Compute y[t] = decay ** (counts[t + 1] - counts[t]) * y[t - 1] + terms[t] from y[-1] = initial.

    A step that does not count must have the term 0, which leaves the sum unchanged.

    Args:
        initial: The sums before the first step, float64 [B, ...].
        terms: The term that each step adds, float64 [B, T, ...].
        counts: How many steps have counted before each step and at the end, float64 [B, T + 1, ...], broadcastable to
            the terms.
        log_decay: Logarithm of the decay of each sum, broadcastable to the last dimensions.

    Returns:
        The sums before the first step and after each one, float64 [B, T + 1, ...].
    """
    if terms.shape[1] == 1:
        kept = torch.exp((counts[:, 1] - counts[:, 0]) * log_decay)
        return torch.stack([initial, torch.addcmul(terms[:, 0], kept, initial)], dim=1)
    pieces = [initial.unsqueeze(1)]
    for start in range(0, terms.shape[1], CHUNK_STEPS):
        stop = min(start + CHUNK_STEPS, terms.shape[1])
        kept = torch.exp((counts[:, start + 1 : stop + 1] - counts[:, start : start + 1]) * log_decay)
        grown = torch.cumsum(terms[:, start:stop] / kept, dim=1)
        pieces.append(kept * (pieces[-1][:, -1:] + grown))
    return torch.cat(pieces, dim=1)


def decayed_weights(counts: Tensor, log_decay: Tensor) -> Tensor:
    """Return the sum of the weights of `counts` steps, 1 + decay + decay ** 2 + ...; 1 for no steps."""
    return torch.expm1(counts.clamp(min=1) * log_decay) / torch.expm1(log_decay)


def mean_ages(counts: Tensor, log_decay: Tensor) -> Tensor:
    """Return the weighted mean age, in steps, of `counts` >= 1 steps."""
    decay = torch.exp(log_decay)
    oldest = torch.exp(counts * log_decay)
    return decay / (1 - decay) + counts * oldest / torch.expm1(counts * log_decay)
