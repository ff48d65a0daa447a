"""What was asked and what was answered: every call of a run, with the time that it took."""

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
    """What a call wants."""

    OBSERVE = "observe"
    STEP = "step"
    FORECAST = "forecast"
    FORK = "fork"
    CLOSE = "close"


@dataclass(frozen=True, eq=False)
class Acked:
    """The server's word: where the session stands, and what its forecast says.

    Attributes:
        version: None of a close, which tells none.
        told: What the chain model's forecast tells.
        forecast: Another model's forecast as it is, [horizon, levels, targets].
    """

    version: Version | None
    replayed: bool = False
    opened: bool = False
    told: Told | None = None
    forecast: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Refused:
    """The server's word that nothing of the call was carried out."""

    code: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Unknown:
    """Nobody answered: the call was carried out once or not at all, at any time since it began."""

    error: str = ""


Outcome: TypeAlias = Acked | Refused | Unknown


@dataclass(frozen=True, eq=False)
class Call:
    """One request with all its attempts, and what came of it.

    Attributes:
        session: One life of a session: one of the same name that is opened again later is called otherwise here.
        values: What it appends; no two calls of a run append the same value.
        started: When the first attempt was made, monotonic.
        ended: When the outcome was known.
        source: What a fork copies, another `session`.
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
        """The answer, if it was one."""
        return self.outcome if isinstance(self.outcome, Acked) else None

    def __str__(self) -> str:
        return f"{self.kind} {list(self.values)} of {self.caller}"


class History:
    """Calls in the order in which they ended; threads may add to it."""

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        self._calls = list(calls)
        self._lock = threading.Lock()

    def add(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)

    @property
    def calls(self) -> list[Call]:
        """All calls up to now."""
        with self._lock:
            return list(self._calls)

    def sessions(self) -> dict[str, list[Call]]:
        """The calls of each session; a source of a fork comes before what was forked from it."""
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
