"""Run a server on this machine: for tests, demos and benchmarks."""

from .local_server import LocalServer, ServerFailed

__all__ = ["LocalServer", "ServerFailed"]
