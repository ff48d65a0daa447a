"""The Python client: observe, forecast, and repeat safely. Needs grpcio, protobuf and numpy; pandas is optional."""

import os

# Handlers of gRPC that are to carry connections across a fork crash one in twenty children, if a thread is in a call.
# They have to be asked for in Python, by this variable, but its core takes an absent one for yes when it is loaded.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from ._aio import AsyncClient
from ._ask import Observations
from ._async_calls import AsyncSession
from ._sync import Client
from ._sync_calls import Session
from .errors import (
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    RequestOutdated,
    ResourceExhausted,
    ServerError,
    SessionRegressed,
    SomeFailed,
    StatecastError,
    Unauthenticated,
    Unavailable,
    VersionMismatch,
)
from .types import Forecast, Gates, ModelInfo, Receipt, SessionInfo, Version

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "AsyncSession",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "Forecast",
    "Gates",
    "InvalidArgument",
    "ModelInfo",
    "NotFound",
    "Observations",
    "PermissionDenied",
    "PreconditionFailed",
    "Receipt",
    "RequestOutdated",
    "ResourceExhausted",
    "ServerError",
    "Session",
    "SessionInfo",
    "SessionRegressed",
    "SomeFailed",
    "StatecastError",
    "Unauthenticated",
    "Unavailable",
    "Version",
    "VersionMismatch",
]
