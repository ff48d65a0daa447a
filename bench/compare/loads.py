"""The loads; each opens its connection and returns one call for each of its callers."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Protocol, cast

import grpc
import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from statecast.client import AsyncClient
from statecast.service.settings import Settings
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb

from .loop import Call, Done, Measured, Pace, closed_loop
from .names import USUAL
from .secured import Key
from .sizes import HORIZON
from .usage import Watched

_SERVICE = "/statecast.v1.ForecastService/"
_OPENED_AT_ONCE = 1024
_FIRST_TIME = Timestamp(seconds=1_700_006_400)
_NUMBERS = count(1)
"""Numbers of the requests; a request's id and its value follow from its number."""


class LoadFailed(Exception):
    """A request of a frame was not carried out; the message is the server's."""


class Load(Protocol):
    """A load: callers that repeat their calls."""

    def open(self) -> AbstractAsyncContextManager[Sequence[Call]]:
        """Return one call for each caller; a caller may repeat its call any number of times."""
        ...


def run(load: Load, pace: Pace, watched: Watched) -> Measured:
    """Run a load in this process, and measure it."""

    async def measure() -> Measured:
        async with load.open() as calls:
            return await closed_loop(calls, pace, watched)

    return asyncio.run(measure())


@dataclass(frozen=True)
class Bytes:
    """Repeated messages, one caller for each.

    Attributes:
        target: Host and port.
        method: "/service/method".
        messages: The message that each caller repeats.
        first: Messages sent once, before the load begins.
        is_stream: True if each caller has its own stream, where each message gets a message in answer.
    """

    target: str
    method: str
    messages: tuple[bytes, ...]
    first: tuple[bytes, ...] = ()
    is_stream: bool = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sequence[Call]]:
        """Send the first messages, and yield the calls."""
        async with channel_to(self.target) as channel:
            if self.is_stream:
                yield [_on_stream(channel.stream_stream(self.method)(), each) for each in self.messages]
                return
            method: Any = channel.unary_unary(self.method)
            for message in self.first:
                await method(message, wait_for_ready=True)
            yield [_alone(method, message) for message in self.messages]


def _alone(method: Any, message: bytes) -> Call:
    async def call() -> Done:
        return Done(1, len(message) + len(await method(message)))

    return call


def _on_stream(stream: Any, message: bytes) -> Call:
    async def call() -> Done:
        await stream.write(message)
        return Done(1, len(message) + len(await stream.read()))

    return call


@dataclass(frozen=True)
class Unary:
    """Forecast calls: one caller for each session, `values` observations a call, answers not parsed.

    Attributes:
        target: Host and port.
        name: Prefix of the sessions' names.
        sessions: Number of sessions.
        model: Model of the sessions.
        values: Observations in a call.
        key: What callers need; None without TLS and authentication.
    """

    target: str
    name: str
    sessions: int
    model: str
    values: int = 1
    key: Key | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sequence[Call]]:
        """Open the sessions, and yield the calls."""
        names = session_names(self.name, self.sessions)
        async with channel_to(self.target, self.key) as channel:
            await open_sessions(channel, names, self.model)
            yield [forecast_call(channel, name, self.values) for name in names]


def forecast_call(channel: grpc.aio.Channel, session: str, values: int = 1) -> Call:
    """Return a Forecast call that appends `values` values to an open session, and asks for a forecast."""
    method: Any = channel.unary_unary(_SERVICE + "Forecast")
    request = _request(session, HORIZON, values)

    async def call() -> Done:
        _renew(request)
        message = request.SerializeToString()
        return Done(values, len(message) + len(await method(message)))

    return call


@dataclass(frozen=True)
class Client:
    """The Python client for asyncio: one task per session, which awaits steps with a forecast."""

    target: str
    name: str
    sessions: int
    model: str

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sequence[Call]]:
        """Open the sessions, and yield the calls."""
        os.environ["no_grpc_proxy"] = "127.0.0.1"  # noqa: SIM112
        names = session_names(self.name, self.sessions)
        async with channel_to(self.target) as channel:
            await open_sessions(channel, names, self.model)
        async with AsyncClient(self.target, timeout_seconds=60) as client:
            yield [self._caller(client, name) for name in names]

    def _caller(self, client: AsyncClient, name: str) -> Call:
        session = client.session(name, self.model)

        async def call() -> Done:
            await session.step(float(next(_NUMBERS) % 97), HORIZON)
            return Done(1, 0)

        return call


