"""The requests that the engine takes, and the results that it returns."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from statecast.model import UTC, Frequency, Gates, Zone
from statecast.service.engine.standing import Seed, Standing
from statecast.service.models.registry import Model
from statecast.service.session_key import DEFAULT_TENANT, session_key
from statecast.service.version import START, Version

NOTHING: NDArray[np.float64] = np.empty(0)
NO_TIMES: NDArray[np.int64] = np.empty(0, np.int64)
FORECAST_COST = 8
EXPLANATION_COST = 64
UPGRADE_COST = 512
"""About the number of values that are re-encoded."""
EXPLANATION_BYTES = 32 * 1024
OVERHEAD_BYTES = 1024
USUAL_LEVELS = 16
ENDED_TTL_MS = 60_000
"""How long an ended session still answers repeated requests."""
LONGEST_HORIZON = 4096
"""Every model refuses a longer horizon, so the rest costs nothing."""


def cost(numbers: int, horizon: int, *, explain: bool) -> int:
    """Estimate the cost of a request with so many values, covariates and times; 1 is one time step."""
    return 1 + numbers + (FORECAST_COST if horizon else 0) + (EXPLANATION_COST if explain else 0)


def _nbytes(numbers: int, values: int, levels: int, horizon: int) -> int:
    """Estimate the memory of a request with so many numbers, of which `values` are answered, and of its answer."""
    return OVERHEAD_BYTES + 8 * numbers + 4 * values + 4 * levels * min(horizon, LONGEST_HORIZON)


class Entrance(Enum):
    """Ways to enter a session."""

    OPEN = "open"
    """Resume it, or begin it if it does not exist."""
    RESUME = "resume"
    """Resume it; it must exist."""
    RESTART = "restart"
    """Begin it, in place of the one that may exist, whose history ends."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Options for opening a session; empty names select the default model and its newest version.

    `max_ahead_ms` is None for the default, 0 for no limit. `frequency` is None for that of the model, if it has one.
    `where` is the request's field with the options, for errors. With an `alias`, the session follows that instead of
    having a version. With `upgrade`, an existing session moves to the model named here.
    """

    model: str = ""
    model_version: str = ""
    ttl_ms: int | None = None
    categories: Mapping[str, str] = field(default_factory=dict)
    where: str = "open"
    zone: Zone = UTC
    max_ahead_ms: int | None = None
    entrance: Entrance = Entrance.OPEN
    frequency: Frequency | None = None
    alias: str = ""
    upgrade: bool = False


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Move the session to another model; empty names select its own model, and the newest version.

    With an `alias`, it follows that. The request's observations, if there are any, are those that it has taken after
    the version `since`.
    """

    model: str = ""
    model_version: str = ""
    alias: str = ""
    since: Version = START


@dataclass(frozen=True, slots=True)
class Fork:
    """Start the session as a copy of `source_id`; without a seed, only check if an earlier request did."""

    source_id: str
    seed: Seed | None = None
    ttl_ms: int | None = None


@dataclass(slots=True, eq=False)
class Ticket:
    """Who waits for the results of one or more requests.

    Attributes:
        caller: Name of the caller, by which callers take turns.
        deliver: Takes some of the requests with their results; called in the event loop.
        has_gone: Returns True once nobody waits any more; called from any thread.
        queued_at: When they were queued, by time.monotonic.
    """

    caller: str
    deliver: "Callable[[Sequence[Answered]], None]"
    has_gone: Callable[[], bool]
    queued_at: float = field(default_factory=time.monotonic)

    @staticmethod
    def nobody() -> "Ticket":
        """Return the ticket of requests that nobody has queued."""
        return Ticket("", lambda _: None, lambda: False)


NOBODY = Ticket.nobody()


