"""Sends requests that append and forecast: those of one session in parts, those of many sessions in frames."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field

import grpc

from statecast.v1 import forecast_service_pb2
from statecast.v1.reasons import Reason

from . import _messages
from ._calls import FORECAST, FORECAST_MANY, Operation, Patience, Send, exchange
from ._core import Request, Response, SessionCore
from ._recovery import restore
from .errors import StatecastError, Unauthenticated, VersionMismatch, from_rpc_error, from_status

MAX_REQUESTS_A_FRAME = 512
MAX_NUMBERS_A_FRAME = 500_000


def forecast(
    core: SessionCore, parts: list[Request], timeout_seconds: float, *, may_split: bool = True
) -> Operation[Response]:
    """Send the parts of one request one after the other; each may take `timeout_seconds`.

    With `may_split`, a part that spans too many steps because of its time gaps is replaced by its halves. A request id
    given by the caller rules that out.
    """
    taken, answers = 0, list[Response]()
    while len(answers) < len(parts):
        position = len(answers)
        part = parts[position]
        if position and parts[0].HasField("if_version"):
            part.if_version.CopyFrom(answers[-1].version)
        try:
            response = yield from _ask(core, part, timeout_seconds)
            answers.append(response)
            taken += len(part.observations.values)
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
    patience = Patience(timeout_seconds)
    while True:
        core.say_what_was_seen(part)
        try:
            response: Response = yield from exchange(FORECAST, part, patience)
            return response
        except StatecastError as error:
            if core.caught_up(part, error, patience.outcome_unknown):
                continue
            if patience.is_over or not core.is_lost(error):
                core.failed(part, error)
                raise
            yield from restore(core, error, timeout_seconds)


def _halves(part: Request, error: StatecastError) -> tuple[Request, Request] | None:
    """Return the halves of a part of several rows that was refused for spanning too many steps; None otherwise."""
    return _messages.halves(part) if error.reason == Reason.SPAN_TOO_LONG and len(part.observations.times) > 1 else None


def _place(error: StatecastError, part: Request, taken: int) -> None:
    """Record in the error which part of a call failed."""
    error.request_id, error.values_taken = part.request_id, taken
    if taken and error.message:
        error.message += f" (the first {taken} values of this call were taken before; those after them count from 0)"
        error.args = (error.message,)


def _check_alone(part: Request, response: Response) -> None:
    """Raise VersionMismatch if a replay under `if_version` shows that somebody else has appended since."""
    if not part.HasField("if_version"):
        return
    steps = response.version.step - part.if_version.step
    # A time step has one value or several; time gaps add further steps.
    observed = part.observations
    if (steps < 1 or len(observed.values) % steps) and not observed.HasField("start_time") and not observed.times:
        error = VersionMismatch(f"if_version: the session was moved on to {_messages.to_version(response.version)}")
        error.current = _messages.to_version(response.version)
        raise error


@dataclass
class Item:
    """One request of a call about many sessions, and its outcome."""

    core: SessionCore
    parts: list[Request]
    taken: int = 0
    answers: list[Response] = field(default_factory=list)
    error: StatecastError | None = None


@dataclass
class _Line:
    """The parts that wait for one session, in order. Only the first is in flight.

    `lost` is the error that reports lost observations, until they are restored.
    """

    parts: deque[tuple[Item, Request]] = field(default_factory=deque)
    lost: StatecastError | None = None

    @property
    def core(self) -> SessionCore:
        """The session."""
        return self.parts[0][0].core

    def take(self, result: Response | StatecastError) -> None:
        """Handle the result of the first part; after an error that allows a retry it stays first."""
        item, part = self.parts[0]
        if isinstance(result, StatecastError) and (halves := _halves(part, result)):
            self.parts.popleft()
            self.parts.extendleft((item, half) for half in reversed(halves))
            item.parts[len(item.answers) : len(item.answers) + 1] = halves
            return
        if isinstance(result, StatecastError):
            _place(result, part, item.taken)
            if item.core.caught_up(part, result, was_tried=False):
                return
            item.core.failed(part, result)
            item.error = result
            if item.core.is_lost(result):
                self.lost = result
            elif not result.may_succeed_again:
                self.refuse(result)
            return
        self.parts.popleft()
        item.core.heard(part, result)
        item.taken += len(part.observations.values)
        item.answers.append(result)
        item.error = None

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
    lines: dict[str, _Line] = {}
    for item in items:
        line = lines.setdefault(item.core.session_id, _Line())
        line.parts.extend((item, part) for part in item.parts)
    patience = Patience(timeout_seconds)
    while waiting := [line for line in lines.values() if line.parts]:
        before = sum(len(line.parts) for line in waiting)
        for frame in _frames(waiting):
            yield from _send_frame(frame, patience.remaining_seconds)
            if sum(len(line.parts) for line in waiting) < before:
                before, patience = sum(len(line.parts) for line in waiting), Patience(timeout_seconds)
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


def _mend(line: _Line, lost: StatecastError, patience: Patience, timeout_seconds: float) -> Operation[None]:
    line.lost = None
    try:
        if patience.is_over:
            raise lost
        yield from restore(line.core, lost, timeout_seconds)
        line.parts[0][0].error = None
    except StatecastError as error:
        line.refuse(error)


def _send_frame(frame: Sequence[_Line], timeout_seconds: float) -> Operation[None]:
    for line in frame:
        line.core.say_what_was_seen(line.parts[0][1])
    message = forecast_service_pb2.ForecastManyRequest(requests=[line.parts[0][1] for line in frame])
    try:
        answer = yield Send(FORECAST_MANY, message, timeout_seconds)
    except (grpc.RpcError, StatecastError) as error:
        for line in frame:
            line.take(from_rpc_error(error))
        return
    for line, result in zip(frame, answer.results, strict=True):
        line.take(from_status(result.status) if result.HasField("status") else result.response)


def _weight(failed: tuple[_Line, StatecastError]) -> tuple[bool, float]:
    """Return the weight of an error for when to go on: a refused token counts most, and then the longest pause."""
    _, error = failed
    return isinstance(error, Unauthenticated), error.retry_after_seconds or 0.0


def _frames(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    """Group the lines into frames, so that their first parts fit into one message."""
    frame: list[_Line] = []
    numbers = 0
    for line in lines:
        size = _messages.size(line.parts[0][1])
        if frame and (len(frame) == MAX_REQUESTS_A_FRAME or numbers + size > MAX_NUMBERS_A_FRAME):
            yield frame
            frame, numbers = [], 0
        frame.append(line)
        numbers += size
    if frame:
        yield frame
