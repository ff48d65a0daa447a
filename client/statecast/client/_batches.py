"""Sends requests that append and forecast: those of one session in parts, those of many sessions in frames."""

import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from copy import copy

import grpc

from statecast.v1.reasons import Reason

from . import _messages
from ._calls import FORECAST, FORECAST_MANY, Operation, Patience, Send, exchange
from ._core import SessionCore
from ._recovery import restore
from ._request import Frame, Request
from ._response import Response
from ._times import NONE, Instants
from .errors import StatecastError, Unauthenticated, VersionMismatch, from_rpc_error

MAX_REQUESTS_A_FRAME = 512
MAX_NUMBERS_A_FRAME = 400_000  # a server refuses a message of more than 250,000 times, and each has a value


def forecast(
    core: SessionCore, parts: list[Request], timeout_seconds: float, *, may_split: bool = True
) -> Operation[Response]:
    """Send the parts of one request one after the other; each may take `timeout_seconds`.

    With `may_split`, a part that spans too many steps because of its time gaps is replaced by its halves. A request id
    given by the caller rules that out.
    """
    taken = 0
    answers: list[Response] = []
    while len(answers) < len(parts):
        position = len(answers)
        part = parts[position]
        if position and parts[0].if_version is not None:
            part.if_version = answers[-1].version
        try:
            response = yield from _ask(core, part, timeout_seconds)
            answers.append(response)
            taken += part.block.values
            core.heard(part, response)
            if response.replayed and position < len(parts) - 1:
                _check_alone(part, response)
        except StatecastError as error:
            if may_split and (halves := _halves(part, error)):
                parts[position : position + 1] = halves
                continue
            _place(error, part, taken)
            raise
    return _messages.merged(parts, answers)


def _ask(core: SessionCore, part: Request, timeout_seconds: float) -> Operation[Response]:
    """Send one request. If the session has lost acknowledged observations, restore them first."""
    begun_at = time.monotonic()
    core.say_what_was_seen(part)
    try:  # usually this is all
        response: Response = yield Send(FORECAST, part, timeout_seconds)
        return response
    except (grpc.RpcError, StatecastError) as error:
        failure: StatecastError | None = from_rpc_error(error)
    patience = Patience(timeout_seconds, begun_at)
    while True:
        try:
            response = yield from exchange(FORECAST, part, patience, failure)
            return response
        except StatecastError as error:
            if not core.caught_up(part, error, patience.outcome_unknown):
                if patience.is_over or not core.is_lost(error):
                    core.failed(part, error)
                    raise
                yield from restore(core, error, timeout_seconds)
        core.say_what_was_seen(part)
        failure = None


def _halves(part: Request, error: StatecastError) -> tuple[Request, Request] | None:
    """Return the halves of a part of several rows that was refused for spanning too many steps; None otherwise."""
    return _messages.halves(part) if error.reason == Reason.SPAN_TOO_LONG and len(part.block.times) > 1 else None


def _place(error: StatecastError, part: Request, taken: int) -> None:
    """Record in the error which part of a call failed."""
    error.request_id, error.values_taken = part.request_id, taken
    if taken and error.message:
        error.message += f" (the first {taken} values of this call were taken before; those after them count from 0)"
        error.args = (error.message,)


def _check_alone(part: Request, response: Response) -> None:
    """Raise VersionMismatch if a replay under `if_version` shows that somebody else has appended since."""
    if part.if_version is None:
        return
    steps = response.version.step - part.if_version.step
    # A time step has one value or several; time gaps add further steps.
    block = part.block
    if (steps < 1 or block.values % steps) and not block.has_start and not block.times:
        error = VersionMismatch(f"if_version: the session was moved on to {response.version}")
        error.current = response.version
        raise error


class Item:
    """One request of a call about many sessions, and its outcome.

    Attributes:
        core: The session.
        parts: The request, in parts.
        ahead: Times of its future covariates, if they have any.
        taken: Number of values that the session took.
        answers: Responses to the first parts.
        error: Why the next part failed; None if it has not.
    """

    __slots__ = ("ahead", "answers", "core", "error", "parts", "taken")

    def __init__(self, core: SessionCore, parts: list[Request], ahead: Instants = NONE) -> None:
        self.core, self.parts, self.ahead, self.taken = core, parts, ahead, 0
        self.answers: list[Response] = []
        self.error: StatecastError | None = None