@dataclass(slots=True)
class Request:
    """A request for one session: append `values`, then forecast `horizon` steps; or close, copy, fork or move it.

    Attributes:
        target_count: Values per time step, as stated by the caller; 0 if not stated.
        start_time: Instant of the first row, in nanoseconds since 1970; None if `times` has those of all rows.
        covariates: Covariates of the observed steps; may be empty.
        future_covariates: Covariates of the steps to forecast; may be empty.
        last_seen: The newest version that the caller has seen.
        tenant: The caller's tenant, to whom the session belongs.
        may_open: False if the caller may use no session but one that exists.
        is_full: True if its tenant may have no more sessions.
        ends: True to end the session: it takes no further request, but answers repeated ones for `ENDED_TTL_MS`.
        up_to_horizon: True to forecast as far as the session's model does, if `horizon` is beyond that.
        upgrade: Where to move it; its values are then re-encoded, not appended.
        key: Key of the session.
        is_plain: True if it observes or forecasts, and asks for nothing that sessions seldom need.
        deadline: When the caller stops waiting, by time.monotonic.
        cost: Estimated cost; 1 is one time step.
        nbytes: Estimated memory of the request and its answer.
        queue_seconds: How long it waited in the queue; None until it is in a batch.
        ticket: Who waits for its result, once it is queued.
        position: Its position in the caller's frame.
        trace: Its trace, for the observer of its batch; None if it is not traced.
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
    tenant: str = DEFAULT_TENANT
    may_open: bool = True
    is_full: bool = False
    ends: bool = False
    up_to_horizon: bool = False
    upgrade: Upgrade | None = None

    key: str = field(init=False)
    is_plain: bool = field(init=False)
    cost: int = field(init=False)
    nbytes: int = field(init=False)
    queue_seconds: float | None = field(init=False, default=None, compare=False)
    ticket: Ticket = field(init=False, default=NOBODY, compare=False, repr=False)
    position: int = field(init=False, default=0, compare=False)
    trace: object = field(init=False, default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.key = session_key(self.tenant, self.session_id)
        count, horizon, explain = self.values.size, self.horizon, self.explain
        numbers, future = count + self.covariates.size + self.times.size, self.future_covariates.size
        self.is_plain = bool(count or horizon) and not (
            numbers > count
            or future
            or explain
            or self.quantile_levels
            or self.if_version is not None
            or self.fork is not None
            or self.upgrade is not None
            or self.ends
            or self.close
            or self.copy
            or self.restarts
        )
        self.cost = cost(numbers, horizon, explain=explain) + (UPGRADE_COST if self.upgrade is not None else 0)
        levels = len(self.quantile_levels) or USUAL_LEVELS
        self.nbytes = _nbytes(numbers + future, count, levels, horizon) + (EXPLANATION_BYTES if explain else 0)

    @classmethod
    def of_one_value(cls, session_id: str, value: float, horizon: int, request_id: bytes, tenant: str) -> "Request":
        """Return the request that appends one value, and asks for nothing unusual: as most do, in half the time.

        The caller may set `deadline`, `last_seen` and `opening`.
        """
        request = _new(cls)
        request.session_id, request.key, request.tenant = session_id, session_key(tenant, session_id), tenant
        request.values, request.horizon, request.request_id = np.array((value,)), horizon, request_id
        request.is_plain, request.cost = True, cost(1, horizon, explain=False)
        request.nbytes = _nbytes(1, 1, USUAL_LEVELS, horizon)
        # All else has its default. Setting an attribute costs far less than passing it.
        request.covariates, request.future_covariates, request.times = NOTHING, NOTHING, NO_TIMES
        request.deadline = request.opening = request.start_time = request.if_version = request.last_seen = None
        request.fork = request.upgrade = request.queue_seconds = request.trace = None
        request.explain = request.close = request.copy = request.is_full = request.ends = request.up_to_horizon = False
        request.quantile_levels, request.target_count, request.position = (), 0, 0
        request.may_open, request.ticket = True, NOBODY
        return request

    @property
    def goes_alone(self) -> bool:
        """True if the batch may hold no other request of the session."""
        is_move = self.fork is not None or self.upgrade is not None
        return self.close or self.copy or is_move or self.ends or self.restarts

    @property
    def restarts(self) -> bool:
        """True if the session begins in place of the one that may exist."""
        return self.opening is not None and self.opening.entrance is Entrance.RESTART


_new: Callable[[type[Request]], Request] = object.__new__


@dataclass(frozen=True, eq=False, slots=True)
class Outline:
    """The part that all forecasts of a model with equal horizon and levels share.

    With classes, forecasts are their probabilities, and there are no levels.
    """

    horizon: int
    frequency: str
    quantile_levels: tuple[float, ...]
    classes: tuple[str, ...]
    targets: tuple[str, ...]
    time_zone: str = ""


@dataclass(slots=True)
class ForecastOutput:
    """A forecast; its start time is an instant, in nanoseconds since the epoch.

    `data` holds quantiles of the next steps [horizon, levels, targets], or probabilities [horizon, classes, targets],
    as little-endian float32.
    """

    outline: Outline
    start_time: int | None
    data: bytes

    @property
    def values(self) -> NDArray[np.float32]:
        """The quantiles or probabilities, float32 [horizon, levels or classes, targets]."""
        outline = self.outline
        shape = outline.horizon, len(outline.classes) or len(outline.quantile_levels), len(outline.targets)
        return np.frombuffer(self.data, "<f4").reshape(shape)


@dataclass(slots=True)
class Outcome:
    """The result of a successful request: the session's version after it, and the forecast from there.

    The version is None if a session was closed whose record could not be read. Usual requests, which observe or
    forecast, get no `standing`. `pit` holds the position of each of the request's values in the forecast before it
    [time, targets], as little-endian float32. `steps` counts the time steps that were appended, `missing` those of them
    without an observation. `model` is the session's; None if it was closed without its record. `reencoded` counts the
    steps of a session that has moved to it; `is_exact` if that was its whole history.
    """

    version: Version | None
    standing: Standing | None = None
    opened: bool = False
    replayed: bool = False
    forecast: ForecastOutput | None = None
    pit: bytes | None = None
    gates: Gates | None = None
    missing: int = 0
    seed: Seed | None = None
    ttl_ms: int = 0
    steps: int = 0
    model: Model | None = None
    reencoded: int = 0
    is_exact: bool = False


Result = Outcome | Exception
"""The outcome of a request, or its error."""
Answered = tuple[Request, Result]
"""A request with its result."""
