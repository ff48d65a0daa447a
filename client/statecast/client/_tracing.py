"""Spans of calls, for an application that has set a tracer provider of OpenTelemetry. Others pay one look-up a call."""

import sys
from collections.abc import Generator
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from ._bearer import Metadata
from ._calls import Method
from .errors import StatecastError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

R = TypeVar("R")
SCOPE = "statecast.client"
_leaves_out: ContextVar[bool] = ContextVar("leaves_out", default=False)
_found: "tuple[object, Tracer | None] | None" = None
"""The provider that was found last, and its tracer."""


def begin(method: Method, message: Any = None) -> "CallSpan | None":
    """Begin the span of a call in the current context; return None if the application traces nothing.

    An application without OpenTelemetry's API has not imported it, so this module need not either.
    """
    api = sys.modules.get("opentelemetry.trace")
    if api is None or (tracer := _tracer(api)) is None or _leaves_out.get():
        return None
    from opentelemetry.trace import SpanKind

    name = method.path.lstrip("/")
    about = {"rpc.system.name": "grpc", "rpc.method": name}
    if session_id := getattr(message, "session_id", ""):
        about["statecast.session.id"] = session_id
    return CallSpan(tracer.start_span(name, kind=SpanKind.CLIENT, attributes=about))


def leave_out() -> None:
    """Begin no spans in this context from now on."""
    _leaves_out.set(True)


class CallSpan:
    """The span of one attempt at a call: the current one within its block, which ends it.

    Attributes:
        headers: Metadata that names the span to the server.
        is_sampled: True if the span is recorded.
    """

    def __init__(self, span: "Span") -> None:
        from opentelemetry.propagate import inject
        from opentelemetry.trace import set_span_in_context

        self._span, self._context = span, set_span_in_context(span)
        carrier: dict[str, str] = {}
        inject(carrier, self._context)
        self.headers: Metadata = tuple((name.lower(), value) for name, value in carrier.items())
        self.is_sampled = span.get_span_context().trace_flags.sampled

    def __enter__(self) -> "CallSpan":
        from opentelemetry.context import attach

        self._token = attach(self._context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from opentelemetry.context import detach

        detach(self._token)
        self._end(error)

    def around(self, results: Generator[R, None, None]) -> Generator[R, None, None]:
        """Yield the results of a stream, and end the span with it. Between results it is not the current span."""
        try:
            yield from results
        except GeneratorExit:
            self._end(None)
            raise
        except BaseException as error:
            self._end(error)
            raise
        else:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        if error is None:
            self._span.set_attribute("rpc.response.status_code", "OK")
        else:
            self._fail(error)
        self._span.end()

    def _fail(self, error: BaseException) -> None:
        """Note the kind of the error. Its message may name what the application sent."""
        from opentelemetry.trace import StatusCode

        reason = error.reason if isinstance(error, StatecastError) else ""
        if isinstance(cause := error.__cause__, grpc.RpcError):
            self._span.set_attribute("rpc.response.status_code", cause.code().name)
        if reason:
            self._span.set_attribute("statecast.reason", reason)
        self._span.set_attribute("error.type", reason or type(error).__name__)
        self._span.set_status(StatusCode.ERROR, reason or type(error).__name__)


def _tracer(api: Any) -> "Tracer | None":
    """Return a tracer of the application's provider; None until it has set one."""
    global _found
    provider = api.get_tracer_provider()
    if _found is None or _found[0] is not provider:
        # Until a provider is set, the API returns one that stands for it.
        _found = provider, None if isinstance(provider, api.ProxyTracerProvider) else provider.get_tracer(SCOPE)
    return _found[1]
