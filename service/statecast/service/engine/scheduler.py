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

from statecast.service.engine.admission import Admission, Caller, Tenant
from statecast.service.engine.request import Request, Ticket
from statecast.service.errors import ServiceError, Unavailable
from statecast.v1.reasons import Reason

LONGEST_BATCH_SECONDS = 0.2
"""Approximate limit: new requests wait for the batch in progress."""


@dataclass(slots=True)
class Batch:
    """The requests of each session in the order of arrival, and those whose deadline had passed.

    It is full if more requests waited than it could hold.
    """

    sessions: dict[str, list[Request]] = field(default_factory=dict)
    late: list[Request] = field(default_factory=list)
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
        self._lines: dict[str, deque[Request]] = {}
        self._books = Admission(limits.queued_requests, limits.queued_bytes, tenant_bytes)
        # A heap with one entry for each tenant that can have a turn: cost given so far, tie-break, name.
        self._turns: list[tuple[int, int, str]] = []
        self._ties = itertools.count()
        self._given = 0  # to the tenant that had the last turn; a new tenant starts there, not at 0
        self._busy: set[str] = set()
        self._ready = 0  # sessions that can be batched
        self._under_way = 0  # batches
        self._closed = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # for threads that take any batch
        self._filled = threading.Condition(self._lock)  # for threads that take only full batches
        self._asleep = 0  # threads that wait for either

    @property
    def queued_requests(self) -> int:
        """Number of requests that wait for a batch."""
        return self._books.queued.requests

    def queued_bytes(self) -> dict[str, int]:
        """Return the memory of the queued requests of each tenant that has any; for any thread."""
        return {name: tenant.queued.nbytes for name, tenant in self._books.tenants.copy().items()}

    def submit(self, ticket: Ticket, requests: Sequence[Request]) -> tuple[int, ServiceError | None]:
        """Queue requests of one caller in order until one is refused, so that a frame of them lands in one batch.

        Returns:
            The number queued, and the error of the next one: Overloaded if the queue or the caller's share of it is
            full, or the wait would exceed the deadline; Unavailable if the server is shutting down.
        """
        with self._lock:
            if self._closed:
                return 0, Unavailable(
                    "the server is shutting down; nothing was appended. Send the same request again, to any replica.",
                    Reason.DRAINING,
                )
            taken, error = self._books.enter(ticket.caller, requests, self._given)
            if taken:
                self._queue(ticket, requests if error is None else requests[:taken])
            self._tell()
            return taken, error

    def check(self, tenant: str, caller: str, cost: int, deadline: float | None) -> None:
        """Check that a request of about this cost would be queued, before spending more work on it.

        It only reads, so it needs no lock.

        Raises:
            Overloaded: as `submit` returns it.
        """
        self._books.check(tenant, caller, cost, deadline)

    def take(self, *, only_full: bool = False) -> Batch | None:
        """Wait for the next batch and return it, or None once the scheduler is closed and empty.

        Every batch must be returned with `done`.

        Args:
            only_full: Wait for a full batch, and return None as soon as the scheduler is closed.
        """
        with self._lock:
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
                self._asleep += 1
                (self._filled if only_full else self._changed).wait()
                self._asleep -= 1

    def done(self, batch: Batch) -> None:
        """Allow the sessions of `batch` into other batches again."""
        with self._lock:
            self._busy.difference_update(batch.sessions)
            for key in batch.sessions:
                if line := self._lines.get(key):
                    self._give_turns(line[0].tenant, line[0].ticket.caller, [key])
            if batch.is_full:  # batches in progress at once share the time
                self._books.pace.note((time.monotonic() - batch.taken_at) / self._under_way, batch.cost)
            self._under_way -= 1
            if not self._under_way:
                self._books.under_way_until = 0.0
            self._tell()

    def take_all(self) -> list[Request]:
        """Remove and return all queued requests, in no order, to be answered without being carried out."""
        with self._lock:
            requests = [request for line in self._lines.values() for request in line]
            self._lines.clear()
            self._turns.clear()
            self._ready = 0
            self._books.clear()
            self._tell()
            return requests

    def close(self) -> None:
        """Accept no more requests; queued ones are still served."""
        with self._lock:
            self._closed = True
            self._tell()

    def _tell(self) -> None:
        """Wake the threads that may have a batch to take."""
        if not self._asleep:
            return
        self._changed.notify_all()
        if self._ready >= self._limits.sessions or self._closed:
            self._filled.notify_all()

    def _queue(self, ticket: Ticket, requests: Sequence[Request]) -> None:
        """Put requests into the lines of their sessions."""
        lines, free = self._lines, []
        for request in requests:
            request.ticket = ticket
            line = lines.get(request.key)
            if line is not None:
                line.append(request)
                continue
            lines[request.key] = deque((request,))
            if request.key not in self._busy:
                free.append(request.key)
        if free:
            self._give_turns(requests[0].tenant, ticket.caller, free)

    def _give_turns(self, name: str, caller_name: str, keys: Sequence[str]) -> None:
        """Let a caller put these sessions into batches."""
        tenant = self._books.tenants[name]
        caller = tenant.callers[caller_name]
        had_turns = bool(caller.ready)
        caller.ready.extend(keys)
        self._ready += len(keys)
        if had_turns:
            return
        caller.given = max(caller.given, tenant.at)
        heapq.heappush(tenant.turns, (caller.given, next(self._ties), caller_name))
        if len(tenant.turns) == 1:
            tenant.given = max(tenant.given, self._given)
            heapq.heappush(self._turns, (tenant.given, next(self._ties), name))

    def _form_batch(self) -> Batch:
        batch, left = Batch(), list[Request]()
        most = self._books.pace.cost_within(LONGEST_BATCH_SECONDS, self._limits.cost)
        while self._turns and len(batch.sessions) < self._limits.sessions and batch.cost < most:
            self._given, _, tenant_name = heapq.heappop(self._turns)
            tenant = self._books.tenants[tenant_name]
            tenant.at, _, name = heapq.heappop(tenant.turns)
            caller = tenant.callers[name]
            spent, last = self._take_turns(caller, batch, most, self._lead(tenant), left)
            caller.given, tenant.given = tenant.at + spent, self._given + spent
            # Where newcomers start: at the tag of the last turn.
            tenant.at, self._given = caller.given - last, tenant.given - last
            if caller.ready:
                heapq.heappush(tenant.turns, (caller.given, next(self._ties), name))
            if tenant.turns:
                heapq.heappush(self._turns, (tenant.given, next(self._ties), tenant_name))
        self._books.leave(left)
        batch.is_full = bool(self._turns and batch.sessions)
        return batch

    def _lead(self, tenant: Tenant) -> float:
        """Return the cost that the caller whose turn it is may spend before another's turn comes."""
        lead = math.inf
        if tenant.turns:
            lead = tenant.turns[0][0] - tenant.at
        if self._turns:
            lead = min(lead, self._turns[0][0] - self._given)
        return lead

    def _take_turns(self, caller: Caller, batch: Batch, most: int, lead: float, left: list[Request]) -> tuple[int, int]:
        """Put a caller's next sessions into the batch until another's turn comes.

        Returns:
            The cost of all of them, and of the last one.
        """
        spent = cost = 0
        sessions, busy, limit = batch.sessions, self._busy, self._limits.sessions
        while caller.ready:
            key = caller.ready.popleft()
            self._ready -= 1
            taken = self._take_from(key, most - batch.cost, batch, left)
            cost = taken[0].cost if len(taken) == 1 else sum([request.cost for request in taken])
            batch.cost += cost
            spent += cost
            if taken:
                sessions[key] = taken
                busy.add(key)
            if spent >= lead or len(sessions) >= limit or batch.cost >= most:
                break
        return spent, cost

    def _take_from(self, key: str, room: int, batch: Batch, left: list[Request]) -> list[Request]:
        """Take as many of the session's next requests as fit, at least one; some go alone."""
        line = self._lines[key]
        if len(line) == 1:
            request = line[0]
            if request.deadline is None and not request.ticket.has_gone():  # as most
                del self._lines[key]
                left.append(request)
                return [request]
        taken: list[Request] = []
        while line and not (taken and (room <= 0 or taken[-1].goes_alone or line[0].goes_alone)):
            request = line.popleft()
            left.append(request)
            if request.deadline is not None and request.deadline <= batch.taken_at:
                batch.late.append(request)
            elif not request.ticket.has_gone():
                taken.append(request)
                room -= request.cost
        if not line:
            del self._lines[key]
        return taken
