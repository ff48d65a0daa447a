"""What can go wrong, in the caller's terms; rpc/status.py gives each kind its gRPC code.

ServiceError
├── InvalidRequest      a field of the request is wrong
├── NotFound            no such session or model
├── VersionMismatch     the session is not where the caller believed
├── PreconditionFailed  the session's record or time forbids it
├── Overloaded          no room; try again later (both are RetryableError)
└── Unavailable         the outcome is unknown, or the server is leaving; try again
StartupError            the server cannot start
EngineStopped           the server cannot go on
"""

from enum import StrEnum

from statecast.service.version import Version


class Reason(StrEnum):
    """The machine-readable reason of an error, ErrorInfo.reason on the wire."""

    INVALID_FIELD = "INVALID_FIELD"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    VERSION_MISMATCH = "VERSION_MISMATCH"
    OTHER_MODEL = "OTHER_MODEL"
    MODEL_CHANGED = "MODEL_CHANGED"
    RECORD_DAMAGED = "RECORD_DAMAGED"
    TIME_ORDER = "TIME_ORDER"
    QUEUE_FULL = "QUEUE_FULL"
    STORE_FULL = "STORE_FULL"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    CONTENDED = "CONTENDED"
    DRAINING = "DRAINING"


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
    """The session or model named in the request does not exist."""


class VersionMismatch(ServiceError):
    """The session stands at `current`, not where the request says."""

    def __init__(self, message: str, current: Version) -> None:
        super().__init__(message, Reason.VERSION_MISMATCH)
        self.current = current


class PreconditionFailed(ServiceError):
    """The session's record, model or time does not allow the request."""


class RetryableError(ServiceError):
    """The same request can be sent again, best not before `retry_after_seconds`."""

    def __init__(self, message: str, reason: Reason, retry_after_seconds: float) -> None:
        super().__init__(message, reason)
        self.retry_after_seconds = retry_after_seconds


class Overloaded(RetryableError):
    """There is no room for the request; it was not carried out."""


class Unavailable(RetryableError):
    """The request could not be carried out now, or its outcome is unknown."""


class StartupError(Exception):
    """The server cannot start; the message says what to change."""


class EngineStopped(Exception):
    """The engine's thread has ended by itself, so the server has stopped serving."""
