"""The way from the event loop to the engine's thread and back."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from statecast.service.engine.request import Outcome, Request, Result
from statecast.service.engine.scheduler import Scheduler, Ticket
from statecast.service.engine.threads import Delivery
from statecast.service.errors import Overloaded, ServiceError
from statecast.service.metrics import Metrics
from statecast.service.rpc.accounting import Accounts
from statecast.service.rpc.methods import Context

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, which is a connection, and until when the answer is of use, on the clock of time.monotonic."""

    caller: str
    deadline: float | None

    @staticmethod
    def of(context: Context) -> "Call":
        """The call that is being answered."""
        return Call(context.peer(), None).within(context.time_remaining())

    def within(self, seconds: float | None) -> "Call":
        """The same for a request that must be answered within so many seconds."""
        return self if seconds is None else Call(self.caller, self.until(seconds))

    def until(self, seconds: float | None) -> float | None:
        """The deadline of a request that must be answered within so many seconds."""
        if seconds is None:
            return self.deadline
        deadline = time.monotonic() + seconds
        return deadline if self.deadline is None else min(deadline, self.deadline)


class EngineClient:
    """Puts requests into the scheduler and brings their results back to the event loop."""

    def __init__(self, scheduler: Scheduler, metrics: Metrics, accounts: Accounts) -> None:
        self._scheduler = scheduler
        self._metrics = metrics
        self.accounts = accounts
        self._loop = asyncio.get_running_loop()

    def check(self, call: Call, cost: int) -> None:
        """Whether a request of about that cost would be taken; turning it away should be less work than taking it.

        Raises:
            Overloaded: if it would not.
        """
        try:
            self._scheduler.check(call.caller, cost, call.deadline)
        except Overloaded as error:
            self._count(error, 1)
            raise

    async def ask(self, request: Request, call: Call) -> Outcome:
        """Carry out the request.

        Raises:
            ServiceError: if it cannot be; anything else is a defect of this server.
        """
        answer = self._queue(request, call)
        try:
            return await answer
        finally:  # it holds the error, whose traceback holds this frame
            del answer

    def _queue(self, request: Request, call: Call) -> "asyncio.Future[Outcome]":
        answer: asyncio.Future[Outcome] = self._loop.create_future()

        def resolve(result: Result) -> None:
            if answer.done():  # its caller has gone
                return
            if isinstance(result, Outcome):
                answer.set_result(result)
            else:
                answer.set_exception(result)

        if request.deadline is None:
            request.deadline = call.deadline
        _, error = self.submit([Ticket(request, resolve, lambda: not answer.done(), call.caller)])
        if error:
            answer.set_exception(error)
        return answer

    def submit(self, tickets: Sequence[Ticket]) -> tuple[int, ServiceError | None]:
        """Queue requests in order until one is turned away; each ticket is resolved in the event loop.

        Returns:
            How many have been queued, and if not all, why.
        """
        taken, error = self._scheduler.submit_all(tickets)
        if isinstance(error, Overloaded):
            self._count(error, len(tickets) - taken)
        return taken, error

    def deliver(self, results: Delivery) -> None:
        """Hand a batch's results to the event loop; called from the engine's thread."""
        self._loop.call_soon_threadsafe(_resolve_all, results)

    def _count(self, error: Overloaded, requests: int) -> None:
        self._metrics.rejected.labels(error.reason).inc(requests)


def _resolve_all(results: Delivery) -> None:
    for ticket, result in results:
        try:
            ticket.resolve(result)
        except Exception:  # the others of the batch still wait
            log.exception("a result could not be delivered")
