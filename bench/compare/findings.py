"""The results of a run."""

from dataclasses import dataclass, field
from typing import NamedTuple

from .floors import CommitFloor
from .loop import Measured
from .names import OURS, PLAIN


class Key(NamedTuple):
    """The key of a row: system, mode, number of sessions or streams at once, and model."""

    system: str
    mode: str
    concurrency: int
    model: str = PLAIN


@dataclass(frozen=True)
class History:
    """The server's CPU for an observation with a forecast, early and late in a session.

    Attributes:
        steps: Steps of the long session before the comparison.
        early_us: Median early in a session, in microseconds.
        late_us: Median late in a session, in microseconds.
        ratio: Median of late to early, turn by turn.
    """

    steps: int
    early_us: float
    late_us: float
    ratio: float


@dataclass(frozen=True)
class Population:
    """The memory that many sessions take.

    Attributes:
        sessions: Number of sessions.
        opened_a_second: Sessions opened a second.
        redis_bytes: Memory of Redis per session.
        empty_server_bytes: Resident memory of the server before the sessions.
        server_bytes: Resident memory of the server at the end.
    """

    sessions: int
    opened_a_second: float
    redis_bytes: float
    empty_server_bytes: int
    server_bytes: int


@dataclass
class Findings:
    """All results; those not measured are None or missing.

    Attributes:
        rows: The measurements of the loads.
        commit: The cost of a commit alone.
        matrices_us: Cost of the matrix products alone, microseconds a session, by batch size.
        lstm_rates: Rate of torch.nn.LSTM alone, observations a second, by batch size.
        history: The cost early and late in a session.
        population: The memory of many sessions.
        start_seconds: Seconds of every start of the server.
        skipped: Measurements that were skipped, with the reason.
    """

    rows: dict[Key, Measured] = field(default_factory=dict)
    commit: CommitFloor | None = None
    matrices_us: dict[int, float] = field(default_factory=dict)
    lstm_rates: dict[int, float] = field(default_factory=dict)
    history: History | None = None
    population: Population | None = None
    start_seconds: list[float] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def of(self, system: str, mode: str, concurrency: int) -> Measured | None:
        """Return a row of the plain model, which the peers serve too; None if it was not measured."""
        return self.rows.get(Key(system, mode, concurrency))

    def ours(self, mode: str, concurrency: int) -> Measured | None:
        """Return a row of Statecast with the plain model; None if it was not measured."""
        return self.of(OURS, mode, concurrency)
