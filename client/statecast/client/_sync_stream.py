"""Runs many operations at once over one ForecastStream to each replica, without asyncio."""

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable
from functools import partial
from typing import Any, Generic, TypeVar, cast

from ._calls import Operation, Pause, Send
from ._frame_stream import FrameStreams, Sent
from ._request import Request
from ._response import Response
from .errors import DeadlineExceeded, StatecastError

S = TypeVar("S")
WINDOW = 256
"""Most operations in progress at once."""


class _Task(Generic[S]):
    """An operation in progress, or waiting for an earlier one of its session.

    Attributes:
        session: The session of the operation.
        line: Name of its session; operations of one line run one after the other.
        operation: The operation, step by step.
        step: Number of the current step; answers to earlier steps are ignored.
        due: Time to wake it without an answer, on the clock of time.monotonic.
        timeout_seconds: Time that its answer had until then; None for a pause.
        sent: The request that waits for its answer; None without one.
        is_done: True once the result is known.
        result: The result, or the error.
    """

    __slots__ = ("due", "is_done", "line", "operation", "result", "sent", "session", "step", "timeout_seconds")

    def __init__(self, session: S, line: str, operation: Operation[Any]) -> None:
        self.session, self.line, self.operation, self.step, self.due = session, line, operation, 0, math.inf
        self.timeout_seconds: float | None = None
        self.sent: Sent | None = None
        self.is_done, self.result = False, None


class Driver(Generic[S]):
    """A runner of concurrent operations, one at a time per session. Results come in the order given.

    Other threads bring operations and answers. The caller's thread handles all that have come, and then sends all
    requests that follow from them: what costs most is that a thread wakes another.
    """

    def __init__(self, streams: FrameStreams) -> None:
        self._streams = streams
        self._fed: deque[_Task[S]] = deque()
        self._arrived: deque[tuple[_Task[S], int, Response | StatecastError]] = deque()
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_asleep = False
        self._has_room = threading.Event()
        self._read = self._given = 0  # operations read, results given
        self._tasks: deque[_Task[S]] = deque()
        self._lines: dict[str, deque[_Task[S]]] = {}
        self._due = math.inf  # no task is due earlier
        self._has_ended = self._is_closed = False
        self._failure: BaseException | None = None

    def run(self, work: Iterable[tuple[S, str, Operation[Any]]]) -> Generator[tuple[S, Any], None, None]:
        """Yield each session with the result of its operation, or with its StatecastError.

        A thread reads `work`, at most 256 operations ahead: sessions, their names, and operations.
        """
        threading.Thread(target=self._feed, args=(work,), name="statecast-feed", daemon=True).start()
        try:
            while self._tasks or self._fed or not self._has_ended:
                self._wait()
                while self._arrived:
                    self._resume(*self._arrived.popleft())
                while self._fed:
                    self._begin(self._fed.popleft())
                self._streams.flush()
                while self._tasks and self._tasks[0].is_done:
                    task = self._tasks.popleft()
                    self._given += 1
                    if not self._has_room.is_set():
                        self._has_room.set()
                    yield task.session, task.result
            if self._failure is not None:
                raise self._failure
        finally:
            self._is_closed = True
            self._has_room.set()
            self._streams.close()

    def _feed(self, work: Iterable[tuple[S, str, Operation[Any]]]) -> None:
        try:
            for session, line, operation in work:
                self._fed.append(_Task(session, line, operation))
                self._read += 1
                self._wake()
                while self._read - self._given >= WINDOW and not self._is_closed:
                    self._has_room.clear()
                    if self._read - self._given >= WINDOW and not self._is_closed:  # or it was set just before
                        self._has_room.wait()
                if self._is_closed:
                    return
        except BaseException as error:
            self._failure = error
        self._has_ended = True
        self._wake()

    def _wake(self) -> None:
        """Wake the caller's thread; called by other threads after they have brought something."""
        if self._is_asleep:
            self._is_asleep = False
            self._wakes.put(None)

    def _wait(self) -> None:
        """Wait until there is something to do."""
        self._is_asleep = True
        if not (self._arrived or self._fed or (self._has_ended and not self._tasks)):  # or it came just before
            left = self._due - time.monotonic()
            try:
                self._wakes.get(left > 0, left if 0 < left < math.inf else None)
            except queue.Empty:
                self._is_asleep = False
                self._give_up()
        self._is_asleep = False

    def _begin(self, task: _Task[S]) -> None:
        self._tasks.append(task)
        line = self._lines.get(task.line)
        if line is None:
            self._lines[task.line] = deque((task,))
            self._resume(task, 0, None)
        else:
            line.append(task)

    def _resume(self, task: _Task[S], step: int, answer: Response | StatecastError | None) -> None:
        """Continue a task with the answer to its current step; ignore any other answer."""
        if task.is_done or task.step != step:
            return
        task.step = step = step + 1
        operation = task.operation
        try:
            action = operation.throw(answer) if isinstance(answer, StatecastError) else operation.send(answer)
        except StopIteration as stop:
            self._finish(task, stop.value)
        except StatecastError as error:
            self._finish(task, error)
        else:
            self._carry_out(task, step, action)

    def _carry_out(self, task: _Task[S], step: int, action: Send | Pause) -> None:
        if isinstance(action, Pause):
            seconds, task.timeout_seconds, task.sent = action.seconds, None, None
        else:
            seconds = task.timeout_seconds = action.timeout_seconds
            request = cast("Request", action.message)
            task.sent = self._streams.put(request, seconds, partial(self._arrive, task, step))
        task.due = due = time.monotonic() + seconds
        if due < self._due:
            self._due = due

    def _arrive(self, task: _Task[S], step: int, answer: Response | StatecastError) -> None:
        self._arrived.append((task, step, answer))
        self._wake()

    def _finish(self, task: _Task[S], result: Any) -> None:
        task.result, task.is_done, task.due = result, True, math.inf
        line = self._lines[task.line]
        line.popleft()
        if line:
            self._resume(line[0], 0, None)
        else:
            del self._lines[task.line]

    def _give_up(self) -> None:
        """Continue the tasks whose time is up. One timer for all costs less than one for each answer."""
        now = time.monotonic()
        for task in self._tasks:
            if task.due <= now:
                late = None
                if task.timeout_seconds is not None:
                    late = DeadlineExceeded(f"no answer within {task.timeout_seconds:g} s")
                if task.sent is not None:
                    task.sent.forget()
                self._resume(task, task.step, late)
        self._due = min((task.due for task in self._tasks), default=math.inf)
