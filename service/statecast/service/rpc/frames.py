"""Handles frames of requests: each request is queued and answered separately."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from google.rpc import status_pb2

from statecast.service.engine.request import Answered, Outcome, Request, Result, Ticket
from statecast.service.errors import InvalidRequest, Overloaded, ServiceError
from statecast.service.rpc import encoding, forecast_requests
from statecast.service.rpc.accounting import kind_of, kind_of_message
from statecast.service.rpc.crowded import MAX_REQUESTS_A_FRAME
from statecast.service.rpc.engine_client import Call, EngineClient
from statecast.service.rpc.methods import Context
from statecast.service.rpc.status import to_status
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 4 * 1024 * 1024
"""Limit for one message of a stream; a stream holds one in addition to the requests in flight."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Approximate limit for all answers to one frame together."""

Emit = Callable[[int, bytes, int], None]
"""Receives a request's position in its frame, its encoded ForecastResult, and the memory counted for it."""


class Frames:
    """The frames of one ForecastStream call."""

    most_results = 64

    def __init__(
        self, engine_client: EngineClient, context: Context, call: Call, emit: Emit, has_gone: Callable[[], bool]
    ) -> None:
        """Answer frames of a call; `emit` and `has_gone` are those of its stream."""
        self._parts = engine_client, context, call, emit, has_gone

    def requests(self, message: pb.ForecastStreamRequest) -> Sequence[pb.ForecastRequest]:
        """Return the requests in a frame.

        Raises:
            InvalidRequest: if it is too large.
        """
        check_size(len(message.requests))
        if message.ByteSize() > MAX_FRAME_BYTES:
            raise InvalidRequest(
                "requests", f"a frame has more than {MAX_FRAME_BYTES // 2**20} MiB; split it into several"
            )
        return message.requests

    def frame(self) -> "Frame":
        """Return an empty frame for the requests of the next message."""
        return Frame(*self._parts)

    def encode(self, results: list[bytes]) -> bytes:
        """Return the message with these results."""
        return encoding.results(results)


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
        has_gone: Callable[[], bool],
        max_bytes: float = math.inf,
    ) -> None:
        """Create an empty frame.

        Args:
            engine_client: Passes requests to the engine.
            context: The call that carries the frame, for the log.
            call: Its caller and deadline.
            emit: Receives each result.
            has_gone: Returns True once the caller has gone; called from any thread.
            max_bytes: Approximate limit on the memory of all answers.
        """
        self._engine_client, self._accounts = engine_client, engine_client.accounts
        self._context, self._call = context, call
        self._emit = emit
        self._has_gone = has_gone
        self._max_bytes = max_bytes
        self._turned_away: _Refusal | None = None
        self._bytes = 0
        self._started = time.perf_counter()
        self._accepted: list[Request] = []
        self._open: dict[int, tuple[float, Request]] = {}

    @property
    def is_done(self) -> bool:
        """True if every request has been answered."""
        return not self._open

    def abandon(self) -> None:
        """Settle unanswered requests as cancelled: the caller has gone."""
        for started, request in self._open.values():
            self._accounts.cancelled(kind_of(request), started, request, self._context)
        self._open.clear()

    def add(self, position: int, message: pb.ForecastRequest) -> int:
        """Accept a request, to be queued by `flush`; return the approximate memory that it takes.

        A request that is invalid or does not fit is answered at once, and takes none.
        """
        refusal = self._turned_away
        if refusal is None:
            try:
                if not self._accepted:  # refusing a frame should be cheaper than queueing it
                    self._started = time.perf_counter()
                    self._engine_client.check(self._call, forecast_requests.cost_of(message))
                request = forecast_requests.to_request(message, self._call)
                self._claim_room(request)
                if self._call.trace is not None:
                    self._call.trace.follow(request, kind_of(request))
            except Exception as error:  # one broken request must not fail the whole frame
                refusal = self._refusal(error)
            else:
                request.position = position
                self._open[position] = self._started, request
                self._accepted.append(request)
                return request.nbytes
        self._accounts.failed(kind_of_message(message), self._started, refusal.error, message, self._context)
        self._emit(position, _failed(message.session_id, message.request_id, refusal.status), 0)
        return 0

    def flush(self) -> None:
        """Queue the requests accepted since the last flush."""
        requests, self._accepted = self._accepted, []
        if not requests:
            return
        ticket = Ticket(self._call.caller, self._deliver, self._has_gone)
        taken, error = self._engine_client.submit(ticket, requests)
        if error is None:
            return
        refusal = self._refusal(error)
        for request in requests[taken:]:
            started, _ = self._open.pop(request.position)
            self._accounts.failed(kind_of(request), started, refusal.error, request, self._context)
            answer = _failed(request.session_id, request.request_id.decode(), refusal.status)
            self._emit(request.position, answer, request.nbytes)

    def _refusal(self, error: Exception) -> "_Refusal":
        if isinstance(error, ServiceError):  # what may be kept must not hold this frame
            error = error.with_traceback(None)
        refusal = _Refusal(error, to_status(error))
        if isinstance(error, Overloaded):
            self._turned_away = refusal
        return refusal

    def _claim_room(self, request: Request) -> None:
        self._bytes += request.nbytes
        if self._bytes > self._max_bytes:
            raise Overloaded(
                f"the answers to one frame may take {self._max_bytes / 2**20:g} MiB; send this request in another",
                Reason.FRAME_FULL,
            )

    def _deliver(self, answered: Sequence[Answered]) -> None:
        """Answer some of the requests."""
        if self._has_gone():
            return
        succeeded: dict[float, list[Request]] = {}
        failed: list[tuple[float, Request, Exception]] = []
        for request, result in answered:
            try:
                answer = _answer(request, result)
            except Exception as error:  # a bug; the caller still needs an answer
                answer, result = _answer(request, error), error
            started, _ = self._open.pop(request.position)
            if isinstance(result, Outcome):
                succeeded.setdefault(started, []).append(request)
            else:
                failed.append((started, request, result))
            self._emit(request.position, answer, request.nbytes)
        try:
            self._settle(succeeded, failed)
        except Exception:  # they are answered
            log.exception("%d requests could not be counted", len(answered))

    def _settle(
        self, succeeded: Mapping[float, Sequence[Request]], failed: Sequence[tuple[float, Request, Exception]]
    ) -> None:
        """Count requests that have ended, by when they began."""
        for started, request, error in failed:
            self._accounts.failed(kind_of(request), started, error, request, self._context)
        for started, requests in succeeded.items():
            self._accounts.all_succeeded(requests, started, self._context)


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
