"""Requests to a session of the shop model, and the model's own results for them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from statecast.model import Forecaster, Future, Gates, Trace
from statecast.service.engine.request import Opening, Request
from statecast.service.version import START, Version, chain
from support.models import CATEGORIES, COVARIATES, HORIZON, shop_model

HOUR = 3_600_000_000_000
BEGIN = 472_222 * HOUR  # some hour of 2023
CATEGORY_VALUES = {"region": "south", "kind": "large"}
OPENING = Opening("shop", categories=CATEGORY_VALUES)
TARGETS = 2


@dataclass(frozen=True)
class History:
    """Consecutive rows, [time, targets and covariates], from `begin` on."""

    rows: NDArray[np.float64]
    begin: int = BEGIN
    categories: Mapping[str, str] | None = None

    @property
    def version(self) -> Version:
        return chain(START, self.rows, [self.begin + HOUR * step for step in range(len(self.rows))])

    def request(self, session_id: str, start: int, stop: int, **others: Any) -> Request:
        """Return the request that appends the rows from `start` to `stop`."""
        rows = self.rows[start:stop]
        if start == 0:
            others.setdefault("start_time", self.begin)
        others.setdefault("opening", Opening("shop", categories=self.categories or CATEGORY_VALUES))
        others.setdefault("covariates", rows[:, TARGETS:].ravel())
        return Request(session_id, values=rows[:, :TARGETS].ravel(), **others)

    def requests(self, session_id: str, cuts: Sequence[int], **others: Any) -> Iterator[Request]:
        """Yield requests that append all rows, split at `cuts`."""
        for start, stop in pairwise([0, *cuts, len(self.rows)]):
            yield self.request(session_id, start, stop, **others)

    def trace(self, model: Forecaster | None = None) -> Trace:
        """Advance the model by all rows at once, and return the trace."""
        model = model or shop_model()
        values = self.categories or CATEGORY_VALUES
        indices = [category.index(values.get(category.name, "?")) for category in CATEGORIES]
        times = torch.arange(len(self.rows)).unsqueeze(0) * HOUR + self.begin
        with torch.inference_mode():
            return model.unroll(
                model.initial_state(1),
                torch.from_numpy(self.rows).unsqueeze(0),
                times=times,
                categories=torch.tensor([indices]),
            )

    def gates(self, step: int) -> Gates:
        """Return the gates of a step, counted from 1."""
        with torch.inference_mode():
            return self.trace().gates(0, step)

    def forecast(self, covariates: NDArray[np.float64] | None = None, horizon: int = HORIZON) -> NDArray[np.float32]:
        """Return the model's forecast after the rows; covariates: [horizon, covariates]."""
        model, steps = shop_model(), len(self.rows)
        times = self.begin + HOUR * torch.arange(steps, steps + horizon).unsqueeze(0)
        known = None if covariates is None else torch.from_numpy(covariates).unsqueeze(0)
        with torch.inference_mode():
            context = self.trace(model).context(torch.tensor([0]), torch.tensor([steps]))
            result: NDArray[np.float32] = model.forecast(context, horizon, Future(times, known))[0].numpy()
        return result


def history(steps: int, seed: int = 0, **others: Any) -> History:
    """Return random sales with some values missing."""
    random = np.random.default_rng(seed)
    rows = random.normal(10, 2, (steps, TARGETS + len(COVARIATES)))
    rows[random.random(rows.shape) < 0.1] = np.nan
    return History(rows, **others)


def future(seed: int = 7, horizon: int = HORIZON) -> NDArray[np.float64]:
    """Return future covariates, [horizon, covariates]."""
    return np.random.default_rng(seed).normal(10, 2, (horizon, len(COVARIATES)))
