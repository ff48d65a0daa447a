"""A call as a method sees it, without any transport."""

from dataclasses import dataclass

from statecast.service.access.principal import ANYBODY, Principal
from statecast.service.engine.request import Request


@dataclass
class PlainCall:
    """Implements rpc.methods.Context."""

    principal: Principal = ANYBODY
    asked: Request | None = None
    address: str = "10.0.0.1:1234"
    trace: str | None = None

    def peer(self) -> str:
        return self.address

    def authorization(self) -> str | None:
        return None

    def subject(self) -> str | None:
        return None

    def traceparent(self) -> str | None:
        return self.trace

    def time_remaining(self) -> float | None:
        return None
