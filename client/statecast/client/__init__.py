"""The Python client: observe, forecast and retry safely.

Needs grpcio, protobuf, googleapis-common-protos and numpy; pandas, narwhals and matplotlib are optional.
"""

import os

# gRPC's fork handlers crash one forked child in twenty if a thread is in a call. gRPC for Python enables them only if
# this variable says so, but gRPC's core enables them if the variable is missing when the core is loaded.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from ._aio import AsyncClient
from ._ask import Observations
from ._async_calls import AsyncSession
from ._frame_calls import FrameOptions
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
    SeriesFailed,
    ServerError,
    SessionRegressed,
    SomeFailed,
    StatecastError,
    Unauthenticated,
    Unavailable,
    VersionMismatch,
)
from .types import Forecast, Gates, ModelInfo, Receipt, SessionInfo, Upgraded, Version

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "AsyncSession",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "Forecast",
    "FrameOptions",
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
    "SeriesFailed",
    "ServerError",
    "Session",
    "SessionInfo",
    "SessionRegressed",
    "SomeFailed",
    "StatecastError",
    "Unauthenticated",
    "Unavailable",
    "Upgraded",
    "Version",
    "VersionMismatch",
]
