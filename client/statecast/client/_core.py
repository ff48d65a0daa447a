"""The client's knowledge of a session."""

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from statecast.v1 import forecast_pb2
from statecast.v1.reasons import Reason

from . import _messages
from ._ask import PLAIN, Ask
from ._replay_buffer import START, ReplayBuffer
from ._request import NOTHING, ONLY_APPEND, Block, Options, Request, session_field
from ._response import Response
from ._times import Reading
from .errors import NotFound, RequestOutdated, SessionRegressed, StatecastError, invalid
from .types import Version

REPLAY_REQUESTS = 32
SHORTEST_TRACE_SECONDS, LONGEST_TRACE_SECONDS = 1.0, 86_400.0


@dataclass
class SessionCore:
    """A session, without the connection.

    Attributes:
        session_id: Id of the session.
        opening: Options for opening it; None if it must exist.
        replay_buffer: Its last acknowledged observations, in case the server loses them.
        version: The newest version received from the server; None without one.
        is_open: True once a request has succeeded; from then on the session must exist.
        was_opened_here: True if it was opened with `opening`; only then can it be recreated.
        unsettled: Requests of unknown outcome, by id: the version last seen when each was first sent.
        is_shared: True if others were seen to append to it.
        heard_at: Time of the last success, on the clock of time.monotonic.
        time_zone: Zone that the caller named; empty if none.
        zone_seen: Zone that the session is known to have, from any source; empty if unknown or UTC.
        last_time: Time of the last row sent, in nanoseconds since 1970; None if unknown.
        time_to_live_seconds: How long the server keeps the session, if it has said so; one second until then.
    """

    session_id: str
    opening: forecast_pb2.OpenOptions | None
    replay_buffer: ReplayBuffer = field(default_factory=lambda: ReplayBuffer(REPLAY_REQUESTS))
    version: Version | None = None
    is_open: bool = False
    was_opened_here: bool = False
    unsettled: dict[str, Version] = field(default_factory=dict)
    is_shared: bool = False
    heard_at: float = field(default_factory=time.monotonic)
    time_zone: str = ""
    zone_seen: str = ""
    last_time: int | None = None
    time_to_live_seconds: float = SHORTEST_TRACE_SECONDS
    _has_warned: bool = False
    _field: bytes = field(init=False)
    _ids: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._field = session_field(self.session_id)
        # A session remembers only its last 16 requests: ids need only differ among these, whoever sends them.
        self._ids = count(int.from_bytes(os.urandom(8)) >> 1)

    @property
    def model(self) -> tuple[str, str]:
        """Name and version of the model that the caller named; empty for the server's default, or the newest."""
        return ("", "") if self.opening is None else (self.opening.model, self.opening.model_version)

    @property
    def reading(self) -> Reading:
        """The zones by which to read times without one."""
        return Reading(self.time_zone, self.zone_seen)

    def heard(self, request: Request, response: Response) -> None:
        """Record a success."""
        has_values = request.block.values > 0
        if has_values:
            self._note_times(request.block.times, response)
        if response.time_to_live_seconds is not None:
            self.time_to_live_seconds = response.time_to_live_seconds
        if response.opened:
            self.was_opened_here = True
            if self.opening is not None and request.opening is not None:
                self.opening.time_zone = self.zone_seen = request.opening.time_zone
        if response.forecast is not None:
            self.zone_seen = response.forecast[0].time_zone or self.zone_seen
        is_alone = self.replay_buffer.note(request, response, self.version)
        if not is_alone or not has_values:
            self.is_shared = not is_alone
        self.heard_at = time.monotonic()
        if self.unsettled:
            self.unsettled.pop(request.request_id, None)
        self.is_open = True
        self.version = response.version

    def _note_times(self, times: Sequence[int], response: Response) -> None:
        """Record the time of the last row; warn if most of the steps between the first and last row have no row."""
        if response.replayed:
            return
        before = self.last_time
        self.last_time = times[-1] if times else None
        if len(times) < 2 or not response.missing_steps or self._has_warned:
            return
        steps = response.missing_steps + len(times)
        if response.opened:
            step = (times[-1] - times[0]) / (steps - 1)
        elif before is not None:
            step = (times[-1] - before) / steps
        else:
            return
        missing = (times[-1] - times[0]) / step + 1 - len(times)
        if missing > len(times):
            self._has_warned = True
            warnings.warn(
                f"session {self.session_id!r}: {missing:.0f} steps between these {len(times)} observations are "
                "missing, for the session's steps are shorter; choose another frequency, or resample them",
                stacklevel=2,
            )

    def closed(self) -> None:
        """Record that the session was closed."""
        self.is_open = True
        self.version = None
        self.replay_buffer.forget(None)

    def upgraded(self, model: str, model_version: str) -> None:
        """Record that the session was moved to the model of these names."""
        if self.opening is not None:
            self.opening.model, self.opening.model_version = (
                model or self.opening.model.partition("@")[0],
                model_version,
            )

    def say_what_was_seen(self, request: Request) -> None:
        """Set `last_seen`, by which the server notices that it lost observations or forgot this request's id."""
        request.last_seen = self.unsettled.get(request.request_id, self.version or START)

    def failed(self, request: Request, error: StatecastError) -> None:
        """Record that a request ended in an error."""
        error.outcome_unknown |= request.request_id in self.unsettled
        if error.outcome_unknown and request.block.values:
            self.unsettled.setdefault(request.request_id, request.last_seen or START)

    def caught_up(self, request: Request, error: StatecastError, was_tried: bool) -> bool:
        """Return True if the request is outdated but safe to send again; the core then has the current version.

        A request that was tried before, with an unknown outcome, may be among those that the session has taken.
        """
        if not isinstance(error, RequestOutdated) or error.current is None:
            return False
        if was_tried or request.request_id in self.unsettled:
            return False
        self.version, self.is_shared = error.current, True
        self.replay_buffer.forget(error.current)
        return True

    def is_lost(self, error: StatecastError) -> bool:
        """Return True if the error means that the server has lost observations of the session, or all of it."""
        if isinstance(error, NotFound) and error.reason == Reason.SESSION_NOT_FOUND and self.version is not None:
            return time.monotonic() < self.heard_at + self._trace_seconds
        return isinstance(error, SessionRegressed)

    @property
    def _trace_seconds(self) -> float:
        """Time after the last success in which a closed or expired session would still have left a trace."""
        return min(self.time_to_live_seconds, LONGEST_TRACE_SECONDS)

    def parts(self, blocks: Sequence[Block], options: Options, ask: Ask = PLAIN, zone: str = "") -> list[Request]:
        """Return a request for each block; the last one asks for the answer.

        `zone` is that of the first observations. The session is opened in it if the caller named none.
        """
        if ask.request_id and len(blocks) > 1:
            limit = _messages.MAX_VALUES_A_REQUEST
            raise invalid("request_id", f"one id goes with one request, of at most {limit} values and covariates")
        own_id = _messages.text("request_id", ask.request_id) if ask.request_id else ""
        # Each gets an id, even if it appends nothing: a stream matches results by id.
        parts = [self._request(block, own_id) for block in blocks]
        parts[-1].options = options
        if self.is_shared and blocks[0].values and ask.if_version is None:
            # Look first: the newer the last seen version, the longer the server can recognise a repeat of this request.
            parts.insert(0, self._request(NOTHING))
        parts[0].if_version = ask.if_version
        if self.opening is not None and not self.is_open:
            parts[0].opening = opening = forecast_pb2.OpenOptions()
            opening.CopyFrom(self.opening)
            opening.time_zone = self.opening.time_zone or zone
        return parts

    def _request(self, block: Block, request_id: str = "") -> Request:
        return Request(self.session_id, request_id or f"{next(self._ids):016x}", block, ONLY_APPEND, self._field)
