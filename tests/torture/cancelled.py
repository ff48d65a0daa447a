"""Calls cancelled at random moments: the server carries out each call once or not at all."""

import asyncio
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from support.hash_model import HORIZON
from support.history import Kind, Outcome, Unknown

from statecast.client import AsyncClient, Client, Observations, StatecastError
from statecast.client._messages import observations, to_forecast
from statecast.client._response import to_response
from statecast.client.errors import from_rpc_error
from statecast.v1 import forecast_pb2, forecast_service_pb2
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub
from torture.callers import Load, settle, settle_async, sweep
from torture.cluster import Setting, address, staged
from torture.load import Report, conclude
from torture.requests import Ask, Desk, acked, refused, sessions_of

BLIND = 6
"""Number of possibly unanswered calls after which a session is read, before their values leave its window."""
MOST_VALUES = 3
LONGEST_SECONDS = 0.012
REPEATED = 0.3
"""Share of cancelled calls that are sent again with their id until they are answered."""
TASKS = 4


class _Corner:
    """Sessions with only one caller, and its next requests to them."""

    def __init__(self, name: str, desk: Desk, sessions: Sequence[str], seed: int) -> None:
        self.name, self.desk, self.sessions = name, desk, sessions
        self.random = random.Random(seed)
        self.cancelled = 0
        self._blind = dict.fromkeys(sessions, 0)

    def next(self) -> Ask:
        session = self.random.choice(self.sessions)
        self._blind[session] += 1
        if self._blind[session] > BLIND:
            self._blind[session] = 0
            return Ask(self.name, session, Kind.FORECAST)
        return Ask(self.name, session, Kind.STEP, self.desk.values.take(self.random.randint(1, MOST_VALUES)))

    def moment(self) -> float:
        """Return the seconds until the next call is cancelled."""
        return self.random.uniform(0.0, LONGEST_SECONDS)

    def repeats(self) -> bool:
        """Decide if the call that was just cancelled is sent again."""
        self.cancelled += 1
        return self.random.random() < REPEATED


def calls_cancelled(count: int, load: Load) -> Report:
    """Cancel futures of the raw stubs from threads, and tasks of the asynchronous client."""
    desk = Desk(sessions_of(load.chains, 0), load.seed)
    callers = load.callers
    with staged(Setting()) as stage:
        target = address(stage.targets)
        corners = [
            _Corner(f"caller-{number}", desk, desk.sessions[number::callers], number) for number in range(callers)
        ]
        share = -(-count // callers)
        with ThreadPoolExecutor(callers) as pool:
            work = [
                pool.submit(_with_futures if number < callers // 2 else _with_tasks, target, corner, share)
                for number, corner in enumerate(corners)
            ]
            for each in work:
                each.result()
        time.sleep(1.0)  # the last cancelled calls may still be carried out
        sweep(target, desk)
    report = conclude(desk.history)
    report.injected = sum(corner.cancelled for corner in corners)
    return report


def _with_futures(target: str, corner: _Corner, count: int) -> None:
    with grpc.insecure_channel(target) as channel, Client(target) as client:
        stub = ForecastServiceStub(channel)
        while corner.cancelled < count:
            ask = corner.next()
            session = client.session(ask.session, "chain")
            if ask.kind is Kind.FORECAST:
                corner.desk.settled(ask, settle(ask, session))
                continue
            outcome = _cancel_future(stub, ask, corner.moment())
            if isinstance(outcome, Unknown) and corner.repeats():
                outcome = settle(ask, session)
            corner.desk.settled(ask, outcome)


def _cancel_future(stub: Any, ask: Ask, seconds: float) -> Outcome:
    request = forecast_service_pb2.ForecastRequest(
        session_id=ask.session,
        open=forecast_pb2.OpenOptions(model="chain"),
        observations=forecast_pb2.Observations.FromString(observations(Observations(ask.values))[0].encoded),
        horizon=HORIZON,
        request_id=ask.request_id,
    )
    future = stub.Forecast.future(request)
    time.sleep(seconds)
    future.cancel()
    try:
        return acked(ask.session, to_forecast(to_response(future.result())))
    except grpc.FutureCancelledError as error:
        return Unknown(str(error))
    except grpc.RpcError as error:
        return refused(from_rpc_error(error))


def _with_tasks(target: str, corner: _Corner, count: int) -> None:
    asyncio.run(_run_tasks(target, corner, count))


async def _run_tasks(target: str, corner: _Corner, count: int) -> None:
    async with AsyncClient(target) as client:
        # Each task has its own sessions, so that no session is read while another task's request to it is open.
        tasks = min(TASKS, len(corner.sessions))
        own = [_Corner(corner.name, corner.desk, corner.sessions[at::tasks], at) for at in range(tasks)]
        async with asyncio.TaskGroup() as group:
            for each in own:
                group.create_task(_cancel_tasks(client, each, -(-count // tasks)))
        corner.cancelled = sum(each.cancelled for each in own)


async def _cancel_tasks(client: AsyncClient, corner: _Corner, count: int) -> None:
    while corner.cancelled < count:
        ask = corner.next()
        session = client.session(ask.session, "chain")
        if ask.kind is Kind.FORECAST:
            corner.desk.settled(ask, await settle_async(ask, session))
            continue
        task = asyncio.ensure_future(session.step(ask.values, HORIZON, request_id=ask.request_id))
        await asyncio.wait([task], timeout=corner.moment())
        task.cancel()
        outcome: Outcome
        try:
            outcome = acked(ask.session, await task)
        except asyncio.CancelledError as error:
            outcome = await settle_async(ask, session) if corner.repeats() else Unknown(str(error))
        except StatecastError as error:
            outcome = refused(error)
        corner.desk.settled(ask, outcome)
