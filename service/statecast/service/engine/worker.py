"""The engine's thread: batch after batch, until the scheduler is closed and empty."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from statecast.service.engine.engine import Engine, Results
from statecast.service.engine.request import Result
from statecast.service.engine.scheduler import Batch, Scheduler, Ticket
from statecast.service.metrics import Metrics

log = logging.getLogger(__name__)

Deliver = Callable[[list[tuple[Ticket, Result]]], None]
"""Hands a batch's results to whoever waits; called from the engine's thread."""


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
        finally:
            self._threads.shutdown(wait=False)

    def _carry_out(self, batch: Batch) -> list[tuple[Ticket, Result]]:
        now = time.perf_counter()
        for tickets in batch.values():
            for ticket in tickets:
                self._metrics.queue_seconds.observe(now - ticket.queued_at)
        requests = {session_id: [ticket.request for ticket in tickets] for session_id, tickets in batch.items()}
        try:
            results: Results = self._engine.run(requests)
        except Exception as error:
            log.exception("a batch of %d sessions failed", len(batch))
            results = {session_id: [error] * len(tickets) for session_id, tickets in batch.items()}
        return [
            pair for session_id, tickets in batch.items() for pair in zip(tickets, results[session_id], strict=True)
        ]
