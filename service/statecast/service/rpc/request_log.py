"""The log of requests: those that failed, those that were slow, and at the level DEBUG every one."""

import asyncio
import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from statecast.service.access.principal import ANYBODY, Principal
from statecast.service.errors import InvalidRequest, ServiceError
from statecast.service.log import shortened, with_fields
from statecast.v1.reasons import Reason

if TYPE_CHECKING:  # an optional extra
    from statecast.service.tracing.spans import CallTrace

log = logging.getLogger("statecast.requests")

MOST_LINES = 10
PERIOD_SECONDS = 10.0
"""A kind of line is written so many times in a period that begins with the first; the others are counted."""
LONGEST_NAME = 64
LONGEST_MESSAGE = 200
LEVELS = {
    Reason.STORE_REFUSES: logging.ERROR,
    Reason.STORE_FULL: logging.ERROR,
    Reason.STORE_UNREACHABLE: logging.WARNING,
    Reason.STORE_UNAVAILABLE: logging.WARNING,
    Reason.RECORD_DAMAGED: logging.WARNING,
}
"""Levels of the failures that are not the caller's fault; ERROR if an operator must act."""
# https://www.w3.org/TR/trace-context/#traceparent-header: version 00 ends after the flags, later ones may go on.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_ONE_NUMBER = re.compile(
    r"(observations\.values|observations\.covariates|future_covariates|inputs\[\d+\]\.contents\.\w+|raw_input_contents)\["
)

Ending = tuple[str, str]
"""Code and reason that a request ended with; the reason may be empty."""


class Caller(Protocol):
    """A call as the log sees it."""

    @property
    def principal(self) -> Principal:
        """The caller."""

    @property
    def trace(self) -> "CallTrace | None":
        """The call's trace; None if it is not sampled."""

    def peer(self) -> str:
        """Return the address of the caller's connection."""

    def traceparent(self) -> str | None:
        """Return the header `traceparent`; None without one."""


class Ended(NamedTuple):
    """A request that has ended: `asked` is its message or the engine's request, or None if neither is known."""

    kind: str
    ending: Ending
    seconds: float
    asked: object
    caller: Caller


@dataclass(slots=True)
class _Period:
    timer: asyncio.TimerHandle
    lines: int = 0
    more: int = 0


class LineLimit:
    """Limits lines of one message: a few for each code and reason, then one with the number of all others."""

    def __init__(self, message: str, level: Callable[[Ending], int]) -> None:
        self._message, self._level = message, level
        self._periods: dict[Ending, _Period] = {}

    def admits(self, ending: Ending) -> bool:
        """Return whether another line may be written now; if not, count it. Call it in the event loop."""
        period = self._periods.get(ending)
        if period is None:
            timer = asyncio.get_running_loop().call_later(PERIOD_SECONDS, self._end, ending)
            period = self._periods[ending] = _Period(timer)
        if period.lines < MOST_LINES:
            period.lines += 1
            return True
        period.more += 1
        return False

    def close(self) -> None:
        """End all periods now."""
        for ending, period in list(self._periods.items()):
            period.timer.cancel()
            self._end(ending)

    def _end(self, ending: Ending) -> None:
        period = self._periods.pop(ending)
        if period.more:
            code, reason = ending
            fields = with_fields(code=code, reason=reason, more=period.more)
            more = f"{period.more:,}"
            log.log(self._level(ending), "%s: ... and %s more like it", self._message, more, extra=fields)


class RequestLog:
    """Writes about requests, for use in the event loop. A flood of failures makes few lines."""

    def __init__(self, slow_seconds: float = 0.0) -> None:
        """Write about requests that fail, and those that take `slow_seconds` or longer; 0 for none of these."""
        self._slow_seconds = slow_seconds or math.inf
        self._writes_all = log.isEnabledFor(logging.DEBUG)
        self._failed = LineLimit("request failed", level_of)
        self._slow = LineLimit("slow request", lambda _: logging.INFO)
        self.from_seconds = 0.0 if self._writes_all else self._slow_seconds
        """`ended` has something to write about requests that took as long."""

    def admits_failure(self, ending: Ending) -> bool:
        """Return whether `failed` may write about such a request now; if not, it is counted."""
        return self._failed.admits(ending)

    def failed(self, request: Ended, error: Exception) -> None:
        """Write about a request that has failed, once `admits_failure` has said so."""
        bug = None if isinstance(error, ServiceError) else error
        log.log(level_of(request.ending), "request failed", exc_info=bug, extra=_fields(request, error=_text_of(error)))

    def ended(self, request: Ended) -> None:
        """Write about a request that took at least `from_seconds`."""
        if self._writes_all:
            log.debug("request", extra=_fields(request))
        if request.seconds >= self._slow_seconds and self._slow.admits(request.ending):
            log.info("slow request", extra=_fields(request))

    def close(self) -> None:
        """Write what was counted."""
        self._failed.close()
        self._slow.close()


def level_of(ending: Ending) -> int:
    """Return the level of a failure: above INFO if it is the server's fault."""
    code, reason = ending
    if code == "INTERNAL":
        return logging.ERROR
    return LEVELS.get(Reason(reason), logging.INFO) if reason else logging.INFO


def session_field(session_id: str) -> str:
    """Return a session's id as the log shows it."""
    return shortened(session_id, LONGEST_NAME)


def caller_fields(caller: Caller) -> dict[str, object]:
    """Return the fields of a line that say who has called."""
    principal = caller.principal
    return {
        "tenant": principal.tenant,
        "credential": None if principal is ANYBODY else principal.name,
        "peer": caller.peer(),
        "trace_id": caller.trace.trace_id if caller.trace else trace_id_of(caller.traceparent()),
    }


def trace_id_of(traceparent: str | None) -> str | None:
    """Return the trace id of a W3C trace context; None if there is none."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return found[2] if found and not (found[1] == "00" and found[3]) else None


def _fields(request: Ended, **others: object) -> dict[str, Any]:
    asked, (code, reason) = request.asked, request.ending
    request_id: str | bytes = getattr(asked, "request_id", "")
    waited: float | None = getattr(asked, "queue_seconds", None)
    return with_fields(
        code=code,
        reason=reason,
        kind=str(request.kind),
        session=session_field(getattr(asked, "session_id", "")),
        request_id=shortened(request_id if isinstance(request_id, str) else request_id.decode(), LONGEST_NAME),
        **caller_fields(request.caller),
        seconds=round(request.seconds, 6),
        queue_seconds=None if waited is None else round(waited, 6),
        **others,
    )


def _text_of(error: Exception) -> str:
    """Return the message of an error, without the numbers that a caller has sent."""
    if not isinstance(error, ServiceError):
        return type(error).__name__
    if isinstance(error, InvalidRequest) and _ONE_NUMBER.search(error.field):
        return f"{error.field}: not valid"
    return shortened(error.message, LONGEST_MESSAGE)
