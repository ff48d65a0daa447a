"""Naive forecasters, and the mean absolute error that each one makes on a session.

Nothing here is learned. Every forecaster is judged on every observation by the forecast that it
would have made one step before; the head weighs them by how well each has done.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from .config import ModelConfig
from .scan import decayed_sums, decayed_weights, log_decays, mean_ages
from .state import Part


@dataclass(frozen=True)
class Statistics:
    """What is kept of a series, float64; `...` is the batch, or the batch and time.

    Attributes:
        last: The last observed value, NaN before the first one, [..., D].
        count: How many values have been observed, [..., D].
        sums: Exponentially forgetting sums of the values, one for each half-life, [..., D, M].
        carries: Exponentially forgetting sums of the residuals of each lag's seasonal mean, one
            for each carry half-life, [..., D, K, R].
        error_counts: How often each forecaster has been judged, [..., D, F].
        errors: Exponentially forgetting sums of its absolute errors, [..., D, F, E].
    """

    last: Tensor
    count: Tensor
    sums: Tensor
    carries: Tensor
    error_counts: Tensor
    errors: Tensor

    def at(self, *index: Tensor | slice | None) -> "Statistics":
        """Picks from the leading dimensions."""
        return Statistics(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True)
class Seasonal:
    """What each lag's past periods say, float64, 0 where they were all missing.

    Attributes:
        single: The value of the most recent period that was observed, [..., D, K].
        mean: The mean of the last periods, [..., D, K].
        known: Whether any of them was observed, bool [..., D, K].
    """

    single: Tensor
    mean: Tensor
    known: Tensor


@dataclass(frozen=True)
class Candidates:
    """What each forecaster says, in the data's own units.

    Attributes:
        values: The forecasts, 0 where there is none, float64 [..., D, F].
        known: Whether there is one, bool [..., D, F].
    """

    values: Tensor
    known: Tensor


class NaiveForecasters(nn.Module):
    """The forecasters, in order: last value; exponential means; linear trends; then for each lag.

    A trend is drawn through two neighbouring exponential means, whose mean ages are known. For the
    lags: the last period; the mean of the last periods; and that mean plus its own smoothed
    residual, for each carry half-life.
    """

    mean_decay: Tensor
    carry_decay: Tensor
    error_decay: Tensor
    offsets: Tensor
    reachable: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.targets, self.window = len(config.targets), config.window
        self.means, self.lags = len(config.half_lives), len(config.lags)
        self.carries, self.memories = len(config.carry_half_lives), len(config.error_half_lives)
        self.size = 2 * self.means + self.lags * (2 + self.carries)
        # The level forecasters and each lag's last period: enough to tell a series' kind.
        self.judges = 2 * self.means + self.lags
        offsets, reachable = _offsets(config)
        self.register_buffer("mean_decay", log_decays(config.half_lives), persistent=False)
        self.register_buffer("carry_decay", log_decays(config.carry_half_lives), persistent=False)
        self.register_buffer("error_decay", log_decays(config.error_half_lives), persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("reachable", reachable, persistent=False)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of a session's state that hold its statistics."""
        d, f = self.targets, self.size
        return (
            Part("last", (d,), "float64"),
            Part("count", (d,), "float64"),
            Part("sums", (d, self.means), "float64"),
            Part("carries", (d, self.lags, self.carries), "float64"),
            Part("error_counts", (d, f), "float64"),
            Part("errors", (d, f, self.memories), "float64"),
        )

    def observe(self, before: Statistics, history: Tensor) -> Statistics:
        """Takes observations in.

        Args:
            before: The statistics before the first one, [B, ...].
            history: The window before them, then the observations, NaN where missing, float64
                [B, W + T, D].

        Returns:
            The statistics before the first observation and after each one, [B, T + 1, ...].
        """
        values = history[:, self.window :]
        seen = ~values.isnan()
        seasonal = self._seasonal_of_past(history)
        after = self._sums(before, values, seen, seasonal)
        standing = self.candidates(after.at(slice(None), slice(0, -1)), seasonal, values.new_ones(()))
        judged = standing.known & seen.unsqueeze(-1)
        counts = _counted(before.error_counts, judged)
        misses = torch.where(judged, values.unsqueeze(-1) - standing.values, 0.0).abs()
        errors = decayed_sums(before.errors, _repeat(misses, self.memories), counts.unsqueeze(-1), self.error_decay)
        return Statistics(after.last, after.count, after.sums, after.carries, counts, errors)

    def _sums(self, before: Statistics, values: Tensor, seen: Tensor, seasonal: Seasonal) -> Statistics:
        """Does all of `observe` but judge the forecasters; their counts of carries are right."""
        last = _carried_forward(before.last, values, seen)
        count = _counted(before.count, seen)
        sums = decayed_sums(before.sums, _repeat(values.nan_to_num(), self.means), count.unsqueeze(-1), self.mean_decay)
        judged = seasonal.known & seen.unsqueeze(-1)
        residuals = torch.where(judged, values.unsqueeze(-1) - seasonal.mean, 0.0)
        counts = _counted(self.seasonal_counts(before), judged)
        carries = decayed_sums(before.carries, _repeat(residuals, self.carries), counts.unsqueeze(-1), self.carry_decay)
        blank = counts.new_zeros(*counts.shape[:3], self.size - self.lags)
        # Only the place that `seasonal_counts` reads is filled in.
        start = 2 * self.means + self.lags
        error_counts = torch.cat([blank[..., :start], counts, blank[..., start:]], dim=-1)
        return Statistics(last, count, sums, carries, error_counts, before.errors.unsqueeze(1))

    def seasonal_counts(self, statistics: Statistics) -> Tensor:
        """How often each lag's seasonal mean has been judged, [..., D, K]."""
        start = 2 * self.means + self.lags
        return statistics.error_counts[..., start : start + self.lags]

    def mean_values(self, statistics: Statistics) -> Tensor:
        """The exponential means, 0 before the first value, [..., D, M]."""
        count = statistics.count.unsqueeze(-1)
        return statistics.sums / decayed_weights(count.clamp(min=1), self.mean_decay)

    def mean_errors(self, statistics: Statistics) -> Tensor:
        """Each forecaster's mean absolute error, 0 before it is judged, [..., D, F, E]."""
        count = statistics.error_counts.unsqueeze(-1)
        return statistics.errors / decayed_weights(count.clamp(min=1), self.error_decay)

    def candidates(self, statistics: Statistics, seasonal: Seasonal, steps: Tensor) -> Candidates:
        """Lets each forecaster speak.

        Args:
            statistics: What is known, [..., D].
            seasonal: The past periods of the steps to forecast, [..., D, K].
            steps: How many steps ahead those are, broadcastable to [..., 1].

        Returns:
            The forecasts, [..., D, F].
        """
        count = statistics.count.unsqueeze(-1)
        means = self.mean_values(statistics)
        ages = mean_ages(count.clamp(min=2), self.mean_decay)
        slopes = (means[..., :-1] - means[..., 1:]) / (ages[..., 1:] - ages[..., :-1])
        trends = means[..., :-1] + slopes * (ages[..., :-1] + steps.unsqueeze(-1))
        counts = self.seasonal_counts(statistics).unsqueeze(-1)
        carried = seasonal.mean.unsqueeze(-1) + statistics.carries / decayed_weights(
            counts.clamp(min=1), self.carry_decay
        )
        carry_known = seasonal.known & (counts.squeeze(-1) > 0)
        lead = seasonal.mean.shape[:-1]
        values = torch.cat(
            [
                statistics.last.nan_to_num().unsqueeze(-1).expand(*lead, 1),
                means.expand(*lead, self.means),
                trends.expand(*lead, self.means - 1),
                seasonal.single,
                seasonal.mean,
                carried.transpose(-1, -2).flatten(-2),
            ],
            dim=-1,
        )
        known = torch.cat(
            [
                (count > 0).expand(*lead, 1 + self.means),
                (count > 1).expand(*lead, self.means - 1),
                seasonal.known,
                seasonal.known,
                *[carry_known] * self.carries,
            ],
            dim=-1,
        )
        return Candidates(torch.where(known, values, 0.0), known)

    def ahead(self, statistics: Statistics, window: Tensor, steps: Tensor) -> Candidates:
        """Forecasts some steps ahead.

        Args:
            statistics: What is known, [N, ...].
            window: The last raw values, float64 [N, W, D].
            steps: Which steps ahead, from 1, int64 [S].

        Returns:
            The forecasts, [N, S, D, F].
        """
        positions = self.window + self.offsets[steps - 1]
        seasonal = _look_up(window, positions, self.reachable[steps - 1])
        return self.candidates(statistics.at(slice(None), None), seasonal, steps.double().view(1, -1, 1))

    def periods_before_next(self, history: Tensor) -> Seasonal:
        """Looks up, after each observation, the latest period of the next, [B, T, D, K]."""
        steps = torch.arange(self.window + 1, history.shape[1] + 1, device=history.device)
        positions = steps.view(-1, 1, 1) + self.offsets[:1, :, :1]
        return _look_up(history, positions, self.reachable[:1, :, :1].expand_as(positions))

    def _seasonal_of_past(self, history: Tensor) -> Seasonal:
        """Looks up the past periods of each observation, [B, T, D, K]."""
        steps = torch.arange(self.window, history.shape[1], device=history.device)
        positions = steps.view(-1, 1, 1) + self.offsets[:1]
        return _look_up(history, positions, self.reachable[:1].expand_as(positions))


