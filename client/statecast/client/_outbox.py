"""The traffic of one ForecastStream, without the connection: puts requests into frames, passes results on."""

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
    """Requests that wait for a frame, and those that wait for their result. Not thread-safe."""

    def __init__(self) -> None:
        self._unsent: deque[tuple[Key, Request]] = deque()
        self._waiting: dict[Key, Settle] = {}

    def put(self, request: Request, timeout_seconds: float, settle: Settle) -> Key:
        """Queue a request; `settle` gets its result. No two requests in flight may have the same key."""
        seconds = int(timeout_seconds)
        request.timeout.seconds, request.timeout.nanos = seconds, int((timeout_seconds - seconds) * 1e9)
        key = (request.session_id, request.request_id)
        self._waiting[key] = settle
        self._unsent.append((key, request))
        return key

    def forget(self, key: Key) -> None:
        """Ignore the result of that request; if it was not sent yet, never send it."""
        self._waiting.pop(key, None)

    def next_frame(self) -> forecast_service_pb2.ForecastStreamRequest | None:
        """Return a frame with as many queued requests as fit; None if there are none."""
        requests: list[Request] = []
        room = MAX_NUMBERS_A_FRAME
        while self._unsent and len(requests) < MAX_REQUESTS_A_FRAME and room > 0:
            key, request = self._unsent.popleft()
            if key in self._waiting:
                requests.append(request)
                room -= size(request)
        return forecast_service_pb2.ForecastStreamRequest(requests=requests) if requests else None

    def take(self, frame: forecast_service_pb2.ForecastStreamResponse) -> None:
        """Pass each result to the function that waits for it."""
        for result in frame.results:
            if result.HasField("response"):
                self._settle((result.response.session_id, result.response.request_id), result.response)
            else:
                self._settle((result.session_id, result.request_id), from_status(result.status))

    def fail(self, make_error: Callable[[], StatecastError]) -> None:
        """Fail all waiting requests because the stream has ended; each may be sent again on another one."""
        self._unsent.clear()
        for key in list(self._waiting):
            self._settle(key, make_error())

    def _settle(self, key: Key, result: Response | StatecastError) -> None:
        settle = self._waiting.pop(key, None)
        if settle is not None:
            settle(result)
