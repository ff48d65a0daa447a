"""Asks a server how it is, as a container's health check does."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def ask(target: str, timeout_seconds: float, service: str = "") -> str:
    """The server's own word about a service or itself, "SERVING" or "NOT_SERVING", or why there is none."""
    with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_seconds)
        except grpc.RpcError as error:
            failed: Any = error
            return f"{failed.code().name}: {failed.details()}"
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name
