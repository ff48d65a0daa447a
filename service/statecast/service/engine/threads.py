"""Engine threads: carry out batch after batch until the scheduler is closed and empty."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from statecast.service.engine.batch_times import Phase
from statecast.service.engine.engine import Engine, Results
from statecast.service.engine.request import Result
from statecast.service.engine.scheduler import Batch, Scheduler, Ticket
from statecast.service.errors import DeadlinePassed, Unavailable
from statecast.service.metrics import Metrics
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

Delivery = list[tuple[Ticket, Result]]
Deliver = Callable[[Delivery], None]
"""Delivers a batch's results to their callers; called from an engine thread."""
Observe = Callable[[Batch, Sequence[Phase]], None]
"""Takes note of a batch and its phases, before its results are delivered; called from an engine thread."""

LOST_RETRY_SECONDS = 0.2


class EngineThreads:
    """Runs each engine in its own thread.

    The first one takes any batch, the others only full ones: then one thread computes while another commits. With less
    in the queue, more threads would only make more and smaller batches.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        engines: Sequence[Engine],
        metrics: Metrics,
        deliver: Deliver,
        observe: Observe | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._engines = engines
        self._metrics = metrics
        self._deliver, self._observe = deliver, observe
        self._threads = ThreadPoolExecutor(len(engines), thread_name_prefix="engine")
        metrics.engine_threads.set(len(engines))

    def start(self) -> "list[Future[None]]":
        """Start the threads; each future ends with its thread, and holds the exception that ended it."""
        return [
            self._threads.submit(self._work, engine, only_full=position > 0)
            for position, engine in enumerate(self._engines)
        ]

    def _work(self, engine: Engine, *, only_full: bool) -> None:
        try:
            while (batch := self._scheduler.take(only_full=only_full)) is not None:
                delivery = self._carry_out(engine, batch)
                if self._observe is not None:
                    self._observe(batch, engine.times.phases if batch.sessions else ())
                self._deliver(delivery)
                self._scheduler.done(batch)
                self._metrics.engine_busy_seconds.inc(time.monotonic() - batch.taken_at)
                time.sleep(0)  # let the event loop queue new arrivals for the next batch
        finally:
            self._threads.shutdown(wait=False)

    def _carry_out(self, engine: Engine, batch: Batch) -> Delivery:
        for tickets in batch.sessions.values():
            for ticket in tickets:
                ticket.request.queue_seconds = seconds = batch.taken_at - ticket.queued_at
                self._metrics.queue_seconds.observe(seconds)
        requests = {key: [ticket.request for ticket in tickets] for key, tickets in batch.sessions.items()}
        try:
            results: Results = engine.run(requests) if requests else {}
        except Exception as error:
            log.exception("a batch of %d sessions failed", len(requests))
            results = {key: [error] * len(tickets) for key, tickets in batch.sessions.items()}
        delivery: Delivery = [
            pair for key, tickets in batch.sessions.items() for pair in zip(tickets, results[key], strict=True)
        ]
        is_lost = requests and engine.store_is_lost
        return delivery + self._late(batch) + (self._stranded() if is_lost else [])

    def _late(self, batch: Batch) -> Delivery:
        """Refuse the requests whose deadline has passed: their callers have stopped waiting."""
        self._metrics.rejected.labels(Reason.DEADLINE_PASSED).inc(len(batch.late))
        error = DeadlinePassed(
            "the deadline passed in the queue; nothing was appended. Send the same request with a longer deadline.",
            Reason.DEADLINE_PASSED,
        )
        return [(ticket, error) for ticket in batch.late]

    def _stranded(self) -> Delivery:
        """Refuse all queued requests once Redis is lost, instead of waiting for one timeout after another."""
        error = Unavailable(
            "Redis cannot be used now; nothing was appended. Send the same request again.",
            Reason.STORE_UNREACHABLE,
            LOST_RETRY_SECONDS,
        )
        return [(ticket, error) for ticket in self._scheduler.take_all()]
