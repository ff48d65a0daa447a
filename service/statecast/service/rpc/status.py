"""Converts errors to gRPC codes, and to google.rpc.Status with details."""

from collections.abc import Iterator

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from statecast.service.errors import (
    AlreadyExists,
    DeadlinePassed,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    PreconditionFailed,
    RequestOutdated,
    RetryableError,
    ServiceError,
    SessionRegressed,
    StandsElsewhere,
    StoreRefuses,
    Unauthenticated,
    Unavailable,
    Unsupported,
    VersionMismatch,
)
from statecast.v1 import forecast_pb2

DOMAIN = "statecast"
DETAILS_KEY = "grpc-status-details-bin"
LONGEST_MESSAGE = 1000
STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
"""Status codes by their number in a google.rpc.Status."""
CODE_OF_ERROR: dict[type[ServiceError], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    VersionMismatch: grpc.StatusCode.ABORTED,
    RequestOutdated: grpc.StatusCode.ABORTED,
    SessionRegressed: grpc.StatusCode.ABORTED,
    PreconditionFailed: grpc.StatusCode.FAILED_PRECONDITION,
    StoreRefuses: grpc.StatusCode.FAILED_PRECONDITION,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}


def code_of(error: Exception) -> grpc.StatusCode:
    """Return the gRPC code of an error; INTERNAL for anything unforeseen."""
    return CODE_OF_ERROR[type(error)] if isinstance(error, ServiceError) else grpc.StatusCode.INTERNAL


def to_status(error: Exception) -> status_pb2.Status:
    """Return the error's status for the caller; the details of an unforeseen one go only to the log."""
    code, _ = code_of(error).value
    if not isinstance(error, ServiceError):
        return status_pb2.Status(code=code, message="internal error; see the server's log")
    status = status_pb2.Status(code=code, message=_short(error.message))
    for detail in _details(error):
        status.details.add().Pack(detail)
    return status


def _short(message: str) -> str:
    """Shorten a message: errors travel as metadata, whose size transports limit."""
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}..."


def _details(error: ServiceError) -> Iterator[Message]:
    yield error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if isinstance(error, InvalidRequest):
        problem = _short(error.problem)
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=problem)
        yield error_details_pb2.BadRequest(field_violations=[violation])
    if isinstance(error, StandsElsewhere):
        yield forecast_pb2.Version(step=error.current.step, tag=error.current.tag)
    if isinstance(error, RetryableError):
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_seconds * 1000))
        yield error_details_pb2.RetryInfo(retry_delay=delay)
