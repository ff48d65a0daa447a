"""Many operations side by side over one ForecastStream, in ordinary code."""

import heapq
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import grpc

from ._calls import Operation, Pause, Send
from ._core import Response
from ._outbox import Key, Outbox, Settle
from .errors import DeadlineExceeded, StatecastError, Unavailable, from_rpc_error

S = TypeVar("S")
WINDOW = 256
"""How many operations may be under way."""


class FrameStream:
    """Opens a stream when there is something to send, and another one after it has broken. For any thread."""

    def __init__(self, method: Any) -> None:
        self._method = method
        self._outbox = Outbox()
        self._changed = threading.Condition()
        self._call: Any = None

    def put(self, request: Any, timeout_seconds: float, settle: Settle) -> Key:
        """Sends a request; `settle` gets its result, in another thread."""
        with self._changed:
            key = self._outbox.put(request, timeout_seconds, settle)
            if self._call is None:
                call = _Call()
                try:
                    call.inner = self._method(self._frames(call))
                except ValueError:  # gRPC's word for a channel that was closed
                    self._outbox.fail(partial(StatecastError, "the client is closed"))
                    return key
                self._call = call
                threading.Thread(target=self._read, args=(call,), name="statecast-stream", daemon=True).start()
            self._changed.notify_all()
            return key

    def forget(self, key: Key) -> None:
        """Nobody waits for that result any more."""
        with self._changed:
            self._outbox.forget(key)

    def close(self) -> None:
        """Ends the stream."""
        with self._changed:
            call = self._call
        if call is not None:
            call.inner.cancel()

    def _frames(self, call: "_Call") -> Iterator[Any]:
        while True:
            with self._changed:
                while not call.is_over and (frame := self._outbox.next_frame()) is None:
                    self._changed.wait()
                if call.is_over:
                    return
            yield frame

    def _read(self, call: "_Call") -> None:
        make_error: Callable[[], StatecastError] = partial(Unavailable, "the server has ended the stream")
        try:
            for frame in call.inner:
                with self._changed:
                    self._outbox.take(frame)
        except grpc.RpcError as error:
            make_error = partial(from_rpc_error, error)
        finally:
            with self._changed:
                call.is_over, self._call = True, None
                self._outbox.fail(make_error)
                self._changed.notify_all()


@dataclass
class _Call:
    """One stream RPC."""

    inner: Any = None
    is_over: bool = False


@dataclass(eq=False)
class _Task(Generic[S]):
    """An operation under way, or behind another one of its session; `waits_for` tells outdated answers apart."""

    session: S
    operation: Operation[Any]
    result: Any = None
    is_done: bool = False
    waits_for: int = 0
    key: Key | None = None


@dataclass(order=True)
class _Timer:
    due: float
    tie: int
    task: "_Task[Any]" = field(compare=False)
    wake: Callable[[], None] = field(compare=False)


class Driver(Generic[S]):
    """Carries operations out side by side, those of one session one after the other; results in the order given."""

    def __init__(self, stream: FrameStream, line_of: Callable[[S], str]) -> None:
        self._stream = stream
        self._line_of = line_of
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._room = threading.Semaphore(WINDOW)
        self._order: deque[_Task[S]] = deque()
        self._lines: dict[str, deque[_Task[S]]] = {}
        self._timers: list[_Timer] = []
        self._numbers = itertools.count(1)
        self._has_ended = self._is_closed = False
        self._failure: BaseException | None = None

    def run(self, work: Iterable[tuple[S, Callable[[], Operation[Any]]]]) -> Generator[tuple[S, Any], None, None]:
        """Yields each session with what came of its operation: the result or its StatecastError.

        `work` is read in a thread of its own, at most 256 operations ahead.
        """
        threading.Thread(target=self._feed, args=(work,), name="statecast-feed", daemon=True).start()
        try:
            while not (self._has_ended and not self._order):
                self._next_event()()
                while self._order and self._order[0].is_done:
                    task = self._order.popleft()
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
        self._order.append(task)
        line = self._lines.setdefault(self._line_of(session), deque())
        line.append(task)
        if len(line) == 1:
            self._resume(task, 0, None)

    def _resume(self, task: _Task[S], number: int, answer: Response | StatecastError | None) -> None:
        """Goes on with a task, if the answer is the one that it waits for."""
        if task.is_done or task.waits_for != number:
            return
        try:
            action = _go_on(task.operation, answer)
        except StopIteration as stop:
            self._finish(task, stop.value)
        except StatecastError as error:
            self._finish(task, error)
        else:
            task.waits_for = next(self._numbers)
            resume = partial(self._resume, task, task.waits_for)
            if isinstance(action, Pause):
                self._wake_after(task, action.seconds, partial(resume, None))
                return
            task.key = self._stream.put(
                action.message, action.timeout_seconds, lambda result: self._events.put(partial(resume, result))
            )
            late = DeadlineExceeded(f"no answer within {action.timeout_seconds:g} s")
            self._wake_after(
                task, action.timeout_seconds, partial(self._give_up, task, task.key, partial(resume, late))
            )

    def _give_up(self, task: _Task[S], key: Key, resume: Callable[[], None]) -> None:
        if task.key == key and not task.is_done:
            self._stream.forget(key)
            resume()

    def _finish(self, task: _Task[S], result: Any) -> None:
        task.result, task.is_done = result, True
        if len(self._timers) > 4 * WINDOW:  # most are of answers that came in time
            self._timers = [timer for timer in self._timers if not timer.task.is_done]
            heapq.heapify(self._timers)
        name = self._line_of(task.session)
        line = self._lines[name]
        line.popleft()
        if line:
            self._resume(line[0], 0, None)
        else:
            del self._lines[name]

    def _wake_after(self, task: _Task[S], seconds: float, wake: Callable[[], None]) -> None:
        heapq.heappush(self._timers, _Timer(time.monotonic() + seconds, next(self._numbers), task, wake))

    def _next_event(self) -> Callable[[], None]:
        while True:
            timeout = None
            if self._timers:
                timeout = self._timers[0].due - time.monotonic()
                if timeout <= 0:
                    return heapq.heappop(self._timers).wake
            try:
                return self._events.get(timeout=timeout)
            except queue.Empty:
                continue


def _go_on(operation: Operation[Any], answer: Response | StatecastError | None) -> Send | Pause:
    if isinstance(answer, StatecastError):
        return operation.throw(answer)
    return operation.send(answer)


def _started(make: Callable[[], Operation[Any]]) -> Operation[Any]:
    """The operation, whose making may itself be what fails."""
    return (yield from make())
