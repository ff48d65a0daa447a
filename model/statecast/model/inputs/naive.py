"""Naive forecasters, and the mean absolute error of each one on a session.

Nothing here is learned. Every observation judges every forecaster by its forecast one step before; the head weighs the
forecasters by their errors.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..layers.decayed_sums import decayed_sums, decayed_weights, log_decays, mean_ages
from ..state import Part, State
from .seasonal import DaysAlike, Seasonal, look_up, period_offsets, read_all, read_rows


@dataclass(frozen=True)
class Statistics:
    """The statistics of a series, float64; `...` is the batch, or the batch and time.

    Attributes:
        last: The last observed value, NaN before the first one, [..., D].
        count: The number of observed values, [..., D].
        lowest: The lowest value observed, or 0 if that is lower, [..., D].
        highest: The highest value observed, or 0 if that is higher, [..., D].
        means: Exponential means of the values, one for each half-life, 0 before the first value, [..., D, M].
        carries: Exponentially decaying sums of the residuals of each lag's seasonal mean, one for each carry half-life,
            [..., D, K, R].
        error_counts: How often each forecaster has been judged, [..., D, F].
        errors: Exponentially decaying sums of each forecaster's absolute errors, [..., D, F, E].
    """

    last: Tensor
    count: Tensor
    lowest: Tensor
    highest: Tensor
    means: Tensor
    carries: Tensor
    error_counts: Tensor
    errors: Tensor

    @staticmethod
    def of(state: State) -> "Statistics":
        """Return the statistics in a state, [B, ...]."""
        return Statistics(*(state[field.name] for field in fields(Statistics)))

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """All statistics, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def at(self, *index: Tensor | slice | int | None) -> "Statistics":
        """Index the leading dimensions."""
        return Statistics(*(getattr(self, field.name)[index] for field in fields(self)))

    def flat(self) -> "Statistics":
        """Merge the dimensions of batch and time."""
        return Statistics(*(getattr(self, field.name).flatten(0, 1) for field in fields(self)))


@dataclass(frozen=True)
class Levels:
    """The levels from which the forecasters start, float64.

    Attributes:
        last: The last observed value, [..., D].
        count: The number of observed values, [..., D].
        means: The exponential means, [..., D, M].
        carries: The smoothed residuals of each lag's seasonal mean, [..., D, K, R].
        carried: Whether there is a smoothed residual, bool [..., D, K].
    """

    last: Tensor
    count: Tensor
    means: Tensor
    carries: Tensor
    carried: Tensor


@dataclass(frozen=True)
class Candidates:
    """The forecasts of the naive forecasters, in the data's own units.

    Attributes:
        values: The forecasts, 0 if there is none, float64 [..., D, F].
        known: Whether there is a forecast, bool [..., D, F].
    """

    values: Tensor
    known: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor]:
        """Values and known, in this order."""
        return self.values, self.known

    def piece(self, piece: slice) -> "Candidates":
        """Return a piece of time of [B, T, D, F], as forecasts one step ahead of N sessions, [N, 1, D, F]."""
        return Candidates(*(each[:, piece].flatten(0, 1).unsqueeze(1) for each in (self.values, self.known)))