@dataclass(frozen=True)
class Frames:
    """ForecastMany calls with one value for each of `size` sessions.

    Attributes:
        target: Host and port.
        name: Prefix of the sessions' names.
        groups: Number of callers.
        size: Sessions in a frame.
        model: Model of the sessions.
        horizon: Steps to forecast; 0 to observe only.
        population: Number of open sessions from which each frame is drawn; 0 gives each caller its own sessions.
        key: As for Unary.
    """

    target: str
    name: str
    groups: int
    size: int
    model: str
    horizon: int = HORIZON
    population: int = 0
    key: Key | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sequence[Call]]:
        """Open the callers' own sessions, if any, and yield the calls."""
        names = session_names(self.name, self.groups * self.size)
        async with channel_to(self.target, self.key) as channel:
            if not self.population:
                await open_sessions(channel, names, self.model)
            method: Any = channel.unary_unary(_SERVICE + "ForecastMany")
            yield [self._caller(method, names[at :: self.groups], at) for at in range(self.groups)]

    def _caller(self, method: Any, names: Sequence[str], seed: int) -> Call:
        frame = pb.ForecastManyRequest(requests=[_request(name, self.horizon) for name in names])
        requests, rng = list(frame.requests), random.Random(seed)

        async def call() -> Done:
            drawn = rng.sample(range(self.population), self.size) if self.population else ()
            for request, number in zip(requests, drawn, strict=False):
                request.session_id = f"{self.name}-{number}"
            for request in requests:
                _renew(request)
            message = frame.SerializeToString()
            answer = await method(message)
            check_frame(answer)
            return Done(self.size, len(message) + len(answer))

        return call


def session_names(prefix: str, sessions: int) -> list[str]:
    """Return the names of `sessions` sessions."""
    return [f"{prefix}-{number}" for number in range(sessions)]


async def open_sessions(
    channel: grpc.aio.Channel, names: Sequence[str], model: str, rewritten_every: int = Settings.snapshot_every
) -> None:
    """Open sessions whose next snapshots are spread over time, as those of long-lived sessions are.

    Otherwise the server would write all snapshots at once, and a measurement would include them only by chance.
    """
    method: Any = channel.unary_unary(_SERVICE + "ForecastMany")
    for at in range(0, len(names), _OPENED_AT_ONCE):
        part = names[at : at + _OPENED_AT_ONCE]
        check_frame(await method(_opening(part, model)))
        if len(part) > 1:
            check_frame(await method(_ageing(part, rewritten_every)))


def _opening(names: Sequence[str], model: str) -> bytes:
    """Return a frame that opens sessions, each with one observation."""
    frame = pb.ForecastManyRequest(requests=[_request(name, 0) for name in names])
    for request in frame.requests:
        request.open.model = model
        if model == USUAL:
            request.observations.start_time.CopyFrom(_FIRST_TIME)
        _renew(request)
    return frame.SerializeToString()


def _ageing(names: Sequence[str], rewritten_every: int) -> bytes:
    """Return a frame that adds no step to the first session, one to the second, and so on up to a snapshot."""
    steps = [at % rewritten_every for at in range(len(names))]
    requests = [_request(name, 0, count) for name, count in zip(names, steps, strict=True) if count]
    for request in requests:
        _renew(request)
    return pb.ForecastManyRequest(requests=requests).SerializeToString()


def check_frame(answer: bytes) -> None:
    """Check that every request of a frame has succeeded.

    Raises:
        LoadFailed: If one has not.
    """
    for result in pb.ForecastManyResponse.FromString(answer).results:
        if not result.HasField("response"):
            raise LoadFailed(result.status.message)


def channel_to(target: str, key: Key | None = None) -> grpc.aio.Channel:
    """Return a connection without a limit on the size of the messages it receives, by TLS with a key."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    if key is None:
        return grpc.aio.insecure_channel(target, options)
    channel = grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(key.ca), options)
    return cast("grpc.aio.Channel", _WithKey(channel, key))


class _WithKey:
    """A connection whose calls send an API key, as the Python client does; gRPC's call credentials cost a thread."""

    def __init__(self, channel: grpc.aio.Channel, key: Key) -> None:
        self._channel, self._headers = channel, (("authorization", f"Bearer {key.api_key}"),)

    async def __aenter__(self) -> "_WithKey":
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._channel.__aexit__(*error)

    def unary_unary(self, method: str) -> Any:
        return partial(self._channel.unary_unary(method), metadata=self._headers)


def _request(session: str, horizon: int, values: int = 1) -> pb.ForecastRequest:
    observations = forecast_pb2.Observations(values=[float(at % 97) for at in range(values)])
    return pb.ForecastRequest(session_id=session, observations=observations, horizon=horizon)


def _renew(request: pb.ForecastRequest) -> None:
    """Give the request a new id, so that the server does not take it for a repeat, and a new value."""
    number = next(_NUMBERS)
    request.request_id = f"{number:08x}"
    request.observations.values[0] = float(number % 97)
