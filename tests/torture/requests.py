"""Choice of the next requests, whose values never repeat, and a record of all calls."""

import random
import threading
import time
import uuid
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from support.hash_model import HORIZON, LARGEST_VALUE, read
from support.history import Acked, Call, History, Kind, Outcome, Refused, Unknown
from support.models import HORIZON as TINY_HORIZON

from statecast.client import (
    AsyncSession,
    Cancelled,
    DeadlineExceeded,
    Forecast,
    Receipt,
    RequestOutdated,
    ResourceExhausted,
    ServerError,
    Session,
    StatecastError,
    Unavailable,
)
from statecast.client.errors import KINDS
from statecast.service.version import Version

Answer: TypeAlias = Receipt | Forecast | Session | AsyncSession | None
REMEMBERED = 15
"""Documented limit of other requests to a session while the outcome of one is unknown."""
PATIENCE_SECONDS = 120.0
MOST_VALUES = 4
FORK = "-fork-"
_CODES: dict[type, str] = {kind: code.name for code, kind in KINDS.items()}
_AGAIN = (Unavailable, DeadlineExceeded, Cancelled, ResourceExhausted)


@dataclass(eq=False)
class Ask:
    """A call in flight."""

    caller: str
    session: str
    kind: Kind
    values: tuple[int, ...] = ()
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: float = field(default_factory=time.monotonic)
    source: str = ""
    """The session that a fork copies."""
    others: int = 0
    """Other requests that may have been appended since this one began."""

    @property
    def horizon(self) -> int:
        return horizon_of(self.session)

    def call(self, outcome: Outcome) -> Call:
        now = time.monotonic()
        told = (self.caller, self.session, self.kind, self.request_id, self.values, self.started, now, outcome)
        return Call(*told, source=self.source)


def model_of(session: str) -> str:
    """Return the model of a session; the session's name begins with it."""
    return session.partition("-")[0]


def is_fork(session: str) -> bool:
    """Return whether a session is a fork; callers may close a fork, but never open it."""
    return FORK in session


def horizon_of(session: str) -> int:
    return HORIZON if model_of(session) == "chain" else TINY_HORIZON


def sessions_of(chains: int, tinies: int) -> list[str]:
    """Return the names of sessions of both models."""
    return [f"chain-{number}" for number in range(chains)] + [f"tiny-{number}" for number in range(tinies)]


class Values:
    """A source of whole numbers that returns each number once."""

    def __init__(self) -> None:
        self._next = 1
        self._lock = threading.Lock()

    def take(self, count: int) -> tuple[int, ...]:
        with self._lock:
            first, self._next = self._next, self._next + count
        assert self._next <= LARGEST_VALUE
        return tuple(range(first, first + count))


class Desk:
    """A source of requests for any number of callers, which records the answers.

    Attributes:
        sessions: Sessions to call; forks come and go.
        forks: Share of calls that fork a session, or close a fork.
    """

    def __init__(self, sessions: Sequence[str], seed: int, history: History | None = None, forks: float = 0.0) -> None:
        self.history = history or History()
        self.values = Values()
        self.sessions = list(sessions)
        self.forks = forks
        self._known: set[str] = set()
        self._random = random.Random(seed)
        self._under_way: dict[str, list[Ask]] = {}
        self._lock = threading.Lock()

    def shares(self, count: int) -> "list[Desk]":
        """Return a desk for each caller, with its own share of the sessions; they share everything else."""
        shares = [Desk(self.sessions[number::count], number, self.history) for number in range(count)]
        for share in shares:
            share.values = self.values
        return shares

    def next(self, caller: str, *, steps_of: str = "") -> Ask | None:
        """Return the next request; None if all sessions tried have too many requests in flight.

        Args:
            caller: Name of the caller.
            steps_of: If given, return only steps to sessions of this model.
        """
        with self._lock:
            for _ in range(20):
                session = self._random.choice(self.sessions)
                others = self._under_way.setdefault(session, [])
                free = all(ask.others < REMEMBERED for ask in others) and len(others) <= REMEMBERED
                if free and (not steps_of or model_of(session) == steps_of):
                    break
            else:
                return None
            kind = Kind.STEP if steps_of else self._kind(session)
            if kind is Kind.FORK:
                child = f"{model_of(session)}{FORK}{uuid.uuid4().hex}"
                return Ask(caller, child, kind, source=session)
            count = self._random.randint(1, MOST_VALUES) if kind in (Kind.STEP, Kind.OBSERVE) else 0
            ask = Ask(caller, session, kind, self.values.take(count), others=len(others))
            if ask.values:
                for each in others:
                    each.others += 1
                others.append(ask)
            return ask

    def settled(self, ask: Ask, outcome: Outcome) -> None:
        with self._lock:
            if ask in self._under_way.get(ask.session, ()):
                self._under_way[ask.session].remove(ask)
            if isinstance(outcome, Acked):
                self._known.add(ask.session)
                if ask.kind is Kind.FORK:
                    self.sessions.append(ask.session)
            elif isinstance(outcome, Refused) and ask.kind is not Kind.CLOSE and ask.session in self.sessions:
                self.sessions.remove(ask.session)  # it was closed
        self.history.add(ask.call(outcome))

    def _kind(self, session: str) -> Kind:
        if self._random.random() < self.forks:
            if is_fork(session):
                return Kind.CLOSE
            if session in self._known:
                return Kind.FORK
        return self._random.choices((Kind.STEP, Kind.OBSERVE, Kind.FORECAST), (6, 2, 2))[0]


def settling(ask: Ask) -> Generator[None, Answer, Outcome]:
    """Drive repeated attempts of a request with the same id until its outcome is known."""
    while True:
        try:
            return acked(ask.session, (yield))
        except StatecastError as error:
            if not is_again(error):
                return refused(error)
            if ask.kind is Kind.FORK:  # the client does not expose its id, so it cannot be repeated
                return Unknown(str(error))
            if time.monotonic() > ask.started + PATIENCE_SECONDS:
                return Unknown(str(error))


def is_again(error: StatecastError) -> bool:
    """Return whether to send the request again: its outcome is unknown, or the server had no room."""
    return isinstance(error, _AGAIN)


def acked(session: str, answer: Any) -> Acked:
    """Convert an answer to an entry of the history."""
    if answer is None:  # of a close
        return Acked(None)
    version = Version(answer.version.step, answer.version.tag)
    told = forecast = None
    if isinstance(answer, Forecast):
        if model_of(session) == "chain":
            told = read(answer.values)
        else:
            forecast = answer.values
    replayed, opened = getattr(answer, "replayed", False), getattr(answer, "opened", False)  # a fork is a session
    return Acked(version, replayed, opened, told, forecast)


def refused(error: StatecastError) -> Refused | Unknown:
    """Convert an error to a refusal; RequestOutdated with an unknown outcome does not count as one."""
    if isinstance(error, RequestOutdated) and error.outcome_unknown:
        return Unknown(error.message)
    if isinstance(error, ServerError):
        return Refused(error.message.partition(":")[0], error.message, error.message)
    code = _CODES.get(type(error), type(error).__name__)
    if code == type(error).__name__ and not error.reason:
        raise error  # not an error of the server
    return Refused(code, error.reason, error.message)
