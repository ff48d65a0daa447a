"""Look up the past periods of a step: the values whole seasons before it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..frequency import Frequency
from ..zones import DAY_NS
from .known_inputs import SATURDAY, weekday_of


@dataclass(frozen=True)
class Seasonal:
    """The values of each slot's past periods, float64, 0 if all of them were missing.

    Attributes:
        single: The value of the most recent observed period, [..., D, K].
        mean: The mean of the last periods, [..., D, K].
        known: Whether any of the periods was observed, bool [..., D, K].
        crossed: The mean of a slot's last periods plus the deviation of the last shorter period from it, for each slot
            but the first, [..., D, K - 1].
        crossed_known: Whether there is such a value, bool [..., D, K - 1].
    """

    single: Tensor
    mean: Tensor
    known: Tensor
    crossed: Tensor
    crossed_known: Tensor

    @staticmethod
    def none(values: Tensor) -> "Seasonal":
        """Return an empty result, for values [..., D] in a model without periods."""
        nothing = values.unsqueeze(-1)[..., :0]
        return Seasonal(nothing, nothing, nothing.bool(), nothing, nothing.bool())


@dataclass(frozen=True)
class Places:
    """The places of past periods, as steps back from a step to forecast, most recent first.

    Attributes:
        back: Of each slot's past periods, int64 [..., D, K, multiples].
        crossed: Of each slot's past periods, but the first slot's, before the last period of the slot before it, int64
            [..., D, K - 1, multiples].
        ahead: How many steps ahead the step to forecast lies, from 0, int64, broadcastable to `back`.
        is_there: Whether there is a period, bool [..., D, K, 1].
        window: How far back a session remembers, counted from the next step.
    """

    back: Tensor
    crossed: Tensor
    ahead: Tensor
    is_there: Tensor
    window: int

    @staticmethod
    def of(periods: Tensor, ahead: Tensor, multiples: int, window: int) -> "Places":
        """Return the places for periods [..., D, K], 0 for none, and steps ahead from 0, broadcastable to periods."""
        periods, ahead = periods.unsqueeze(-1), ahead.unsqueeze(-1)
        is_there = periods > 0
        lags = periods.clamp(min=1)
        times = torch.arange(1, multiples + 1, device=periods.device)
        # The most recent period in the past lies ceil((ahead + 1) / lag) periods back.
        last = torch.div(ahead, lags, rounding_mode="floor") * lags
        crossed = (last + lags)[..., :-1, :] + lags[..., 1:, :] * times
        return Places(last + lags * times, crossed, ahead, is_there, window)

    def reachable(self, back: Tensor) -> Tensor:
        """Return whether places lie in the window."""
        return back - self.ahead <= self.window


def look_up(places: Places, periods: Tensor, crossed: Tensor, alike: Tensor | None) -> Seasonal:
    """Summarise past periods.

    Args:
        places: The places of the past periods.
        periods: The values at `places.back`, NaN where missing, float64 [..., D, K, multiples].
        crossed: The values at `places.crossed`, float64 [..., D, K - 1, multiples].
        alike: Whether each period is preferred, bool [..., D, K, multiples]. If a preferred period was observed, only
            preferred periods are used. None prefers none.

    Returns:
        The summary, [..., D, K].
    """
    observed = ~periods.isnan() & places.reachable(places.back) & places.is_there
    last_value, last_observed = periods[..., :-1, 0], observed[..., :-1, 0]
    if alike is not None:
        preferred = observed & alike
        observed = torch.where(preferred.any(-1, keepdim=True), preferred, observed)
    values = torch.where(observed, periods, 0.0)
    known = observed.any(-1)
    # The most recent observed period, since argmax returns the first of equal values.
    first = observed.to(torch.uint8).argmax(-1, keepdim=True)
    single, mean = values.gather(-1, first).squeeze(-1), _mean(values, observed)
    shifted = ~crossed.isnan() & places.reachable(places.crossed)
    level = _mean(torch.where(shifted, crossed, 0.0), shifted)
    crossed_known = last_observed & known[..., 1:] & shifted.any(-1)
    together = torch.where(crossed_known, mean[..., 1:] + (last_value - level), 0.0)
    return Seasonal(single, mean, known, together, crossed_known)


def _mean(values: Tensor, observed: Tensor) -> Tensor:
    """Return the mean of the observed ones of values [..., multiples], others being 0; 0 if there are none."""
    return values.sum(-1) / observed.sum(-1).clamp(min=1)


class DaysAlike(nn.Module):
    """Past periods on days of the same kind, working day or weekend, as the step to forecast.

    Only periods of whole days distinguish days, and only in a model whose calendar has the weekend.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        step_ns = Frequency.parse(config.frequency).step_ns if "weekend" in config.calendar else None
        days = [lag * step_ns % DAY_NS == 0 for lag in config.lags] if step_ns else []
        self.is_on = step_ns is not None and (any(days) or config.periods > 0)
        self.step_ns = step_ns or 0

    def of_steps(self, times: Tensor | None, periods: Tensor, back: Tensor) -> Tensor | None:
        """Return whether the past periods of steps lie on days of the same kind.

        Args:
            times: The times of the steps, int64 [N, S].
            periods: The periods, int64, broadcastable to [N, S, D, K].
            back: How many steps back each past period lies, int64, broadcastable to [N, S, D, K, multiples].

        Returns:
            Whether each past period does, bool [N, S, D, K, multiples]; None if days are not distinguished.
        """
        if times is None or not self.is_on:
            return None
        weekdays = weekday_of(times)[..., None, None, None]
        days_back = torch.div(back * self.step_ns, DAY_NS, rounding_mode="floor")
        alike = ((weekdays - days_back) % 7 >= SATURDAY) == (weekdays >= SATURDAY)
        return alike | (periods * self.step_ns % DAY_NS != 0).unsqueeze(-1)
