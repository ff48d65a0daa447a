"""Who forms the next batch.

Requests wait in one queue a session. A batch takes the sessions in the order in which they began to wait, each with
all that it has queued, as far as the bounds allow. A session is in at most one batch at a time. While one batch is
being computed the next one gathers by itself.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from statecast.service.engine.request import Request, Result
from statecast.service.errors import Overloaded, Reason, Unavailable

RETRY_AFTER_SECONDS = 0.1


@dataclass(slots=True)
class Ticket:
    """A request that waits for its result; `wanted`, asked from any thread, tells whether its caller still does."""

    request: Request
    resolve: Callable[[Result], None]
    wanted: Callable[[], bool] = lambda: True
    queued_at: float = field(default_factory=time.perf_counter)


Batch = dict[str, list[Ticket]]
"""The tickets of each session in the batch, in the order in which they came."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch and the queue may grow; values are observations times targets."""

    sessions: int = 256
    values: int = 32_768
    queued_requests: int = 8_192


class Scheduler:
    """The queue between the edge and the engine's threads."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._waiting: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._busy: set[str] = set()
        self._queued = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def queued_requests(self) -> int:
        """How many requests wait for a batch."""
        return self._queued

    def submit(self, ticket: Ticket) -> None:
        """Queue a request.

        Raises:
            Overloaded: if the queue is full.
            Unavailable: if the server is shutting down.
        """
        with self._changed:
            if self._closed:
                raise Unavailable("the server is shutting down", Reason.DRAINING, RETRY_AFTER_SECONDS)
            if self._queued >= self._limits.queued_requests:
                raise Overloaded(
                    f"{self._queued} requests are waiting already; nothing was appended",
                    Reason.QUEUE_FULL,
                    RETRY_AFTER_SECONDS,
                )
            self._waiting.setdefault(ticket.request.session_id, deque()).append(ticket)
            self._queued += 1
            self._changed.notify()

    def take(self) -> Batch | None:
        """The next batch, as soon as there is one; None once the scheduler is closed and empty.

        Every batch must be given back with `done`.
        """
        with self._changed:
            while not (batch := self._form_batch()):
                if self._closed and not self._waiting:
                    return None
                self._changed.wait()
            self._busy.update(batch)
            return batch

    def done(self, batch: Batch) -> None:
        """The sessions of `batch` may be batched again."""
        with self._changed:
            self._busy.difference_update(batch)
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more requests; those that wait are still served."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _form_batch(self) -> Batch:
        batch: Batch = {}
        room = self._limits.values
        for session_id in [name for name in self._waiting if name not in self._busy]:
            if len(batch) >= self._limits.sessions or room <= 0:
                break
            tickets, room = self._take_from(session_id, room)
            if tickets:
                batch[session_id] = tickets
        return batch

    def _take_from(self, session_id: str, room: int) -> tuple[list[Ticket], int]:
        """As many of the session's next requests as fit, at least one; a close goes alone."""
        queue = self._waiting[session_id]
        taken: list[Ticket] = []
        while queue and not (taken and self._must_wait(taken[-1], queue[0], room)):
            ticket = queue.popleft()
            self._queued -= 1
            if ticket.wanted():
                taken.append(ticket)
                room -= ticket.request.values.size
        if queue:  # behind those that have had nothing yet
            self._waiting.move_to_end(session_id)
        else:
            del self._waiting[session_id]
        return taken, room

    @staticmethod
    def _must_wait(previous: Ticket, ticket: Ticket, room: int) -> bool:
        return room <= 0 or ticket.request.close or previous.request.close
