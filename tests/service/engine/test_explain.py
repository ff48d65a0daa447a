"""The gates of the last step that a request appended."""

from dataclasses import replace

import numpy as np
import pytest
from support.engines import MakeEngine, assert_close, one
from support.hash_model import HashModel
from support.models import symbol_model
from support.rich_model import BEGIN, HOUR, history

from statecast.model import Gates
from statecast.service.engine.advance import EXPLAINED_STEPS_AT_ONCE
from statecast.service.engine.request import Opening, Outcome, Request
from statecast.service.models.registry import Model, Registry


def assert_same(gates: Gates | None, wanted: Gates) -> None:
    assert gates is not None
    assert gates.names == wanted.names
    for found, right in ((gates.values, wanted.values), (gates.hidden, wanted.hidden), (gates.cell, wanted.cell)):
        assert found is not None
        assert right is not None
        assert_close(found.numpy(), right.numpy())


@pytest.mark.parametrize("snapshot_every", [1, 1000])
@pytest.mark.parametrize("at_once", [1, 5, 16_384])
def test_they_are_those_of_the_model_itself(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, snapshot_every: int, at_once: int
) -> None:
    monkeypatch.setattr("statecast.service.engine.advance.STEPS_AT_ONCE", at_once)
    steps = 2 * EXPLAINED_STEPS_AT_ONCE + 9
    sales = history(steps)
    cuts = [1, EXPLAINED_STEPS_AT_ONCE, EXPLAINED_STEPS_AT_ONCE + 1, steps - 3]
    requests = list(sales.requests("a", cuts, explain=True))
    outcomes = [one(make_engine(snapshot_every=snapshot_every), request) for request in requests[:2]]
    for result in make_engine(snapshot_every=snapshot_every).run({"a": requests[2:]})["a"]:
        assert isinstance(result, Outcome)
        outcomes.append(result)
    for outcome, step in zip(outcomes, [*cuts, steps], strict=True):
        assert_same(outcome.gates, sales.gates(step))
        assert outcome.forecast is None


def test_only_who_asks_and_appends_is_told(make_engine: MakeEngine) -> None:
    engine, sales = make_engine(), history(10)
    first = sales.request("a", 0, 4, explain=True, request_id=b"r", horizon=1)
    results = engine.run(
        {
            "a": [first, sales.request("a", 4, 6), first, Request("a", explain=True, horizon=2)],
            "b": [history(3, 1).request("b", 0, 3, explain=True)],
        }
    )
    told = [result.gates if isinstance(result, Outcome) else None for result in results["a"]]
    assert told[1:] == [None, None, None]
    assert_same(told[0], sales.gates(4))
    (other,) = results["b"]
    assert isinstance(other, Outcome)
    assert_same(other.gates, history(3, 1).gates(3))
    assert one(engine, Request("a", explain=True)).gates is None
    again = one(make_engine(), first)
    assert again.replayed
    assert again.gates is None


def test_it_is_the_value_that_is_explained_not_the_gap_before_it(make_engine: MakeEngine) -> None:
    engine, sales = make_engine(), history(9)
    sales.rows[4:8] = np.nan
    one(engine, sales.request("a", 0, 4))
    outcome = one(engine, sales.request("a", 8, 9, start_time=BEGIN + 8 * HOUR, explain=True))
    assert_same(outcome.gates, sales.gates(9))


def test_explaining_changes_nothing(make_engine: MakeEngine) -> None:
    sales = history(100)
    request = sales.request("a", 0, 100, horizon=3)
    plain, explained = one(make_engine(), request), one(make_engine(), replace(request, session_id="b", explain=True))
    assert plain.version == explained.version
    assert plain.forecast is not None
    assert explained.forecast is not None
    assert_close(explained.forecast.values, plain.forecast.values)


def test_a_model_that_cannot_explain_itself_answers_without(make_engine: MakeEngine) -> None:
    engine = make_engine(registry=Registry([Model(HashModel())], "chain"))
    outcome = one(engine, Request("a", Opening(), np.arange(3.0), explain=True, horizon=1))
    assert outcome.gates is None
    assert outcome.forecast is not None


def test_models_of_symbols_explain_themselves(make_engine: MakeEngine) -> None:
    outcome = one(make_engine(), Request("a", Opening("letters"), np.array([0.0, 2.0]), explain=True))
    model = symbol_model()
    rows = model.config.numbers("ac").reshape(1, 2, 1)
    assert_same(outcome.gates, model.advance(model.initial_state(1), rows).gates(0, 2))
