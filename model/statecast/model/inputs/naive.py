"""Naive forecasters, and the mean absolute error of each one on a session.

Nothing here is learned. Every observation judges every forecaster by its forecast one step before; the head weighs the
forecasters by their errors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..layers.decayed_sums import decayed_sums, decayed_weights, log_decays, mean_ages
from ..state import Part, State
from .periods import LONGEST_SHARE, find_periods, is_due
from .seasonal import DaysAlike, Places, Seasonal, look_up


@dataclass(frozen=True)
class Statistics:
    """The statistics of a series, float64 but for the periods; `...` is the batch, or the batch and time.

    Attributes:
        last: The last observed value, NaN before the first one, [..., D].
        count: The number of observed values, [..., D].
        lowest: The lowest value observed, or 0 if that is lower, [..., D].
        highest: The highest value observed, or 0 if that is higher, [..., D].
        means: Exponential means of the values, one for each half-life, 0 before the first value, [..., D, M].
        periods: The periods in steps, ascending, 0 for none, int64 [..., D, K].
        carries: Exponentially decaying sums of the residuals of each period's seasonal mean, one for each carry
            half-life, [..., D, K, R].
        error_counts: How often each forecaster has been judged, [..., D, F].
        errors: Exponentially decaying sums of each forecaster's absolute errors, [..., D, F, E].
    """

    last: Tensor
    count: Tensor
    lowest: Tensor
    highest: Tensor
    means: Tensor
    periods: Tensor
    carries: Tensor
    error_counts: Tensor
    errors: Tensor

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
        carries: The smoothed residuals of each period's seasonal mean, [..., D, K, R].
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
    """The naive forecasters, in order: last value; exponential means; linear trends; then those of the periods.

    A trend is a line through two neighbouring exponential means, placed at their mean ages. The forecasters of the
    periods are the last period; the mean of the last periods; that mean plus its smoothed residual, for each carry
    half-life; and for each two neighbouring periods the mean of the longer one plus the deviation of the last shorter
    one from it. If days are distinguished, periods are those on days of the same kind.

    Periods are the lags of the configuration, or each session finds its own.
    """

    mean_decay: Tensor
    carry_decay: Tensor
    error_decay: Tensor
    next_step: Tensor
    needed: Tensor
    lags: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.targets, self.window, self.multiples = len(config.targets), config.window, config.multiples
        self.means, self.slots = len(config.half_lives), len(config.lags) or config.periods
        self.finds, self.crosses = config.periods > 0, max(0, self.slots - 1)
        self.carries, self.memories = len(config.carry_half_lives), len(config.error_half_lives)
        self.size = 2 * self.means + self.slots * (2 + self.carries) + self.crosses
        # The level forecasters and the last period of each slot: their errors suffice to recognise a series' kind.
        self.judges = 2 * self.means + self.slots
        self.days = DaysAlike(config)
        self.register_buffer("mean_decay", log_decays(config.half_lives), persistent=False)
        self.register_buffer("carry_decay", log_decays(config.carry_half_lives), persistent=False)
        self.register_buffer("error_decay", log_decays(config.error_half_lives), persistent=False)
        self.register_buffer("next_step", torch.zeros((), dtype=torch.int64), persistent=False)
        # A trend needs a second value.
        needed = torch.tensor([0.0] * (1 + self.means) + [1.0] * (self.means - 1))
        self.register_buffer("needed", needed, persistent=False)
        self.register_buffer("lags", torch.tensor(config.lags, dtype=torch.int64), persistent=False)

    @property
    def parts(self) -> Iterator[Part]:
        """The parts of a session's state that hold its statistics."""
        d, f = self.targets, self.size
        for name in ("last", "count", "lowest", "highest"):
            yield Part(name, (d,), "float64")
        yield Part("means", (d, self.means), "float64")
        if self.finds:
            yield Part("periods", (d, self.slots), "int64", most=int(LONGEST_SHARE * self.window))
        yield Part("carries", (d, self.slots, self.carries), "float64")
        yield Part("error_counts", (d, f), "float64")
        yield Part("errors", (d, f, self.memories), "float64")

    def statistics(self, state: State) -> Statistics:
        """Return the statistics in a state, [B, ...]."""
        own = {field.name: state[field.name] for field in fields(Statistics) if field.name in state}
        if not self.finds:
            own["periods"] = self.lags.expand(state.batch_size, self.targets, -1)
        return Statistics(**own)

    def periods(self, current: Tensor, history: Tensor, taken: Tensor) -> Tensor:
        """Return the periods after 0 to T observations of sessions that look for periods now and then.

        Args:
            current: The periods before the first observation, int64 [B, D, K].
            history: The window, then the observations, NaN where missing, float64 [B, W + T, D].
            taken: How many observations each session had taken before, int64 [B].

        Returns:
            The periods, int64 [B, T + 1, D, K].
        """
        steps = history.shape[1] - self.window
        found = current.unsqueeze(1).expand(-1, steps + 1, -1, -1)
        if not self.finds:
            return found
        due = is_due(taken.cpu().numpy()[:, None] + np.arange(1, steps + 1))
        if not due.any():
            return found
        found, values = found.clone(), history.detach().cpu().numpy()
        for at in 1 + np.flatnonzero(due.any(axis=0)):
            rows = np.flatnonzero(due[:, at - 1])
            windows = np.ascontiguousarray(values[rows, at : at + self.window].swapaxes(1, 2))
            before = found[rows, at].cpu().numpy().reshape(-1, self.slots)
            chosen = find_periods(windows.reshape(-1, self.window), before)
            now = torch.from_numpy(chosen).to(found.device).view(len(rows), 1, self.targets, self.slots)
            found[rows, at:] = now
        return found

    def observe(
        self, before: Statistics, history: Tensor, times: Tensor | None, periods: Tensor
    ) -> tuple[Statistics, Candidates]:
        """Update the statistics with observations.

        Args:
            before: The statistics before the first observation, [B, ...].
            history: The window, then the observations, NaN where missing, float64 [B, W + T, D].
            times: The times of the observations, int64 [B, T]; None if the model does not see the calendar.
            periods: The periods after 0 to T observations, int64 [B, T + 1, D, K].

        Returns:
            The statistics before the first observation and after each one, [B, T + 1, ...]; and the forecasters'
            forecasts of each observation, [B, T, D, F].
        """
        if not self.finds:
            return self._observe(before, history, times)
        pieces: list[Sequence[Tensor]] = []
        for start, stop in pairwise(_stops(periods)):
            told = None if times is None else times[:, start:stop]
            after, said = self._observe(before, history[:, start : stop + self.window], told)
            before = self._changed(after.at(slice(None), -1), periods[:, stop])
            pieces.append((*after.at(slice(None), slice(0, -1)).parts, *said.parts))
        *after_all, values, known = (torch.cat(each, dim=1) for each in zip(*pieces, strict=True))
        ends = before.at(slice(None), None).parts
        whole = (torch.cat(each, dim=1) for each in zip(after_all, ends, strict=True))
        return Statistics(*whole), Candidates(values, known)

    def _observe(self, before: Statistics, history: Tensor, times: Tensor | None) -> tuple[Statistics, Candidates]:
        """Do the work of `observe` while the periods stay the same."""
        values = history[:, self.window :]
        seen = ~values.isnan()
        last = _carried_forward(before.last, values, seen)
        count = _counted(before.count, seen)
        zeroed = values.nan_to_num()
        lowest, highest = _extremes(before.lowest, before.highest, zeroed)
        means = self._mean(before, zeroed, seen, count.unsqueeze(-1))
        seasonal = Seasonal.none(values)
        if self.slots:
            at = torch.arange(self.window, history.shape[1], device=history.device)
            rows = torch.arange(len(history), device=history.device)
            ends, rows = at.expand(len(history), -1), rows.unsqueeze(1)
            seasonal = self._seasonal(before.periods.unsqueeze(1), history, rows, ends, self.next_step, times)
        carries, carry_counts = self._carry(before, values, seasonal)
        past = slice(None), slice(0, -1)
        levels = self._levels(last[past], count[past], means[past], carries[past], carry_counts[past])
        said = self.candidates(levels, seasonal, self.next_step + 1.0)
        errors, error_counts = self._judge(before, values, said)
        periods = before.periods.unsqueeze(1).expand(-1, values.shape[1] + 1, -1, -1)
        return Statistics(last, count, lowest, highest, means, periods, carries, error_counts, errors), said

    def _changed(self, before: Statistics, periods: Tensor) -> Statistics:
        """Return statistics [B, ...] for other periods, int64 [B, D, K]: those of new periods begin at 0."""
        if not self.finds:
            return before
        # Whether a slot's period was in an old slot, [B, D, K, K].
        same = (periods.unsqueeze(-1) == before.periods.unsqueeze(-2)) & (periods > 0).unsqueeze(-1)
        both = same[..., :-1, :-1] & same[..., 1:, 1:]
        was, kept = same.to(torch.uint8).argmax(-1), same.any(-1)
        was_both, kept_both = was[..., :0], kept[..., :0]
        if self.crosses:
            was_both, kept_both = both.to(torch.uint8).argmax(-1), both.any(-1)
        first, groups = 2 * self.means, 2 + self.carries
        levels = torch.arange(first, device=was.device).expand(*was.shape[:-1], -1)
        places = [levels, *(first + group * self.slots + was for group in range(groups))]
        places.append(first + groups * self.slots + was_both)
        stay = torch.cat([levels >= 0, *[kept] * groups, kept_both], dim=-1)
        place = torch.cat(places, dim=-1)
        counts = torch.where(stay, before.error_counts.gather(-1, place), 0.0)
        errors = before.errors.gather(-2, place.unsqueeze(-1).expand_as(before.errors))
        carries = before.carries.gather(-2, was.unsqueeze(-1).expand_as(before.carries))
        return replace(
            before,
            periods=periods,
            carries=torch.where(kept.unsqueeze(-1), carries, 0.0),
            error_counts=counts,
            errors=torch.where(stay.unsqueeze(-1), errors, 0.0),
        )

    def _seasonal(
        self, periods: Tensor, history: Tensor, rows: Tensor, ends: Tensor, ahead: Tensor, times: Tensor | None
    ) -> Seasonal:
        """Look up past periods.

        Args:
            periods: The periods, int64, broadcastable to [N, S, D, K].
            history: The values, float64 [B, steps, D].
            rows: The row of `history` of each step to forecast, int64, broadcastable to [N, S].
            ends: How many values of that row a session has seen, int64 [N, S].
            ahead: The steps ahead from 0, int64, broadcastable to [N, S, D, K].
            times: The times of the steps, int64 [N, S]; None if the model does not see the calendar.
        """
        places = Places.of(periods, ahead, self.multiples, self.window)
        alike = self.days.of_steps(times, periods, places.back)
        rows, ends = rows[..., None, None, None], ends[..., None, None, None]
        target = torch.arange(self.targets, device=history.device).view(-1, 1, 1)

        def read(back: Tensor) -> Tensor:
            # What lies outside the window is not used, but its place must exist.
            return history[rows, torch.where(places.reachable(back), ends + places.ahead - back, ends - 1), target]

        return look_up(places, read(places.back), read(places.crossed), alike)

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
        if not self.slots:
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
        """Return how often each period's seasonal mean has been judged, [..., D, K]."""
        start = 2 * self.means + self.slots
        return statistics.error_counts[..., start : start + self.slots]

    def _levels(self, last: Tensor, count: Tensor, means: Tensor, carries: Tensor, carry_counts: Tensor) -> Levels:
        if self.slots:
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
        if self.slots:
            carried = (seasonal.mean.unsqueeze(-1) + levels.carries).transpose(-1, -2).flatten(-2)
            values += [seasonal.single, seasonal.mean, carried, seasonal.crossed]
            known += [seasonal.known, seasonal.known, *[seasonal.known & levels.carried] * self.carries]
            known.append(seasonal.crossed_known)
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
        """Forecast chosen steps of N sessions.

        Args:
            statistics: The statistics of the sessions, [N, ...].
            history: Values, NaN where missing, float64 [B, steps, D].
            rows: The row of `history` of each session, int64 [N].
            ends: How many values of that row lie before the next step, int64 [N].
            steps: The steps ahead, from 1, int64 [N, S].
            times: The times of those steps, int64 [N, S]; None if the model does not see the calendar.

        Returns:
            The forecasts, [N, S, D, F].
        """
        if self.slots:
            periods, ahead = statistics.periods.unsqueeze(1), (steps - 1)[..., None, None]
            seasonal = self._seasonal(periods, history, rows.unsqueeze(1), ends.unsqueeze(1), ahead, times)
        else:
            seasonal = Seasonal.none(history.new_empty(*steps.shape, self.targets))
        levels = self.levels(statistics.at(slice(None), None))
        return self.candidates(levels, seasonal, steps.double().unsqueeze(-1))


def _stops(periods: Tensor) -> list[int]:
    """Return 0, every number of observations after which a session's periods [B, T + 1, D, K] change, and T."""
    steps = periods.shape[1] - 1
    if steps == 1:
        return [0, 1]
    changes = (periods[:, 1:] != periods[:, :-1]).flatten(2).any(-1).any(0)
    return sorted({0, *(at + 1 for at in changes.nonzero().flatten().tolist()), steps})


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
