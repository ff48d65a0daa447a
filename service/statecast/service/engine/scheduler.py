"""Forms batches from queued requests.

Each session has its own queue. Tenants, and the callers of each tenant, take turns by start-time fair queueing (Goyal,
Vin and Cheng 1996). Of the tenant that has been given the least, the caller that has been given the least puts its
longest-waiting session into the batch, with as many of its requests as fit. A session is in at most one batch at a
time. While one batch is computed, requests gather for the next.
"""

import heapq
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from statecast.service.engine.admission import Admission
from statecast.service.engine.request import Request, Result
from statecast.service.errors import Overloaded, ServiceError, Unavailable
from statecast.v1.reasons import Reason

LONGEST_BATCH_SECONDS = 0.2
"""Approximate limit: new requests wait for the batch in progress."""


@dataclass(slots=True)
class Ticket:
    """A request that waits for its result. `wanted`, called from any thread, returns False once its caller has gone."""

    request: Request
    resolve: Callable[[Result], None]
    wanted: Callable[[], bool] = lambda: True
    caller: str = ""
    queued_at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Batch:
    """The tickets of each session in the order of arrival, and those whose deadline had passed.

    It is full if more requests waited than it could hold.
    """

    sessions: dict[str, list[Ticket]] = field(default_factory=dict)
    late: list[Ticket] = field(default_factory=list)
    cost: int = 0
    is_full: bool = False
    taken_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of a batch and of the queue; a batch's cost is about its number of time steps."""

    sessions: int = 256
    cost: int = 32_768
    queued_requests: int = 8_192
    queued_bytes: int = 64 * 1024 * 1024


