"""Random histories over several replicas: every session matches its own history."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.engines import MakeEngine
from support.models import HORIZON, tiny_model
from support.redis_process import RedisProcess

from statecast.service.engine.request import Opening, Outcome, Request
from statecast.service.errors import InvalidRequest, NotFound, ServiceError, VersionMismatch
from statecast.service.version import START, Version, chain
from statecast.v1.reasons import Reason

VALUES = st.lists(st.one_of(st.floats(-1e3, 1e3), st.just(float("nan"))), max_size=6).map(tuple)
BATCH = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["observe", "forecast", "again", "changed", "stale", "close", "resume"]),
        VALUES,
    ),
    min_size=1,
    max_size=4,
)


@dataclass
class Known:
    """The observations that one session must have taken."""

    values: list[float] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    @property
    def version(self) -> Version:
        return chain(START, np.array(self.values, np.float64).reshape(-1, 1), None)

    def forecast(self) -> Any:
        model = tiny_model()
        rows = torch.tensor(np.array(self.values, np.float64).reshape(1, -1, 1))
        state = model.advance(model.initial_state(1), rows).state
        return model.forecast(model.context(state), HORIZON)[0].numpy()


class World:
    """Three replicas on one Redis, one of them without a cache, with their invariants."""

    def __init__(self, make_engine: MakeEngine) -> None:
        self.engines = [make_engine(snapshot_every=3, capacity=capacity) for capacity in (1, 100, 100)]
        self.prefix = uuid.uuid4().hex
        self.sessions: dict[str, Known] = {}

    def run(self, replica: int, batch: Sequence[tuple[str, str, tuple[float, ...]]]) -> None:
        requests: dict[str, list[Request]] = {}
        checks: dict[str, list[Callable[[Any], None]]] = {}
        closing = {name for name, deed, _ in batch if deed == "close"}
        for name, deed, values in batch:
            if name in closing and f"{self.prefix}-{name}" in requests:
                continue  # the scheduler sends a close alone
            request, check = self._expect(name, "close" if name in closing else deed, values)
            requests.setdefault(request.session_id, []).append(request)
            checks.setdefault(request.session_id, []).append(check)
        results = self.engines[replica].run(requests)
        for session_id, each in checks.items():
            for check, result in zip(each, results[session_id], strict=True):
                check(result)

    def _expect(self, name: str, deed: str, values: tuple[float, ...]) -> tuple[Request, Callable[[Any], None]]:
        session_id = f"{self.prefix}-{name}"
        known = self.sessions.get(name)
        if deed == "close":
            self.sessions.pop(name, None)
            return Request(session_id, close=True), _accepted(known) if known else _refused(NotFound)
        if deed == "resume":
            request = Request(session_id, values=np.array(values), horizon=2)
            if known is None:
                return request, _refused(NotFound)
            known.values.extend(values)
            return request, _accepted(known)
        if deed in ("again", "changed") and known and known.requests:
            first = known.requests[-1]
            if deed == "again":
                return first, _accepted(known, replayed=True)
            other = Request(session_id, values=np.append(first.values, 7.0), request_id=first.request_id)
            return other, _refused(InvalidRequest, Reason.REQUEST_ID_REUSED)
        fresh = known is None
        if known is None:
            known = Known()
        opening = Opening()
        if deed == "stale" and not fresh:
            wrong = Version(known.version.step + 1, known.version.tag)
            return Request(session_id, opening, np.array(values), if_version=wrong), _refused(VersionMismatch)
        self.sessions[name] = known
        if deed == "forecast":
            return Request(session_id, opening, horizon=HORIZON), _accepted(known, opened=fresh)
        request = Request(
            session_id, opening, np.array(values), horizon=HORIZON, request_id=uuid.uuid4().bytes,
            if_version=known.version if values and values[0] > 0 else None,
        )  # fmt: skip
        if values:
            known.requests.append(request)
            known.values.extend(values)
        return request, _accepted(known, opened=fresh)


def _accepted(known: Known, *, opened: bool = False, replayed: bool = False) -> Callable[[Any], None]:
    version, forecast = known.version, known.forecast()

    def check(result: Any) -> None:
        assert isinstance(result, Outcome), result
        assert (result.version, result.opened, result.replayed) == (version, opened, replayed)
        if result.forecast is not None:
            steps = len(result.forecast.values)
            np.testing.assert_allclose(result.forecast.values, forecast[:steps], rtol=1e-3, atol=1e-3)

    return check


def _refused(kind: type[ServiceError], reason: Reason | None = None) -> Callable[[Any], None]:
    def check(result: Any) -> None:
        assert isinstance(result, kind), result
        assert reason is None or result.reason == reason

    return check


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), BATCH), max_size=14))
def test_every_session_stands_where_its_history_says(
    make_engine: MakeEngine, steps: list[tuple[int, list[tuple[str, str, tuple[float, ...]]]]]
) -> None:
    world = World(make_engine)
    for replica, batch in steps:
        world.run(replica, batch)


@pytest.mark.parametrize("at_once", [1, 5, 64])
def test_long_batches_are_computed_in_stretches(
    make_engine: MakeEngine, any_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("statecast.service.engine.advance.STEPS_AT_ONCE", at_once)
    world = World(make_engine)
    for replica in (0, 1, 2):
        world.run(replica, [("a", "observe", tuple(np.arange(20.0))), ("b", "observe", (1.0,)), ("a", "forecast", ())])
        world.run(replica, [("a", "observe", ()), ("a", "observe", (3.0, 4.0)), ("b", "observe", tuple(range(30)))])
