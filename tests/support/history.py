"""The calls of a run: requests, answers and times."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from statecast.service.version import Version
from support.hash_model import Told


class Kind(StrEnum):
    """Kinds of calls."""

    OBSERVE = "observe"
    STEP = "step"
    FORECAST = "forecast"
    FORK = "fork"
    CLOSE = "close"


@dataclass(frozen=True, eq=False)
class Acked:
    """A success: the session's version, and its forecast.

    Attributes:
        version: The session's version; None after a close, which returns none.
        told: The state that the chain model's forecast reveals.
        forecast: The unchanged forecast of another model, [horizon, levels, targets].
    """

    version: Version | None
    replayed: bool = False
    opened: bool = False
    told: Told | None = None
    forecast: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Refused:
    """A refusal: the server did not carry out any part of the call."""

    code: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Unknown:
    """No answer: the call was carried out once or not at all, at any time since it began."""

    error: str = ""


Outcome: TypeAlias = Acked | Refused | Unknown


@dataclass(frozen=True, eq=False)
class Call:
    """One request with all its attempts, and its outcome.

    Attributes:
        session: Name of one life of a session; a session that is opened again later gets another name here.
        values: The values that it appends; no two calls of a run append the same value.
        started: Monotonic time of the first attempt.
        ended: Monotonic time when the outcome was known.
        source: The `session` that a fork copies.
    """

    caller: str
    session: str
    kind: Kind
    request_id: str
    values: tuple[int, ...]
    started: float
    ended: float
    outcome: Outcome
    source: str = ""

    @property
    def acked(self) -> Acked | None:
        """Return the outcome if the call succeeded, else None."""
        return self.outcome if isinstance(self.outcome, Acked) else None

    def __str__(self) -> str:
        return f"{self.kind} {list(self.values)} of {self.caller}"


class History:
    """Calls in the order in which they ended; several threads may add calls."""

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        self._calls = list(calls)
        self._lock = threading.Lock()

    def add(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)

    @property
    def calls(self) -> list[Call]:
        """Return all calls up to now."""
        with self._lock:
            return list(self._calls)

    def sessions(self) -> dict[str, list[Call]]:
        """Return the calls of each session; the source of a fork comes before the fork."""
        found: dict[str, list[Call]] = {}
        for call in self.calls:
            found.setdefault(call.session, []).append(call)
        ordered: dict[str, list[Call]] = {}

        def visit(session: str) -> None:
            if session in ordered or session not in found:
                return
            for call in found[session]:
                if call.kind is Kind.FORK:
                    visit(call.source)
            ordered[session] = found[session]

        for session in found:
            visit(session)
        return ordered
