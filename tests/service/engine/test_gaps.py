"""Gaps in time add steps that are unknown at admission; they are limited per session and per batch."""

import numpy as np
from support.engines import MakeEngine

from statecast.service.engine.plan import MAX_STEPS_A_SESSION
from statecast.service.engine.request import Opening, Outcome, Request
from statecast.service.errors import Overloaded

HOUR = 3_600_000_000_000


def sparse(session_id: str, at: int, **others: object) -> Request:
    """Append one value, 900 hours after the last one."""
    return Request(
        session_id, Opening("hourly"), np.array([1.0]), start_time=at * 900 * HOUR, **others  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_session_of_many_gaps_takes_no_more_than_its_share_of_a_batch(make_engine: MakeEngine) -> None:
    engine = make_engine()
    requests = [sparse("a", at) for at in range(100)]
    results = engine.run({"a": requests})["a"]
    taken = [isinstance(result, Outcome) for result in results]
    assert taken == sorted(taken, reverse=True)  # none overtakes a refused one
    last = max(at for at, was_taken in enumerate(taken) if was_taken)
    assert 0.9 * MAX_STEPS_A_SESSION < last * 900 < MAX_STEPS_A_SESSION
    assert all(isinstance(result, Overloaded) for result in results[last + 1 :])
    again = engine.run({"a": requests[last + 1 :]})["a"]
    assert isinstance(again[0], Outcome)


def test_many_sessions_of_gaps_take_turns(make_engine: MakeEngine) -> None:
    engine = make_engine()
    batch = {f"s-{number}": [sparse(f"s-{number}", at) for at in range(50)] for number in range(6)}
    results = engine.run(batch)
    turned_away = [name for name, each in results.items() if all(isinstance(result, Overloaded) for result in each)]
    assert turned_away == ["s-3", "s-4", "s-5"]
