"""Passes requests from the event loop to the engine threads, and results back."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from statecast.service.access.principal import Principal, Role
from statecast.service.access.quotas import Quotas
from statecast.service.engine.request import NOBODY, Answered, Outcome, Request, Ticket
from statecast.service.engine.scheduler import Scheduler
from statecast.service.engine.threads import Delivery
from statecast.service.errors import Overloaded, ServiceError, no_admin, read_only
from statecast.service.metrics import Metrics
from statecast.service.rpc.accounting import Accounts
from statecast.service.rpc.methods import Context

if TYPE_CHECKING:  # an optional extra
    from statecast.service.tracing.spans import CallTrace

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """The caller of a request: its connection, its deadline by time.monotonic, who it is, and the trace of the call."""

    caller: str
    deadline: float | None
    principal: Principal
    trace: "CallTrace | None" = None

    @staticmethod
    def of(context: Context) -> "Call":
        """Return the caller and deadline of a gRPC call."""
        seconds = context.time_remaining()
        deadline = None if seconds is None else time.monotonic() + seconds
        return Call(context.peer(), deadline, context.principal, context.trace)

    def within(self, seconds: float | None) -> "Call":
        """Return the call with its deadline at most so many seconds away."""
        return self if seconds is None else replace(self, deadline=self.until(seconds))

    @property
    def may_write(self) -> bool:
        """True if the caller may open, fork and close sessions, and append observations."""
        return self.principal.may_write

    def require_write(self, what: str) -> None:
        """Check that the caller may write.

        Raises:
            PermissionDenied: if it may not; the message says that it may not `what`.
        """
        if not self.may_write:
            raise read_only(what)

    def require_admin(self, what: str) -> None:
        """Check that the caller is an administrator.

        Raises:
            PermissionDenied: if it is not; the message says that it may not `what`.
        """
        if self.principal.role < Role.ADMIN:
            raise no_admin(self.principal.role.name.lower(), what)

    def until(self, seconds: float | None) -> float | None:
        """Return the deadline of a request that must be answered within so many seconds."""
        if seconds is None:
            return self.deadline
        deadline = time.monotonic() + seconds
        return deadline if self.deadline is None else min(deadline, self.deadline)


class EngineClient:
    """Queues requests in the scheduler, and delivers their results in the event loop."""

    def __init__(self, scheduler: Scheduler, metrics: Metrics, accounts: Accounts, quotas: Quotas) -> None:
        self._scheduler = scheduler
        self._quotas = quotas
        self._metrics = metrics
        self.accounts = accounts
        self._loop = asyncio.get_running_loop()

    def check(self, call: Call, cost: int) -> None:
        """Check that a request of about this cost would be queued: refusing it should be cheaper than queueing it.

        Raises:
            Overloaded: if it would be refused.
        """
        try:
            self._scheduler.check(call.principal.tenant, call.caller, cost, call.deadline)
        except Overloaded as error:
            self._count(error, 1)
            raise

    async def ask(self, request: Request, call: Call) -> Outcome:
        """Carry out the request and return its outcome.

        Raises:
            ServiceError: if it fails; any other exception is a bug of the server.
        """
        answer: asyncio.Future[Outcome] = self._loop.create_future()
        if request.deadline is None:
            request.deadline = call.deadline
        if call.trace is not None:
            call.trace.follow(request)
        _, error = self.submit(Ticket(call.caller, partial(_settle, answer), answer.done), [request])
        if error is not None:
            raise error
        try:
            return await answer
        finally:  # it holds the error, whose traceback holds this frame: a cycle
            del answer

    def submit(self, ticket: Ticket, requests: Sequence[Request]) -> tuple[int, ServiceError | None]:
        """Queue requests of one caller in order until one is refused; the ticket's `deliver` gets the results.

        Returns:
            The number queued, and the error of the next one if not all were.
        """
        within, beyond = self._within_quota(requests) if self._quotas.is_active else (requests, None)
        taken, error = self._scheduler.submit(ticket, within) if within else (0, None)
        error = error or beyond
        if isinstance(error, Overloaded):
            self._count(error, len(requests) - taken)
        return taken, error

    def charge(self, call: Call) -> None:
        """Count a request that the engine does not see.

        Raises:
            Overloaded: if the caller's tenant has reached a limit.
        """
        if self._quotas.is_active:
            self._quotas.take(call.principal.tenant, 0)

    def _within_quota(self, requests: Sequence[Request]) -> tuple[Sequence[Request], Overloaded | None]:
        """Return the first requests that their tenant's limits allow, and the error for the rest."""
        for position, request in enumerate(requests):
            try:
                self._quotas.take(request.tenant, request.values.size)
            except Overloaded as error:
                return requests[:position], error
            request.is_full = self._quotas.sessions_are_full(request.tenant)
        return requests, None

    def deliver(self, results: Delivery) -> None:
        """Hand a batch's results to the event loop; called from an engine thread."""
        self._loop.call_soon_threadsafe(self._deliver, results)

    def _deliver(self, results: Delivery) -> None:
        for ticket, answered in results.items():
            for request, _ in answered:
                request.ticket = NOBODY  # a result may be an error whose traceback holds the request: a cycle
            try:
                ticket.deliver(answered)
                if self._quotas.is_active or self._metrics.tenants is not None:
                    self._note(answered)
            except Exception:  # the others of the batch still wait
                log.exception("results could not be delivered")

    def _note(self, answered: Sequence[Answered]) -> None:
        """Count what the requests have done for their tenant."""
        for request, result in answered:
            if isinstance(result, Outcome):
                if result.opened and self._quotas.is_active:
                    self._quotas.opened(request.tenant)
                if self._metrics.tenants is not None:
                    self._metrics.tenants.appended(request.tenant, result.steps)

    def _count(self, error: Overloaded, requests: int) -> None:
        self._metrics.rejected.labels(error.reason).inc(requests)


def _settle(answer: "asyncio.Future[Outcome]", answered: Sequence[Answered]) -> None:
    """Give the only result to who awaits it, unless that one has gone."""
    ((_, result),) = answered
    if answer.done():
        return
    if isinstance(result, Outcome):
        answer.set_result(result)
    else:
        answer.set_exception(result)
