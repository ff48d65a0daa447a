"""The errors that calls raise.

StatecastError
├── InvalidArgument     a field of the request is wrong; `field` names it
├── NotFound            the session or model does not exist; `reason` says which
├── AlreadyExists       a session of that id exists
├── VersionMismatch     the session is not at `if_version`; `current` is its version
├── RequestOutdated     the session has taken too many requests since to recognise a repeated one
├── SessionRegressed    the server has lost acknowledged observations; `current` is the session's version now
├── PreconditionFailed  the session's record, model or time forbids the request
├── ResourceExhausted   the server has no room, a quota is used up, or the message is too large
├── Unavailable         the server cannot be reached, is shutting down, or has lost its Redis
├── DeadlineExceeded    no answer in time
├── Cancelled           the call was cut off
├── Unauthenticated     the credential is missing, invalid or expired; `reason` says which
├── PermissionDenied    the credential's role does not allow this
├── ServerError         any other error, such as a defect of the server
├── SomeFailed          some requests of a call about many sessions failed; `results` holds every outcome
└── SeriesFailed        some series of a data frame failed; `errors` holds why, `frame` the results of the others

If an error's `outcome_unknown` is true, as after Unavailable, DeadlineExceeded and Cancelled, the observations may have
been appended. Repeat the call with the error's `request_id`: the server then appends them only if it has not yet.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from statecast.v1 import forecast_pb2
from statecast.v1.reasons import Reason

from .types import Forecast, Receipt, Version

_DETAILS_KEY = "grpc-status-details-bin"


class StatecastError(Exception):
    """Base class of all errors that calls raise.

    Attributes:
        message: Description of the problem.
        reason: Reason as a code, such as "SESSION_NOT_FOUND"; empty without one.
        request_id: Idempotency key of the failed request; empty if it had none.
        values_taken: Number of the call's values that were appended before the failure, if it was sent in parts.
        retry_after_seconds: Time after which the server asks to retry; None if it does not ask.
        outcome_unknown: True if the observations may have been appended despite the error.
    """

    outcome_unknown = False

    def __init__(self, message: str, reason: str = "", retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.request_id = ""
        self.values_taken = 0
        self.retry_after_seconds = retry_after_seconds

    @property
    def may_succeed_again(self) -> bool:
        """True if the same request can be sent again."""
        return self.retry_after_seconds is not None


class InvalidArgument(StatecastError, ValueError):
    """A field of the request is wrong; `field` is its path in the request, such as "observations.values[3]"."""

    field = ""


class NotFound(StatecastError):
    """The session (never opened, closed or expired) or the model does not exist."""


class AlreadyExists(StatecastError):
    """A session of that id exists."""


class VersionMismatch(StatecastError):
    """The session is not at the version `if_version`, but at `current`."""

    current: Version | None = None


class RequestOutdated(StatecastError):
    """The session is at `current` and has taken more than 16 requests since an attempt of unknown outcome.

    The server no longer knows whether this request was among them. Look at the data; if the request is missing, send it
    under a new id.
    """

    current: Version | None = None


class SessionRegressed(StatecastError):
    """The session is at `current`; it has lost observations that the server acknowledged up to `last_seen`.

    Redis went back to an older copy, or it is another session of that name. The client would have sent the observations
    again, but its replay buffer could not restore them. The message says why.
    """

    current: Version | None = None
    last_seen: Version | None = None


class PreconditionFailed(StatecastError):
    """The session's record, model or time forbids the request."""


class ResourceExhausted(StatecastError):
    """The server has no room, the caller's tenant has used up a quota, or the message is too large."""


class Unavailable(StatecastError):
    """The server cannot be reached, is shutting down, or has lost its Redis; the outcome is unknown."""

    outcome_unknown = True

    @property
    def may_succeed_again(self) -> bool:
        """Always true."""
        return True


class DeadlineExceeded(StatecastError):
    """No answer in time; the outcome is unknown."""

    outcome_unknown = True


class Cancelled(StatecastError):
    """The call was cut off; the outcome is unknown."""

    outcome_unknown = True

    @property
    def may_succeed_again(self) -> bool:
        """Always true."""
        return True


class Unauthenticated(StatecastError):
    """The server does not know the caller: the credential is missing, invalid or expired; `reason` says which.

    Attributes:
        has_another_token: True if the credential has expired, and the client asks its `token` function for another
            before the next attempt.
    """

    has_another_token = False

    @property
    def may_succeed_again(self) -> bool:
        """True if the next attempt carries another token."""
        return self.has_another_token


