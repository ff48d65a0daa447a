"""Raw gRPC calls, as a client in any language makes them."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from statecast.v1 import forecast_pb2

OPEN = forecast_pb2.OpenOptions(model="tiny")


def observations(*values: float, **others: Any) -> forecast_pb2.Observations:
    return forecast_pb2.Observations(values=values, **others)


def failure(call: Callable[[], object]) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """Make a call that must fail, and return its status code and details."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    status = status_pb2.Status.FromString(details)
    assert status.code in (0, error.code().value[0])
    return error.code(), status


def detail(status: status_pb2.Status, kind: type[Any]) -> Any:
    for packed in status.details:
        found = kind()
        if packed.Unpack(found):
            return found
    raise AssertionError(f"no {kind.__name__} in {status}")


def reason(status: status_pb2.Status) -> str:
    """Return the machine-readable reason of an error."""
    found: str = detail(status, error_details_pb2.ErrorInfo).reason
    return found
