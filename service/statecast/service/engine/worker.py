"""The engine's thread: batch after batch, until the scheduler is closed and empty."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from statecast.service.engine.engine import Engine, Results
from statecast.service.engine.request import Result
from statecast.service.engine.scheduler import Batch, Scheduler, Ticket
from statecast.service.errors import DeadlinePassed, Reason, Unavailable
from statecast.service.metrics import Metrics

log = logging.getLogger(__name__)

Delivery = list[tuple[Ticket, Result]]
Deliver = Callable[[Delivery], None]
"""Hands a batch's results to whoever waits; called from the engine's thread."""

LOST_RETRY_SECONDS = 0.2


class Worker:
    """Runs the engine in a thread of its own."""

    def __init__(self, scheduler: Scheduler, engine: Engine, metrics: Metrics, deliver: Deliver) -> None:
        self._scheduler = scheduler
        self._engine = engine
        self._metrics = metrics
        self._deliver = deliver
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="engine")

    def start(self) -> "Future[None]":
        """Start; the future ends when the thread does, with the failure that ended it."""
        return self._threads.submit(self._work)

    def _work(self) -> None:
        try:
            while (batch := self._scheduler.take()) is not None:
                self._deliver(self._carry_out(batch))
                self._scheduler.done(batch)
                time.sleep(0)
        finally:
            self._threads.shutdown(wait=False)

    def _carry_out(self, batch: Batch) -> Delivery:
        for tickets in batch.sessions.values():
            for ticket in tickets:
                self._metrics.queue_seconds.observe(batch.taken_at - ticket.queued_at)
        requests = {
            session_id: [ticket.request for ticket in tickets] for session_id, tickets in batch.sessions.items()
        }
        try:
            results: Results = self._engine.run(requests) if requests else {}
        except Exception as error:
            log.exception("a batch of %d sessions failed", len(requests))
            results = {session_id: [error] * len(tickets) for session_id, tickets in batch.sessions.items()}
        delivery: Delivery = [
            pair
            for session_id, tickets in batch.sessions.items()
            for pair in zip(tickets, results[session_id], strict=True)
        ]
        return delivery + self._late(batch) + self._stranded()

    def _late(self, batch: Batch) -> Delivery:
        """Those whose callers have no time left; their work would be for nobody."""
        self._metrics.rejected.labels(Reason.DEADLINE_PASSED).inc(len(batch.late))
        error = DeadlinePassed("the deadline passed in the queue; nothing was appended", Reason.DEADLINE_PASSED)
        return [(ticket, error) for ticket in batch.late]

    def _stranded(self) -> Delivery:
        """Once Redis is lost everything that waits is told so, instead of waiting for one time-out after the other."""
        if not self._engine.store_is_lost:
            return []
        error = Unavailable(
            "Redis cannot be used now; nothing was appended. Send the same request again.",
            Reason.STORE_UNREACHABLE,
            LOST_RETRY_SECONDS,
        )
        return [(ticket, error) for ticket in self._scheduler.take_all()]
