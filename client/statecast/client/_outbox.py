"""The traffic of one ForecastStream, without the connection: puts requests into frames, passes results on."""

from collections import deque
from collections.abc import Callable, Collection
from typing import Generic, TypeAlias, TypeVar

from ._request import Frame, Key, Request
from ._response import Response, Result
from .errors import StatecastError

MAX_REQUESTS_A_FRAME = 512
MAX_NUMBERS_A_FRAME = 100_000

Settle: TypeAlias = Callable[[Response | StatecastError], None]
S = TypeVar("S", bound=Settle)


class Outbox(Generic[S]):
    """Requests that wait for a frame, and those that wait for their result. Not thread-safe."""

    def __init__(self, note_failure: Callable[[StatecastError], None] = lambda _: None) -> None:
        """Create an empty one; `note_failure` hears of each result that is an error."""
        self._note_failure = note_failure
        self._unsent: deque[tuple[Key, int, bytes]] = deque()
        self._waiting: dict[Key, S] = {}

    @property
    def waiting(self) -> Collection[S]:
        """What waits for a result."""
        return self._waiting.values()

    def put(self, request: Request, timeout_seconds: float, settle: S) -> Key:
        """Queue a request; `settle` gets its result. No two requests in flight may have the same key."""
        key = request.key
        self._waiting[key] = settle
        self._unsent.append((key, request.numbers, request.SerializeToString(timeout_seconds)))
        return key

    def forget(self, key: Key) -> None:
        """Ignore the result of that request; if it was not sent yet, never send it."""
        self._waiting.pop(key, None)

    def next_frame(self) -> Frame | None:
        """Return a frame with as many queued requests as fit; None if there are none."""
        requests: list[bytes] = []
        room = MAX_NUMBERS_A_FRAME
        while self._unsent and len(requests) < MAX_REQUESTS_A_FRAME and room > 0:
            key, numbers, request = self._unsent.popleft()
            if key in self._waiting:
                requests.append(request)
                room -= numbers
        return Frame(requests) if requests else None

    def take(self, results: list[Result]) -> None:
        """Pass each result to the function that waits for it."""
        for key, result in results:
            if settle := self._waiting.pop(key, None):
                if isinstance(result, StatecastError):
                    self._note_failure(result)
                settle(result)

    def fail(self, make_error: Callable[[], StatecastError]) -> None:
        """Fail all waiting requests because the stream has ended; each may be sent again on another one."""
        self._unsent.clear()
        self.take([(key, make_error()) for key in self._waiting])
