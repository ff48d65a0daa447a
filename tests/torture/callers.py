"""Threads that call the service continuously, with the synchronous and the asynchronous client."""

import asyncio
import math
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from support.hash_model import HORIZON
from support.history import Kind, Outcome

from statecast.client import AsyncClient, AsyncSession, Client, Forecast, Receipt, Session, StatecastError
from statecast.client._replicas import Replicas
from torture.requests import Ask, Desk, acked, is_again, is_fork, model_of, refused, settling

TASKS = 4
"""Calls that an asynchronous caller has in flight."""


@dataclass(frozen=True)
class Load:
    """The sessions and callers during a fault.

    Attributes:
        chains: Sessions of the chain model.
        tinies: Sessions of the tiny LSTM.
        threads: Callers that make one call after the other.
        asynchronous: Callers that make several calls at once.
        timeout_seconds: Timeout of a call, after which the caller repeats the request.
        pause_seconds: Pause between a caller's calls.
        streams: Callers that send steps on a stream.
        forks: Share of calls that fork a session, or close a fork.
        owned: True if each session has only one caller, which reads it again at the end.
        seed: Seed of the random choices.
    """

    chains: int = 160
    tinies: int = 40
    threads: int = 5
    asynchronous: int = 2
    streams: int = 1
    forks: float = 0.01
    timeout_seconds: float = 5.0
    pause_seconds: float = 0.005
    owned: bool = False
    seed: int = 1

    @property
    def callers(self) -> int:
        """Return the number of concurrent callers."""
        return self.threads + self.asynchronous + self.streams


def hop(replicas: Replicas[Any]) -> None:
    """Let gRPC choose a server for each call of a client that has made none yet."""
    replicas._due = math.inf  # it never learns the servers' addresses


class Caller(ABC):
    """A thread that sends the desk's requests until it is stopped, and settles those it has begun.

    If it hops, any server gets each call, as from callers that do not keep sessions at one.
    """

    def __init__(self, name: str, target: str, desk: Desk, load: Load, *, hops: bool) -> None:
        self.name, self.target, self.desk, self.load, self.hops = name, target, desk, load, hops
        self.failure: str = ""
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name=name)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _guarded(self) -> None:
        try:
            self.work()
        except BaseException:  # reported after the join, so that a crashed thread does not count as success
            self.failure = traceback.format_exc()

    def choose_servers(self, replicas: Replicas[Any]) -> None:
        """Let gRPC choose a server for each call if this caller hops."""
        if self.hops:
            hop(replicas)

    def last_looks(self, sessions: Iterable[str]) -> list[Ask]:
        """Return a final read of each session if this is its only caller."""
        return [Ask(self.name, session, Kind.FORECAST) for session in sessions] if self.load.owned else []

    @abstractmethod
    def work(self) -> None:
        """Send requests until `stopping`."""


class ThreadCaller(Caller):
    """A caller that makes one call after the other, with a Client."""

    def work(self) -> None:
        sessions: dict[str, Session] = {}
        with Client(self.target, timeout_seconds=self.load.timeout_seconds) as client:
            self.choose_servers(client._replicas)
            while not self.stopping.is_set():
                ask = self.desk.next(self.name)
                if ask:
                    self.desk.settled(ask, settle(ask, _session(client, sessions, ask)))
                time.sleep(self.load.pause_seconds)
            for ask in self.last_looks(sessions):
                self.desk.settled(ask, settle(ask, sessions[ask.session]))


class AsyncCaller(Caller):
    """A caller that makes several calls at once, with an AsyncClient."""

    def work(self) -> None:
        asyncio.run(self._work())

    async def _work(self) -> None:
        sessions: dict[str, AsyncSession] = {}
        async with AsyncClient(self.target, timeout_seconds=self.load.timeout_seconds) as client:
            client._enter_loop()
            self.choose_servers(client._connect())
            async with asyncio.TaskGroup() as group:
                for _ in range(TASKS):
                    group.create_task(self._ask(client, sessions))
            for ask in self.last_looks(sessions):
                self.desk.settled(ask, await settle_async(ask, sessions[ask.session]))

    async def _ask(self, client: AsyncClient, sessions: dict[str, AsyncSession]) -> None:
        while not self.stopping.is_set():
            ask = self.desk.next(self.name)
            if ask:
                self.desk.settled(ask, await settle_async(ask, _session(client, sessions, ask)))
            await asyncio.sleep(self.load.pause_seconds)


class StreamCaller(Caller):
    """A caller that streams steps, and repeats a failed step as a separate call."""

    def work(self) -> None:
        asks: deque[Ask] = deque()
        sessions: dict[str, Session] = {}
        timeout = self.load.timeout_seconds
        with Client(self.target, timeout_seconds=timeout) as client, Client(self.target) as beside:
            self.choose_servers(client._replicas)

            def pairs() -> Iterator[tuple[Session, tuple[int, ...]]]:
                while not self.stopping.is_set():
                    if ask := self.desk.next(self.name, steps_of="chain"):
                        asks.append(ask)
                        yield _session(client, sessions, ask), ask.values
                    time.sleep(self.load.pause_seconds)

            for _, result in client.stream(pairs(), HORIZON):
                ask = asks.popleft()
                self.desk.settled(ask, self._outcome(ask, result, beside))

    def _outcome(self, ask: Ask, result: Forecast | Receipt | StatecastError, beside: Client) -> Outcome:
        if not isinstance(result, StatecastError):
            return acked(ask.session, result)
        if not is_again(result):
            return refused(result)
        ask.request_id = result.request_id
        return settle(ask, _session(beside, {}, ask))


def _session(client: Any, sessions: dict[str, Any], ask: Ask) -> Any:
    """Return the session to call; the client may open it unless it is a fork."""
    name = ask.source or ask.session
    if name not in sessions:
        sessions[name] = client.session(name, model_of(name), time_to_live=3600, resume_only=is_fork(name))
    return sessions[name]


def settle(ask: Ask, session: Session) -> Outcome:
    """Send the request until it is answered, and return the outcome."""
    process = settling(ask)
    next(process)
    try:
        while True:
            try:
                answer = send(ask, session)
            except Exception as error:
                process.throw(error)
            else:
                process.send(answer)
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome


async def settle_async(ask: Ask, session: AsyncSession) -> Outcome:
    """Send the request with an AsyncClient until it is answered, and return the outcome."""
    process = settling(ask)
    next(process)
    try:
        while True:
            try:
                answer = await send(ask, session)
            except Exception as error:
                process.throw(error)
            else:
                process.send(answer)
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome


def send(ask: Ask, session: Any) -> Any:
    """Make one attempt, with either client."""
    if ask.kind is Kind.OBSERVE:
        return session.observe(ask.values, request_id=ask.request_id)
    if ask.kind is Kind.FORK:
        return session.fork(ask.session)
    if ask.kind is Kind.CLOSE:
        return session.close()
    if ask.kind is Kind.FORECAST:
        return session.forecast(ask.horizon)
    return session.step(ask.values, ask.horizon, request_id=ask.request_id)


def sweep(target: str, desk: Desk) -> None:
    """Read every known session again after the fault."""
    sessions = sorted({call.session for call in desk.history.calls if call.acked})
    with Client(target, timeout_seconds=60) as client, ThreadPoolExecutor(4) as pool:

        def look(name: str) -> None:
            ask = Ask("sweep", name, Kind.FORECAST)
            desk.settled(ask, settle(ask, client.session(name, model_of(name), resume_only=True)))

        list(pool.map(look, sessions))


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Return True if the condition comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return False
