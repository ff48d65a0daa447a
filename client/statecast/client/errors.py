"""What a call can raise.

StatecastError
├── InvalidArgument     a field of the request is wrong; `field` names it
├── NotFound            no such session or model; `reason` tells which
├── AlreadyExists       the session exists already
├── VersionMismatch     `if_version` does not hold; `current` is where the session stands
├── RequestOutdated     the session has taken too much since to tell whether it took this request before
├── SessionRegressed    the server has lost acknowledged observations of the session; `current` is what is left
├── PreconditionFailed  the session's record, model or time does not allow the request
├── ResourceExhausted   no room in the server, or the message is too large
├── Unavailable         the server cannot be reached, is leaving, or has lost its Redis
├── DeadlineExceeded    no answer in time
├── Cancelled           the call was cut off
├── Unauthenticated     the server does not know who is calling
├── PermissionDenied    the caller may not do this
├── ServerError         anything else, such as a defect of the server
└── SomeFailed          some requests of a call about many sessions failed; `results` holds every outcome

Where an error's `outcome_unknown` is true, as after Unavailable, DeadlineExceeded and Cancelled, the observations may
have been appended. The same call with the error's `request_id` appends them if they were not, and only then.
"""

from collections.abc import Sequence
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
    """Base of everything that a call raises.

    Attributes:
        message: What is wrong.
        reason: The server's reason, such as "SESSION_NOT_FOUND"; empty if it gave none.
        request_id: The idempotency key of the request that failed; empty if it appended nothing.
        values_taken: How many values of the call had been appended before, if it was sent in parts.
        retry_after_seconds: How long the server asks to wait; None if trying again is of no use, or it did not say.
        outcome_unknown: Whether the observations may have been appended all the same.
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
        """Whether the same request can be sent again."""
        return self.retry_after_seconds is not None


class InvalidArgument(StatecastError, ValueError):
    """A field of the request is wrong; `field` is its path in the request, such as "observations.values[3]"."""

    field = ""


class NotFound(StatecastError):
    """No such session (never opened, closed or expired) or no such model."""


class AlreadyExists(StatecastError):
    """The session exists already."""


class VersionMismatch(StatecastError):
    """The session does not stand where `if_version` says, but at `current`."""

    current: Version | None = None


class RequestOutdated(StatecastError):
    """The session stands at `current` and has taken more than 16 requests since an attempt of unknown outcome.

    Nobody can tell whether this request was among them; look at the data, and send it under a new id if it was not.
    """

    current: Version | None = None


class SessionRegressed(StatecastError):
    """The session stands at `current`, without what the server had acknowledged up to `last_seen`.

    Its Redis went back to an older copy, or it is another session of that name. The observations that are still in the
    client's replay buffer would have been sent again by themselves; the message says why they could not be.
    """

    current: Version | None = None
    last_seen: Version | None = None


class PreconditionFailed(StatecastError):
    """The session's record, model or time does not allow the request."""


class ResourceExhausted(StatecastError):
    """No room in the server, or the message is too large."""


class Unavailable(StatecastError):
    """The server cannot be reached, is leaving, or has lost its Redis; the outcome is unknown."""

    outcome_unknown = True

    @property
    def may_succeed_again(self) -> bool:
        """Always."""
        return True


class DeadlineExceeded(StatecastError):
    """No answer in time; the outcome is unknown."""

    outcome_unknown = True


class Cancelled(StatecastError):
    """The call was cut off; the outcome is unknown."""

    outcome_unknown = True

    @property
    def may_succeed_again(self) -> bool:
        """Always."""
        return True


class Unauthenticated(StatecastError):
    """The server does not know who is calling."""


class PermissionDenied(StatecastError):
    """The caller may not do this."""


class ServerError(StatecastError):
    """Anything else, such as a defect of the server; the message begins with the gRPC code."""


class SomeFailed(StatecastError):
    """Some requests of a call about many sessions failed; the others were carried out.

    Attributes:
        results: The outcome of each request in the order given: what it returned, or its error.
    """

    def __init__(self, results: Sequence[Forecast | Receipt | StatecastError]) -> None:
        errors = [result for result in results if isinstance(result, StatecastError)]
        super().__init__(f"{len(errors)} of {len(results)} requests failed, the first with: {errors[0]}")
        self.results = list(results)

    def __reduce__(self) -> tuple[Any, ...]:
        """Made again from its results, not from its message as other exceptions are."""
        return type(self), (self.results,), self.__dict__


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
# What a connection that breaks can end a call with, too; the server's own errors come with a status.
_TRANSPORT = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
# Reasons that say that the request was not carried out, whatever the code.
_NOTHING_DONE = (Reason.STORE_UNREACHABLE, Reason.CONTENDED, Reason.DRAINING, Reason.DEADLINE_PASSED)
# How gRPC begins to say that there was nobody to send the request to.
_NOT_SENT = ("failed to connect", "connections to all backends failing", "DNS resolution failed")
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def invalid(field: str, problem: str) -> InvalidArgument:
    """The error of a field that is refused before it is sent."""
    error = InvalidArgument(f"{field}: {problem}", Reason.INVALID_FIELD)
    error.field = field
    return error


def from_rpc_error(error: grpc.RpcError | StatecastError) -> StatecastError:
    """The error of a call that failed as a whole, or of a request on a stream."""
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
    """The error of one request among many."""
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