class NaiveForecasters(nn.Module):
    """The naive forecasters, in order: last value; exponential means; linear trends; then those of the lags.

    A trend is a line through two neighbouring exponential means, placed at their mean ages. The forecasters of the lags
    are the last period; the mean of the last periods; and that mean plus its smoothed residual, for each carry
    half-life. If days are distinguished, periods are those on days of the same kind.
    """

    mean_decay: Tensor
    carry_decay: Tensor
    error_decay: Tensor
    one_step: Tensor
    needed: Tensor
    offsets: Tensor
    reachable: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.targets, self.window = len(config.targets), config.window
        self.means, self.lags = len(config.half_lives), len(config.lags)
        self.carries, self.memories = len(config.carry_half_lives), len(config.error_half_lives)
        self.size = 2 * self.means + self.lags * (2 + self.carries)
        # The level forecasters and each lag's last period: their errors suffice to recognise a series' kind.
        self.judges = 2 * self.means + self.lags
        offsets, reachable = period_offsets(config)
        self.days = DaysAlike(config)
        self.register_buffer("mean_decay", log_decays(config.half_lives), persistent=False)
        self.register_buffer("carry_decay", log_decays(config.carry_half_lives), persistent=False)
        self.register_buffer("error_decay", log_decays(config.error_half_lives), persistent=False)
        self.register_buffer("one_step", torch.ones((), dtype=torch.float64), persistent=False)
        # A trend needs a second value.
        needed = torch.tensor([0.0] * (1 + self.means) + [1.0] * (self.means - 1))
        self.register_buffer("needed", needed, persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("reachable", reachable, persistent=False)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of a session's state that hold its statistics."""
        d, f = self.targets, self.size
        return (
            Part("last", (d,), "float64"),
            Part("count", (d,), "float64"),
            Part("lowest", (d,), "float64"),
            Part("highest", (d,), "float64"),
            Part("means", (d, self.means), "float64"),
            Part("carries", (d, self.lags, self.carries), "float64"),
            Part("error_counts", (d, f), "float64"),
            Part("errors", (d, f, self.memories), "float64"),
        )

    def observe(self, before: Statistics, history: Tensor, times: Tensor | None) -> tuple[Statistics, Candidates]:
        """Update the statistics with observations.

        Args:
            before: The statistics before the first observation, [B, ...].
            history: The window, then the observations, NaN where missing, float64 [B, W + T, D].
            times: The times of the observations, int64 [B, T]; None if the model does not see the calendar.

        Returns:
            The statistics before the first observation and after each one, [B, T + 1, ...]; and the forecasters'
            forecasts of each observation, [B, T, D, F].
        """
        values = history[:, self.window :]
        seen = ~values.isnan()
        last = _carried_forward(before.last, values, seen)
        count = _counted(before.count, seen)
        zeroed = values.nan_to_num()
        lowest, highest = _extremes(before.lowest, before.highest, zeroed)
        means = self._mean(before, zeroed, seen, count.unsqueeze(-1))
        if self.lags:
            periods = read_all(history, self._positions(history))
            seasonal = look_up(periods, self.reachable[0], self.days.of_steps(times, 0))
        else:
            seasonal = Seasonal.none(values)
        carries, carry_counts = self._carry(before, values, seasonal)
        past = slice(None), slice(0, -1)
        levels = self._levels(last[past], count[past], means[past], carries[past], carry_counts[past])
        said = self.candidates(levels, seasonal, self.one_step)
        errors, error_counts = self._judge(before, values, said)
        return Statistics(last, count, lowest, highest, means, carries, error_counts, errors), said

    def _mean(self, before: Statistics, values: Tensor, seen: Tensor, count: Tensor) -> Tensor:
        """Return the exponential means, [B, T + 1, D, M].

        The means are computed as distances from their previous values. So a constant series leaves them exactly
        unchanged, for any split of the observations.
        """
        if values.shape[1] == 1:
            first = values.movedim(1, 2)
        else:
            first = values.gather(1, seen.to(torch.uint8).argmax(1, keepdim=True)).movedim(1, 2)
        start = torch.where((before.count > 0).unsqueeze(-1), before.means, first)
        distances = torch.where(seen.unsqueeze(-1), values.unsqueeze(-1) - start.unsqueeze(1), 0.0)
        moved = decayed_sums(torch.zeros_like(start), distances, count, self.mean_decay)
        means = start.unsqueeze(1) + moved / decayed_weights(count, self.mean_decay)
        return torch.where(count > 0, means, 0.0)

    def _carry(self, before: Statistics, values: Tensor, seasonal: Seasonal) -> tuple[Tensor, Tensor]:
        """Smooth the residuals of the seasonal means; return sums [B, T + 1, D, K, R] and counts [B, T + 1, D, K]."""
        if not self.lags:
            nothing = before.carries.unsqueeze(1).expand(-1, values.shape[1] + 1, -1, -1, -1)
            return nothing, nothing[..., 0]
        values = values.unsqueeze(-1)
        judged = seasonal.known & ~values.isnan()
        residuals = torch.where(judged, values - seasonal.mean, 0.0)
        counts = _counted(self._carry_counts(before), judged)
        terms = _repeat(residuals, self.carries)
        return decayed_sums(before.carries, terms, counts.unsqueeze(-1), self.carry_decay), counts

    def _judge(self, before: Statistics, values: Tensor, standing: Candidates) -> tuple[Tensor, Tensor]:
        """Judge the forecasts of each value; return sums [B, T + 1, D, F, E] and counts [B, T + 1, D, F]."""
        values = values.unsqueeze(-1)
        judged = standing.known & ~values.isnan()
        misses = torch.where(judged, values - standing.values, 0.0).abs()
        counts = _counted(before.error_counts, judged)
        terms = _repeat(misses, self.memories)
        return decayed_sums(before.errors, terms, counts.unsqueeze(-1), self.error_decay), counts

    def _carry_counts(self, statistics: Statistics) -> Tensor:
        """Return how often each lag's seasonal mean has been judged, [..., D, K]."""
        start = 2 * self.means + self.lags
        return statistics.error_counts[..., start : start + self.lags]

    def _levels(self, last: Tensor, count: Tensor, means: Tensor, carries: Tensor, carry_counts: Tensor) -> Levels:
        if self.lags:
            carries = carries / decayed_weights(carry_counts.unsqueeze(-1), self.carry_decay)
        return Levels(last.nan_to_num(), count, means, carries, carry_counts > 0)

    def levels(self, statistics: Statistics) -> Levels:
        """Return the levels of the forecasters for statistics of shape [...]."""
        return self._levels(
            statistics.last, statistics.count, statistics.means, statistics.carries, self._carry_counts(statistics)
        )

    def normaliser(self, statistics: Statistics) -> tuple[Tensor, Tensor, Tensor]:
        """Return the slowest exponential mean, its mean absolute error, and its number of judgements, each [..., D]."""
        count = statistics.error_counts[..., self.means]
        deviation = statistics.errors[..., self.means, -1] / decayed_weights(count, self.error_decay[-1])
        return statistics.means[..., -1], deviation, count

    def candidates(self, levels: Levels, seasonal: Seasonal, steps: Tensor) -> Candidates:
        """Return the forecasts of all forecasters.

        Args:
            levels: The levels of the forecasters, [..., D].
            seasonal: The past periods of the steps to forecast, [..., D, K].
            steps: How many steps ahead to forecast, broadcastable to [..., D].

        Returns:
            The forecasts, [..., D, F].
        """
        lead = seasonal.mean.shape[:-1]
        count = levels.count.unsqueeze(-1)
        values = [
            levels.last.unsqueeze(-1).expand(*lead, 1),
            levels.means.expand(*lead, self.means),
            self._trends(levels, steps).expand(*lead, self.means - 1),
        ]
        known = [(count > self.needed).expand(*lead, 2 * self.means)]
        if self.lags:
            carried = (seasonal.mean.unsqueeze(-1) + levels.carries).transpose(-1, -2).flatten(-2)
            values += [seasonal.single, seasonal.mean, carried]
            known += [seasonal.known, seasonal.known, *[seasonal.known & levels.carried] * self.carries]
        return Candidates(torch.cat(values, dim=-1), torch.cat(known, dim=-1))

    def _trends(self, levels: Levels, steps: Tensor) -> Tensor:
        """Return the forecasts of lines through each pair of neighbouring means, [..., D, M - 1]."""
        ages = mean_ages(levels.count.unsqueeze(-1).clamp(min=2), self.mean_decay)
        slopes = (levels.means[..., :-1] - levels.means[..., 1:]) / (ages[..., 1:] - ages[..., :-1])
        return levels.means[..., :-1] + slopes * (ages[..., :-1] + steps.unsqueeze(-1))

    def ahead(
        self,
        statistics: Statistics,
        history: Tensor,
        rows: Tensor,
        ends: Tensor,
        steps: Tensor,
        times: Tensor | None,
    ) -> Candidates:
        """Forecast chosen steps ahead.

        Args:
            statistics: The statistics of N series, [N, ...].
            history: Raw values of B series, float64 [B, S, D].
            rows: The row of `history` of each of the N series, int64 [N].
            ends: How many values of that row lie before the next step, int64 [N].
            steps: The steps ahead, from 1, int64 [N, S].
            times: The times of those steps, int64 [N, S]; None if the model does not see the calendar.

        Returns:
            The forecasts, [N, S, D, F].
        """
        if self.lags:
            chosen = steps - 1
            positions = ends.view(-1, 1, 1, 1) + self.offsets[chosen]
            periods = read_rows(history, rows, positions)
            seasonal = look_up(periods, self.reachable[chosen].unsqueeze(2), self.days.of_steps(times, chosen))
        else:
            seasonal = Seasonal.none(history.new_empty(*steps.shape, self.targets))
        levels = self.levels(statistics.at(slice(None), None))
        return self.candidates(levels, seasonal, steps.double().unsqueeze(-1))

    def periods_before_next(self, history: Tensor, times: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the last period before the step after each observation: values, 0 if missing, and known, [B, T, D, K].

        That is one period before; or, if days are distinguished, the last period on a day of the same kind.
        """
        if not self.lags:
            nothing = Seasonal.none(history[:, self.window :])
            return nothing.single, nothing.known
        alike = self.days.after(times)
        positions = self._positions(history) + 1
        reach = 1 if alike is None else positions.shape[2]
        seasonal = look_up(read_all(history, positions[..., :reach]), self.reachable[0, :, :reach], alike)
        return seasonal.single, seasonal.known

    def _positions(self, history: Tensor) -> Tensor:
        """Return the positions of each observation's past periods in `history`, int64 [T, K, multiples]."""
        steps = torch.arange(self.window, history.shape[1], device=history.device)
        return steps.view(-1, 1, 1) + self.offsets[:1]


def _repeat(values: Tensor, times: int) -> Tensor:
    return values.unsqueeze(-1).expand(*values.shape, times)


def _counted(before: Tensor, seen: Tensor) -> Tensor:
    """Add the running counts of `seen` [B, T, ...] to `before` [B, ...]; return [B, T + 1, ...]."""
    first = before.unsqueeze(1)
    return torch.cat([first, first + (seen if seen.shape[1] == 1 else seen.cumsum(1))], dim=1)


def _extremes(lowest: Tensor, highest: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest value so far, from those before [B, D] and values [B, T, D]; both [B, T + 1, D]."""
    lowest, highest = lowest.unsqueeze(1), highest.unsqueeze(1)
    if values.shape[1] == 1:
        return torch.cat([lowest, lowest.minimum(values)], 1), torch.cat([highest, highest.maximum(values)], 1)
    return torch.cat([lowest, values], 1).cummin(1).values, torch.cat([highest, values], 1).cummax(1).values


def _carried_forward(before: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """Return the last observed value before the first step and after each one, [B, T + 1, D]."""
    first = before.unsqueeze(1)
    if values.shape[1] == 1:
        return torch.cat([first, torch.where(seen, values, first)], dim=1)
    series = torch.cat([first, values], dim=1)
    steps = torch.arange(1, series.shape[1], device=values.device).view(1, -1, 1)
    latest = torch.where(seen, steps, 0).cummax(dim=1).values
    return torch.cat([first, series.gather(1, latest)], dim=1)
