"""Health check of a running server, for containers."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from statecast.client import InvalidArgument
from statecast.client._bearer import SyncBearer
from statecast.client._connection import API_KEY_VARIABLE, Connection, resolve_connection, resolve_credential


def ask(target: str, timeout_seconds: float, service: str = "", *, api_key: str | None = None, **tls: Any) -> str:
    """Return the health that the server reports, such as "SERVING", or the error of the call.

    Args:
        target: The server.
        timeout_seconds: Time to wait for the answer.
        service: Name of the service whose readiness to ask for; empty for the server itself.
        api_key: As for `statecast.client.Client`.
        tls: The arguments `tls`, `ca`, `cert`, `key` and `server_name`, as for `Client`.

    Raises:
        InvalidArgument: An argument is wrong.
    """
    api_key, credential = resolve_credential(api_key, None, may_wait=False)
    arguments = {name: tls.get(name) for name in ("tls", "ca", "cert", "key", "server_name")}
    try:
        connection = resolve_connection(target, **arguments, credential=credential)
    except InvalidArgument as error:
        if error.field != API_KEY_VARIABLE:
            raise
        # A check needs no credential, so it leaves out one that is there for other commands and may not be sent.
        api_key, connection = None, resolve_connection(target, **arguments, credential="")
    return _ask(connection, SyncBearer(api_key, None), timeout_seconds, service)


def _ask(connection: Connection, bearer: SyncBearer, timeout_seconds: float, service: str) -> str:
    with connection.open((("grpc.enable_http_proxy", 0),)) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            answer = stub.Check(request, timeout=timeout_seconds, metadata=bearer.metadata())
        except grpc.RpcError as error:
            failed: Any = error
            return f"{failed.code().name}: {failed.details()}"
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name
