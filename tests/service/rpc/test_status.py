import grpc
import pytest

from statecast.service import errors
from statecast.service.rpc.status import CODE_OF_ERROR, code_of, to_status


def leaves(kind: type[errors.ServiceError]) -> list[type[errors.ServiceError]]:
    below = kind.__subclasses__()
    return [leaf for child in below for leaf in leaves(child)] if below else [kind]


def test_every_error_has_a_code() -> None:
    assert set(leaves(errors.ServiceError)) == set(CODE_OF_ERROR)


@pytest.mark.parametrize("error", [ValueError("secret"), RuntimeError("secret"), KeyError("secret")])
def test_what_nobody_foresaw_is_internal_and_tells_nothing(error: Exception) -> None:
    assert code_of(error) is grpc.StatusCode.INTERNAL
    assert "secret" not in str(to_status(error))
