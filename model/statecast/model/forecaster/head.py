"""The head: it forecasts every quantile of every step ahead at once, from a series' current state."""

from itertools import pairwise
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import ModelConfig
from ..inputs.features import Units, compress, error_ratios, log_errors, standing_features, standing_size, units_of
from ..inputs.naive import NaiveForecasters, Statistics
from .context import Context

# The standard deviation of a normal distribution with a mean absolute error of 1.
DEVIATIONS_PER_ERROR = 1.2533
LARGEST_LOG_WIDTH = 8.0
LARGEST_SHIFT = 30.0
LEAST_LOG_WEIGHT = -60.0
# What is smaller counts as 0 once the head is trained, so that a series can be left to one forecaster alone: a weight,
# in relation to the largest one, and a shift, in units of the expected error. Larger ones are as much smaller.
NEGLIGIBLE = 0.02
# The logarithm of how much more, or less, than usual the head trusts in errors.
LARGEST_LOG_TRUST = 3.0
SMALLEST_UNIT = 1e-9
# Quantiles are at least as far apart as in a normal distribution whose mean absolute error is this share of the series'
# scale, plus the resolution of float32. Smaller errors occur neither in training nor in data.
NARROWEST_SHARE = 3e-5
FLOAT32_RESOLUTION = 2.0**-23
LARGEST_FLOAT32 = 3.4e38


