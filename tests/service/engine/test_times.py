"""Requests with a time for each row, and sessions that count days in a zone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.engines import MakeEngine, observe, one, refused, standing, step_of, version_of
from support.models import HORIZON, shop_model

from statecast.model import Zone
from statecast.service.engine.request import Opening, Outcome, Request
from statecast.service.errors import InvalidRequest, PreconditionFailed
from statecast.service.models.registry import Model, Registry
from statecast.v1.reasons import Reason

HOUR = 3_600_000_000_000
BEGIN = 472_222 * HOUR
BERLIN = Zone.parse("Europe/Berlin")


def hourly(session_id: str, hours: list[int], values: list[float], **others: Any) -> Request:
    times = np.array([BEGIN + HOUR * hour for hour in hours], np.int64)
    others.setdefault("opening", Opening("hourly"))
    return Request(session_id, values=np.array(values), times=times, **others)


@pytest.fixture
def shop() -> Registry:
    return Registry([Model(shop_model("daily", "D"))], "daily")


def test_rows_with_times_are_the_same_history_as_one_request_each(make_engine: MakeEngine) -> None:
    engine = make_engine()
    hours, values = [0, 1, 4, 5, 9], [1.0, 2.0, 5.0, 6.0, 10.0]
    together = one(engine, hourly("a", hours, values, horizon=HORIZON))
    apart = None
    for hour, value in zip(hours, values, strict=True):
        request = Request("b", Opening("hourly"), np.array([value]), start_time=BEGIN + HOUR * hour, horizon=HORIZON)
        apart = one(engine, request)
    assert apart is not None
    assert apart.forecast is not None
    assert together.forecast is not None
    assert together.version == apart.version
    assert (together.missing, apart.missing) == (5, 3)
    np.testing.assert_allclose(together.forecast.values, apart.forecast.values, rtol=1e-4, atol=1e-5)
    # Another replica, which must read the record, gets the same result.
    again = one(make_engine(), Request("a", horizon=HORIZON))
    assert again.version == together.version


def test_each_row_is_told_its_own_pit(make_engine: MakeEngine, shop: Registry) -> None:
    engine = make_engine(registry=shop)
    days = [0, 1, 2, 3, 4, 7, 8, 11]
    values = np.random.default_rng(1).normal(10, 2, (len(days), 2))
    begin, day = 19_782 * 24 * HOUR, 24 * HOUR
    times = np.array([begin + day * step for step in days], np.int64)
    ask = Request("a", Opening(), values.ravel(), times=times)
    together = one(engine, ask)
    assert together.pit is not None
    pits = np.frombuffer(together.pit, "<f4").reshape(values.shape)
    for row, time, pit in zip(values, times.tolist(), pits, strict=True):
        single = one(engine, Request("b", Opening(), row, start_time=time))
        assert single.pit is not None
        np.testing.assert_allclose(np.frombuffer(single.pit, "<f4"), pit, rtol=1e-4, atol=1e-4)
    assert np.isfinite(pits[5:]).all()


def test_covariates_stay_with_their_rows(make_engine: MakeEngine, shop: Registry) -> None:
    engine, begin, day = make_engine(registry=shop), 19_782 * 24 * HOUR, 24 * HOUR
    values, known = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 0.0], [6.0, 1.0]])
    times = np.array([begin, begin + 3 * day], np.int64)
    together = one(engine, Request("a", Opening(), values.ravel(), known.ravel(), times=times, horizon=2))
    for row, covariates, time in zip(values, known, times.tolist(), strict=True):
        apart = one(engine, Request("b", Opening(), row, covariates, start_time=time, horizon=2))
    assert apart.version == together.version


def test_a_model_without_a_frequency_checks_the_order_alone(make_engine: MakeEngine) -> None:
    engine = make_engine()
    times = np.array([5, 6, 700], np.int64)
    outcome = one(engine, observe("a", 1.0, 2.0, 3.0, times=times))
    assert outcome.version == version_of([1.0, 2.0, 3.0])
    assert outcome.missing == 0
    for wrong, field in (([5, 6, 6], "times[2]"), ([5, 4, 6], "times[1]"), ([5, 6], "times")):
        (result,) = engine.run({"a": [observe("a", 1.0, 2.0, 3.0, times=np.array(wrong, np.int64))]})["a"]
        error = refused(result, InvalidRequest)
        assert isinstance(error, InvalidRequest)
        assert error.field == f"observations.{field}"


@pytest.mark.parametrize("model", ["hourly", "tiny"])
def test_times_and_a_start_time_exclude_each_other(make_engine: MakeEngine, model: str) -> None:
    request = hourly("a", [0], [1.0], start_time=BEGIN, opening=Opening(model))
    (result,) = make_engine().run({"a": [request]})["a"]
    assert "leave out one of the two" in refused(result, InvalidRequest).message


def test_a_repeated_id_with_other_times_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine()
    first = hourly("a", [0, 1], [1.0, 2.0], request_id=b"x")
    one(engine, first)
    assert one(engine, first).replayed
    for hours in ([0, 2], [1, 2]):
        (result,) = engine.run({"a": [hourly("a", hours, [1.0, 2.0], request_id=b"x")]})["a"]
        assert refused(result, InvalidRequest).reason is Reason.REQUEST_ID_REUSED


def test_a_wrong_clock_does_not_shut_a_session(make_engine: MakeEngine) -> None:
    now = BEGIN + 5 * HOUR
    engine = make_engine(now=lambda: now)
    one(engine, hourly("a", [0], [1.0]))
    (result,) = engine.run({"a": [hourly("a", [8760], [2.0], request_id=b"x")]})["a"]
    assert refused(result, PreconditionFailed).reason is Reason.TIME_AHEAD
    assert step_of(one(engine, hourly("a", [1], [3.0]))) == 2
    # A repeated request is recognised, whatever the clock says now.
    one(engine, hourly("a", [5], [3.0], request_id=b"y"))
    now = BEGIN - 1000 * HOUR
    assert one(engine, hourly("a", [5], [3.0], request_id=b"y")).replayed
    (result,) = engine.run({"a": [hourly("a", [6], [3.0])]})["a"]
    assert refused(result, PreconditionFailed).reason is Reason.TIME_AHEAD


def test_a_session_keeps_its_own_bound_and_zone(make_engine: MakeEngine, shop: Registry) -> None:
    engine = make_engine(registry=shop, now=lambda: BEGIN)
    day = Opening(zone=BERLIN, max_ahead_ms=0)
    first = BERLIN.instant(30_000 * 24 * HOUR)
    one(engine, Request("a", day, np.ones(2), start_time=first))
    for replica in (engine, make_engine(registry=shop, now=lambda: BEGIN)):
        other = Opening(zone=Zone.parse("Asia/Kolkata"), max_ahead_ms=1000)
        at = standing(one(replica, Request("a", other)))
        assert (at.zone, at.max_ahead_ms, at.last_instant) == (BERLIN, 0, first)
    fork = standing(one(engine, Request("a", copy=True)))
    assert (fork.zone, fork.max_ahead_ms) == (BERLIN, 0)


def test_days_in_a_zone_are_those_without_one(make_engine: MakeEngine, shop: Registry) -> None:
    """Append two years in parts, over four clock changes, on replicas that must read each other's records."""
    engines = [make_engine(registry=shop, snapshot_every=every) for every in (1, 7, 1000)]
    days = pd.date_range("2023-01-01", periods=730).as_unit("ns").asi8
    local = BERLIN.instants(days)
    values = np.random.default_rng(2).normal(10, 2, (730, 2))
    for at, cut in enumerate(range(0, 730, 73)):
        part, ask = values[cut : cut + 73].ravel(), {"horizon": HORIZON}
        engine, other = engines[at % 3], engines[(at + 1) % 3]
        in_berlin = Request("berlin", Opening(zone=BERLIN), part, times=local[cut : cut + 73], **ask)  # type: ignore[arg-type]
        plain = Request("plain", Opening(), part, times=days[cut : cut + 73], **ask)  # type: ignore[arg-type]
        own, without = one(engine, in_berlin), one(other, plain)
        assert own.version == without.version
        assert own.forecast is not None
        assert without.forecast is not None
        np.testing.assert_allclose(own.forecast.values, without.forecast.values, rtol=1e-4, atol=1e-4)
        assert own.forecast.start_time == BERLIN.instant(without.forecast.start_time or 0)
        assert own.forecast.outline.time_zone == "Europe/Berlin"