class Scheduler:
    """The queue between the event loop and the engine threads."""

    def __init__(self, limits: BatchLimits, tenant_bytes: Callable[[str], float] = lambda _: math.inf) -> None:
        """Create an empty queue, in which a tenant's requests may take `tenant_bytes` of its name."""
        self._limits = limits
        self._lines: dict[str, deque[Ticket]] = {}
        self._books = Admission(limits.queued_requests, limits.queued_bytes, tenant_bytes)
        # A heap with one entry for each tenant that can have a turn: cost given so far, tie-break, name.
        self._turns: list[tuple[int, int, str]] = []
        self._ties = itertools.count()
        self._given = 0  # to the tenant that had the last turn; a new tenant starts there, not at 0
        self._busy: set[str] = set()
        self._ready = 0  # sessions that can be batched
        self._under_way = 0  # batches
        self._closed = False
        lock = threading.RLock()
        self._changed = threading.Condition(lock)  # for threads that take any batch
        self._filled = threading.Condition(lock)  # for threads that take only full batches

    @property
    def queued_requests(self) -> int:
        """Number of requests that wait for a batch."""
        return self._books.requests

    def queued_bytes(self) -> dict[str, int]:
        """Return the memory of the queued requests of each tenant that has any; for any thread."""
        return {name: tenant.nbytes for name, tenant in self._books.tenants.copy().items()}

    def submit(self, ticket: Ticket) -> None:
        """Queue a request.

        Raises:
            Overloaded: if the queue or the caller's share of it is full, or the wait would exceed the deadline.
            Unavailable: if the server is shutting down.
        """
        _, error = self.submit_all([ticket])
        if error:
            raise error

    def submit_all(self, tickets: Sequence[Ticket]) -> tuple[int, ServiceError | None]:
        """Queue requests in order until one is refused, so that a frame of them lands in one batch.

        Returns:
            The number queued, and if not all were, the error that `submit` would raise.
        """
        with self._changed:
            if self._closed:
                return 0, Unavailable(
                    "the server is shutting down; nothing was appended. Send the same request again, to any replica.",
                    Reason.DRAINING,
                )
            for position, ticket in enumerate(tickets):
                request = ticket.request
                try:
                    self._books.check(request.tenant, ticket.caller, request.cost, request.deadline)
                except Overloaded as error:
                    self._tell()
                    return position, error
                self._books.enter(ticket.caller, request, self._given)
                line = self._lines.get(request.key)
                if line is None:
                    line = self._lines[request.key] = deque()
                    if request.key not in self._busy:
                        self._give_turn(ticket)
                line.append(ticket)
            self._tell()
        return len(tickets), None

    def check(self, tenant: str, caller: str, cost: int, deadline: float | None) -> None:
        """Check that a request of about this cost would be queued, before spending more work on it.

        Raises:
            Overloaded: as `submit` does.
        """
        with self._changed:
            self._books.check(tenant, caller, cost, deadline)

    def take(self, *, only_full: bool = False) -> Batch | None:
        """Wait for the next batch and return it, or None once the scheduler is closed and empty.

        Every batch must be returned with `done`.

        Args:
            only_full: Wait for a full batch, and return None as soon as the scheduler is closed.
        """
        with self._changed:
            while True:
                may_take = not only_full or self._ready >= self._limits.sessions
                batch = self._form_batch() if may_take else Batch()
                if batch.sessions or batch.late:
                    self._under_way += 1
                    until = batch.taken_at + self._books.pace.seconds(batch.cost)
                    self._books.under_way_until = max(self._books.under_way_until, until)
                    return batch
                if self._closed and (only_full or not self._lines):
                    return None
                (self._filled if only_full else self._changed).wait()

    def done(self, batch: Batch) -> None:
        """Allow the sessions of `batch` into other batches again."""
        with self._changed:
            for key in batch.sessions:
                self._busy.discard(key)
                if key in self._lines:
                    self._give_turn(self._lines[key][0])
            if batch.is_full:  # batches in progress at once share the time
                self._books.pace.note((time.monotonic() - batch.taken_at) / self._under_way, batch.cost)
            self._under_way -= 1
            if not self._under_way:
                self._books.under_way_until = 0.0
            self._tell()

    def take_all(self) -> list[Ticket]:
        """Remove and return all queued tickets, in no order, to be answered without being carried out."""
        with self._changed:
            tickets = [ticket for line in self._lines.values() for ticket in line]
            self._lines.clear()
            self._turns.clear()
            self._ready = 0
            self._books.clear()
            self._tell()
            return tickets

    def close(self) -> None:
        """Accept no more requests; queued ones are still served."""
        with self._changed:
            self._closed = True
            self._tell()

    def _tell(self) -> None:
        """Wake the threads that may have a batch to take."""
        self._changed.notify_all()
        if self._ready >= self._limits.sessions or self._closed:
            self._filled.notify_all()

    def _give_turn(self, ticket: Ticket) -> None:
        """Let the ticket's caller put its session into a batch."""
        name = ticket.request.tenant
        tenant = self._books.tenants[name]
        caller = tenant.callers[ticket.caller]
        caller.ready.append(ticket.request.key)
        self._ready += 1
        if len(caller.ready) == 1:
            caller.given = max(caller.given, tenant.at)
            heapq.heappush(tenant.turns, (caller.given, next(self._ties), ticket.caller))
            if len(tenant.turns) == 1:
                tenant.given = max(tenant.given, self._given)
                heapq.heappush(self._turns, (tenant.given, next(self._ties), name))

    def _form_batch(self) -> Batch:
        batch = Batch()
        most = self._books.pace.cost_within(LONGEST_BATCH_SECONDS, self._limits.cost)
        while self._turns and len(batch.sessions) < self._limits.sessions and batch.cost < most:
            self._given, _, tenant_name = heapq.heappop(self._turns)
            tenant = self._books.tenants[tenant_name]
            tenant.at, _, name = heapq.heappop(tenant.turns)
            caller = tenant.callers[name]
            key = caller.ready.popleft()
            self._ready -= 1
            taken = self._take_from(key, most - batch.cost, batch.late, batch.taken_at)
            cost = taken[0].request.cost if len(taken) == 1 else sum(ticket.request.cost for ticket in taken)
            batch.cost += cost
            caller.given, tenant.given = tenant.at + cost, self._given + cost
            if caller.ready:
                heapq.heappush(tenant.turns, (caller.given, next(self._ties), name))
            if tenant.turns:
                heapq.heappush(self._turns, (tenant.given, next(self._ties), tenant_name))
            if taken:
                batch.sessions[key] = taken
                self._busy.add(key)
        batch.is_full = bool(self._turns and batch.sessions)
        return batch

    def _take_from(self, key: str, room: int, late: list[Ticket], now: float) -> list[Ticket]:
        """Take as many of the session's next requests as fit, at least one; some go alone."""
        line = self._lines[key]
        taken: list[Ticket] = []
        while line and not (taken and (room <= 0 or taken[-1].request.goes_alone or line[0].request.goes_alone)):
            ticket = line.popleft()
            request = ticket.request
            self._books.leave(ticket.caller, request)
            if request.deadline is not None and request.deadline <= now:
                late.append(ticket)
            elif ticket.wanted():
                taken.append(ticket)
                room -= request.cost
        if not line:
            del self._lines[key]
        return taken
