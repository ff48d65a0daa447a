"""Health check of a running server, for containers."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def ask(target: str, timeout_seconds: float, service: str = "") -> str:
    """Return the health that the server reports, such as "SERVING", or the error of the call."""
    with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_seconds)
        except grpc.RpcError as error:
            failed: Any = error
            return f"{failed.code().name}: {failed.details()}"
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name
