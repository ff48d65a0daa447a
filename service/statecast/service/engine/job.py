"""Jobs: the sessions of a batch that need their state, grouped and padded into tensors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from statecast.service.engine.clock import times_of_all
from statecast.service.engine.plan import Answer, Plan
from statecast.service.engine.request import Request
from statecast.service.engine.session_loading import Loaded
from statecast.service.models.registry import Model

STEPS_A_BUCKET = 32
"""Sessions with fewer new steps than this run together; longer ones with those within a factor of two."""


@dataclass(slots=True)
class Wanted:
    """The output that a request wants: of the job at `index`, after `step` of its steps."""

    index: int
    position: int
    step: int
    answer: Answer
    request: Request

    @property
    def is_explained(self) -> bool:
        """True if the request wants the gates of that step, which it has appended itself."""
        return self.request.explain and self.answer.taken > 0


@dataclass(slots=True)
class Job:
    """A session that needs its state: to take steps, to forecast, or both."""

    key: str
    model: Model
    loaded: Loaded
    plan: Plan
    requests: Sequence[Request]

    @property
    def rows(self) -> list[NDArray[np.float64]]:
        """All steps after the loaded state, those to replay first; each part [time, targets and covariates]."""
        parts = [] if self.loaded.replay is None else [self.loaded.replay]
        return parts + [entry.rows for entry in self.plan.entries]

    @property
    def steps(self) -> int:
        """Number of steps in `rows`."""
        return self.loaded.replayed_steps + self.plan.steps

    @property
    def last_time(self) -> int:
        """Time of the last of `rows`; 0 without a frequency or observations."""
        return self.plan.standing.last_time or 0 if self.plan.standing else 0

    @property
    def categories(self) -> list[int]:
        """The session's categories as the model's indices."""
        return self.model.category_indices(self.plan.standing.categories if self.plan.standing else {})

    def wanted(self, index: int) -> list[Wanted]:
        """Return the outputs that its requests want, for this job at `index`."""
        replayed = self.loaded.replayed_steps
        return [
            Wanted(index, position, replayed + decision.steps, decision, request)
            for position, (request, decision) in enumerate(zip(self.requests, self.plan.decisions, strict=True))
            if isinstance(decision, Answer) and (request.horizon or (request.explain and decision.taken))
        ]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The padded inputs of all jobs.

    Attributes:
        values: Targets and covariates, float64 [batch, time, targets and covariates].
        lengths: Number of steps of each job, int64 [batch]; None if all are equal.
        times: int64 [batch, time]; None if the model declares no frequency.
        categories: int64 [batch, categories]; None if the model has none.
    """

    values: Tensor
    lengths: Tensor | None
    times: Tensor | None
    categories: Tensor | None

    @staticmethod
    def of(jobs: Sequence[Job], model: Model) -> "Inputs":
        """Build the inputs from the steps of all jobs, in order."""
        lengths = np.array([job.steps for job in jobs])
        values = _padded([part for job in jobs for part in job.rows], lengths, model.width)
        times, device = None, model.forecaster.device
        if model.frequency:
            lasts = np.array([job.last_time for job in jobs], np.int64)
            times = torch.from_numpy(times_of_all(lasts, lengths, model.frequency)).to(device)
        return Inputs(
            torch.from_numpy(values).to(device),
            None if (lengths == lengths[0]).all() else torch.from_numpy(lengths).to(device),
            times,
            torch.tensor([job.categories for job in jobs], device=device) if model.config.categories else None,
        )

    def part(self, start: int, steps: int) -> "Inputs":
        """Return the inputs of `steps` steps from `start` on."""
        if start == 0 and steps >= self.values.shape[1]:
            return self
        steps_at_once = slice(start, start + steps)
        values = self.values[:, steps_at_once]
        lengths = None if self.lengths is None else (self.lengths - start).clamp(0, values.shape[1])
        return Inputs(values, lengths, None if self.times is None else self.times[:, steps_at_once], self.categories)


def _padded(parts: Sequence[NDArray[np.float64]], lengths: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """Join the parts of all jobs, in order, to [jobs, most steps, width], padded with NaN."""
    joined = np.concatenate(parts) if parts else np.empty((0, width))
    most = lengths.max()
    if (lengths == most).all():
        return joined.reshape(len(lengths), most, width)
    values = np.full((len(lengths), most, width), np.nan)
    values[np.arange(most) < lengths[:, None]] = joined
    return values


def needs_state(plan: Plan, requests: Sequence[Request]) -> bool:
    """Return True if the session's state must be computed."""
    if plan.closed or plan.standing is None:
        return False
    if plan.opened or plan.entries:
        return True
    return any(
        isinstance(decision, Answer) and (request.horizon or request.copy)
        for request, decision in zip(requests, plan.decisions, strict=True)
    )


def group(jobs: Iterable[Job]) -> list[list[Job]]:
    """Group the jobs that run together: of one model, and of similar length."""
    groups: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        bucket = (job.steps // STEPS_A_BUCKET).bit_length()
        groups.setdefault((job.model.digest, bucket), []).append(job)
    return list(groups.values())
