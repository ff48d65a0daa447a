"""What can go wrong, in the caller's terms; rpc/status.py gives each kind its gRPC code.

ServiceError
├── InvalidRequest      a field of the request is wrong
├── NotFound            no such session or model
├── AlreadyExists       a session of that name exists
├── StandsElsewhere     the session is not where the caller believed
│   ├── VersionMismatch     it was moved on, or is another one of that name
│   ├── RequestOutdated     it has taken too much since to tell a repeated request from a new one
│   └── SessionRegressed    it has lost what its caller was told that it had taken
├── PreconditionFailed  the session's record or time forbids it
├── StoreRefuses        Redis answers, but will not do what the server needs
├── Overloaded          no room; try again later (both are RetryableError)
├── DeadlinePassed      the caller's time was up before the request was carried out
└── Unavailable         the outcome is unknown, or the server is leaving; try again
StartupError            the server cannot start
EngineStopped           the server cannot go on
"""

from collections.abc import Mapping

from statecast.service.version import Version
from statecast.v1.reasons import Reason

LONGEST_QUOTE = 64
"""An error travels in a trailer, which must not be long."""


def quoted(name: str) -> str:
    """A caller's name for something, for messages."""
    return repr(name if len(name) <= LONGEST_QUOTE else f"{name[:LONGEST_QUOTE]}...")


RETRY_AFTER_SECONDS: Mapping[Reason, float] = {
    Reason.QUEUE_FULL: 0.1,
    Reason.STREAMS_FULL: 1.0,
    Reason.FRAME_FULL: 0.0,
    Reason.STORE_FULL: 1.0,
    Reason.STORE_UNAVAILABLE: 0.2,
    Reason.STORE_UNREACHABLE: 0.2,
    Reason.CONTENDED: 0.1,
    Reason.MODEL_LOADING: 1.0,
    Reason.MODEL_UNAVAILABLE: 60.0,
    Reason.DRAINING: 0.1,
}
"""When to send a request again, unless the error says otherwise."""


class ServiceError(Exception):
    """A request that failed for a reason that its caller can understand."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class InvalidRequest(ServiceError):
    """A field of the request has a wrong value; `field` is its path in the request message."""

    def __init__(self, field: str, problem: str, reason: Reason = Reason.INVALID_FIELD) -> None:
        super().__init__(f"{field}: {problem}", reason)
        self.field = field
        self.problem = problem


class NotFound(ServiceError):
    """The session or model named in the request does not exist; `was_seen` if its caller had seen the session."""

    def __init__(self, message: str, reason: Reason, *, was_seen: bool = False) -> None:
        super().__init__(message, reason)
        self.was_seen = was_seen


class AlreadyExists(ServiceError):
    """The session named in the request exists already."""


class StandsElsewhere(ServiceError):
    """The session stands at `current`."""

    def __init__(self, message: str, reason: Reason, current: Version) -> None:
        super().__init__(message, reason)
        self.current = current


class VersionMismatch(StandsElsewhere):
    """The session stands at `current`, not where the request says."""


class RequestOutdated(StandsElsewhere):
    """The session stands at `current`, too far on to tell whether it has taken the request before."""


class SessionRegressed(StandsElsewhere):
    """The session stands at `current`, without what the caller was told that it had taken."""


class PreconditionFailed(ServiceError):
    """The session's record, model or time does not allow the request."""


class StoreRefuses(ServiceError):
    """Redis answers, but will not do what the server needs, until somebody changes it."""


class RetryableError(ServiceError):
    """The same request can be sent again, best not before `retry_after_seconds`."""

    def __init__(self, message: str, reason: Reason, retry_after_seconds: float | None = None) -> None:
        super().__init__(message, reason)
        default = RETRY_AFTER_SECONDS[reason]
        self.retry_after_seconds = default if retry_after_seconds is None else retry_after_seconds


class Overloaded(RetryableError):
    """There is no room for the request; it was not carried out."""


class DeadlinePassed(ServiceError):
    """The caller's time was up before the request was carried out; nothing was appended."""


class Unavailable(RetryableError):
    """The request could not be carried out now, or its outcome is unknown."""


class StartupError(Exception):
    """The server cannot start; the message says what to change."""


class EngineStopped(Exception):
    """The engine's thread has ended by itself, so the server has stopped serving."""
