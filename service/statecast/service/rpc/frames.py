"""Handles frames of requests: each request is queued and answered separately."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from google.rpc import status_pb2

from statecast.service.engine.request import Outcome, Request, Result
from statecast.service.engine.scheduler import Ticket
from statecast.service.errors import InvalidRequest, Overloaded, ServiceError
from statecast.service.rpc import encoding, forecast_requests
from statecast.service.rpc.accounting import Kind, kind_of
from statecast.service.rpc.crowded import MAX_REQUESTS_A_FRAME
from statecast.service.rpc.engine_client import Call, EngineClient
from statecast.service.rpc.methods import Context
from statecast.service.rpc.status import to_status
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.reasons import Reason

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Approximate limit for all answers to one frame together."""

Emit = Callable[[int, bytes, int], None]
"""Receives a request's position in its frame, its encoded ForecastResult, and the memory counted for it."""


def check_size(requests: int) -> None:
    """Refuse a frame with too many requests."""
    if requests > MAX_REQUESTS_A_FRAME:
        raise InvalidRequest(
            "requests", f"{requests} requests are more than {MAX_REQUESTS_A_FRAME}; send them in several frames"
        )


class Frame:
    """Queues the requests of one frame together, and emits each result in the event loop as it arrives.

    Once a request is refused for lack of room, so are all after it. None may overtake an earlier one of its session,
    and an overloaded server should spend little work on them.
    """

    def __init__(
        self,
        engine_client: EngineClient,
        context: Context,
        call: Call,
        emit: Emit,
        wanted: Callable[[], bool],
        max_bytes: float = math.inf,
    ) -> None:
        """Create an empty frame.

        Args:
            engine_client: Passes requests to the engine.
            context: The call that carries the frame, for the log.
            call: Its caller and deadline.
            emit: Receives each result.
            wanted: Returns False once the caller has gone; called from any thread.
            max_bytes: Approximate limit on the memory of all answers.
        """
        self._engine_client, self._accounts = engine_client, engine_client.accounts
        self._context, self._call = context, call
        self._emit = emit
        self._wanted = wanted
        self._max_bytes = max_bytes
        self._turned_away: _Refusal | None = None
        self._bytes = 0
        self._tickets: list[tuple[int, Ticket]] = []
        self._open: dict[int, tuple[Kind, float, Request]] = {}

    @property
    def is_done(self) -> bool:
        """True if every request has been answered."""
        return not self._open

    def abandon(self) -> None:
        """Settle unanswered requests as cancelled: the caller has gone."""
        for kind, started, request in self._open.values():
            self._accounts.cancelled(kind, started, request, self._context)
        self._open.clear()

    def add(self, position: int, message: pb.ForecastRequest) -> int:
        """Accept a request, to be queued by `flush`; return the approximate memory that it takes.

        A request that is invalid or does not fit is answered at once, and takes none.
        """
        kind, started = kind_of(message), time.perf_counter()
        if self._turned_away is None:
            try:
                if not self._tickets:  # refusing a frame should be cheaper than queueing it
                    self._engine_client.check(self._call, forecast_requests.cost_of(message))
                request = forecast_requests.to_request(message, self._call)
                self._claim_room(request)
                if self._call.trace is not None:
                    self._call.trace.follow(request, kind)
            except Exception as error:  # one broken request must not fail the whole frame
                refusal = self._refusal(error)
            else:
                self._open[position] = kind, started, request
                resolve = partial(self._resolve, position, request)
                self._tickets.append((position, Ticket(request, resolve, self._wanted, self._call.caller)))
                return request.nbytes
        else:
            refusal = self._turned_away
        self._accounts.failed(kind, started, refusal.error, message, self._context)
        self._emit(position, _failed(message.session_id, message.request_id, refusal.status), 0)
        return 0

    def flush(self) -> None:
        """Queue the requests accepted since the last flush."""
        tickets, self._tickets = self._tickets, []
        if not tickets:
            return
        taken, error = self._engine_client.submit([ticket for _, ticket in tickets])
        if error is None:
            return
        refusal = self._refusal(error)
        for position, ticket in tickets[taken:]:
            request = ticket.request
            self._settle(position, refusal.error)
            answer = _failed(request.session_id, request.request_id.decode(), refusal.status)
            self._emit(position, answer, request.nbytes)

    def _refusal(self, error: Exception) -> "_Refusal":
        if isinstance(error, ServiceError):  # what may be kept must not hold this frame
            error = error.with_traceback(None)
        refusal = _Refusal(error, to_status(error))
        if isinstance(error, Overloaded):
            self._turned_away = refusal
        return refusal

    def _settle(self, position: int, result: Result) -> None:
        kind, started, request = self._open.pop(position)
        if isinstance(result, Exception):
            self._accounts.failed(kind, started, result, request, self._context)
        else:
            self._accounts.succeeded(kind, started, request, self._context)

    def _claim_room(self, request: Request) -> None:
        self._bytes += request.nbytes
        if self._bytes > self._max_bytes:
            raise Overloaded(
                f"the answers to one frame may take {self._max_bytes / 2**20:g} MiB; send this request in another",
                Reason.FRAME_FULL,
            )

    def _resolve(self, position: int, request: Request, result: Result) -> None:
        if not self._wanted():
            return
        try:
            answer = _answer(request, result)
        except Exception as error:  # a bug; the caller still needs an answer
            answer, result = _answer(request, error), error
        self._settle(position, result)
        self._emit(position, answer, request.nbytes)


class _Refusal(NamedTuple):
    """An error that refuses requests, and its status for the caller."""

    error: Exception
    status: status_pb2.Status


def _answer(request: Request, result: Result) -> bytes:
    if isinstance(result, Outcome):
        return encoding.succeeded(encoding.response(request, result))
    return _failed(request.session_id, request.request_id.decode(), to_status(result))


def _failed(session_id: str, request_id: str, status: status_pb2.Status) -> bytes:
    return pb.ForecastResult(status=status, session_id=session_id, request_id=request_id).SerializeToString()
