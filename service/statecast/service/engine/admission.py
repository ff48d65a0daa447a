"""Admission control: limits the queue by requests and bytes, by each tenant's and caller's share, and by the wait."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from statecast.service.engine.request import Request
from statecast.service.errors import Overloaded
from statecast.v1.reasons import Reason

SHARE = 4
"""A caller may queue at most this many times the room left, so a caller alone gets four fifths of the queue.

These are dynamic thresholds (Choudhury and Hahne 1998)."""
TENANT_SHARE = 16
"""A tenant may queue at most this many times the room left, so that another tenant finds some."""
MARGIN = 1.5
"""A request needs this many times its estimated wait before its deadline; a late answer would be wasted work."""
RETRY_AFTER_SECONDS = (0.05, 5.0)
"""Shortest and longest retry delay for a refused request."""
SMOOTHING = 0.2


@dataclass(slots=True)
class Pace:
    """Moving averages of the time and cost of full batches; 0 until there was one."""

    batch_seconds: float = 0.0
    batch_cost: float = 0.0

    def note(self, seconds: float, cost: int) -> None:
        """Record a full batch."""
        share = SMOOTHING if self.batch_cost else 1.0
        self.batch_seconds += share * (seconds - self.batch_seconds)
        self.batch_cost += share * (cost - self.batch_cost)

    def cost_within(self, seconds: float, most: int) -> int:
        """Return the cost of a batch of about `seconds`: at most `most`, at least a sixteenth of it."""
        if not self.batch_cost:
            return most
        return min(most, max(most // 16, int(seconds / self.batch_seconds * self.batch_cost)))

    def seconds(self, cost: int) -> float:
        """Estimate the seconds until the last batch of a queue of this cost is done."""
        if not self.batch_cost:
            return 0.0
        batches = cost / self.batch_cost
        return (math.ceil(batches) if batches > 1 else batches) * self.batch_seconds


@dataclass(slots=True)
class Load:
    """How many requests, and what they take."""

    requests: int = 0
    nbytes: int = 0
    cost: int = 0

    @staticmethod
    def of(requests: Sequence[Request]) -> "Load":
        """Return the load of these requests."""
        nbytes, cost = sum([request.nbytes for request in requests]), sum([request.cost for request in requests])
        return Load(len(requests), nbytes, cost)

    def add(self, other: "Load") -> None:
        """Add another load."""
        self.requests += other.requests
        self.nbytes += other.nbytes
        self.cost += other.cost

    def subtract(self, other: "Load") -> None:
        """Take another load away."""
        self.requests -= other.requests
        self.nbytes -= other.nbytes
        self.cost -= other.cost


NOTHING = Load()


@dataclass(slots=True)
class Caller:
    """One caller: the cost it has been given so far, its sessions that can be batched, and what it has queued."""

    given: int = 0
    ready: deque[str] = field(default_factory=deque)
    queued: Load = field(default_factory=Load)


@dataclass(slots=True)
class Tenant:
    """The callers of a tenant, as a whole a caller among tenants.

    `turns` is a heap with one entry for each caller that can have a turn: cost given so far, tie-break, name. `at` is
    the cost given to the one that had the last turn; a new caller starts there.
    """

    given: int = 0
    callers: dict[str, Caller] = field(default_factory=dict)
    turns: list[tuple[int, int, str]] = field(default_factory=list)
    at: int = 0
    queued: Load = field(default_factory=Load)


def may_take(own: int, room: int, share: int = SHARE) -> bool:
    """Return whether one that holds `own` may take more of the room that is left."""
    return room > 0 and own < share * room


class Admission:
    """Accounts of what is queued, by tenant and caller. Not thread-safe."""

    def __init__(
        self, max_requests: int, max_bytes: int, tenant_bytes: Callable[[str], float] = lambda _: math.inf
    ) -> None:
        """Limit the queue, and each tenant's part of it to so many bytes."""
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._tenant_bytes = tenant_bytes
        self.pace = Pace()
        self.under_way_until = 0.0
        self.clear()

    def clear(self) -> None:
        """Reset the accounts to an empty queue."""
        self.tenants: dict[str, Tenant] = {}
        self.queued = Load()

    def check(self, tenant_name: str, name: str, cost: int, deadline: float | None) -> None:
        """Check that the caller may queue a request of this cost now.

        Raises:
            Overloaded: if the queue, or the caller's or tenant's share of it, is full, or the wait would exceed the
                deadline.
        """
        if error := self._refusal(tenant_name, name, cost, deadline, NOTHING):
            raise error

    def _refusal(
        self, tenant_name: str, name: str, cost: int, deadline: float | None, ahead: Load
    ) -> Overloaded | None:
        """Return the error for a request that may not be queued after `ahead`, which the caller queues just before."""
        tenant = self.tenants.get(tenant_name)
        caller = tenant.callers.get(name) if tenant else None
        own, tenants = (caller.queued if caller else NOTHING), (tenant.queued if tenant else NOTHING)
        room = self._max_requests - self.queued.requests - ahead.requests
        room_bytes = self._max_bytes - self.queued.nbytes - ahead.nbytes
        tenants_bytes = tenants.nbytes + ahead.nbytes
        # A caller's first request may be of any size if there is room at all.
        has_room = (
            may_take(own.requests + ahead.requests, room)
            and may_take(own.nbytes + ahead.nbytes, room_bytes)
            and may_take(tenants.requests + ahead.requests, room, TENANT_SHARE)
            and may_take(tenants_bytes, room_bytes, TENANT_SHARE)
        )
        if not has_room:
            queued = self.queued
            return self._turned_away(
                f"the queue is full: {queued.requests} requests of {queued.nbytes / 2**20:.1f} MiB are waiting, "
                f"{own.requests} of them on this connection"
            )
        if tenants_bytes and tenants_bytes >= (most := self._tenant_bytes(tenant_name)):
            return Overloaded(
                f"requests of {most / 2**20:g} MiB of tenant {tenant_name} are waiting, which is its limit queue_mib; "
                "nothing was appended. Send the same request again later.",
                Reason.QUOTA_EXCEEDED,
                self._until_half_is_done(),
            )
        if deadline is None:
            return None
        wait_seconds, now = self._wait_seconds(tenant, caller, cost, ahead.cost), time.monotonic()
        if wait_seconds and now + MARGIN * wait_seconds > deadline:
            return self._turned_away(
                f"{self.queued.requests} requests are waiting, so the answer would take about {wait_seconds:.2g} s and "
                "miss the deadline"
            )
        return None

    def enter(self, name: str, requests: Sequence[Request], given: int) -> tuple[int, Overloaded | None]:
        """Add a caller's requests in order until one is refused.

        Args:
            name: Name of the caller.
            requests: Requests of one tenant, at least one.
            given: Where a tenant with nothing else queued starts.

        Returns:
            The number added, and the error of the next one.
        """
        *others, last = requests
        deadline, ahead = last.deadline, NOTHING
        if others:
            deadline = min((each.deadline for each in requests if each.deadline is not None), default=None)
            ahead = Load.of(others)
        # Each makes it harder for the next, so if the last one fits, all do.
        error = self._refusal(last.tenant, name, last.cost, deadline, ahead)
        if error is None:
            whole = Load(ahead.requests + 1, ahead.nbytes + last.nbytes, ahead.cost + last.cost)
            self._add(name, last.tenant, whole, given)
            return len(requests), None
        if not others:
            return 0, error
        for position in range(len(requests)):
            taken, error = self.enter(name, requests[position : position + 1], given)
            if not taken:
                return position, error
        return len(requests), None

    def leave(self, requests: Sequence[Request]) -> None:
        """Remove requests."""
        loads: dict[tuple[str, str], Load] = {}
        last, load = None, Load()
        for request in requests:
            if request.ticket is not last:  # requests of one ticket are of one tenant
                last = request.ticket
                load = loads.setdefault((request.tenant, last.caller), Load())
            load.requests += 1
            load.nbytes += request.nbytes
            load.cost += request.cost
        for (tenant_name, name), load in loads.items():
            tenant = self.tenants[tenant_name]
            caller = tenant.callers[name]
            for each in (self, tenant, caller):
                each.queued.subtract(load)
            if not caller.queued.requests:
                del tenant.callers[name]
                if not tenant.callers:
                    del self.tenants[tenant_name]

    def _add(self, name: str, tenant_name: str, load: Load, given: int) -> None:
        tenant = self.tenants.get(tenant_name)
        if tenant is None:
            tenant = self.tenants[tenant_name] = Tenant(given)
        caller = tenant.callers.get(name)
        if caller is None:
            caller = tenant.callers[name] = Caller(tenant.at)
        for each in (self, tenant, caller):
            each.queued.add(load)

    def _wait_seconds(self, tenant: Tenant | None, caller: Caller | None, cost: int, ahead: int) -> float:
        """Estimate the wait behind the caller's own requests, at the rate that fair turns leave to it."""
        own = (caller.queued.cost if caller else 0) + ahead
        turns = len(self.tenants) + (tenant is None)
        turns *= (len(tenant.callers) if tenant else 0) + (caller is None)
        before = min(self.queued.cost + ahead, (own + cost) * turns - cost)
        return self.pace.seconds(before + cost) + max(0.0, self.under_way_until - time.monotonic())

    def _turned_away(self, why: str) -> Overloaded:
        return Overloaded(
            f"{why}; nothing was appended. Send the same request again later.",
            Reason.QUEUE_FULL,
            self._until_half_is_done(),
        )

    def _until_half_is_done(self) -> float:
        shortest, longest = RETRY_AFTER_SECONDS
        return min(max(self.pace.seconds(self.queued.cost // 2), shortest), longest)
