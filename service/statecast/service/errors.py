"""The errors, in the caller's terms; rpc/status.py maps each to a gRPC code.

ServiceError
├── InvalidRequest      a field of the request is wrong
├── NotFound            the session or model does not exist
├── AlreadyExists       a session of that name exists
├── StandsElsewhere     the session is not at the version that the caller expects
│   ├── VersionMismatch     it was moved on, or is another session of that name
│   ├── RequestOutdated     it has taken too many requests since to recognise a repeated one
│   └── SessionRegressed    it has lost observations that it had acknowledged
├── PreconditionFailed  the session's record, model or time forbids the request
├── StoreRefuses        Redis refuses what the server needs
├── Unauthenticated     the caller's credential is missing, wrong or expired
├── PermissionDenied    the caller's role does not allow the request
├── Overloaded          no room, or a limit of the tenant; try again later (a RetryableError)
├── Unsupported         the method, or a feature of it, makes no sense here
├── DeadlinePassed      the deadline passed before the request was carried out
└── Unavailable         not possible now, or the outcome is unknown; try again (a RetryableError)
StartupError            the server cannot start
EngineStopped           the server cannot go on
"""

from collections.abc import Mapping

from statecast.service.version import Version
from statecast.v1.reasons import Reason

LONGEST_QUOTE = 64
"""Errors travel in a trailer, whose size is limited."""


def quoted(name: str) -> str:
    """Quote a caller's name for an error message, shortened if it is long."""
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
    Reason.QUOTA_EXCEEDED: 1.0,
}
"""Delay before a retry, unless the error sets another."""


class ServiceError(Exception):
    """A request failed for a reason that its caller can act on."""

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
    """The session or model does not exist; `was_seen` if its caller has seen the session."""

    def __init__(self, message: str, reason: Reason, *, was_seen: bool = False) -> None:
        super().__init__(message, reason)
        self.was_seen = was_seen


class AlreadyExists(ServiceError):
    """A session of that name already exists."""


class StandsElsewhere(ServiceError):
    """The session is at `current`, not at the version that the caller expects."""

    def __init__(self, message: str, reason: Reason, current: Version) -> None:
        super().__init__(message, reason)
        self.current = current


class VersionMismatch(StandsElsewhere):
    """The session is at `current`, not at the request's `if_version`."""


class RequestOutdated(StandsElsewhere):
    """The session is at `current`, too far on to know if it has already taken the request."""


class SessionRegressed(StandsElsewhere):
    """The session is at `current`, and lacks observations that it had acknowledged."""


class PreconditionFailed(ServiceError):
    """The session's record, model or time does not allow the request."""


class StoreRefuses(ServiceError):
    """Redis refuses what the server needs until its configuration changes."""


class Unauthenticated(ServiceError):
    """The caller's credential is missing, wrong or expired."""


class PermissionDenied(ServiceError):
    """The caller's role does not allow the request."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Reason.ROLE_TOO_LOW)


class Unsupported(ServiceError):
    """The service does not have what is asked for; the message names what to use instead."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Reason.UNSUPPORTED)


def read_only(what: str) -> PermissionDenied:
    """Return the error for a caller who may look only, and asks for `what`."""
    return PermissionDenied(f"this credential's role is read, which may not {what}; ask for one whose role is write")


def no_admin(role: str, what: str) -> PermissionDenied:
    """Return the error for a caller of that role, who asks for `what`."""
    return PermissionDenied(f"this credential's role is {role}, which may not {what}; ask for one whose role is admin")


class RetryableError(ServiceError):
    """The same request can be sent again, after `retry_after_seconds`."""

    def __init__(self, message: str, reason: Reason, retry_after_seconds: float | None = None) -> None:
        super().__init__(message, reason)
        default = RETRY_AFTER_SECONDS[reason]
        self.retry_after_seconds = default if retry_after_seconds is None else retry_after_seconds


class Overloaded(RetryableError):
    """There is no room for the request; it was not carried out."""


class DeadlinePassed(ServiceError):
    """The deadline passed before the request was carried out; nothing was appended."""


class Unavailable(RetryableError):
    """The request could not be carried out now, or its outcome is unknown."""


class StartupError(Exception):
    """The server cannot start; the message says what to change."""


class EngineStopped(Exception):
    """An engine thread has ended unexpectedly, so the server has stopped serving."""
