"""What travels on one ForecastStream, without the connection: requests into frames, results to whoever waits."""

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from statecast.v1 import forecast_service_pb2

from ._core import Request, Response
from ._messages import size
from .errors import StatecastError, from_status

MAX_REQUESTS_A_FRAME = 512
MAX_NUMBERS_A_FRAME = 100_000

Key: TypeAlias = tuple[str, str]
Settle: TypeAlias = Callable[[Response | StatecastError], None]


class Outbox:
    """Requests that wait for a frame, and those that wait for their result. Not for use by two threads at once."""

    def __init__(self) -> None:
        self._unsent: deque[tuple[Key, Request]] = deque()
        self._waiting: dict[Key, Settle] = {}

    def put(self, request: Request, timeout_seconds: float, settle: Settle) -> Key:
        """Takes a request to send; `settle` gets its result. No two requests under way may have the same key."""
        seconds = int(timeout_seconds)
        request.timeout.seconds, request.timeout.nanos = seconds, int((timeout_seconds - seconds) * 1e9)
        key = (request.session_id, request.request_id)
        self._waiting[key] = settle
        self._unsent.append((key, request))
        return key

    def forget(self, key: Key) -> None:
        """Nobody waits for that result any more; if the request was not sent, it never is."""
        self._waiting.pop(key, None)

    def next_frame(self) -> forecast_service_pb2.ForecastStreamRequest | None:
        """As many requests as a frame takes; None if there are none."""
        requests: list[Request] = []
        room = MAX_NUMBERS_A_FRAME
        while self._unsent and len(requests) < MAX_REQUESTS_A_FRAME and room > 0:
            key, request = self._unsent.popleft()
            if key in self._waiting:
                requests.append(request)
                room -= size(request)
        return forecast_service_pb2.ForecastStreamRequest(requests=requests) if requests else None

    def take(self, frame: forecast_service_pb2.ForecastStreamResponse) -> None:
        """Hands the results to those who wait for them."""
        for result in frame.results:
            if result.HasField("response"):
                self._settle((result.response.session_id, result.response.request_id), result.response)
            else:
                self._settle((result.session_id, result.request_id), from_status(result.status))

    def fail(self, make_error: Callable[[], StatecastError]) -> None:
        """Tells everybody who waits that the stream has ended; each may send the same request on another one."""
        self._unsent.clear()
        for key in list(self._waiting):
            self._settle(key, make_error())

    def _settle(self, key: Key, result: Response | StatecastError) -> None:
        settle = self._waiting.pop(key, None)
        if settle is not None:
            settle(result)
