"""Keep intervals calibrated: each quantile's distance from the median adapts to how often outcomes lie beyond it.

This is adaptive conformal inference (Gibbs and Candès, 2021) in the form of quantile tracking (Angelopoulos, Candès and
Tibshirani, 2023). After each outcome, a quantile moves away from the median if the outcome lay beyond it, otherwise a
little towards it. With these step sizes, the long-run share of outcomes matches the level for any data. Every session,
checked step ahead and level adapts separately, and so do the two sides of an interval. Further than one step ahead,
outcomes are few, so all levels also move together, by their mean miss. Outcomes are compared with forecasts as issued.

Misses are summed, and move quantiles once every BLOCK steps of a session. So many observations at once need few
sequential steps, and any split of observations gives the same result.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from math import gcd
from statistics import NormalDist

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..state import Part, State

# The most forecasts that wait for their outcomes, for each checked step ahead.
WAITING = 8
# Steps between checked forecasts have none of these factors, which the periods that sessions find usually have.
_USUAL_FACTORS = (2, 3, 5, 7)
# Every forecast one step ahead is checked. Further ahead, at most one in so many is, since neighbours differ little.
LEAST_STRIDE = 4
# Steps of a session between two moves of its quantiles.
BLOCK = 4
# An outcome within a zone around a quantile counts as partly beyond it, so that rounding makes little difference. This
# is the zone's width, in widths of the 80 % interval of a normal distribution.
SOFTNESS = 0.05
# Further than one step ahead: how much a miss moves its own level, and how much the mean of all levels' misses moves
# each level. The latter grows with the distance between checked forecasts.
OWN_SHARE, COMMON_SHARE = 0.3, 1.2
# Logarithms of the smallest and the largest factor. Further than one step ahead, the largest factor is lower, because
# recovery from too large a factor takes long there.
LEAST_LOG_FACTOR, LARGEST_LOG_FACTOR, LARGEST_LATER = -3.0, 3.0, 2.5
# A quantile within this share of the median is not judged, since its distance from the median is rounding or 0.
ROUNDING = 1e-12
# Larger distances from the median, in widths of the zone, make no difference.
FARTHEST = 1e30

Issue = Callable[[Tensor, Tensor, Tensor], Tensor]
LOG_FACTORS = "stretches"
"""The name of a part of the state. It is in the digest of every model, so it must not change."""


@dataclass(frozen=True)
class Widening:
    """The adaptation of the intervals of B sessions.

    Attributes:
        log_factors: Logarithms of the factors of each quantile's distance from the median, float64 [B, D, checks, Q].
        misses: Sums of misses since the last move, of the same shape.
        waiting: The forecasts that wait for their outcomes, as issued, float64 [B, D, slots, Q].
        step: How many observations each session has taken, int64 [B].
    """

    log_factors: Tensor
    misses: Tensor
    waiting: Tensor
    step: Tensor

    @staticmethod
    def of(state: State) -> "Widening":
        """Return the adaptation in the state of sessions."""
        return Widening(state[LOG_FACTORS], state["misses"], state["waiting"], state["step"])

    def parts(self) -> dict[str, Tensor]:
        """Return the parts of the state that hold the adaptation."""
        return {LOG_FACTORS: self.log_factors, "misses": self.misses, "waiting": self.waiting}


@dataclass(frozen=True)
class Blocks:
    """The log_factors of B sessions before and after each of T observations.

    Attributes:
        log_factors: The log_factors of N blocks, float64 [B, N, D, checks, Q].
        index: The block whose factors apply after 0 to T observations, int64 [B, T + 1].
    """

    log_factors: Tensor
    index: Tensor

    def at(self, rows: Tensor, steps: Tensor) -> Tensor:
        """Return the log_factors of sessions `rows` after `steps` observations, both int64 [M]: [M, D, checks, Q]."""
        return self.log_factors[rows, self.index[rows, steps]]

    def one_ahead(self) -> Tensor:
        """Return the log_factors of one step ahead before each observation, [B, T, D, Q]."""
        log_factors = self.log_factors[:, :, :, 0]
        return log_factors.gather(1, self.index[:, :-1, None, None].expand(-1, -1, *log_factors.shape[2:]))


@dataclass(frozen=True)
class Adapted:
    """The result of checking forecasts against T observations.

    Attributes:
        standing: The forecast before each value, ascending, NaN if there was none, float64 [B, T, D, Q].
        blocks: The log_factors before and after each observation; None if intervals do not adapt.
        after: The adaptation after each session's own observations; None if intervals do not adapt.
    """

    standing: Tensor
    blocks: Blocks | None = None
    after: Widening | None = None


@dataclass(frozen=True)
class _Made:
    """M forecasts further than one step ahead, made by sessions after some of T observations.

    Attributes:
        quantiles: The quantiles as the model emits them, float64 [M, D, Q].
        rows: The positions of the sessions in the batch, int64 [M].
        at: How many of the observations each session had taken, int64 [M].
        checks: The position of each forecast's step among the checked steps ahead, int64 [M].
        slots: The slot in which each forecast waits, int64 [M].
    """

    quantiles: Tensor
    rows: Tensor
    at: Tensor
    checks: Tensor
    slots: Tensor


class Calibrator(nn.Module):
    """The online calibration: it moves quantiles away from the median or towards it. Nothing here is trained."""

    levels: Tensor
    sides: Tensor
    tails: Tensor
    sharpness: Tensor
    starts: Tensor
    own: Tensor
    common: Tensor
    least: Tensor
    largest: Tensor
    first: Tensor
    checked: Tensor
    strides: Tensor
    slots: Tensor
    slot_starts: Tensor
    places: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        checked_steps = config.checked_steps if config.adaptation_rate else config.checked_steps[:1]
        self.is_on, self.adapts = bool(checked_steps), config.adaptation_rate > 0
        self.targets, self.later = len(config.targets), max(0, len(checked_steps) - 1)
        self.middle = min(range(len(config.quantile_levels)), key=lambda at: abs(config.quantile_levels[at] - 0.5))
        checked = torch.tensor(checked_steps, dtype=torch.int64)
        lags = config.lags or (_USUAL_FACTORS if config.periods else ())
        strides = torch.tensor([_stride(ahead, lags) for ahead in checked_steps], dtype=torch.int64)
        # As many forecasts wait as are made before their outcomes come; each further check has slots for its own.
        slots = torch.div(checked - 1, strides, rounding_mode="floor")[1:] + 1
        of_checks = _of_checks(config.adaptation_rate, checked, strides)
        for name, buffer in {**_of_levels(config.quantile_levels, self.middle), **of_checks}.items():
            self.register_buffer(name, buffer, persistent=False)
        self.common = self.common * self.sides.abs()  # the median does not move
        self.register_buffer("checked", checked, persistent=False)
        self.register_buffer("strides", strides, persistent=False)
        self.register_buffer("slots", slots, persistent=False)
        self.register_buffer("slot_starts", slots.cumsum(0) - slots, persistent=False)
        self.register_buffer("places", _places(config), persistent=False)

    @property
    def parts(self) -> Iterator[Part]:
        """The parts of a session's state."""
        levels = len(self.levels)
        if self.adapts:
            yield Part(LOG_FACTORS, (self.targets, self.later + 1, levels), "float64")
            yield Part("misses", (self.targets, self.later + 1, levels), "float64")
            yield Part("waiting", (self.targets, int(self.slots.sum()), levels), "float64")

    def widen(self, quantiles: Tensor, log_factors: Tensor | None, steps: Tensor) -> Tensor:
        """Apply log_factors to forecasts.

        Args:
            quantiles: The quantiles as the model emits them, float64 [N, S, Q, D].
            log_factors: The log_factors, float64 [N, D, checks, Q], or None.
            steps: How many steps ahead the forecasts are, int64 [S].

        Returns:
            Ascending quantiles of the same shape.
        """
        if log_factors is None:
            return quantiles
        place = self.places[steps - 1]
        below = place.floor().long()
        above = (below + 1).clamp(max=self.later)
        by_check = log_factors.transpose(1, 2)
        # [N, S, D, Q], interpolated between the neighbouring checked steps.
        between = torch.lerp(by_check[:, below], by_check[:, above], (place - below).view(-1, 1, 1))
        # Sorting does not make quantiles worse (Chernozhukov et al., 2010).
        return self._widened(quantiles.transpose(2, 3), between).sort(-1).values.transpose(2, 3)

    def observe(
        self, before: Widening | None, standing: Tensor, values: Tensor, lengths: Tensor, issue: Issue
    ) -> Adapted:
        """Check forecasts against values.

        Args:
            before: The adaptation so far; None if intervals do not adapt.
            standing: The forecast before each value as the model emits it, float64 [B, T, D, Q].
            values: The observations, NaN where missing, float64 [B, T, D].
            lengths: How many of the observations are each session's own, int64 [B].
            issue: A function that makes M forecasts as the model emits them, float64 [M, Q, D]. Its arguments are the
                positions of sessions, the number of their observations before the forecast, and the steps ahead, all
                int64 [M].
        """
        own = torch.arange(values.shape[1], device=values.device) < lengths.unsqueeze(1)
        standing = torch.where(own[..., None, None], standing, torch.nan)
        if before is None:
            return Adapted(standing)
        due = values.new_full((*values.shape, self.later + 1, len(self.levels)), torch.nan)
        due[..., 0, :] = self._told_apart(standing)
        stands = before.step.unsqueeze(1) + torch.arange(1, values.shape[1] + 1, device=values.device)
        waiting = self._hand_out(due, before, own, stands)
        beyond = self._make(due, own, stands, issue)
        track = self._track_one if values.shape[1] == 1 else self._track
        blocks, misses = track(before, due, values, own)
        if beyond is not None:
            issued = blocks.log_factors[beyond.rows, blocks.index[beyond.rows, beyond.at], :, beyond.checks]
            waiting[beyond.rows, :, beyond.slots] = self._widened(beyond.quantiles, issued)
        rows = torch.arange(len(values), device=values.device)
        after = Widening(blocks.at(rows, lengths), misses, waiting, before.step + lengths)
        return Adapted(self._widened(standing, blocks.one_ahead()).sort(-1).values, blocks, after)

    def _hand_out(self, due: Tensor, before: Widening, own: Tensor, stands: Tensor) -> Tensor:
        """Move waiting forecasts whose outcome has come into `due`; return those that still wait.

        Args:
            due: The forecasts to compare with each observation, float64 [B, T, D, checks, Q].
            before: The adaptation so far.
            own: Whether an observation is the session's own, bool [B, T].
            stands: How many observations a session has taken, including each one, int64 [B, T].
        """
        # How many observations the session had taken when it issued the forecast of this observation.
        issued, strides = stands.unsqueeze(2) - self.checked[1:], self.strides[1:]
        came = (issued % strides == 0) & (issued > 0) & (issued <= before.step.view(-1, 1, 1)) & own.unsqueeze(2)
        rows, at, later = came.nonzero().unbind(1)
        waiting = before.waiting.clone()
        if len(rows):
            slots = self._slots(issued[rows, at, later], later)
            due[rows, at, :, later + 1] = waiting[rows, :, slots]
            waiting[rows, :, slots] = 0.0
        return waiting

    def _make(self, due: Tensor, own: Tensor, stands: Tensor, issue: Issue) -> _Made | None:
        """Make the forecasts to check, put those with an outcome into `due`, and return the others; see `_hand_out`."""
        strides = self.strides[1:]
        rows, at, later = ((stands.unsqueeze(2) % strides == 0) & own.unsqueeze(2)).nonzero().unbind(1)
        if not len(rows):
            return None
        ahead = self.checked[later + 1]
        quantiles = self._told_apart(issue(rows, at + 1, ahead).transpose(1, 2))
        lands = (at + ahead).clamp(max=own.shape[1] - 1)
        here = (at + ahead == lands) & own[rows, lands]
        due[rows[here], lands[here], :, later[here] + 1] = quantiles[here]
        slots = self._slots(stands[rows, at], later)
        return _Made(*(each[~here] for each in (quantiles, rows, at + 1, later + 1, slots)))

    def _slots(self, issued: Tensor, later: Tensor) -> Tensor:
        """Return where forecasts wait, given the step at which they were issued and their check, all int64 [M]."""
        return self.slot_starts[later] + issued // self.strides[1:][later] % self.slots[later]

    def _track(self, before: Widening, due: Tensor, values: Tensor, own: Tensor) -> tuple[Blocks, Tensor]:
        """Move quantiles block by block; also return the sums of misses since the last move, [B, D, checks, Q]."""
        index, issued, due, values = self._laid_out(before.step, due, values)
        count = _blocks(own.shape[1])
        reach = self._reach(due, values).view(len(due), count, BLOCK, *due.shape[2:])
        judged = ~reach.isnan()
        tails, reach = (judged * self.tails).sum(2), torch.where(judged, reach, -torch.inf)
        tails[:, 0] -= before.misses
        issued = issued.view(len(due), count, BLOCK, 1, self.later + 1, 1).expand(reach.shape)
        log_factors = before.log_factors.new_zeros(len(due), count + 2, *before.log_factors.shape[1:])
        log_factors[:, 1] = before.log_factors
        misses = torch.zeros_like(log_factors[:, 1:])
        parts = zip(issued.unbind(1), reach.unbind(1), tails.unbind(1), misses.unbind(1), strict=False)
        into, now = log_factors.unbind(1)[2:], before.log_factors
        for (where, towards, tail, missed), moved in zip(parts, into, strict=True):
            beyond = self._beyond(towards, log_factors.gather(1, where))
            now = self._moved(now, torch.sub(beyond.sum(1), tail, out=missed), moved)
        rows = torch.arange(len(due), device=due.device)
        return Blocks(log_factors, index), misses[rows, index[rows, own.sum(1)] - 1]

    def _track_one(self, before: Widening, due: Tensor, values: Tensor, own: Tensor) -> tuple[Blocks, Tensor]:
        """Do the same as `_track` for one observation, which may end a block."""
        # Forecasts that waited have been widened already; the one for one step ahead has not.
        beyond = self._beyond(self._reach(due, values)[:, 0], before.log_factors * self.first)
        misses = before.misses + (beyond - self.tails).nan_to_num_(0.0)
        ends = (own & ((before.step + 1) % BLOCK == 0).unsqueeze(1)).view(-1, 1, 1, 1)
        moved = torch.where(ends, self._moved(before.log_factors, misses), before.log_factors)
        index = torch.arange(2, device=due.device).expand(len(due), -1)
        return Blocks(torch.stack([before.log_factors, moved], dim=1), index), misses.masked_fill_(ends, 0.0)

    def _beyond(self, reach: Tensor, log_factors: Tensor) -> Tensor:
        """Return how far outcomes count as beyond each quantile, 0 to 1, of the shape of `reach`."""
        return torch.addcmul(self.starts, reach, torch.exp(-log_factors)).clamp_(0, 1)

    def _moved(self, log_factors: Tensor, misses: Tensor, out: Tensor | None = None) -> Tensor:
        """Return log_factors moved by misses, all [B, D, checks, Q]."""
        moved = torch.addcmul(log_factors, self.own, misses).addcmul_(self.common, misses.mean(-1, keepdim=True))
        return torch.clamp(moved, self.least, self.largest, out=out)

    def _reach(self, due: Tensor, values: Tensor) -> Tensor:
        """Return how far outcomes lie from the median towards each quantile, in widths of the zone around it.

        The result is NaN if there is nothing to judge, [B, P, D, checks, Q].
        """
        middle = due[..., self.middle : self.middle + 1]
        towards, distances = (values[..., None, None] - middle) * self.sides, (due - middle) * self.sides
        reach = torch.where(distances > 0, towards / distances * self.sharpness, torch.nan)
        return reach.clamp(-FARTHEST, FARTHEST)

    def _told_apart(self, quantiles: Tensor) -> Tensor:
        """Set quantiles [..., Q] that differ from the median only by rounding to the median; they are not judged."""
        middle = quantiles[..., self.middle : self.middle + 1]
        return torch.where((quantiles - middle).abs() > ROUNDING * middle.abs(), quantiles, middle)

    def _laid_out(self, step: Tensor, due: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Align observations with the blocks of their sessions, so that blocks of several sessions run together.

        Returns:
            The block whose factors apply after 0 to T observations, int64 [B, T + 1]; the block of each judged
            forecast, 0 if it has been widened already, int64 [B, P, checks]; `due` [B, P, ...]; and `values`.
        """
        steps, offset = values.shape[1], (step % BLOCK).unsqueeze(1)
        at = torch.arange(steps + 1, device=due.device)
        index = (offset + at) // BLOCK + 1
        begun = at[1:, None] - self.checked
        issued = index[:, begun.clamp(min=0)] * ((begun > 0) | (self.checked == 1))
        places = torch.arange(_blocks(steps) * BLOCK, device=due.device) - offset
        outside, places = (places < 0) | (places >= steps), places.clamp(0, steps - 1)
        rows = torch.arange(len(step), device=due.device).unsqueeze(1)
        values = values[rows, places].masked_fill_(outside.unsqueeze(2), torch.nan)
        return index, issued[rows, places], due[rows, places], values

    def _widened(self, quantiles: Tensor, log_factors: Tensor) -> Tensor:
        """Multiply the distances of quantiles [..., Q] from the median by their factors; order may be lost."""
        middle = quantiles[..., self.middle : self.middle + 1]
        return middle + (quantiles - middle) * log_factors.exp()


def _of_levels(levels: Sequence[float], middle: int) -> dict[str, Tensor]:
    """Return the constants of each level, float64 [Q].

    Returns:
        The levels; their side of the median, -1, 0 or 1; and the share of outcomes that should lie beyond each one.
        Also the distance from the median to the level in widths of the zone; and how far an outcome at the median
        counts as beyond it, usually below 0.
    """
    tensor, normal = torch.tensor(levels, dtype=torch.float64), NormalDist()
    sides = torch.sign(torch.arange(len(levels), dtype=torch.float64) - middle)
    places = torch.tensor([abs(normal.inv_cdf(level)) for level in levels], dtype=torch.float64)
    sharpness = places / (SOFTNESS * 2 * normal.inv_cdf(0.9))
    tails = torch.where(sides > 0, 1 - tensor, tensor)
    return {"levels": tensor, "sides": sides, "tails": tails, "sharpness": sharpness, "starts": 0.5 - sharpness}


def _of_checks(rate: float, checked: Tensor, strides: Tensor) -> dict[str, Tensor]:
    """Return the constants of each checked step ahead, float64 [checks, 1].

    Returns:
        Whether it is one step ahead, 1 or 0; how much a miss moves its own level; how much the mean of all levels'
        misses moves each level; and the smallest and the largest logarithm of a factor.
    """
    first = (checked == 1).double().unsqueeze(1)
    return {
        "first": first,
        "own": rate * torch.full_like(first, OWN_SHARE).masked_fill(first > 0, 1.0),
        "common": rate * COMMON_SHARE * (1 - first) * strides.double().sqrt().unsqueeze(1),
        "least": torch.full_like(first, LEAST_LOG_FACTOR),
        "largest": torch.full_like(first, LARGEST_LATER).masked_fill(first > 0, LARGEST_LOG_FACTOR),
    }


def _blocks(steps: int) -> int:
    """Return the largest number of blocks that so many steps can touch."""
    return (steps + 2 * BLOCK - 2) // BLOCK


def _stride(ahead: int, lags: Sequence[int]) -> int:
    """Return the steps between two checked forecasts: enough that few wait, and that every phase of a season counts."""
    if ahead == 1:
        return 1
    least = max(LEAST_STRIDE, -(-ahead // WAITING))
    return next(stride for stride in count(least) if all(gcd(stride, lag) == 1 for lag in lags))


def _places(config: ModelConfig) -> Tensor:
    """Return the position of each step ahead among the checked ones, on a logarithmic scale, float64 [horizon]."""
    checked = torch.tensor(config.checked_steps or (1,), dtype=torch.float64)
    steps = torch.arange(1, config.horizon + 1, dtype=torch.float64)
    above = torch.searchsorted(checked, steps).clamp(max=len(checked) - 1)
    below = (above - 1).clamp(min=0)
    low, high = checked[below].log(), checked[above].log()
    share = torch.where(above > below, (steps.log() - low) / (high - low).clamp(min=1e-9), 0.0)
    return below + share.clamp(0, 1)
