"""Every code and every error of the server has its exception here."""

import grpc
import pytest
from google.rpc import status_pb2

from statecast.client import ServerError, StatecastError, Version, errors
from statecast.client.errors import KINDS, InvalidArgument, SessionRegressed, VersionMismatch, from_status
from statecast.service import errors as service_errors
from statecast.service.errors import ServiceError
from statecast.service.rpc.status import CODE_OF_ERROR, to_status
from statecast.service.version import Version as ServiceVersion
from statecast.v1.reasons import Reason


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_has_its_exception(code: grpc.StatusCode) -> None:
    error = from_status(status_pb2.Status(code=code.value[0], message="what is wrong"))
    assert type(error) is KINDS.get(code, ServerError)
    assert "what is wrong" in str(error)
    assert (code.name in str(error)) == (type(error) is ServerError)


def test_a_code_that_nobody_knows_is_a_server_error() -> None:
    assert type(from_status(status_pb2.Status(code=99))) is ServerError


def test_every_exception_belongs_to_a_code_or_says_why() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, StatecastError)}
    many = {errors.SomeFailed, errors.SeriesFailed}
    others = {StatecastError, ServerError, SessionRegressed, errors.RequestOutdated, *many}
    assert kinds - set(KINDS.values()) == others


def test_every_code_that_the_server_gives_is_known() -> None:
    # The client calls no method that is not there.
    assert set(CODE_OF_ERROR.values()) - {grpc.StatusCode.UNIMPLEMENTED} <= set(KINDS)


@pytest.mark.parametrize(
    "error",
    [
        service_errors.NotFound("no such session", Reason.SESSION_NOT_FOUND),
        service_errors.PreconditionFailed("late", Reason.TIME_ORDER),
        service_errors.Overloaded("full", Reason.QUEUE_FULL, 0.25),
        service_errors.Overloaded("enough", Reason.QUOTA_EXCEEDED),
        service_errors.Unauthenticated("who?", Reason.CREDENTIAL_EXPIRED),
        service_errors.PermissionDenied("readers do not write"),
        service_errors.Unavailable("gone", Reason.DRAINING, 1.5),
    ],
)
def test_the_reason_and_the_pause_arrive(error: ServiceError) -> None:
    arrived = from_status(to_status(error))
    assert arrived.reason == error.reason
    assert arrived.message == error.message
    assert arrived.retry_after_seconds == getattr(error, "retry_after_seconds", None)
    assert arrived.may_succeed_again == isinstance(error, service_errors.RetryableError)


def test_the_field_and_the_version_arrive() -> None:
    invalid = from_status(to_status(service_errors.InvalidRequest("horizon", "too far")))
    assert isinstance(invalid, InvalidArgument)
    assert invalid.field == "horizon"
    current = ServiceVersion(3, 2**64 - 1)
    mismatch = from_status(to_status(service_errors.VersionMismatch("elsewhere", Reason.VERSION_MISMATCH, current)))
    assert isinstance(mismatch, VersionMismatch)
    assert mismatch.current == Version(3, 2**64 - 1)
    regressed = from_status(to_status(service_errors.SessionRegressed("lost", Reason.SESSION_REGRESSED, current)))
    assert isinstance(regressed, SessionRegressed)
    assert regressed.current == Version(3, 2**64 - 1)
