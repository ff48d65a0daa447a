"""Keeps intervals true: each quantile's distance from the median follows, online, how often outcomes lie beyond it.

Adaptive conformal inference (Gibbs and Candès, 2021) in the form of quantile tracking (Angelopoulos, Candès and
Tibshirani, 2023): after each outcome a quantile moves away from the median if the outcome lay beyond it, else a little
towards it, in such steps that the long-run share is its level whatever the data do. Every session, checked step ahead
and level adapts by itself, so the two sides of an interval do, too. What is judged is what was issued.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from math import gcd

import torch
from torch import Tensor, nn

from .config import ModelConfig
from .pit import NARROWEST
from .state import Part

# Forecasts that wait for their outcome, for each checked step ahead.
WAITING = 8
# One forecast in so many is checked, but for one step ahead, where all are: those in between would tell the same.
LEAST_STRIDE = 4
# So close to a quantile, in widths of the 80 % interval, an outcome counts as partly beyond it. It keeps rounding from
# making a difference.
SOFTNESS = 0.05
# Errors of forecasts that overlap say much the same, so each of them weighs less.
OVERLAP = 0.4
# Logarithms of the least and the largest factor.
LEAST_STRETCH, LARGEST_STRETCH = -3.0, 1.5

Issue = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Stretches:
    """How the intervals of B sessions have adapted so far.

    Attributes:
        stretches: Logarithms of the factors of each quantile's distance from the median, float64 [B, D, checks, Q].
        waiting: The forecasts that wait for their outcome, as issued, float64 [B, D, checks - 1, WAITING, Q].
        step: How many observations each session has taken, int64 [B].
    """

    stretches: Tensor
    waiting: Tensor
    step: Tensor


@dataclass(frozen=True)
class Adapted:
    """What came of checking forecasts against T observations.

    Attributes:
        standing: The forecast standing before each value, ascending, NaN if there was none, float64 [B, T, D, Q].
        stretches: Before the first observation and after each one, float64 [B, T + 1, D, checks, Q]; None if intervals
            do not adapt, or are not checked now.
        waiting: The forecasts that wait for their outcome after each session's own observations; None likewise.
    """

    standing: Tensor
    stretches: Tensor | None = None
    waiting: Tensor | None = None


@dataclass(frozen=True)
class _Made:
    """M forecasts as the model emits them, of sessions `rows` as they stood after `at` of T observations.

    Attributes:
        quantiles: float64 [M, D, Q].
        rows: int64 [M].
        at: int64 [M].
        checks: Which of the checked steps ahead each one is of, int64 [M].
        lands: The observation that each one is of, int64 [M].
    """

    quantiles: Tensor
    rows: Tensor
    at: Tensor
    checks: Tensor
    lands: Tensor

    def where(self, chosen: Tensor) -> "_Made":
        """Those that are chosen, bool [M]."""
        return _Made(*(each[chosen] for each in (self.quantiles, self.rows, self.at, self.checks, self.lands)))


class Calibrator(nn.Module):
    """Stretches quantiles away from the median; nothing here is learned in training."""

    levels: Tensor
    rates: Tensor
    checked: Tensor
    strides: Tensor
    places: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        levels = config.quantile_levels
        checked_steps = config.checked_steps if config.adaptation_rate else config.checked_steps[:1]
        self.is_on, self.adapts = bool(checked_steps), config.adaptation_rate > 0
        self.targets, self.later = len(config.targets), max(0, len(checked_steps) - 1)
        self.low, self.middle, self.high = (
            min(range(len(levels)), key=lambda at: abs(levels[at] - level)) for level in (0.1, 0.5, 0.9)
        )
        checked = torch.tensor(checked_steps, dtype=torch.int64)
        strides = torch.tensor([_stride(ahead, config.lags) for ahead in checked_steps], dtype=torch.int64)
        sides = torch.sign(torch.arange(len(levels), dtype=torch.float64) - self.middle)
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float64), persistent=False)
        rates = config.adaptation_rate * torch.where(checked == 1, 1.0, OVERLAP).double().unsqueeze(1)
        self.register_buffer("rates", rates * sides, persistent=False)
        self.register_buffer("checked", checked, persistent=False)
        self.register_buffer("strides", strides, persistent=False)
        self.register_buffer("places", _places(config), persistent=False)

    @property
    def parts(self) -> Iterator[Part]:
        """The parts of a session's state."""
        levels = len(self.levels)
        if self.adapts:
            yield Part("stretches", (self.targets, self.later + 1, levels), "float64")
            yield Part("waiting", (self.targets, self.later, WAITING, levels), "float64")

    def stretch(self, quantiles: Tensor, stretches: Tensor | None, steps: Tensor) -> Tensor:
        """Applies stretches to forecasts.

        Args:
            quantiles: As the model emits them, float64 [N, S, Q, D].
            stretches: float64 [N, D, checks, Q], or None.
            steps: How many steps ahead they are, int64 [S].

        Returns:
            Ascending quantiles of the same shape.
        """
        if stretches is None:
            return quantiles
        place = self.places[steps - 1]
        below = place.floor().long()
        above = (below + 1).clamp(max=self.later)
        by_check = stretches.transpose(1, 2)
        # [N, S, D, Q], each between its two neighbours among the checked steps.
        between = torch.lerp(by_check[:, below], by_check[:, above], (place - below).view(-1, 1, 1))
        # Putting quantiles in order makes none worse (Chernozhukov et al., 2010).
        return self._stretched(quantiles.transpose(2, 3), between).sort(-1).values.transpose(2, 3)

    def observe(self, before: Stretches | None, values: Tensor, lengths: Tensor, issue: Issue) -> Adapted:
        """Checks forecasts against values.

        Args:
            before: How intervals have adapted so far; None if they do not.
            values: What comes, NaN where missing, float64 [B, T, D].
            lengths: How many of them are each session's own, int64 [B].
            issue: Makes forecasts as the model emits them, float64 [M, Q, D], of sessions [M] as they stood after some
                of these observations [M], some steps ahead [M].
        """
        due = values.new_full((*values.shape, self.later + 1, len(self.levels)), torch.nan)
        if before is None:
            self._make(due, [_every(values, lengths)], lengths, issue)
            return Adapted(due[..., 0, :])
        waiting = before.waiting.clone()
        asked = [self._hand_out(due, waiting, before.step, check, lengths) for check in range(1, self.later + 1)]
        beyond = self._make(due, [_every(values, lengths), *asked], lengths, issue)
        after = self._track(before.stretches, values, due)
        slots = torch.div(before.step[beyond.rows] + beyond.at, self.strides[beyond.checks], rounding_mode="floor")
        issued = self._stretched(beyond.quantiles, after[beyond.rows, beyond.at, :, beyond.checks])
        waiting[beyond.rows, :, beyond.checks - 1, slots % WAITING] = issued
        standing = self._stretched(due[..., 0, :], after[:, :-1, :, 0])
        return Adapted(standing.sort(-1).values, after, waiting)

    def _make(self, due: Tensor, asked: list[Tensor], lengths: Tensor, issue: Issue) -> _Made:
        """Makes forecasts for each check, of sessions as they stood [M, 2]; those whose outcome is here go to `due`.

        Returns:
            The others.
        """
        checks = torch.cat([torch.full((len(each),), check, device=due.device) for check, each in enumerate(asked)])
        rows, at = torch.cat(asked).unbind(1)
        ahead = self.checked[checks]
        made = _Made(issue(rows, at, ahead).transpose(1, 2), rows, at, checks, at + ahead - 1)
        inside = made.lands < lengths[rows]
        here = made.where(inside)
        due[here.rows, here.lands, :, here.checks] = here.quantiles
        return made.where(~inside)

    def _hand_out(self, due: Tensor, waiting: Tensor, start: Tensor, check: int, lengths: Tensor) -> Tensor:
        """Moves waiting forecasts whose outcome comes into `due`; returns when new ones are to be made, [M, 2]."""
        ahead, stride = int(self.checked[check]), int(self.strides[check])
        ats = torch.arange(due.shape[1], device=due.device)
        own = ats < lengths.unsqueeze(1)
        stands = start.unsqueeze(1) + ats + 1
        # Where the session stood when the value that brings it to `stands` was forecast.
        issued = stands - ahead
        rows, at = (own & (issued % stride == 0) & (issued > 0) & (issued <= start.unsqueeze(1))).nonzero().unbind(1)
        slots = torch.div(issued[rows, at], stride, rounding_mode="floor") % WAITING
        due[rows, at, :, check] = waiting[rows, :, check - 1, slots]
        waiting[rows, :, check - 1, slots] = 0.0
        rows, at = (own & (stands % stride == 0)).nonzero().unbind(1)
        return torch.stack([rows, at + 1], dim=1)

    def _track(self, stretches: Tensor, values: Tensor, due: Tensor) -> Tensor:
        """Moves each quantile after each outcome; gives [B, T + 1, D, checks, Q]."""
        middle = due[..., self.middle : self.middle + 1]
        distances, outcomes = due - middle, values.unsqueeze(-1).unsqueeze(-1) - middle
        beyond, none = 1 - self.levels, torch.zeros_like(stretches[:, :, 0])
        after = [stretches]
        for at in range(values.shape[1]):
            # What was issued before these observations has been stretched already.
            begun = [at, *(at + 1 - ahead for ahead in self.checked.tolist()[1:])]
            issued = [
                after[begin][:, :, check] if begin > 0 or check == 0 else none for check, begin in enumerate(begun)
            ]
            quantiles = distances[:, at] * torch.stack(issued, dim=2).exp()
            width = quantiles[..., self.high] - quantiles[..., self.low]
            soft = SOFTNESS * width.clamp(min=NARROWEST).unsqueeze(-1)
            above = ((outcomes[:, at] - quantiles) / soft + 0.5).clamp(0, 1)
            moves = ((above - beyond) * self.rates).nan_to_num(0.0)
            after.append((after[-1] + moves).clamp(LEAST_STRETCH, LARGEST_STRETCH))
        return torch.stack(after, dim=1)

    def _stretched(self, quantiles: Tensor, stretches: Tensor) -> Tensor:
        """Stretches quantiles [..., Q], which may put neighbours out of order."""
        middle = quantiles[..., self.middle : self.middle + 1]
        return middle + (quantiles - middle) * stretches.exp()


def _every(values: Tensor, lengths: Tensor) -> Tensor:
    """Each session's own observations, by session and position, int64 [M, 2]."""
    return (torch.arange(values.shape[1], device=values.device) < lengths.unsqueeze(1)).nonzero()


def _stride(ahead: int, lags: Sequence[int]) -> int:
    """Steps from one forecast that is checked to the next: few wait, and every phase of a season has its turn."""
    if ahead == 1:
        return 1
    least = max(LEAST_STRIDE, -(-ahead // WAITING))
    return next(stride for stride in count(least) if all(gcd(stride, lag) == 1 for lag in lags))


def _places(config: ModelConfig) -> Tensor:
    """Where each step ahead lies among the checked ones, on a logarithmic scale, float64 [horizon]."""
    checked = torch.tensor(config.checked_steps or (1,), dtype=torch.float64)
    steps = torch.arange(1, config.horizon + 1, dtype=torch.float64)
    above = torch.searchsorted(checked, steps).clamp(max=len(checked) - 1)
    below = (above - 1).clamp(min=0)
    low, high = checked[below].log(), checked[above].log()
    share = torch.where(above > below, (steps.log() - low) / (high - low).clamp(min=1e-9), 0.0)
    return below + share.clamp(0, 1)
