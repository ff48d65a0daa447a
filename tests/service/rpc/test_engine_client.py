"""The way from the engine's threads to who waits in the event loop."""

import asyncio
from collections.abc import Sequence

import pytest

from statecast.service.access.quotas import Quotas
from statecast.service.engine.request import Answered, Outcome, Request, Ticket
from statecast.service.engine.scheduler import BatchLimits, Scheduler
from statecast.service.metrics import Metrics
from statecast.service.rpc.accounting import Accounts
from statecast.service.rpc.engine_client import EngineClient
from statecast.service.rpc.request_log import RequestLog
from statecast.service.version import START


async def test_a_result_that_cannot_be_delivered_leaves_the_others_of_its_batch_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()
    client = EngineClient(Scheduler(BatchLimits()), metrics, Accounts(metrics, RequestLog()), Quotas())
    delivered: list[Answered] = []

    def fail(answered: Sequence[Answered]) -> None:
        raise ZeroDivisionError

    tickets = [Ticket("", deliver, lambda: False) for deliver in (delivered.extend, fail, delivered.extend)]
    client.deliver({ticket: [(Request("a"), Outcome(START))] for ticket in tickets})
    await asyncio.sleep(0)
    assert len(delivered) == 2
    assert "results could not be delivered" in caplog.text
