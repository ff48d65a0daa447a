"""Who forms the next batch.

Requests wait in one line a session. Callers take turns: the one that has been given the least so far puts its longest
waiting session into the batch, with all that the session has queued as far as the bounds allow (start-time fair
queueing, Goyal, Vin and Cheng 1996). A session is in at most one batch at a time. While one batch is being computed
the next one gathers by itself.
"""

import heapq
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from statecast.service.engine.request import Request, Result
from statecast.service.errors import Overloaded, Reason, Unavailable

SHARE = 4
"""A caller may queue this many times the room that is left, so that a single one never takes it all (dynamic
thresholds, Choudhury and Hahne 1998): alone it has four fifths."""
RETRY_AFTER_SECONDS = (0.05, 5.0)
"""The shortest and the longest pause that is asked of a caller who is turned away."""
LONGEST_BATCH_SECONDS = 0.2
"""About: whoever comes next waits for the batch that is under way."""
SMOOTHING = 0.2
MARGIN = 1.5
"""So many times the estimated wait must be left to a request: work for an answer that comes too late is for nobody."""


@dataclass(slots=True)
class Ticket:
    """A request that waits for its result; `wanted`, asked from any thread, tells whether its caller still does."""

    request: Request
    resolve: Callable[[Result], None]
    wanted: Callable[[], bool] = lambda: True
    caller: str = ""
    queued_at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Batch:
    """The tickets of each session in the order in which they came, and those whose deadline had passed.

    It is full if more waited than it could hold.
    """

    sessions: dict[str, list[Ticket]] = field(default_factory=dict)
    late: list[Ticket] = field(default_factory=list)
    cost: int = 0
    is_full: bool = False
    taken_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch and the queue may grow; a batch's cost is about the time steps in it."""

    sessions: int = 256
    cost: int = 32_768
    queued_requests: int = 8_192
    queued_bytes: int = 64 * 1024 * 1024


@dataclass(slots=True)
class _Caller:
    """What one caller has queued, its sessions whose turn can come, and what it has been given so far."""

    given: int = 0
    ready: deque[str] = field(default_factory=deque)
    requests: int = 0
    nbytes: int = 0
    cost: int = 0


