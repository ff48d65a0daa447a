"""Covariates, categories, symbols and gates, from the client to the model and back."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from math import nan
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.models import COVARIATES, HORIZON, LEVELS, SYMBOLS
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import (
    AsyncClient,
    Client,
    Forecast,
    InvalidArgument,
    NotFound,
    Observations,
    PreconditionFailed,
    Receipt,
    SomeFailed,
)
from statecast.client.plotting import plot_gates

STEPS = 40
SALES = 20 + 5 * np.sin(np.arange(STEPS) / 3)
KNOWN = np.stack([np.arange(STEPS) % 3, np.arange(STEPS) % 7 == 0], axis=1)
AHEAD = np.stack([np.full(HORIZON, 9.0), np.ones(HORIZON)], axis=1)


@pytest.fixture
def shop(knowing: Any, session_id: str) -> Any:
    return knowing.session(session_id, "demand", categories={"region": "north"})


def test_models_tell_what_they_take(knowing: Any) -> None:
    demand, letters, base = knowing.model("demand"), knowing.model("letters"), knowing.model("base")
    assert demand.covariates == COVARIATES
    assert demand.categories == {"region": ("north", "south")}
    assert (demand.classes, demand.adaptive) == ((), True)
    assert (letters.classes, letters.quantile_levels, letters.adaptive) == (SYMBOLS, (), False)
    assert (base.covariates, base.categories) == ((), {})


def test_covariates_make_a_difference(knowing: Any, shop: Any, session_id: str) -> None:
    blind = knowing.session(session_id + "-blind", "demand", categories={"region": "north"})
    whole = shop.step(SALES, HORIZON, covariates=KNOWN, future_covariates=AHEAD)
    assert whole.values.shape == (HORIZON, len(LEVELS), 1)
    assert blind.observe(SALES).version != whole.version
    told = shop.forecast(HORIZON, future_covariates=AHEAD)
    np.testing.assert_allclose(told.values, whole.values, rtol=1e-5)
    for other in (shop.forecast(HORIZON), blind.forecast(HORIZON, future_covariates=AHEAD)):
        assert not np.allclose(other.values, whole.values, rtol=1e-4)
    unknown = shop.forecast(HORIZON, future_covariates=np.full((HORIZON, 2), nan))
    np.testing.assert_allclose(unknown.values, shop.forecast(HORIZON).values, rtol=1e-5)


def test_however_they_are_cut_covariates_go_with_their_rows(knowing: Any, shop: Any, session_id: str) -> None:
    frame = pd.DataFrame(KNOWN, columns=["price", "holiday"])
    whole = shop.step(SALES, HORIZON, covariates=frame, future_covariates=AHEAD)
    pieces = knowing.session(session_id + "-pieces", "demand", categories={"region": "north"})
    for at in range(10):
        pieces.observe(SALES[at], covariates=KNOWN[at])
    pieces.observe(SALES[10:30], covariates=KNOWN[10:30])
    last = pieces.step(SALES[30:], HORIZON, covariates=KNOWN[30:].tolist(), future_covariates=AHEAD)
    assert last.version == whole.version
    np.testing.assert_allclose(last.values, whole.values, rtol=1e-4)


def test_long_histories_travel_in_parts_with_their_covariates(knowing: Any, shop: Any, session_id: str) -> None:
    steps = 6000
    values, known = np.sin(np.arange(steps)), np.stack([np.arange(steps) % 5, np.arange(steps) % 2], axis=1)
    receipt = shop.observe(values, covariates=known)
    assert receipt.pit.shape == (steps, 1)
    pieces = knowing.session(session_id + "-pieces", "demand")
    for start in range(0, steps, 1000):
        pieces.observe(values[start : start + 1000], covariates=known[start : start + 1000])
    assert pieces.version == receipt.version


def test_categories_are_kept_and_make_a_difference(knowing: Any, shop: Any, session_id: str) -> None:
    other = knowing.session(session_id + "-other", "demand", categories={"region": "south"})
    unseen = knowing.session(session_id + "-unseen", "demand", categories={"region": "the moon"})
    without = knowing.session(session_id + "-without", "demand")
    forecasts = [each.step(SALES, HORIZON).values for each in (shop, other, unseen, without)]
    assert shop.info().categories == {"region": "north"}
    assert unseen.info().categories == {"region": "the moon"}
    assert without.info().categories == {}
    assert {info.session_id: info for info in knowing.sessions(session_id)}[shop.id] == shop.info()
    assert not np.allclose(forecasts[0], forecasts[1], rtol=1e-4)
    np.testing.assert_allclose(forecasts[2], forecasts[3], rtol=1e-5)
    assert knowing.session(shop.id).step((), 1).version.step == STEPS
    with pytest.raises(PreconditionFailed, match="region"):
        knowing.session(shop.id, categories={"region": "south"}).observe(1.0)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda shop: shop.observe([1, 2], covariates=[0, 1]), "observations.covariates"),
        (lambda shop: shop.observe([1, 2], covariates=[[0], [1]]), "observations.covariates"),
        (lambda shop: shop.observe([1, 2], covariates=[[0, 1]]), "observations.covariates"),
        (lambda shop: shop.step(1, 2, future_covariates=[[0, 1]]), "future_covariates"),
        (lambda shop: shop.step(1, 2, future_covariates=[0, 1]), "future_covariates"),
        (lambda shop: shop.forecast(2, future_covariates=[[0, 1], [0, "?"]]), "future_covariates"),
    ],
)
def test_covariates_that_do_not_fit_are_refused_by_name(shop: Any, call: Callable[[Any], object], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        call(shop)
    assert caught.value.field == field
    shop.observe(1.0)
    assert shop.version.step == 1


def test_a_model_without_them_takes_none(knowing: Any, session_id: str) -> None:
    plain = knowing.session(session_id, "tiny")
    with pytest.raises(InvalidArgument, match="no covariates"):
        plain.observe([1, 2], covariates=[1, 2])
    with pytest.raises(InvalidArgument, match="no covariates"):
        plain.step(1, 2, future_covariates=[1, 2])
    with pytest.raises(InvalidArgument, match=r"open\.categories\['region'\]"):
        knowing.session(session_id, "tiny", categories={"region": "north"}).observe(1)


def test_many_and_streams_take_observations(knowing: Any, session_id: str) -> None:
    alone, many, stream = (
        knowing.session(f"{session_id}-{name}", "demand", categories={"region": "south"})
        for name in ("alone", "many", "stream")
    )
    told = Observations(SALES, covariates=KNOWN, future_covariates=AHEAD)
    expected = alone.step(SALES, HORIZON, covariates=KNOWN, future_covariates=AHEAD, explain=True)
    (one,) = knowing.step_many([(many, told)], HORIZON, explain=True)
    ((_, other),) = knowing.stream([(stream, told)], HORIZON, explain=True)
    for each in (one, other):
        assert isinstance(each, Forecast)
        assert each.version == expected.version
        assert each.pit is not None
        assert each.gates is not None
        np.testing.assert_allclose(each.values, expected.values, rtol=1e-4)
        np.testing.assert_allclose(each.pit, expected.pit, atol=1e-3)
        np.testing.assert_allclose(each.gates.values, expected.gates.values, atol=1e-4)
    next_ones = [(session, Observations(1.0, covariates=[3.0, 0.0])) for session in (many, stream, alone)]
    receipts = knowing.observe_many(next_ones, explain=True)
    assert len({receipt.version for receipt in receipts}) == 1
    assert all(receipt.gates.hidden.shape == (1, 8) for receipt in receipts)
    ((_, receipt),) = knowing.stream([(many, 2.0)])
    assert isinstance(receipt, Receipt)
    assert receipt.pit is not None
    assert receipt.gates is None


def test_one_of_many_that_does_not_fit_is_refused_alone(knowing: Any, session_id: str) -> None:
    good, bad = (knowing.session(f"{session_id}-{name}", "demand") for name in ("good", "bad"))
    pairs = [(good, Observations(1.0, covariates=[1, 0])), (bad, Observations(1.0, covariates=[1, 0, 0]))]
    with pytest.raises(SomeFailed) as caught:
        knowing.observe_many(pairs)
    assert [type(result) for result in caught.value.results] == [Receipt, InvalidArgument]
    results = [result for _, result in knowing.stream([(good, 1.0), (good, Observations(1.0, covariates=[[1], [2]]))])]
    assert [type(result) for result in results] == [Receipt, InvalidArgument]


def test_a_stream_may_begin_at_a_time(knowing: Any, session_id: str) -> None:
    session = knowing.session(session_id, "hourly")
    noon = np.datetime64("2026-03-01T12:00")
    results = list(knowing.stream([(session, Observations(1.0, start_time=noon)), (session, 2.0)]))
    assert [result.version.step for _, result in results] == [1, 2]
    assert session.info().last_time.hour == 13


async def test_asynchronous_streams_take_observations(knowing_server: ServerThread, session_id: str) -> None:
    async def source() -> AsyncIterator[tuple[Any, Any]]:
        for at in range(5):
            yield session, Observations(SALES[at], covariates=KNOWN[at])

    async with AsyncClient(knowing_server.target) as client:
        session = client.session(session_id, "demand")
        steps = [result.version.step async for _, result in client.stream(source())]  # type: ignore[union-attr]
    assert steps == [1, 2, 3, 4, 5]


def test_the_pit_tells_how_surprising_values_are(shop: Any) -> None:
    receipt = shop.observe(SALES, covariates=KNOWN)
    assert receipt.pit.shape == (STEPS, 1)
    assert receipt.pit.dtype == np.float32
    later = receipt.pit[5:]
    assert ((later >= 0) & (later <= 1)).all()
    forecast = shop.step([1e6, nan, -1e6], 2, covariates=np.zeros((3, 2)))
    assert forecast.pit[0, 0] > 0.9
    assert np.isnan(forecast.pit[1, 0])
    assert forecast.pit[2, 0] < 0.1
    assert shop.forecast(2).pit is None


def test_a_repetition_tells_neither_pit_nor_gates(shop: Any) -> None:
    first = shop.observe([1.0, 2.0], request_id="mine", explain=True)
    again = shop.observe([1.0, 2.0], request_id="mine", explain=True)
    assert (first.replayed, again.replayed) == (False, True)
    assert first.pit is not None
    assert first.gates is not None
    assert again.pit is None
    assert again.gates is None


def test_gates_are_told_when_asked_for(shop: Any) -> None:
    gates = [shop.step(value, 1, explain=True).gates for value in SALES]
    assert gates[0].names == ("input", "forget", "candidate", "output")
    assert gates[0].values.shape == (1, 4, 8)
    assert gates[0].cell.shape == gates[0].hidden.shape == (1, 8)
    np.testing.assert_allclose(gates[3].hidden, gates[3].values[:, 3] * np.tanh(gates[3].cell), rtol=1e-4)
    assert len(plot_gates(gates).axes) == 10
    assert shop.observe(1.0).gates is None
    assert shop.step((), 1, explain=True).gates is None


def test_symbols_are_forecast_with_their_probabilities(knowing: Any, session_id: str) -> None:
    session = knowing.session(session_id, "letters")
    forecast = session.step([0, 1, 2, 0, None], 2)
    assert forecast.classes == SYMBOLS
    assert forecast.values.shape == (2, len(SYMBOLS), 1)
    np.testing.assert_allclose(sum(forecast.probability(symbol) for symbol in SYMBOLS), 1.0, rtol=1e-5)
    assert set(forecast.most_likely) <= set(SYMBOLS)
    np.testing.assert_allclose(forecast.to_pandas()["b"], forecast.probability("b"))
    for wrong in (len(SYMBOLS), 0.5, -1):
        with pytest.raises(InvalidArgument) as caught:
            session.observe([0, wrong])
        assert caught.value.field == "observations.values[1]"
    with pytest.raises(InvalidArgument, match="quantile_levels"):
        session.forecast(1, quantile_levels=[0.5])


def test_a_fork_keeps_its_categories(knowing: Any, shop: Any, session_id: str) -> None:
    shop.observe(SALES, covariates=KNOWN)
    fork = shop.fork(session_id + "-fork")
    assert fork.info().categories == {"region": "north"}
    ours, theirs = (
        each.step(1.0, HORIZON, covariates=[1, 1], future_covariates=AHEAD) for each in (shop, fork)
    )  # fmt: skip
    assert ours.version == theirs.version
    np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-5)


def put_back(redis: RedisProcess, session_id: str) -> Callable[[], object]:
    """Takes a copy of a session's record; the result puts it back."""
    key = f"knowing:default:{session_id}"
    value = redis.client.get(key)
    if value is None:
        return lambda: redis.client.delete(key)
    assert isinstance(value, bytes)
    return lambda: redis.client.set(key, value, keepttl=True)


