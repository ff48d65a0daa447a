"""Who may queue: bounded by number, by bytes, by the caller's share, and by whether the answer can come in time."""

import math
import time
from collections import deque
from dataclasses import dataclass, field

from statecast.service.engine.request import Request
from statecast.service.errors import Overloaded
from statecast.v1.reasons import Reason

SHARE = 4
"""A caller may queue this many times the room that is left, so that a single one never takes it all (dynamic
thresholds, Choudhury and Hahne 1998): alone it has four fifths."""
MARGIN = 1.5
"""So many times the estimated wait must be left to a request: work for an answer that comes too late is for nobody."""
RETRY_AFTER_SECONDS = (0.05, 5.0)
"""The shortest and the longest pause that is asked of a caller who is turned away."""
SMOOTHING = 0.2


@dataclass(slots=True)
class Pace:
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


@dataclass(slots=True)
class Caller:
    """What one caller has queued, its sessions whose turn can come, and what it has been given so far."""

    given: int = 0
    ready: deque[str] = field(default_factory=deque)
    requests: int = 0
    nbytes: int = 0
    cost: int = 0


class Admission:
    """The books of what is queued, by caller. Not for use by two threads at once."""

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self.pace = Pace()
        self.under_way_until = 0.0
        self.clear()

    def clear(self) -> None:
        """Nothing is queued any more."""
        self.callers: dict[str, Caller] = {}
        self.requests = self.nbytes = self.cost = 0

    def check(self, name: str, cost: int, deadline: float | None) -> None:
        """Whether the caller may queue a request of that cost now.

        Raises:
            Overloaded: if the queue is full, or the caller's share of it, or too long for the deadline.
        """
        caller = self.callers.get(name)
        room, room_bytes = self._max_requests - self.requests, self._max_bytes - self.nbytes
        own, own_bytes = (caller.requests, caller.nbytes) if caller else (0, 0)
        # The first request of a caller may be of any size, as long as there is room at all.
        if room <= 0 or own >= SHARE * room or room_bytes <= 0 or own_bytes > SHARE * room_bytes:
            raise self._turned_away(
                f"{self.requests} requests of {self.nbytes / 2**20:.1f} MiB are waiting, {own} of them on this "
                "connection"
            )
        if deadline is None:
            return
        wait_seconds, now = self._wait_seconds(caller, cost), time.monotonic()
        if wait_seconds and now + MARGIN * wait_seconds > deadline:
            raise self._turned_away(
                f"{self.requests} requests are waiting, which takes about {wait_seconds:.2g} s and so longer than the "
                "caller does"
            )

    def enter(self, name: str, request: Request, given: int) -> None:
        """Write the request down; a caller who has nothing else queued begins at `given`."""
        caller = self.callers.setdefault(name, Caller(given))
        self._add(caller, request, 1)

    def leave(self, name: str, request: Request) -> None:
        """Strike the request out."""
        caller = self.callers[name]
        self._add(caller, request, -1)
        if not caller.requests:
            del self.callers[name]

    def _add(self, caller: Caller, request: Request, sign: int) -> None:
        nbytes, cost = sign * request.nbytes, sign * request.cost
        caller.requests += sign
        caller.nbytes += nbytes
        caller.cost += cost
        self.requests += sign
        self.nbytes += nbytes
        self.cost += cost

    def _wait_seconds(self, caller: Caller | None, cost: int) -> float:
        """About how long until it is done: behind its caller's own line, at the speed that turns leave to it."""
        own = caller.cost if caller else 0
        ahead = min(self.cost, (own + cost) * (len(self.callers) + (caller is None)) - cost)
        return self.pace.seconds(ahead + cost) + max(0.0, self.under_way_until - time.monotonic())

    def _turned_away(self, why: str) -> Overloaded:
        shortest, longest = RETRY_AFTER_SECONDS
        until_half_is_done = self.pace.seconds(self.cost // 2)
        return Overloaded(
            f"{why}; nothing was appended", Reason.QUEUE_FULL, min(max(until_half_is_done, shortest), longest)
        )
