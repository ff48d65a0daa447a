"""The Python client: observe, forecast, and repeat safely. Needs grpcio, protobuf and numpy; pandas is optional."""

from .aio import AsyncClient, AsyncSession
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
from .types import Forecast, ModelInfo, Receipt, SessionInfo, Version

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "AsyncSession",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "Forecast",
    "InvalidArgument",
    "ModelInfo",
    "NotFound",
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
