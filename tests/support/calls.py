"""A call as a method sees it, without any transport."""

from dataclasses import dataclass

from statecast.service.access.principal import ANYBODY, Principal
from statecast.service.engine.request import Request
from statecast.service.tracing.spans import CallTrace


@dataclass
class PlainCall:
    """Implements rpc.methods.Context."""

    principal: Principal = ANYBODY
    asked: Request | None = None
    address: str = "10.0.0.1:1234"
    parent: str | None = None
    trace: CallTrace | None = None

    def peer(self) -> str:
        return self.address

    def authorization(self) -> str | None:
        return None

    def subject(self) -> str | None:
        return None

    def traceparent(self) -> str | None:
        return self.parent

    def header(self, name: str) -> str | None:
        return self.parent if name == "traceparent" else None

    def time_remaining(self) -> float | None:
        return None
