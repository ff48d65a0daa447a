"""Inputs that are known before a time step comes: the calendar, covariates and the session's categories."""

from collections.abc import Sequence
from functools import cached_property
from math import pi

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..frequency import YEAR_NS, Frequency
from ..zones import DAY_NS

WEEKDAY_OF_1970, SATURDAY = 3, 5
DAY_HARMONICS, YEAR_HARMONICS = 4, 2
LARGEST_EMBEDDING = 16


class KnownInputs(nn.Module):
    """The inputs of the learned parts from times, covariates and categories.

    Covariates are scaled as in training, so that a value always means the same.
    """

    nothing: Tensor
    centres: Tensor
    scales: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.calendar, self.covariates = config.calendar, len(config.covariates)
        self._frequency = config.frequency
        cycles = {"day": 2 * DAY_HARMONICS, "weekend": 2, "week": 7, "year": 2 * YEAR_HARMONICS}
        self.register_buffer("nothing", torch.zeros(0), persistent=False)
        self.size = sum(cycles[cycle] for cycle in self.calendar) + 2 * self.covariates
        if self.covariates:
            self.register_buffer("centres", torch.zeros(self.covariates, dtype=torch.float64))
            self.register_buffer("scales", torch.ones(self.covariates, dtype=torch.float64))
        counts = [len(category.values) + 1 for category in config.categories]
        sizes = [min(LARGEST_EMBEDDING, count) for count in counts]
        pairs = zip(counts, sizes, strict=True)
        self.embeddings = nn.ModuleList(nn.Embedding(count, size) for count, size in pairs)
        self.static_size = sum(sizes)

    def of_steps(self, times: Tensor | None, covariates: Tensor | None, shape: Sequence[int]) -> Tensor:
        """Return the known inputs of time steps.

        Args:
            times: The times of the steps, int64 [...]; None if the model does not see the calendar.
            covariates: The covariates, NaN where not known, float64 [..., C]; None if none is known.
            shape: The leading dimensions.

        Returns:
            The inputs, float32 [..., size].
        """
        if not self.size:
            return self.nothing.new_zeros(*shape, 0)
        parts = []
        if times is not None:
            parts += [_CYCLES[cycle](times) for cycle in self.calendar]
        if self.covariates:
            if covariates is None:
                covariates = self.centres.new_full((*shape, self.covariates), torch.nan)
            known = ~covariates.isnan()
            scaled = torch.asinh((covariates - self.centres) / self.scales)
            parts += [torch.where(known, scaled, 0.0).float(), known.float()]
        return torch.cat(parts, dim=-1)

    def of_sessions(self, categories: Tensor) -> Tensor:
        """Return the embeddings of categories int64 [N, S], float32 [N, static_size]."""
        return torch.cat([embed(categories[:, at]) for at, embed in enumerate(self.embeddings)], dim=-1)

    def later(self, times: Tensor, steps: int) -> Tensor:
        """Return the times `steps` after the given ones, int64 of the same shape."""
        if self._grid.step_ns is not None:
            return times + steps * self._grid.step_ns
        return torch.from_numpy(self._grid.ahead(times.cpu().numpy(), steps)).to(times.device)

    @cached_property
    def _grid(self) -> Frequency:
        return Frequency.parse(self._frequency)


def _day(times: Tensor) -> Tensor:
    return _waves(times, DAY_NS, DAY_HARMONICS)


def _weekend(times: Tensor) -> Tensor:
    """Return whether it is a weekend, and whether the day before was one, float32 [..., 2]."""
    weekday = weekday_of(times)
    return torch.stack([weekday >= SATURDAY, (weekday - 1) % 7 >= SATURDAY], dim=-1).float()


def _week(times: Tensor) -> Tensor:
    return nn.functional.one_hot(weekday_of(times), 7).float()


def weekday_of(times: Tensor) -> Tensor:
    """Return the day of the week, 0 for Monday, int64 of the same shape."""
    return (torch.div(times, DAY_NS, rounding_mode="floor") + WEEKDAY_OF_1970) % 7


def _year(times: Tensor) -> Tensor:
    return _waves(times, YEAR_NS, YEAR_HARMONICS)


def _waves(times: Tensor, period: int, harmonics: int) -> Tensor:
    """Return sines and cosines of the phase, float32 [..., 2 * harmonics]."""
    phase = (times % period).double() * (2 * pi / period)
    angles = phase.unsqueeze(-1) * torch.arange(1, harmonics + 1, device=times.device)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()


_CYCLES = {"day": _day, "weekend": _weekend, "week": _week, "year": _year}