@dataclass(slots=True)
class _Pace:
    """How long full batches take, which are what a queue is emptied in; nothing until there was one."""

    batch_seconds: float = 0.0
    batch_cost: float = 0.0

    def note(self, seconds: float, cost: int) -> None:
        """Take note of a full batch."""
        share = SMOOTHING if self.batch_cost else 1.0
        self.batch_seconds += share * (seconds - self.batch_seconds)
        self.batch_cost += share * (cost - self.batch_cost)

    def cost_within(self, seconds: float, most: int) -> int:
        """The cost of a batch that takes about so long; at most `most`, and not so little that batching is in vain."""
        if not self.batch_cost:
            return most
        return min(most, max(most // 16, int(seconds / self.batch_seconds * self.batch_cost)))

    def seconds(self, cost: int) -> float:
        """About how long until the batch is done in which a line of that cost ends."""
        if not self.batch_cost:
            return 0.0
        batches = cost / self.batch_cost
        return (math.ceil(batches) if batches > 1 else batches) * self.batch_seconds


class Scheduler:
    """The queue between the edge and the engine's threads."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._lines: dict[str, deque[Ticket]] = {}
        self._callers: dict[str, _Caller] = {}
        self._turns: list[
            tuple[int, int, str]
        ] = []  # a heap: given so far, tie-break, name; one a caller with sessions
        self._ties = itertools.count()
        self._given = 0  # to whoever had the last turn: a newcomer begins there, not at nothing
        self._busy: set[str] = set()
        self._queued = 0
        self._queued_bytes = 0
        self._queued_cost = 0
        self._pace = _Pace()
        self._under_way: Batch | None = None
        self._closed = False
        self._changed = threading.Condition()

    @property
    def queued_requests(self) -> int:
        """How many requests wait for a batch."""
        return self._queued

    def submit(self, ticket: Ticket) -> None:
        """Queue a request.

        Raises:
            Overloaded: if the queue is full, or the caller's share of it, or too long for the request's deadline.
            Unavailable: if the server is shutting down.
        """
        with self._changed:
            if self._closed:
                raise Unavailable("the server is shutting down", Reason.DRAINING, RETRY_AFTER_SECONDS[0])
            self._admit(ticket)
            session_id = ticket.request.session_id
            if session_id not in self._lines:
                self._lines[session_id] = deque()
                if session_id not in self._busy:
                    self._give_turn(session_id, ticket.caller)
            self._lines[session_id].append(ticket)
            self._changed.notify()

    def take(self) -> Batch | None:
        """The next batch, as soon as there is one; None once the scheduler is closed and empty.

        Every batch must be given back with `done`.
        """
        with self._changed:
            while True:
                batch = self._form_batch()
                if batch.sessions or batch.late:
                    self._under_way = batch
                    return batch
                if self._closed and not self._lines:
                    return None
                self._changed.wait()

    def done(self, batch: Batch) -> None:
        """The sessions of `batch` may be batched again."""
        with self._changed:
            for session_id in batch.sessions:
                self._busy.discard(session_id)
                if session_id in self._lines:
                    self._give_turn(session_id, self._lines[session_id][0].caller)
            self._under_way = None
            if batch.is_full:
                self._pace.note(time.monotonic() - batch.taken_at, batch.cost)
            self._changed.notify_all()

    def take_all(self) -> list[Ticket]:
        """Everything that waits, in no order, to be answered without being carried out."""
        with self._changed:
            tickets = [ticket for line in self._lines.values() for ticket in line]
            self._lines.clear()
            self._callers.clear()
            self._turns.clear()
            self._queued = self._queued_bytes = self._queued_cost = 0
            self._changed.notify_all()
            return tickets

    def close(self) -> None:
        """Take no more requests; those that wait are still served."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _admit(self, ticket: Ticket) -> None:
        caller = self._callers.get(ticket.caller) or _Caller(self._given)
        size = ticket.request.nbytes
        room = self._limits.queued_requests - self._queued
        room_bytes = self._limits.queued_bytes - self._queued_bytes
        # The first request of a caller may be of any size, as long as there is room at all.
        if room <= 0 or caller.requests >= SHARE * room or room_bytes <= 0 or caller.nbytes > SHARE * room_bytes:
            raise Overloaded(
                f"{self._queued} requests of {self._queued_bytes / 2**20:.1f} MiB are waiting, {caller.requests} of "
                "them on this connection; nothing was appended",
                Reason.QUEUE_FULL,
                self._retry_after_seconds(),
            )
        wait_seconds = self._wait_seconds(caller, ticket)
        now, deadline = time.monotonic(), ticket.request.deadline
        if wait_seconds and deadline is not None and now + MARGIN * wait_seconds > deadline:
            raise Overloaded(
                f"{self._queued} requests are waiting, which takes about {wait_seconds:.2g} s and so longer than the "
                "caller does; nothing was appended",
                Reason.QUEUE_FULL,
                self._retry_after_seconds(),
            )
        self._callers[ticket.caller] = caller
        caller.requests += 1
        caller.nbytes += size
        caller.cost += ticket.request.cost
        self._queued += 1
        self._queued_bytes += size
        self._queued_cost += ticket.request.cost

    def _wait_seconds(self, caller: _Caller, ticket: Ticket) -> float:
        """About how long until it is done: behind its caller's own line, at the speed that turns leave to it."""
        own = (caller.cost + ticket.request.cost) * (len(self._callers) + (not caller.requests))
        ahead = min(self._queued_cost, own - ticket.request.cost)
        return self._pace.seconds(ahead + ticket.request.cost) + self._rest_seconds()

    def _rest_seconds(self) -> float:
        """About how long the batch takes yet that is under way."""
        batch = self._under_way
        if batch is None:
            return 0.0
        return max(0.0, batch.taken_at + self._pace.seconds(batch.cost) - time.monotonic())

    def _retry_after_seconds(self) -> float:
        """About how long it takes until half of the queue is done."""
        shortest, longest = RETRY_AFTER_SECONDS
        return min(max(self._pace.seconds(self._queued_cost // 2), shortest), longest)

    def _give_turn(self, session_id: str, name: str) -> None:
        caller = self._callers[name]
        caller.ready.append(session_id)
        if len(caller.ready) == 1:
            caller.given = max(caller.given, self._given)
            heapq.heappush(self._turns, (caller.given, next(self._ties), name))

    def _form_batch(self) -> Batch:
        batch = Batch()
        most = self._pace.cost_within(LONGEST_BATCH_SECONDS, self._limits.cost)
        while self._turns and len(batch.sessions) < self._limits.sessions and batch.cost < most:
            given, _, name = heapq.heappop(self._turns)
            caller = self._callers[name]
            self._given = given
            session_id = caller.ready.popleft()
            taken = self._take_from(session_id, most - batch.cost, batch.late)
            cost = sum(ticket.request.cost for ticket in taken)
            batch.cost += cost
            caller.given = given + cost
            if caller.ready:
                heapq.heappush(self._turns, (caller.given, next(self._ties), name))
            if taken:
                batch.sessions[session_id] = taken
                self._busy.add(session_id)
        batch.is_full = bool(self._turns and batch.sessions)
        return batch

    def _take_from(self, session_id: str, room: int, late: list[Ticket]) -> list[Ticket]:
        """As many of the session's next requests as fit, at least one; some go alone."""
        line = self._lines[session_id]
        taken: list[Ticket] = []
        now = time.monotonic()
        while line and not (taken and (room <= 0 or taken[-1].request.goes_alone or line[0].request.goes_alone)):
            ticket = line.popleft()
            self._leave(ticket)
            if ticket.request.deadline is not None and ticket.request.deadline <= now:
                late.append(ticket)
            elif ticket.wanted():
                taken.append(ticket)
                room -= ticket.request.cost
        if not line:
            del self._lines[session_id]
        return taken

    def _leave(self, ticket: Ticket) -> None:
        caller = self._callers[ticket.caller]
        size = ticket.request.nbytes
        caller.requests -= 1
        caller.nbytes -= size
        caller.cost -= ticket.request.cost
        self._queued -= 1
        self._queued_bytes -= size
        self._queued_cost -= ticket.request.cost
        if not caller.requests:
            del self._callers[ticket.caller]
