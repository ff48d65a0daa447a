"""The replicas that a client knows: the part that both clients share, without I/O."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any, Generic, NamedTuple, TypeVar

from . import _calls
from ._affinity import Ring
from ._calls import Method
from ._connection import Connection
from ._request import Encodable, Frame, encode
from ._response import Result
from ._target import listed_addresses, name_in
from .errors import StatecastError, Unavailable

ASIDE_SECONDS = 5.0
"""Time for which other replicas are preferred to one that did not answer; longer than to try its neighbour, too."""
REFRESH_SECONDS = 30.0
"""Time after which a client in use looks its name up again."""
SOONEST_SECONDS = 2.0
"""Time after which it does so if a replica could not answer."""
RETIRED_SECONDS = 10.0
"""Time for the calls in flight to a replica whose address is gone."""


class Replica:
    """A channel: to one replica, or to all that the target names.

    Attributes:
        channel: The channel.
        aside_until: Time until which other replicas are preferred, on the clock of time.monotonic.
        is_retired: True once its address is gone.
    """

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.aside_until, self.is_retired = -math.inf, False
        self._methods: dict[Method, Any] = {}

    def method(self, method: Method) -> Any:
        """Return the function that calls a method."""
        made = self._methods.get(method)
        if made is None:
            kind = self.channel.stream_stream if method is _calls.FORECAST_STREAM else self.channel.unary_unary
            made = self._methods[method] = kind(method.path, request_serializer=encode)
        return made

    def note_failure(self, error: StatecastError) -> None:
        """Prefer other replicas for a moment if this one could not be reached, or could not answer."""
        if isinstance(error, Unavailable):
            self.aside_until = time.monotonic() + ASIDE_SECONDS


R = TypeVar("R", bound=Replica)


class Part(NamedTuple, Generic[R]):
    """The part of a frame for one replica, and the positions of its requests in the whole frame."""

    replica: R
    frame: Frame
    positions: Sequence[int]


class Replicas(ABC, Generic[R]):
    """The replicas behind a target, and which one a session belongs to.

    A target that lists several addresses, or is a name that has several, gets a channel to each. All other calls take
    the channel to the target itself, where gRPC chooses the replica: calls without a session, those before the name
    has been looked up, and those of a session whose two first replicas do not answer.

    Attributes:
        any: The channel to the target itself.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._listed, name = listed_addresses(connection.target), name_in(connection.target)
        self._name = None if name is None or connection.uses_proxy(name.host) else name
        self.any = self._new(connection)
        self._ring: Ring[R] = Ring({})
        self._family, self._is_family_down, self._looked_at = 0, False, -math.inf
        self._due = 0.0 if self._name or len(self._listed) > 1 else math.inf

    def of(self, session_id: str) -> R:
        """Return the replica for a session's next call: its own, or its second one while that does not answer."""
        now = time.monotonic()
        if now >= self._due:
            self._refresh()
        ring = self._ring
        if not session_id or not ring.by_address:
            return self.any
        for replica in ring.ranked(session_id):
            if now >= replica.aside_until:
                return replica
            self._hurry()
        self._is_family_down = True
        return self.any

    def parts(self, message: Encodable) -> list[Part[R]]:
        """Return the parts of a frame whose sessions belong to several replicas; empty if one replica gets all."""
        if not isinstance(message, Frame) or not self._ring.by_address:
            return []
        positions: dict[R, list[int]] = {}
        for at, session_id in enumerate(message.session_ids):
            positions.setdefault(self.of(session_id), []).append(at)
        if len(positions) < 2:
            return []
        return [Part(replica, message.part(chosen), chosen) for replica, chosen in positions.items()]

    def _hurry(self) -> None:
        """Look the name up sooner: the address of a replica that cannot take calls may be gone."""
        if self._name is not None:
            self._due = min(self._due, self._looked_at + SOONEST_SECONDS)

    def _settle(self, families: Sequence[Sequence[str]] | None) -> list[R]:
        """Take in the addresses that were found, by family, and return the replicas whose addresses are gone.

        None stands for a failed look-up, after which all stays as it is.
        """
        self._due = math.inf if self._name is None else self._looked_at + REFRESH_SECONDS
        before = self._ring.by_address
        if families is None:
            return []
        if self._is_family_down:
            self._family += 1  # IPv6 may lead nowhere where IPv4 does, or the other way round
            self._is_family_down = False
        addresses = families[self._family % len(families)] if families else ()
        if len(addresses) < 2:
            addresses = ()
        if set(addresses) == before.keys():
            return []
        connections = {address: self._connection.at(address, self._name) for address in addresses}
        self._ring = Ring({address: before.get(address) or self._new(each) for address, each in connections.items()})
        gone = [replica for address, replica in before.items() if address not in addresses]
        for replica in gone:
            replica.is_retired = True
        return gone

    @abstractmethod
    def _new(self, connection: Connection) -> R:
        """Open a channel."""

    @abstractmethod
    def _refresh(self) -> None:
        """Look the name up in the background, unless that is under way."""


def merge(parts: Iterable[Part[Any]], outcomes: Iterable[Any]) -> list[Result]:
    """Return the results of a frame, in order, from the outcomes of its parts; an error fails all requests of its part.

    Raises:
        BaseException: An outcome is an exception, and no StatecastError.
    """
    results: dict[int, Result] = {}
    for part, outcome in zip(parts, outcomes, strict=True):
        if isinstance(outcome, StatecastError):
            outcome = [(b"", copy(outcome)) for _ in part.positions]
        elif isinstance(outcome, BaseException):
            raise outcome
        results.update(zip(part.positions, outcome, strict=True))
    return [results[at] for at in range(len(results))]
