"""Runs many operations at once over one ForecastStream, without asyncio."""

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from ._calls import Operation, Pause, Send
from ._frame_stream import FrameStream
from ._request import Key
from ._response import Response
from .errors import DeadlineExceeded, StatecastError

S = TypeVar("S")
WINDOW = 256
"""Most operations in progress at once."""


@dataclass(eq=False)
class _Task(Generic[S]):
    """An operation in progress, or waiting for an earlier one of its session.

    Attributes:
        session: The session of the operation.
        operation: The operation, step by step.
        step: Number of the current step; answers to earlier steps are ignored.
        due: Time to wake it without an answer, on the clock of time.monotonic.
        late: Its answer at that time: an error, or None after a pause.
        key: Key of the request that waits for its answer; None without one.
        is_done: True once the result is known.
        result: The result, or the error.
    """

    session: S
    operation: Operation[Any]
    step: int = 0
    due: float = math.inf
    late: StatecastError | None = None
    key: Key | None = None
    is_done: bool = False
    result: Any = None


class Driver(Generic[S]):
    """A runner of concurrent operations, one at a time per session. Results come in the order given."""

    def __init__(self, stream: FrameStream, line_of: Callable[[S], str]) -> None:
        self._stream = stream
        self._line_of = line_of
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._room = threading.Semaphore(WINDOW)
        self._tasks: deque[_Task[S]] = deque()
        self._lines: dict[str, deque[_Task[S]]] = {}
        self._due = math.inf  # no task is due earlier
        self._has_ended = self._is_closed = False
        self._failure: BaseException | None = None

    def run(self, work: Iterable[tuple[S, Callable[[], Operation[Any]]]]) -> Generator[tuple[S, Any], None, None]:
        """Yield each session with the result of its operation, or with its StatecastError.

        A thread reads `work`, at most 256 operations ahead.
        """
        threading.Thread(target=self._feed, args=(work,), name="statecast-feed", daemon=True).start()
        try:
            while not (self._has_ended and not self._tasks):
                self._next_event()()
                while self._tasks and self._tasks[0].is_done:
                    task = self._tasks.popleft()
                    self._room.release()
                    yield task.session, task.result
            if self._failure is not None:
                raise self._failure
        finally:
            self._is_closed = True
            self._room.release()
            self._stream.close()

    def _feed(self, work: Iterable[tuple[S, Callable[[], Operation[Any]]]]) -> None:
        try:
            for session, make in work:
                self._room.acquire()
                if self._is_closed:
                    return
                self._events.put(partial(self._begin, session, make))
            self._events.put(self._end)
        except BaseException as error:
            self._events.put(partial(self._end, error))

    def _end(self, failure: BaseException | None = None) -> None:
        self._has_ended, self._failure = True, failure

    def _begin(self, session: S, make: Callable[[], Operation[Any]]) -> None:
        task = _Task(session, _started(make))
        self._tasks.append(task)
        line = self._lines.setdefault(self._line_of(session), deque())
        line.append(task)
        if len(line) == 1:
            self._resume(task, 0, None)

    def _resume(self, task: _Task[S], step: int, answer: Response | StatecastError | None) -> None:
        """Continue a task with the answer to its current step; ignore any other answer."""
        if task.is_done or task.step != step:
            return
        task.step += 1
        try:
            action = _go_on(task.operation, answer)
        except StopIteration as stop:
            self._finish(task, stop.value)
        except StatecastError as error:
            self._finish(task, error)
        else:
            if isinstance(action, Pause):
                seconds, task.late, task.key = action.seconds, None, None
            else:
                seconds = action.timeout_seconds
                task.late = DeadlineExceeded(f"no answer within {seconds:g} s")
                resume = partial(self._resume, task, task.step)
                task.key = self._stream.put(action.message, seconds, lambda got: self._events.put(partial(resume, got)))
            task.due = time.monotonic() + seconds
            self._due = min(self._due, task.due)

    def _finish(self, task: _Task[S], result: Any) -> None:
        task.result, task.is_done, task.due = result, True, math.inf
        name = self._line_of(task.session)
        line = self._lines[name]
        line.popleft()
        if line:
            self._resume(line[0], 0, None)
        else:
            del self._lines[name]

    def _next_event(self) -> Callable[[], None]:
        left = self._due - time.monotonic()
        if left > 0:
            with suppress(queue.Empty):
                return self._events.get(timeout=left if left < math.inf else None)
        return self._wake

    def _wake(self) -> None:
        """Continue the tasks whose time is up. One timer for all costs less than one for each answer."""
        now = time.monotonic()
        for task in self._tasks:
            if task.due <= now:
                if task.key is not None:
                    self._stream.forget(task.key)
                self._resume(task, task.step, task.late)
        self._due = min((task.due for task in self._tasks), default=math.inf)


def _go_on(operation: Operation[Any], answer: Response | StatecastError | None) -> Send | Pause:
    return operation.throw(answer) if isinstance(answer, StatecastError) else operation.send(answer)


def _started(make: Callable[[], Operation[Any]]) -> Operation[Any]:
    """Return an operation that calls `make` itself, so that an error in `make` becomes its result."""
    return (yield from make())
