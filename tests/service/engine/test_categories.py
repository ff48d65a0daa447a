"""Static categories: set when a session is opened, kept as long as it exists."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from support.engines import MakeEngine, assert_close, observe, one, refused, standing
from support.models import HORIZON
from support.rich_model import BEGIN, CATEGORY_VALUES, OPENING, history

from statecast.service.engine.engine import Engine
from statecast.service.engine.request import Fork, Opening, Outcome, Request
from statecast.service.errors import InvalidRequest, NotFound, PreconditionFailed
from statecast.v1.reasons import Reason


def forecast(outcome: Outcome) -> NDArray[np.float32]:
    assert outcome.forecast is not None
    return outcome.forecast.values


@pytest.mark.parametrize("snapshot_every", [1, 5, 100])
def test_a_session_keeps_its_categories(make_engine: MakeEngine, snapshot_every: int) -> None:
    def engine_that_knows_nothing() -> Engine:
        return make_engine(snapshot_every=snapshot_every)

    for number, categories in enumerate(({"region": "south", "kind": "huge"}, {"kind": "small"}, {"region": "moon"})):
        sales, name = history(12, categories=categories), str(number)
        for request in sales.requests(name, [2, 5, 9]):
            opening = request.opening if request.start_time else None
            one(engine_that_knows_nothing(), replace(request, opening=opening))
        outcome = one(engine_that_knows_nothing(), Request(name, horizon=HORIZON))
        assert standing(one(engine_that_knows_nothing(), Request(name))).categories == categories
        assert outcome.version == sales.version
        assert_close(forecast(outcome), sales.forecast())


def test_categories_tell_sessions_of_a_batch_apart(make_engine: MakeEngine) -> None:
    every = [{"region": region, "kind": kind} for region in ("north", "south", "?") for kind in ("small", "large")]
    sales = [history(10, categories=categories) for categories in every]
    batch = {str(at): [each.request(str(at), 0, 10, horizon=HORIZON)] for at, each in enumerate(sales)}
    results = make_engine().run(batch)
    for at, each in enumerate(sales):
        (outcome,) = results[str(at)]
        assert isinstance(outcome, Outcome)
        assert_close(forecast(outcome), each.forecast())
    assert len({forecast(each[0]).tobytes() for each in results.values() if isinstance(each[0], Outcome)}) == len(every)


def test_a_value_that_is_not_known_counts_as_none(make_engine: MakeEngine) -> None:
    engine, sales = make_engine(), history(10)
    unknown = {"region": "moon", "kind": ""}
    results = [
        forecast(one(engine, sales.request(name, 0, 10, horizon=HORIZON, opening=Opening("shop", categories=values))))
        for name, values in (("a", {}), ("b", unknown))
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert_close(results[0], replace(sales, categories=unknown).forecast())


def test_a_category_that_the_model_does_not_have_is_named(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, Request("there", OPENING))
    for name in ("new", "there"):
        opening = Opening("shop", categories={"region": "north", "colour": "red"}, where="options")
        (result,) = engine.run({name: [Request(name, opening)]})[name]
        error = refused(result, InvalidRequest)
        assert isinstance(error, InvalidRequest)
        assert error.field == "options.categories['colour']"
        assert error.message.endswith("no such category; it has: region, kind")
    (result,) = engine.run({"new": [observe("new", 1.0, opening=Opening(categories={"region": "north"}))]})["new"]
    assert refused(result, InvalidRequest).message.endswith("no such category; it has none")
    (result,) = engine.run({"new": [Request("new")]})["new"]
    refused(result, NotFound)


def test_a_session_is_not_opened_again_with_other_categories(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, Request("a", OPENING))
    one(engine, Request("none", Opening("shop")))
    for replica in (engine, make_engine()):
        for name, categories, own in (
            ("a", {"region": "north"}, "'south'"),
            ("a", {**CATEGORY_VALUES, "kind": "huge"}, "'large'"),
            ("none", {"region": "south"}, "none"),
        ):
            opening = Opening("shop", categories=categories)
            request = Request(name, opening, np.ones(2), start_time=BEGIN)
            (result,) = replica.run({name: [request]})[name]
            error = refused(result, PreconditionFailed)
            assert error.reason is Reason.OTHER_CATEGORIES
            assert own in error.message
        for categories in ({}, {"kind": "large"}, dict(reversed(CATEGORY_VALUES.items()))):
            again = one(replica, Request("a", Opening("shop", categories=categories)))
            assert not again.opened
            assert standing(again).categories == CATEGORY_VALUES


def test_a_fork_inherits_categories(make_engine: MakeEngine) -> None:
    engine, sales = make_engine(), history(8)
    one(engine, sales.request("a", 0, 5))
    seed = one(make_engine(), Request("a", copy=True)).seed
    one(engine, Request("b", fork=Fork("a", seed)))
    outcome = one(make_engine(), replace(sales.request("b", 5, 8, horizon=HORIZON), opening=None))
    assert standing(one(engine, Request("b"))).categories == CATEGORY_VALUES
    assert outcome.version == sales.version
    assert_close(forecast(outcome), sales.forecast())


def test_a_closed_session_may_be_opened_with_others(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, Request("a", OPENING))
    one(engine, Request("a", close=True))
    again = one(engine, Request("a", Opening("shop", categories={"region": "north"})))
    assert again.opened
    assert standing(again).categories == {"region": "north"}