def _offsets(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Where the past periods of each step ahead lie, counted from the next step.

    Returns:
        Negative offsets, int64 [horizon, K, multiples], and whether they lie inside the window,
        bool of the same shape. Those that do not are clipped to the last value.
    """
    ahead = torch.arange(config.horizon).view(-1, 1, 1)
    lags = torch.tensor(config.lags, dtype=torch.int64).view(1, -1, 1)
    # ceil((ahead + 1) / lag) periods back is the most recent one that lies in the past.
    periods = torch.div(ahead, lags.clamp(min=1), rounding_mode="floor") + 1
    offsets = ahead - (periods + torch.arange(config.multiples).view(1, 1, -1)) * lags
    reachable = offsets >= -config.window
    return torch.where(reachable, offsets, -1), reachable


def _look_up(history: Tensor, positions: Tensor, reachable: Tensor) -> Seasonal:
    """Reads history [B, S, D] at positions [T, K, multiples]; gives [B, T, D, K]."""
    periods = history.index_select(1, positions.flatten())
    periods = periods.view(len(history), *positions.shape, history.shape[2]).movedim(-1, 2)
    observed = ~periods.isnan() & reachable.unsqueeze(1)
    values = torch.where(observed, periods, 0.0)
    counts = observed.sum(-1)
    known = counts > 0
    # The first period that was observed; argmax gives the first of equal ones.
    first = observed.to(torch.uint8).argmax(-1, keepdim=True)
    return Seasonal(values.gather(-1, first).squeeze(-1), values.sum(-1) / counts.clamp(min=1), known)


def _repeat(values: Tensor, times: int) -> Tensor:
    return values.unsqueeze(-1).expand(*values.shape, times)


def _counted(before: Tensor, seen: Tensor) -> Tensor:
    """Counts on from `before` [B, ...] over seen [B, T, ...]; gives [B, T + 1, ...]."""
    first = before.unsqueeze(1)
    return torch.cat([first, first + seen.to(torch.float64).cumsum(1)], dim=1)


def _carried_forward(before: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """The last observed value before the first step and after each one, [B, T + 1, D]."""
    series = torch.cat([before.unsqueeze(1), values], dim=1)
    steps = torch.arange(1, series.shape[1], device=values.device).view(1, -1, 1)
    latest = torch.where(seen, steps, 0).cummax(dim=1).values
    return torch.cat([before.unsqueeze(1), series.gather(1, latest)], dim=1)
