"""Requests to an engine, and the expected answers."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from statecast.service.engine.engine import Engine
from statecast.service.engine.request import Opening, Outcome, Request, Result
from statecast.service.engine.standing import Standing
from statecast.service.errors import (
    ServiceError,
)
from statecast.service.version import START, Version, chain
from support.models import HORIZON, tiny_model

MakeEngine = Callable[..., Engine]
assert_close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def observe(session_id: str, *values: float, horizon: int = HORIZON, **others: object) -> Request:
    others.setdefault("opening", Opening())
    return Request(session_id, values=np.array(values, np.float64), horizon=horizon, **others)  # type: ignore[arg-type]


def one(engine: Engine, request: Request) -> Outcome:
    """Carry out one request that must succeed."""
    (result,) = engine.run({request.session_id: [request]})[request.session_id]
    assert isinstance(result, Outcome), result
    return result


def standing(outcome: Outcome) -> Standing:
    """Return the standing of a session that has not been closed."""
    assert outcome.standing is not None
    return outcome.standing


def step_of(outcome: Outcome) -> int:
    assert outcome.version is not None
    return outcome.version.step


def refused(result: Result, kind: type[ServiceError]) -> ServiceError:
    assert isinstance(result, kind), result
    return result


def expected(values: Sequence[float], name: str = "tiny") -> NDArray[np.float32]:
    """Return the model's own forecast after `values`, without a service."""
    forecaster = tiny_model(name)
    targets = len(forecaster.config.targets)
    rows = torch.tensor(np.array(values, np.float64).reshape(1, -1, targets))
    with torch.inference_mode():
        trace = forecaster.advance(forecaster.initial_state(1), rows)
        result: NDArray[np.float32] = forecaster.forecast(forecaster.context(trace.state), HORIZON)[0].numpy()
    return result


def version_of(values: Sequence[float]) -> Version:
    return chain(START, np.array(values, np.float64).reshape(-1, 1), None)