class QuantileHead(nn.Module):
    """The quantile head: it weighs the naive forecasts of each step, shifts them, and spreads quantiles around them.

    The result is linear in the data's own units, so it follows a series to any level. The widths between neighbouring
    quantiles are positive, so quantiles never cross. Forecasts are never negative for a series without negative values,
    and never positive for one without positive values.
    """

    widths: Tensor
    places: Tensor
    dropout = 0.0
    """Share of hidden units that training leaves out."""

    def __init__(self, config: ModelConfig, naive: NaiveForecasters, known_size: int, static_size: int) -> None:
        super().__init__()
        size, levels = config.head_size, config.quantile_levels
        self.targets, self.size = len(config.targets), size
        self.anchor = min(range(len(levels)), key=lambda i: abs(levels[i] - 0.5))
        self.memory = nn.Linear(config.hidden_size, self.targets * size)
        self.standing = nn.Linear(standing_size(naive), size)
        self.ahead = nn.Linear(naive.size, size)
        # Absent inputs have no weights.
        self.known = nn.Linear(known_size, size, bias=False) if known_size else None
        self.static = nn.Linear(static_size, size, bias=False) if static_size else None
        knots = knots_of(config.horizon)
        self.steps = nn.Parameter(torch.randn(len(knots), size) * 0.1)
        self.mix = nn.Linear(size, size)
        self.emit = nn.Linear(size, naive.size + 1 + len(levels))
        self.trust = nn.Parameter(torch.tensor(3.0))
        # Before training, the head weighs the naive forecasters only by their errors.
        nn.init.zeros_(self.emit.weight)
        nn.init.zeros_(self.emit.bias)
        places = [NormalDist().inv_cdf(level) * DEVIATIONS_PER_ERROR for level in levels]
        widths = [high - low for low, high in pairwise(places)]
        self.register_buffer("widths", torch.tensor(widths), persistent=False)
        self.register_buffer("places", _places(knots), persistent=False)

    def forward(
        self,
        naive: NaiveForecasters,
        context: Context,
        steps: Tensor,
        times: Tensor | None,
        known: Tensor,
        static: Tensor,
        *,
        same_steps: bool = False,
    ) -> Tensor:
        """Forecast chosen steps of N sessions.

        Args:
            naive: The naive forecasters.
            context: N sessions.
            steps: The steps ahead, from 1, int64 [N, S].
            times: The times of those steps, int64 [N, S]; None if the model does not see the calendar.
            known: The known inputs of those steps, float32 [N, S, K].
            static: The known inputs of the sessions, float32 [N, C].
            same_steps: Whether the steps are the same for all sessions.

        Returns:
            The quantiles, float64 [N, S, Q, D]; NaN for a target without values so far.
        """
        statistics = context.statistics
        units = units_of(naive, statistics)
        ratios = error_ratios(naive, statistics, units)
        candidates = context.said
        if candidates is None:
            candidates = naive.ahead(statistics, context.history, context.rows, context.ends, steps, times)
        offsets = torch.where(candidates.known, candidates.values - units.centre[:, None, :, None], 0.0)
        series = self._series(context.output, standing_features(naive, statistics, units, ratios), static)
        ahead = compress(offsets / units.scale[:, None, :, None])
        emitted = self._emit(series, ahead, steps[:1] if same_steps else steps, known)
        errors = log_errors(ratios).mean(-1).movedim(-1, 0).unsqueeze(2)
        quantiles = self._quantiles(
            emitted,
            offsets.movedim(-1, 0).contiguous(),
            candidates.known.movedim(-1, 0).contiguous(),
            errors,
            Units(units.centre.unsqueeze(1), units.scale.unsqueeze(1)),
        )
        return within_reach(quantiles.movedim(0, 2), statistics)

    def _series(self, output: Tensor, standing: Tensor, static: Tensor) -> Tensor:
        """Return the part of the hidden layer that is the same for every step ahead, [N, D, size]."""
        series: Tensor = self.memory(output).unflatten(1, (self.targets, self.size)) + self.standing(standing)
        if self.static is not None:
            series = series + self.static(static).unsqueeze(1)
        return series

    def of_steps(self, steps: Tensor) -> Tensor:
        """Return what each step ahead, from 1, contributes to the hidden layer, float32 [..., size]; steps: int64."""
        place = self.places[steps - 1]
        below = place.floor().long().clamp(max=max(0, len(self.steps) - 2))
        above = (below + 1).clamp(max=len(self.steps) - 1)
        share = (place - below).unsqueeze(-1)
        return torch.lerp(self.steps[below], self.steps[above], share)

    def _emit(self, series: Tensor, ahead: Tensor, steps: Tensor, known: Tensor) -> Tensor:
        """Run the learned layers; return [F + 1 + Q, N, S, D], the layout that suits all later operations."""
        by_step = self.of_steps(steps)
        if self.known is not None:
            of_known = self.known(known)
            of_known += by_step
            by_step = of_known
        in_place = not torch.is_grad_enabled()
        hidden = self.ahead(ahead)
        hidden += series.unsqueeze(1)
        hidden += by_step.unsqueeze(2)
        hidden = functional.dropout(functional.silu(hidden, in_place), self.dropout, self.training)
        hidden = functional.dropout(functional.silu(self.mix(hidden), in_place), self.dropout, self.training)
        emitted = torch.addmm(self.emit.bias.unsqueeze(1), self.emit.weight, hidden.view(-1, self.size).t())
        return emitted.view(emitted.shape[0], *hidden.shape[:-1])

    def _quantiles(self, emitted: Tensor, offsets: Tensor, known: Tensor, errors: Tensor, units: Units) -> Tensor:
        """Combine the naive forecasts into quantiles, float64 [Q, N, S, D].

        Args:
            emitted: The output of the learned layers, [F + 1 + Q, N, S, D].
            offsets: The distance of each forecaster's forecast from the series' centre, float64 [F, N, S, D].
            known: Whether the forecaster has a forecast, bool [F, N, S, D].
            errors: The logarithms of the forecasters' errors, [F, N, 1, D].
            units: The units of the series, [N, 1, D].
        """
        count = offsets.shape[0]
        trust = self.trust * torch.exp(emitted[count].clamp(-LARGEST_LOG_TRUST, LARGEST_LOG_TRUST))
        logits = (emitted[:count] - trust * errors).masked_fill(~known, -1e9)
        # Faster than `softmax` for so few weights; the limit avoids slow exponentials below the smallest float32.
        weights = torch.exp((logits - logits.detach().amax(0)).clamp(min=LEAST_LOG_WEIGHT)).double()
        shift = emitted[count + 1].clamp(-LARGEST_SHIFT, LARGEST_SHIFT)
        gates = weights / weights.sum(0)
        # `errors` is a geometric mean over the memories, because the longest recovers slowly from an extreme value.
        unit = ((gates * torch.exp(errors.double())).sum(0) + SMALLEST_UNIT) * units.scale
        if not self.training:  # where nothing may be without a gradient
            kept = (weights - NEGLIGIBLE).clamp(min=0.0)
            gates, shift = kept / kept.sum(0), functional.softshrink(shift, NEGLIGIBLE)
        centre = (gates * offsets).sum(0) + shift * unit + units.centre
        logs = emitted[count + 2 :].clamp(-LARGEST_LOG_WIDTH, LARGEST_LOG_WIDTH)
        narrowest = NARROWEST_SHARE * units.scale + FLOAT32_RESOLUTION * units.centre.abs()
        widths = torch.maximum(torch.exp(logs) * unit, narrowest) * self.widths.view(-1, 1, 1, 1)
        below, above = widths[: self.anchor], widths[self.anchor :]
        down = -below.flip(0).cumsum(0).flip(0)
        return centre + torch.cat([down, torch.zeros_like(centre).unsqueeze(0), above.cumsum(0)])


def knots_of(horizon: int) -> list[int]:
    """Return the steps ahead of which the head learns what each contributes; those between are interpolated."""
    powers = (2**power * half // 2 for power in range(horizon.bit_length()) for half in (2, 3))
    return sorted({1, horizon, *(step for step in powers if step < horizon)})


def _places(knots: list[int]) -> Tensor:
    """Return the position of each step ahead among the knots, on a logarithmic scale, float32 [horizon]."""
    steps = np.log(np.arange(1, knots[-1] + 1))
    return torch.from_numpy(np.interp(steps, np.log(knots), np.arange(len(knots)))).float()


def within_reach(quantiles: Tensor, statistics: Statistics) -> Tensor:
    """Limit quantiles [..., S, Q, D] to the side of 0 on which all values of the series [..., D] were.

    They are NaN for a target without values so far.
    """
    highest = torch.where(statistics.highest == 0, 0.0, LARGEST_FLOAT32)[..., None, None, :]
    lowest = torch.where(statistics.lowest == 0, 0.0, -LARGEST_FLOAT32)[..., None, None, :]
    known = (statistics.count > 0)[..., None, None, :]
    return quantiles.clamp(lowest, highest).masked_fill(~known, torch.nan)
