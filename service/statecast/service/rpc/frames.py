"""Requests that came together: each is queued, and answered, for itself."""

import math
from collections.abc import Callable
from functools import partial

from google.rpc import status_pb2

from statecast.service.engine.request import Outcome, Request, Result
from statecast.service.engine.scheduler import Ticket
from statecast.service.errors import InvalidRequest, Overloaded, Reason
from statecast.service.rpc import forecasts, wire
from statecast.service.rpc.gate import Call, Gate
from statecast.service.rpc.status import to_status
from statecast.v1 import forecast_service_pb2 as pb

MAX_REQUESTS_A_FRAME = 4096
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Of all the answers to one frame together, about."""

Emit = Callable[[int, bytes, int], None]
"""Takes the ForecastResult of the request at a position of its frame, and the memory that was counted for it."""


def check_size(requests: int) -> None:
    """Refuse a frame of too many requests."""
    if requests > MAX_REQUESTS_A_FRAME:
        raise InvalidRequest("requests", f"{requests} are more than {MAX_REQUESTS_A_FRAME}")


class Frame:
    """Queues the requests of one frame together and emits a result for each, as they come, in the event loop.

    Once a request is turned away, so are all that come after it: none may overtake an earlier one of its session, and a
    server that has no room for them should not have much work with them either.
    """

    def __init__(
        self, gate: Gate, call: Call, emit: Emit, wanted: Callable[[], bool], max_bytes: float = math.inf
    ) -> None:
        """Queue behind `gate` for `call`, as long as somebody wants the answers.

        Args:
            gate: The way to the engine.
            call: Who asks.
            emit: Takes each result.
            wanted: Whether somebody still waits; asked from any thread.
            max_bytes: How much memory the answers may take together, about.
        """
        self._gate = gate
        self._call = call
        self._emit = emit
        self._wanted = wanted
        self._max_bytes = max_bytes
        self._turned_away: status_pb2.Status | None = None
        self._bytes = 0
        self._tickets: list[tuple[int, Ticket]] = []

    def add(self, position: int, message: pb.ForecastRequest) -> int:
        """Take a request, to be queued with those that follow; the memory that it takes, about.

        One that is wrong, or that there is no room for, is answered at once and takes none.
        """
        if self._turned_away is None:
            try:
                if not self._tickets:  # turning a frame away should be less work than taking it
                    self._gate.check(self._call, forecasts.cost_of(message))
                request = forecasts.to_request(message, self._call.until(forecasts.to_timeout(message)))
                self._claim_room(request)
            except Exception as error:  # one broken request must not take its frame with it
                status = self._status_of(error)
            else:
                resolve = partial(self._resolve, position, request)
                self._tickets.append((position, Ticket(request, resolve, self._wanted, self._call.caller)))
                return request.nbytes
        else:
            status = self._turned_away
        self._emit(position, _failed(message.session_id, message.request_id, status), 0)
        return 0

    def flush(self) -> None:
        """Queue what has been taken."""
        tickets, self._tickets = self._tickets, []
        if not tickets:
            return
        taken, error = self._gate.submit([ticket for _, ticket in tickets])
        if error is None:
            return
        status = self._status_of(error)
        for position, ticket in tickets[taken:]:
            request = ticket.request
            failed = _failed(request.session_id, request.request_id.decode(), status)
            self._emit(position, failed, request.nbytes)

    def _status_of(self, error: Exception) -> status_pb2.Status:
        status = to_status(error)
        if isinstance(error, Overloaded):
            self._turned_away = status
        return status

    def _claim_room(self, request: Request) -> None:
        self._bytes += request.nbytes
        if self._bytes > self._max_bytes:
            raise Overloaded(
                f"the answers to one frame may take {self._max_bytes / 2**20:g} MiB; send this request in another",
                Reason.FRAME_FULL,
                retry_after_seconds=0.0,
            )

    def _resolve(self, position: int, request: Request, result: Result) -> None:
        if not self._wanted():
            return
        try:
            answer = _answer(request, result)
        except Exception as error:  # a defect of ours; somebody waits all the same
            answer = _answer(request, error)
        self._emit(position, answer, request.nbytes)


def _answer(request: Request, result: Result) -> bytes:
    if isinstance(result, Outcome):
        return wire.succeeded(wire.response(request, result))
    return _failed(request.session_id, request.request_id.decode(), to_status(result))


def _failed(session_id: str, request_id: str, status: status_pb2.Status) -> bytes:
    return pb.ForecastResult(status=status, session_id=session_id, request_id=request_id).SerializeToString()
