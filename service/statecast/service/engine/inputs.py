"""The inputs of a model for a batch: the steps of all sessions, padded into tensors."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from statecast.model import State, StreamingTrace
from statecast.service.engine.clock import times_of_all
from statecast.service.models.registry import Model

STEPS_AT_ONCE = 16_384
"""Over all sessions of a computation; a trace holds every intermediate state, some kilobytes each."""
STEPS_A_BUCKET = 32
"""Sessions with fewer new steps than this run together; longer ones with those within a factor of two."""


def bucket(steps: int) -> int:
    """Return the number of the group of sessions that run together: none, one, or similarly many new steps."""
    return steps if steps < 2 else 2 + (steps // STEPS_A_BUCKET).bit_length()


@dataclass(frozen=True, slots=True)
class Inputs:
    """The padded inputs of all sessions.

    Attributes:
        values: Targets and covariates, float64 [batch, time, targets and covariates].
        lengths: Number of steps of each session, int64 [batch]; None if all are equal.
        times: int64 [batch, time]; None if the model declares no frequency.
        categories: int64 [batch, categories]; None if the model has none.
    """

    values: Tensor
    lengths: Tensor | None
    times: Tensor | None
    categories: Tensor | None

    @staticmethod
    def of(
        model: Model,
        steps: Sequence[int],
        data: Iterable[bytes],
        last_times: Sequence[int | None],
        categories: Tensor | None,
    ) -> "Inputs":
        """Build the inputs of sessions, in order.

        Args:
            model: Their model.
            steps: Number of new steps of each.
            data: The rows of all of them, as float64.
            last_times: Time of each session's last step.
            categories: Their categories.
        """
        lengths, device = np.array(steps), model.forecaster.device
        values = _padded(data, lengths, model.width)
        times = None
        if model.frequency:
            lasts = np.array([each or 0 for each in last_times], np.int64)
            times = torch.from_numpy(times_of_all(lasts, lengths, model.frequency)).to(device)
        is_even = bool((lengths == lengths[0]).all())
        lengths_tensor = None if is_even else torch.from_numpy(lengths).to(device)
        return Inputs(torch.from_numpy(values).to(device), lengths_tensor, times, categories)

    def part(self, start: int, steps: int) -> "Inputs":
        """Return the inputs of `steps` steps from `start` on."""
        if start == 0 and steps >= self.values.shape[1]:
            return self
        steps_at_once = slice(start, start + steps)
        values = self.values[:, steps_at_once]
        lengths = None if self.lengths is None else (self.lengths - start).clamp(0, values.shape[1])
        return Inputs(values, lengths, None if self.times is None else self.times[:, steps_at_once], self.categories)


def categories_of(model: Model, categories: Iterable[Mapping[str, str]]) -> Tensor | None:
    """Return the sessions' categories as the model's indices, int64 [sessions, categories]; None if it has none."""
    if not model.config.categories:
        return None
    return torch.tensor([model.category_indices(each) for each in categories], device=model.forecaster.device)


def traces(
    model: Model, state: State, inputs: Inputs, steps_at_once: int
) -> Iterator[tuple[int, StreamingTrace, NDArray[np.float64]]]:
    """Advance sessions from `state`, some steps at a time.

    Yields:
        Where the part starts, its trace, and the position of its values in the forecasts before them, float64 [batch,
        time, targets].
    """
    for start in range(0, inputs.values.shape[1], steps_at_once):
        part = inputs.part(start, steps_at_once)
        trace = model.forecaster.advance(state, part.values, part.lengths, times=part.times, categories=part.categories)
        yield start, trace, trace.pit.cpu().numpy()
        state = trace.state


def _padded(parts: Iterable[bytes], lengths: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """Join the parts of all sessions, in order, to [sessions, most steps, width], padded with NaN."""
    joined = np.frombuffer(bytearray().join(parts), "<f8").reshape(-1, width)
    most = lengths.max()
    if (lengths == most).all():
        return joined.reshape(len(lengths), most, width)
    values = np.full((len(lengths), most, width), np.nan)
    values[np.arange(most) < lengths[:, None]] = joined
    return values
