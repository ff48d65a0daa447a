"""What the edge asks of the engine, and what it gets back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from statecast.model import UTC, Gates, Zone
from statecast.service.engine.standing import Seed, Standing
from statecast.service.version import Version

NOTHING: NDArray[np.float64] = np.empty(0)
NO_TIMES: NDArray[np.int64] = np.empty(0, np.int64)
FORECAST_COST = 8
EXPLANATION_COST = 64
EXPLANATION_BYTES = 32 * 1024
OVERHEAD_BYTES = 1024
USUAL_LEVELS = 16
LONGEST_HORIZON = 4096
"""Beyond it a horizon is refused by every model, so it costs nothing."""


def cost(numbers: int, horizon: int, *, explain: bool) -> int:
    """What a request of so many values, covariates and times takes to carry out, about: 1 is one time step."""
    return 1 + numbers + (FORECAST_COST if horizon else 0) + (EXPLANATION_COST if explain else 0)


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open a session that does not exist; empty names mean the default model and its newest version.

    `max_ahead_ms` is None for the default, 0 for no limit. `where` is where this stands in the request, for errors.
    """

    model: str = ""
    model_version: str = ""
    ttl_ms: int | None = None
    categories: Mapping[str, str] = field(default_factory=dict)
    where: str = "open"
    zone: Zone = UTC
    max_ahead_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Fork:
    """Begin the session as a copy of `source_id`; without a seed, only look whether that was done already."""

    source_id: str
    seed: Seed | None = None
    ttl_ms: int | None = None


@dataclass(slots=True)
class Request:
    """One caller's wish for one session: append `values`, then forecast `horizon` steps; or close, copy or fork it.

    Attributes:
        target_count: Values of a time step according to the caller; 0 if it does not say.
        start_time: Instant of the first row, in nanoseconds since 1970; None if `times` has those of all rows.
        covariates: Covariates of the observed steps; may be empty.
        future_covariates: Covariates of the steps to forecast; may be empty.
        last_seen: The newest version that the caller has seen.
        deadline: Until when the answer is of use, on the clock of time.monotonic.
        cost: Estimated cost; 1 is one time step.
        nbytes: Estimated memory of the request and its answer.
    """

    session_id: str
    opening: Opening | None = None
    values: NDArray[np.float64] = field(default_factory=lambda: NOTHING)
    covariates: NDArray[np.float64] = field(default_factory=lambda: NOTHING)
    target_count: int = 0
    start_time: int | None = None
    times: NDArray[np.int64] = field(default_factory=lambda: NO_TIMES)
    horizon: int = 0
    quantile_levels: tuple[float, ...] = ()
    future_covariates: NDArray[np.float64] = field(default_factory=lambda: NOTHING)
    explain: bool = False
    request_id: bytes = b""
    if_version: Version | None = None
    last_seen: Version | None = None
    deadline: float | None = None
    close: bool = False
    copy: bool = False
    fork: Fork | None = None

    cost: int = field(init=False)
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        numbers = self.values.size + self.covariates.size + self.times.size
        self.cost = cost(numbers, self.horizon, explain=self.explain)
        levels = len(self.quantile_levels) or USUAL_LEVELS
        # What comes back of each value takes half of its own memory.
        answer = 4 * self.values.size + 4 * levels * min(self.horizon, LONGEST_HORIZON)
        taken = 8 * (numbers + self.future_covariates.size)
        self.nbytes = OVERHEAD_BYTES + taken + answer + (EXPLANATION_BYTES if self.explain else 0)

    @property
    def goes_alone(self) -> bool:
        """Whether nothing else of its session may be in the same batch."""
        return self.close or self.copy or self.fork is not None


@dataclass(frozen=True, eq=False, slots=True)
class Outline:
    """What all forecasts of a model with the same horizon and levels have in common.

    If there are classes, forecasts are their probabilities, and there are no levels.
    """

    horizon: int
    frequency: str
    quantile_levels: tuple[float, ...]
    classes: tuple[str, ...]
    targets: tuple[str, ...]
    time_zone: str = ""


@dataclass(slots=True)
class ForecastOutput:
    """Quantiles of the next steps [horizon, levels, targets], or probabilities [horizon, classes, targets].

    The start time is an instant, in nanoseconds since the epoch.
    """

    outline: Outline
    start_time: int | None
    values: NDArray[np.float32]


@dataclass(slots=True)
class Outcome:
    """Where the session stands after a request that succeeded, and the forecast from there.

    The version is None if a session was closed whose record could not be read. `pit` tells of each of the request's own
    values where it lay in the forecast before it [time, targets]. `missing` counts the steps without an observation
    that the request appended.
    """

    version: Version | None
    standing: Standing | None = None
    opened: bool = False
    replayed: bool = False
    forecast: ForecastOutput | None = None
    pit: NDArray[np.float64] | None = None
    gates: Gates | None = None
    missing: int = 0
    seed: Seed | None = None


Result = Outcome | Exception
"""What a request came to."""
