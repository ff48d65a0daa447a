"""The way from the event loop to the engine's thread and back."""

import asyncio
import logging

from statecast.service.engine.request import Outcome, Request, Result
from statecast.service.engine.scheduler import Scheduler, Ticket
from statecast.service.errors import Overloaded
from statecast.service.metrics import Metrics

log = logging.getLogger(__name__)


class Gate:
    """Puts requests into the scheduler and waits for their results without blocking the event loop."""

    def __init__(self, scheduler: Scheduler, metrics: Metrics) -> None:
        self._scheduler = scheduler
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()

    async def ask(self, request: Request) -> Outcome:
        """Carry out the request.

        Raises:
            ServiceError: if it cannot be; anything else is a defect of this server.
        """
        future: asyncio.Future[Outcome] = self._loop.create_future()

        def resolve(result: Result) -> None:
            if future.done():  # its caller has gone
                return
            if isinstance(result, Outcome):
                future.set_result(result)
            else:
                future.set_exception(result)

        try:
            self._scheduler.submit(Ticket(request, resolve, lambda: not future.done()))
        except Overloaded as error:
            self._metrics.rejected.labels(error.reason).inc()
            raise
        return await future

    def deliver(self, results: list[tuple[Ticket, Result]]) -> None:
        """Hand a batch's results to the event loop; called from the engine's thread."""
        self._loop.call_soon_threadsafe(_resolve_all, results)


def _resolve_all(results: list[tuple[Ticket, Result]]) -> None:
    for ticket, result in results:
        try:
            ticket.resolve(result)
        except Exception:  # the others of the batch still wait
            log.exception("a result could not be delivered")
