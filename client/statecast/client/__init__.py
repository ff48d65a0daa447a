"""The Python client: observe, forecast, and repeat safely. Needs grpcio, protobuf and numpy; pandas is optional."""

from .aio import AsyncClient, AsyncSession
from .ask import Observations
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
from .sync import Client, Session
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