def test_one_session_in_a_zone_beside_others_in_a_batch(make_engine: MakeEngine, shop: Registry) -> None:
    engine, day = make_engine(registry=shop), 19_782 * 24 * HOUR
    zones = {name: Zone.parse(name) for name in ("", "Europe/Berlin", "Asia/Kolkata", "-03:00")}
    batch = {
        f"s{name}": [Request(f"s{name}", Opening(zone=zone), np.ones(2), start_time=zone.instant(day), horizon=2)]
        for name, zone in zones.items()
    }
    results = engine.run(batch)
    for name, zone in zones.items():
        (outcome,) = results[f"s{name}"]
        assert isinstance(outcome, Outcome), outcome
        assert outcome.forecast is not None
        assert outcome.forecast.start_time == zone.instant(day + 24 * HOUR)


def test_gates_are_those_of_the_last_row(make_engine: MakeEngine, shop: Registry) -> None:
    engine, begin, day = make_engine(registry=shop), 19_782 * 24 * HOUR, 24 * HOUR
    times = np.array([begin, begin + 2 * day], np.int64)
    ask = Request("a", Opening(), np.array([1.0, 2.0, 3.0, 4.0]), times=times, explain=True)
    gates = one(engine, ask).gates
    one(engine, Request("b", Opening(), np.array([1.0, 2.0]), start_time=begin))
    single = replace(ask, session_id="b", values=np.array([3.0, 4.0]), times=times[1:])
    expected = one(engine, single).gates
    assert gates is not None
    assert expected is not None
    assert torch.allclose(gates.hidden, expected.hidden, atol=1e-5)