def test_what_was_lost_is_sent_again_with_its_covariates(
    knowing: Any, any_redis: RedisProcess, session_id: str
) -> None:
    def tell(session: Any) -> Forecast:
        result: Forecast = session.step(SALES[20:], HORIZON, covariates=KNOWN[20:], future_covariates=AHEAD)
        return result

    names = ("whole", "older", "gone", "fork")
    whole, older, gone, source = (
        knowing.session(f"{session_id}-{name}", "demand", categories={"region": "south"}, time_to_live=600)
        for name in names
    )
    undo = [put_back(any_redis, gone.id)]
    for session in (whole, older, gone, source):
        session.observe(SALES[:5], covariates=KNOWN[:5])
    undo.append(put_back(any_redis, older.id))
    fork = source.fork(session_id + "-forked")
    undo.append(put_back(any_redis, fork.id))
    for session in (whole, older, gone, fork):
        session.observe(SALES[5:20], covariates=KNOWN[5:20])
    for each in undo:
        each()
    expected = tell(whole)
    for session in (older, gone, fork):
        found = tell(session)
        assert found.version == expected.version
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-4)
        info = session.info()
        assert info.categories == {"region": "south"}
        assert info.time_to_live == timedelta(seconds=600)


def test_a_lost_session_is_not_made_anew_with_less_than_it_was_opened_with(
    knowing: Any, knowing_server: ServerThread, any_redis: RedisProcess, session_id: str
) -> None:
    vanish = put_back(any_redis, session_id)
    with Client(knowing_server.target) as other:
        other.session(session_id, "demand", categories={"region": "north"}).forecast(1)
    session = knowing.session(session_id, "demand", time_to_live=600)
    session.forecast(1)
    session.observe(1.0)
    vanish()
    with pytest.raises(NotFound):
        session.observe(2.0)


def test_what_a_client_knows_another_one_goes_on_from(knowing_server: ServerThread, session_id: str) -> None:
    with Client(knowing_server.target) as one, Client(knowing_server.target) as other:
        one.session(session_id, "demand", categories={"region": "north"}).observe(SALES, covariates=KNOWN)
        resumed = other.session(session_id, resume_only=True)
        assert resumed.step(1.0, 2, covariates=[1, 0]).version.step == STEPS + 1
        assert resumed.info().categories == {"region": "north"}