class PermissionDenied(StatecastError):
    """The caller's role does not allow this."""

    @property
    def may_succeed_again(self) -> bool:
        """Always false."""
        return False


class ServerError(StatecastError):
    """Any other error, such as a defect of the server; the message begins with the gRPC code."""


class SomeFailed(StatecastError):
    """Some requests of a call about many sessions failed; the others were carried out.

    Attributes:
        results: The outcome of each request, in the order given: its result or its error.
    """

    results: list[Forecast | Receipt | StatecastError]

    def __init__(self, results: Sequence[Forecast | Receipt | StatecastError]) -> None:
        errors = [result for result in results if isinstance(result, StatecastError)]
        super().__init__(f"{len(errors)} of {len(results)} requests failed, the first with: {errors[0]}")
        self.results = list(results)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the error by its results; the default would pass the message to the constructor."""
        return type(self), (self.results,), self.__dict__


class SeriesFailed(StatecastError):
    """Some series of a data frame failed; the others were carried out.

    Attributes:
        errors: The error of each failed series, by its id.
        frame: Frame of the results of all other series.
    """

    errors: dict[Any, StatecastError]
    frame: Any

    def __init__(self, errors: Mapping[Any, StatecastError], frame: Any, series: int) -> None:
        first = next(iter(errors.values()))
        super().__init__(f"{len(errors)} of {series} series failed, the first with: {first}")
        self.errors, self.frame, self._series = dict(errors), frame, series

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the error by its arguments; the default would pass the message to the constructor."""
        return type(self), (self.errors, self.frame, self._series), self.__dict__


KINDS: dict[grpc.StatusCode, type[StatecastError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.ABORTED: VersionMismatch,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionFailed,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
}
_BY_REASON: dict[str, type[StatecastError]] = {
    Reason.SESSION_REGRESSED: SessionRegressed,
    Reason.REQUEST_OUTDATED: RequestOutdated,
}
# Codes that may also come from a broken connection; the server's own errors carry a status.
_TRANSPORT = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
# Reasons that guarantee that the request was not carried out, whatever the code.
_NOTHING_DONE = (Reason.STORE_UNREACHABLE, Reason.CONTENDED, Reason.DRAINING, Reason.DEADLINE_PASSED)
# Beginnings of gRPC's messages if it could not send the request at all.
_NOT_SENT = ("failed to connect", "connections to all backends failing", "DNS resolution failed")
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def invalid(field: str, problem: str) -> InvalidArgument:
    """Return the error for a field that the client refuses to send."""
    error = InvalidArgument(f"{field}: {problem}", Reason.INVALID_FIELD)
    error.field = field
    return error


def unreadable(cause: Exception) -> ServerError:
    """Return the error for an answer that is no message of the API."""
    error = ServerError(f"the server's answer cannot be read: {cause}")
    error.outcome_unknown = True
    return error


def from_rpc_error(error: grpc.RpcError | StatecastError) -> StatecastError:
    """Return the error of a call that failed as a whole, or of a request on a stream."""
    if isinstance(error, StatecastError):
        return error
    if not isinstance(error, (grpc.Call, grpc.aio.AioRpcError)):
        return ServerError(str(error))
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            try:
                return from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                break
    code, message = error.code(), error.details() or ""
    if code in _TRANSPORT:
        return Unavailable(f"{code.name}: {message}")
    return _make(code, message, status_pb2.Status())


def from_status(status: status_pb2.Status) -> StatecastError:
    """Return the error of one request among many."""
    return _make(_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status)


def _make(code: grpc.StatusCode, message: str, status: status_pb2.Status) -> StatecastError:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    bad, version = error_details_pb2.BadRequest(), forecast_pb2.Version()
    for detail in status.details:
        detail.Unpack(info)
    kind = _BY_REASON.get(info.reason) or KINDS.get(code, ServerError)
    error = kind(message if kind is not ServerError else f"{code.name}: {message}", info.reason)
    if info.reason in _NOTHING_DONE or message.startswith(_NOT_SENT):
        error.outcome_unknown = False
    for detail in status.details:
        if detail.Unpack(retry):
            error.retry_after_seconds = retry.retry_delay.ToMicroseconds() / 1e6
        elif isinstance(error, InvalidArgument) and detail.Unpack(bad) and bad.field_violations:
            error.field = bad.field_violations[0].field
        elif isinstance(error, (VersionMismatch, SessionRegressed, RequestOutdated)) and detail.Unpack(version):
            error.current = Version(version.step, version.tag)
    return error
