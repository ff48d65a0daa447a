"""Engine threads: carry out batch after batch until the scheduler is closed and empty."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from statecast.service.engine.batch_times import Phase
from statecast.service.engine.engine import Engine
from statecast.service.engine.request import Answered, Request, Ticket
from statecast.service.engine.scheduler import Batch, Scheduler
from statecast.service.engine.table import Results
from statecast.service.errors import DeadlinePassed, ServiceError, Unavailable
from statecast.service.metrics import Metrics, observe_all
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

Delivery = dict[Ticket, list[Answered]]
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
                del batch, delivery  # the next batch may be long in coming
                time.sleep(0)  # let the event loop queue new arrivals for the next batch
        finally:
            self._threads.shutdown(wait=False)

    def _carry_out(self, engine: Engine, batch: Batch) -> Delivery:
        self._note_waits(batch)
        try:
            results: Results = engine.run(batch.sessions) if batch.sessions else {}
        except Exception as error:
            log.exception("a batch of %d sessions failed", len(batch.sessions))
            results = {key: [error] * len(requests) for key, requests in batch.sessions.items()}
        delivery: Delivery = {}
        last, to = None, list[Answered]()
        for key, requests in batch.sessions.items():
            for answered in zip(requests, results[key], strict=True):
                ticket = answered[0].ticket
                if ticket is not last:
                    last, to = ticket, delivery.setdefault(ticket, [])
                to.append(answered)
        if batch.late:
            self._refuse(delivery, batch.late, self._late(len(batch.late)))
        if batch.sessions and engine.store_is_lost:
            self._refuse(delivery, self._scheduler.take_all(), _stranded())
        return delivery

    def _note_waits(self, batch: Batch) -> None:
        """Note how long each request waited."""
        waits: dict[float, int] = {}
        for requests in batch.sessions.values():
            for request in requests:
                request.queue_seconds = seconds = batch.taken_at - request.ticket.queued_at
                waits[seconds] = waits.get(seconds, 0) + 1
        observe_all(self._metrics.queue_seconds, waits)

    def _refuse(self, delivery: Delivery, requests: Sequence[Request], error: ServiceError) -> None:
        for request in requests:
            delivery.setdefault(request.ticket, []).append((request, error))

    def _late(self, count: int) -> ServiceError:
        """Return the error for requests whose deadline has passed: their callers have stopped waiting."""
        self._metrics.rejected.labels(Reason.DEADLINE_PASSED).inc(count)
        return DeadlinePassed(
            "the deadline passed in the queue; nothing was appended. Send the same request with a longer deadline.",
            Reason.DEADLINE_PASSED,
        )


def _stranded() -> ServiceError:
    """Return the error for all queued requests once Redis is lost, instead of one timeout after another."""
    return Unavailable(
        "Redis cannot be used now; nothing was appended. Send the same request again.",
        Reason.STORE_UNREACHABLE,
        LOST_RETRY_SECONDS,
    )
