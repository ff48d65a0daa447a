"""What a run has found."""

from dataclasses import dataclass, field
from typing import NamedTuple

from .floors import CommitFloor
from .loop import Measured
from .names import OURS, PLAIN


class Key(NamedTuple):
    """One row: which system, how it was asked, with how many sessions or streams at once, and the model."""

    system: str
    mode: str
    concurrency: int
    model: str = PLAIN


@dataclass(frozen=True)
class History:
    """What an observation with a forecast costs the server early and late in a session, CPU in microseconds."""

    steps: int
    early_us: float
    late_us: float
    ratio: float


@dataclass(frozen=True)
class Population:
    """What many sessions take.

    Attributes:
        sessions: How many.
        opened_a_second: How quickly they were made.
        redis_bytes: Memory of Redis for each.
        empty_server_bytes: Resident memory of the server before.
        server_bytes: Resident memory of the server at the end.
    """

    sessions: int
    opened_a_second: float
    redis_bytes: float
    empty_server_bytes: int
    server_bytes: int


@dataclass
class Findings:
    """All of it; what was not measured is absent.

    Attributes:
        rows: What loads have shown.
        commit: The commit alone.
        matrices_us: The matrix products alone, microseconds a session, by batch size.
        lstm_rates: torch.nn.LSTM alone, observations a second, by batch size.
        history: Early and late in a session.
        population: Many sessions.
        start_seconds: Every start of the server.
        skipped: What could not be measured, and why.
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
        """A row of the model that the peers serve as well."""
        return self.rows.get(Key(system, mode, concurrency))

    def ours(self, mode: str, concurrency: int) -> Measured | None:
        """A row of the server that all is about."""
        return self.of(OURS, mode, concurrency)
