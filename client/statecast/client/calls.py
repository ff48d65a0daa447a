"""What a call does, without doing it: generators that yield what to send and how long to wait.

A shell (sync.py, aio.py) carries the actions out: it sends a response in, or throws the RpcError in. So retries,
back-off, deadlines and frames are written once for both.
"""

import random
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from statecast.v1 import forecast_pb2, forecast_service_pb2, model_service_pb2

from . import messages
from .errors import (
    Cancelled,
    NotFound,
    PreconditionFailed,
    StatecastError,
    Unavailable,
    VersionMismatch,
    from_rpc_error,
    from_status,
    invalid,
)
from .types import Version

T = TypeVar("T")
Request: TypeAlias = forecast_service_pb2.ForecastRequest
Response: TypeAlias = forecast_service_pb2.ForecastResponse

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
SHORTEST_TIMEOUT_SECONDS = 0.001
MAX_REQUESTS_A_FRAME = 512
MAX_VALUES_A_FRAME = 500_000

CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    # A channel that has lost its server looks for it again as eagerly as the calls are repeated.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", -1),
    # Any replica can answer any call.
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)


@dataclass(frozen=True)
class Method:
    """An RPC."""

    path: str
    response: type[Message]


_FORECASTS, _MODELS = "/statecast.v1.ForecastService/", "/statecast.v1.ModelService/"
FORECAST = Method(_FORECASTS + "Forecast", forecast_service_pb2.ForecastResponse)
FORECAST_MANY = Method(_FORECASTS + "ForecastMany", forecast_service_pb2.ForecastManyResponse)
GET_SESSION = Method(_FORECASTS + "GetSession", forecast_service_pb2.GetSessionResponse)
CLOSE_SESSION = Method(_FORECASTS + "CloseSession", forecast_service_pb2.CloseSessionResponse)
LIST_MODELS = Method(_MODELS + "ListModels", model_service_pb2.ListModelsResponse)
GET_MODEL = Method(_MODELS + "GetModel", model_service_pb2.GetModelResponse)
METHODS = (FORECAST, FORECAST_MANY, GET_SESSION, CLOSE_SESSION, LIST_MODELS, GET_MODEL)


@dataclass(frozen=True)
class Send:
    """Call the method; the answer goes into the generator."""

    method: Method
    message: Message
    timeout_seconds: float


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


Operation: TypeAlias = Generator[Send | Pause, Any, T]


class Patience:
    """How long one request may still take, all its attempts together, and how long to wait between them."""

    def __init__(self, timeout_seconds: float) -> None:
        self._end = time.monotonic() + timeout_seconds
        self._next_pause_seconds = FIRST_PAUSE_SECONDS
        self.outcome_unknown = False

    @property
    def remaining_seconds(self) -> float:
        """Time left; never nothing at all, so that it can be a timeout."""
        return max(self._end - time.monotonic(), SHORTEST_TIMEOUT_SECONDS)

    def pause_after(self, error: StatecastError) -> Pause:
        """The pause before the next attempt.

        Raises:
            StatecastError: `error`, if another attempt is of no use or there is no time for it.
        """
        seconds = max(self._next_pause_seconds * random.uniform(0.5, 1), error.retry_after_seconds or 0)
        if not error.may_succeed_again or seconds >= self.remaining_seconds:
            raise error
        self.outcome_unknown |= isinstance(error, (Unavailable, Cancelled))
        self._next_pause_seconds = min(2 * self._next_pause_seconds, LONGEST_PAUSE_SECONDS)
        return Pause(seconds)


@dataclass
class SessionCore:
    """What a client knows about a session.

    Attributes:
        session_id: Its name.
        options: How to open it with the first request that succeeds; None once it is open, or if it must exist.
        version: Where it stood when last heard of.
    """

    session_id: str
    options: forecast_pb2.OpenOptions | None
    version: Version | None = None

    def heard(self, response: Response) -> None:
        """Takes note of a success."""
        self.options = None
        self.version = messages.to_version(response.version)

    def parts(
        self, request: Request, blocks: Sequence[forecast_pb2.Observations], request_id: str | None = None
    ) -> list[Request]:
        """A request for each block; the last one forecasts."""
        if request_id and len(blocks) > 1:
            limit = messages.MAX_VALUES_A_REQUEST
            raise invalid("request_id", f"one id goes with one request, of at most {limit} values")
        parts = [Request(session_id=self.session_id, observations=block) for block in blocks]
        for part in parts:
            if part.observations.values:
                part.request_id = messages.text("request_id", request_id or messages.new_request_id())
        parts[-1].horizon = request.horizon
        parts[-1].quantile_levels.extend(request.quantile_levels)
        if request.HasField("if_version"):
            parts[0].if_version.CopyFrom(request.if_version)
        if self.options is not None:
            parts[0].open.CopyFrom(self.options)
        return parts


def exchange(method: Method, message: Message, patience: Patience) -> Operation[Any]:
    """Sends a message until it is answered, or refused for good, or time is up."""
    while True:
        try:
            return (yield Send(method, message, patience.remaining_seconds))
        except grpc.RpcError as error:
            yield patience.pause_after(from_rpc_error(error))


