"""Cached states stay with their own sessions."""

import pytest
from support.engines import MakeEngine, assert_close, expected, observe, one

from statecast.model import State
from statecast.service.engine.session_cache import StatePool


def test_sessions_keep_apart_after_a_state_could_not_be_kept(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(pool: StatePool, rows: list[int], state: State) -> None:
        raise RuntimeError("out of memory")

    engine = make_engine(snapshot_every=100)
    with monkeypatch.context() as patch:
        patch.setattr(StatePool, "write", fail)
        one(engine, observe("a", 1.0))
    taken: dict[str, list[float]] = {"b": [], "c": []}
    for value in (1.0, 5.0, 2.0):
        for name, sign in (("b", 1.0), ("c", -1.0)):
            taken[name].append(sign * value)
            forecast = one(engine, observe(name, sign * value)).forecast
            assert forecast is not None
            assert_close(forecast.values, expected(taken[name]))