class _Line:
    """The parts that wait for one session, in order. Only the first is in flight.

    `lost` is the error that reports lost observations, until they are restored.
    """

    __slots__ = ("lost", "parts")

    def __init__(self) -> None:
        self.parts: deque[tuple[Item, Request]] = deque()
        self.lost: StatecastError | None = None

    def take(self, result: Response | StatecastError) -> None:
        """Handle the result of the first part; after an error that allows a retry it stays first."""
        item, part = self.parts[0]
        if isinstance(result, StatecastError):
            self._take_error(result, item, part)
            return
        self.parts.popleft()
        item.core.heard(part, result)
        item.taken += part.block.values
        item.answers.append(result)
        item.error = None

    def _take_error(self, error: StatecastError, item: Item, part: Request) -> None:
        if halves := _halves(part, error):
            self.parts.popleft()
            self.parts.extendleft((item, half) for half in reversed(halves))
            item.parts[len(item.answers) : len(item.answers) + 1] = halves
            return
        _place(error, part, item.taken)
        if item.core.caught_up(part, error, was_tried=False):
            return
        item.core.failed(part, error)
        item.error = error
        if item.core.is_lost(error):
            self.lost = error
        elif not error.may_succeed_again:
            self.refuse(error)

    def refuse(self, error: StatecastError) -> None:
        """Give up on all waiting parts: to send those that follow a failed one would leave a hole in the session."""
        for item, part in reversed(self.parts):
            # Each item gets its own error, which names the first of its parts that was not taken.
            item.error = copy(error)
            item.error.request_id, item.error.values_taken = part.request_id, item.taken
        self.parts.clear()


def forecast_many(items: Sequence[Item], timeout_seconds: float) -> Operation[None]:
    """Send many requests in frames, each session's in order, and store the outcomes in the items.

    The `timeout_seconds` start again whenever a frame has made progress.
    """
    lines = _lines(items)
    patience = Patience(timeout_seconds)
    while waiting := [line for line in lines if line.parts]:
        for frame in _frames(waiting):
            if (yield from _send_frame(frame, patience.remaining_seconds)):
                patience = Patience(timeout_seconds)
        for line in waiting:
            if line.lost:
                yield from _mend(line, line.lost, patience, timeout_seconds)
        failed = [(line, error) for line in waiting if line.parts and (error := line.parts[0][0].error)]
        if failed:
            try:
                yield patience.pause_after(max(failed, key=_weight)[1])
            except StatecastError:
                for line, error in failed:
                    line.refuse(error)


def _lines(items: Iterable[Item]) -> Collection[_Line]:
    lines: dict[str, _Line] = {}
    for item in items:
        line = lines.get(item.core.session_id)
        if line is None:
            line = lines[item.core.session_id] = _Line()
        for part in item.parts:
            line.parts.append((item, part))
    return lines.values()


def _mend(line: _Line, lost: StatecastError, patience: Patience, timeout_seconds: float) -> Operation[None]:
    line.lost = None
    try:
        if patience.is_over:
            raise lost
        yield from restore(line.parts[0][0].core, lost, timeout_seconds)
        line.parts[0][0].error = None
    except StatecastError as error:
        line.refuse(error)


def _send_frame(frame: Sequence[_Line], timeout_seconds: float) -> Operation[bool]:
    """Send the first part of each line; return True if a session has taken one, or is not asked again."""
    requests = []
    for line in frame:
        item, part = line.parts[0]
        item.core.say_what_was_seen(part)
        requests.append(part.SerializeToString())
    before = _parts_of(frame)
    try:
        sessions = [line.parts[0][1].session_id for line in frame]
        results = yield Send(FORECAST_MANY, Frame(requests, sessions), timeout_seconds)
    except (grpc.RpcError, StatecastError) as error:
        for line in frame:
            line.take(from_rpc_error(error))
    else:
        for line, (_, result) in zip(frame, results, strict=True):
            line.take(result)
    return _parts_of(frame) < before


def _parts_of(lines: Iterable[_Line]) -> int:
    return sum([len(line.parts) for line in lines])


def _weight(failed: tuple[_Line, StatecastError]) -> tuple[bool, float]:
    """Return the weight of an error for when to go on: a refused token counts most, and then the longest pause."""
    _, error = failed
    return isinstance(error, Unauthenticated), error.retry_after_seconds or 0.0


def _frames(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    """Group the lines into frames, so that their first parts fit into one message."""
    frame: list[_Line] = []
    numbers = 0
    for line in lines:
        size = line.parts[0][1].numbers
        if frame and (len(frame) == MAX_REQUESTS_A_FRAME or numbers + size > MAX_NUMBERS_A_FRAME):
            yield frame
            frame, numbers = [], 0
        frame.append(line)
        numbers += size
    if frame:
        yield frame