def forecast(core: SessionCore, parts: Sequence[Request], timeout_seconds: float) -> Operation[Response]:
    """Sends the parts of one request one after the other; each may take `timeout_seconds`."""
    taken, response = 0, Response()
    for position, part in enumerate(parts):
        before = response.version
        if position and parts[0].HasField("if_version"):
            part.if_version.CopyFrom(before)
        try:
            response = yield from exchange(FORECAST, part, Patience(timeout_seconds))
            taken += len(part.observations.values)
            core.heard(response)
            if response.replayed and position < len(parts) - 1:
                _check_alone(part, response)
        except StatecastError as error:
            error.request_id, error.values_taken = part.request_id, taken
            raise
    return response


def _check_alone(part: Request, response: Response) -> None:
    """A replay tells where the session stands now; under `if_version` nobody else may have moved it on since."""
    if not part.HasField("if_version"):
        return
    steps = response.version.step - part.if_version.step
    # A time step is one value or several; a gap in time, in front of a first part alone, makes further steps.
    if (steps < 1 or len(part.observations.values) % steps) and not part.observations.HasField("start_time"):
        error = VersionMismatch(f"if_version: the session was moved on to {messages.to_version(response.version)}")
        error.current = messages.to_version(response.version)
        raise error


def close_session(session_id: str, timeout_seconds: float) -> Operation[None]:
    """Closes a session as it stands; one that is gone after an attempt of unknown outcome counts as closed."""
    closing = forecast_service_pb2.CloseSessionRequest(session_id=session_id)
    with suppress(PreconditionFailed):  # one whose record cannot be read can be closed all the same
        look = forecast_service_pb2.GetSessionRequest(session_id=session_id)
        found = yield from exchange(GET_SESSION, look, Patience(timeout_seconds))
        # With its version, a repeated attempt cannot close a session that was opened anew meanwhile.
        closing.if_version.CopyFrom(found.session.version)
    patience = Patience(timeout_seconds)
    try:
        yield from exchange(CLOSE_SESSION, closing, patience)
    except NotFound:
        if not patience.outcome_unknown:
            raise


@dataclass
class Item:
    """One request of a call about many sessions, and what came of it."""

    core: SessionCore
    parts: Sequence[Request]
    taken: int = 0
    response: Response | None = None
    error: StatecastError | None = None


@dataclass
class _Line:
    """The parts that wait for one session, in order: only the first one is under way."""

    parts: deque[tuple[Item, Request]] = field(default_factory=deque)

    def take(self, result: Response | StatecastError) -> None:
        """Settles the first part; what may succeed again stays."""
        item, part = self.parts[0]
        if isinstance(result, StatecastError):
            result.request_id, result.values_taken = part.request_id, item.taken
            item.error = result
            if not result.may_succeed_again:
                self.refuse(result)
            return
        self.parts.popleft()
        item.core.heard(result)
        item.taken += len(part.observations.values)
        item.response, item.error = result, None

    def refuse(self, error: StatecastError) -> None:
        """Gives up on everything that waits: sending what comes after a hole would be worse than not sending it."""
        for item, part in reversed(self.parts):
            # Each has an error of its own, which names the first of its parts that was not taken.
            item.error = copy(error)
            item.error.request_id, item.error.values_taken = part.request_id, item.taken
        self.parts.clear()


def forecast_many(items: Sequence[Item], timeout_seconds: float) -> Operation[None]:
    """Sends many requests in frames, each session's in order, and puts the outcomes into the items.

    `timeout_seconds` begins anew whenever a frame has brought something forward.
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
        failed = [(line, error) for line in waiting if line.parts and (error := line.parts[0][0].error)]
        if failed:
            try:
                yield patience.pause_after(max(failed, key=_wanted_pause)[1])
            except StatecastError:
                for line, error in failed:
                    line.refuse(error)


def _send_frame(frame: Sequence[_Line], timeout_seconds: float) -> Operation[None]:
    message = forecast_service_pb2.ForecastManyRequest(requests=[line.parts[0][1] for line in frame])
    try:
        answer = yield Send(FORECAST_MANY, message, timeout_seconds)
    except grpc.RpcError as error:
        for line in frame:
            line.take(from_rpc_error(error))
        return
    for line, result in zip(frame, answer.results, strict=True):
        line.take(from_status(result.status) if result.HasField("status") else result.response)


def _wanted_pause(failed: tuple[_Line, StatecastError]) -> float:
    return failed[1].retry_after_seconds or 0.0


def _frames(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    """Cuts into frames that one message can carry."""
    frame: list[_Line] = []
    values = 0
    for line in lines:
        size = len(line.parts[0][1].observations.values)
        if frame and (len(frame) == MAX_REQUESTS_A_FRAME or values + size > MAX_VALUES_A_FRAME):
            yield frame
            frame, values = [], 0
        frame.append(line)
        values += size
    if frame:
        yield frame
