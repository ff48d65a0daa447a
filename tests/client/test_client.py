"""One suite over both clients, against a real server."""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.models import HORIZON, LEVELS, TARGETS
from support.servers import ServerThread

from statecast.client import (
    AsyncClient,
    Client,
    Forecast,
    InvalidArgument,
    NotFound,
    PreconditionFailed,
    SomeFailed,
    StatecastError,
    Version,
    VersionMismatch,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def session(client: Any, session_id: str) -> Any:
    return client.session(session_id, "tiny")


def test_observe_forecast_look_close(client: Any, session: Any) -> None:
    assert session.version is None
    first = session.observe([20.1, 20.4, math.nan])
    assert first.opened
    assert not first.replayed
    second = session.observe(20.3)
    assert not second.opened
    assert session.version == second.version
    forecast = session.forecast(HORIZON)
    assert forecast.version == second.version
    assert forecast.version.step == 4
    assert forecast.values.shape == (HORIZON, len(LEVELS), 1)
    assert forecast.quantile_levels == LEVELS
    assert forecast.targets == ("value",)
    assert np.isfinite(forecast.values).all()
    info = session.info()
    assert (info.model, info.model_version, info.version) == ("tiny", "1", forecast.version)
    assert info.time_to_live == timedelta(days=30)
    session.close()
    for call in (session.info, session.close, lambda: session.observe(1.0)):
        with pytest.raises(NotFound) as caught:
            call()
        assert caught.value.reason == "SESSION_CLOSED"


def test_step_is_observe_and_forecast_at_once(client: Any, session_id: str) -> None:
    one, two = client.session(session_id + "1", "tiny"), client.session(session_id + "2", "tiny")
    one.observe([1, 2, 3])
    together = two.step([1, 2, 3], HORIZON)
    assert together.opened
    np.testing.assert_allclose(together.values, one.forecast(HORIZON).values, rtol=1e-5)
    assert together.version == one.version


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        (5, 1),
        (np.float32(5), 1),
        ([1, None, 3], 3),
        ((), 0),
        (np.arange(4, dtype=np.int32), 4),
        (np.zeros((3, 1)), 3),
        (pd.Series([1.0, math.nan]), 2),
        (range(7), 7),
    ],
)
def test_values_come_in_many_forms(session: Any, values: Any, steps: int) -> None:
    assert session.observe(values).version.step == steps


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ([1.0, math.inf], "observations.values[1]"),
        ([[1.0], [-1e31]], "observations.values[1]"),
        (["warm"], "observations.values"),
        ([[1.0], [2.0, 3.0]], "observations.values"),
        (np.zeros((2, 2, 2)), "observations.values"),
        (np.zeros((5, 0)), "observations.values"),
        (np.zeros((2, 5)), "observations.targets"),
        (pd.DataFrame({"a": [1.0, 2.0], "b": [1, 2]}), "observations.targets"),
        (np.array(["2024-01-01"], "datetime64[D]"), "observations.values"),
        (np.array([1j]), "observations.values"),
        ([10**400], "observations.values"),
        ({"a": 1}, "observations.values"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(session: Any, values: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        session.observe(values)
    assert caught.value.field == field
    assert field in str(caught.value)
    with pytest.raises(NotFound):
        session.info()


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda session: session.forecast(0), "horizon"),
        (lambda session: session.step(1.0, 0), "horizon"),
        (lambda session: session.forecast(-1), "horizon"),
        (lambda session: session.forecast(2.5), "horizon"),
        (lambda session: session.forecast(HORIZON + 1), "horizon"),
        (lambda session: session.forecast(2, quantile_levels=[0.5, 2]), "quantile_levels[1]"),
        (lambda session: session.forecast(2, quantile_levels=0.5), "quantile_levels"),
        (lambda session: session.observe(1.0, if_version=3), "if_version"),
        (lambda session: session.observe(1.0, if_version=Version(-1, 0)), "if_version"),
        (lambda session: session.observe(1.0, request_id="x" * 65), "request_id"),
        (lambda session: session.observe(1.0, request_id=5), "request_id"),
        (lambda session: session.observe(1.0, request_id="half \ud800"), "request_id"),
        (lambda session: session.observe(1.0, start_time=datetime(9999, 1, 1, tzinfo=UTC)), "observations.start_time"),
        (lambda session: session.observe(1.0, start_time=np.datetime64("2500-01-01")), "observations.start_time"),
        (lambda session: session.observe(1.0, start_time=NOON), "observations.start_time"),
        (lambda session: session.observe(1.0, start_time=datetime(2026, 3, 1)), "observations.start_time"),
        (lambda session: session.observe(1.0, start_time="2026-03-01"), "observations.start_time"),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_name(session: Any, call: Callable[[Any], object], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        call(session)
    assert caught.value.field == field
    assert caught.value.reason == "INVALID_FIELD"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"session_id": ""}, "session_id"),
        ({"session_id": "a\nb"}, "session_id"),
        ({"session_id": 7}, "session_id"),
        ({"session_id": "half \ud800"}, "session_id"),
        ({"session_id": "a", "time_to_live": 0.5}, "open.time_to_live"),
        ({"session_id": "a", "time_to_live": "long"}, "open.time_to_live"),
        ({"session_id": "a", "model": None}, "model"),
        ({"session_id": "a", "model": "x" * 20_000}, "open.model"),
    ],
)
def test_sessions_that_cannot_be_are_refused_by_name(client: Any, arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.session(**arguments).observe(1.0)
    assert caught.value.field == field


def test_a_session_stays_on_its_model_for_its_time_to_live(client: Any, session_id: str) -> None:
    client.session(session_id, "three", time_to_live=timedelta(hours=1)).observe(np.zeros((2, 3)))
    again = client.session(session_id)
    assert again.step((), 2).targets == TARGETS["three"]
    assert again.info().time_to_live == timedelta(hours=1)
    with pytest.raises(PreconditionFailed) as caught:
        client.session(session_id, "tiny").observe(1.0)
    assert caught.value.reason == "OTHER_MODEL"


def test_an_unknown_model_or_session_is_not_found(client: Any, session_id: str) -> None:
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: client.session(session_id, "none").observe(1.0), "MODEL_NOT_FOUND"),
        (lambda: client.session(session_id, "tiny", model_version="9").observe(1.0), "MODEL_NOT_FOUND"),
        (lambda: client.session(session_id, resume_only=True).observe(1.0), "SESSION_NOT_FOUND"),
        (lambda: client.model("none"), "MODEL_NOT_FOUND"),
    ]
    for call, reason in calls:
        with pytest.raises(NotFound) as caught:
            call()
        assert caught.value.reason == reason


def test_models_are_described(client: Any) -> None:
    models = {model.name: model for model in client.models()}
    assert set(TARGETS) < set(models)
    assert client.model("three") == models["three"]
    assert models["three"].targets == TARGETS["three"]
    assert models["three"].quantile_levels == LEVELS
    assert models["hourly"].frequency == "h"
    assert client.model().name == "base"


def test_quantiles_of_any_level_in_between(session: Any) -> None:
    session.observe([1.0, 5.0, 2.0])
    forecast = session.forecast(3)
    np.testing.assert_array_equal(forecast.median, forecast.values[:, 1, 0])
    np.testing.assert_allclose(forecast.quantile(0.3), forecast.values[:, :2, 0].mean(1), rtol=1e-5)
    asked = session.forecast(3, quantile_levels=[0.9, 0.3])
    assert asked.quantile_levels == (0.9, 0.3)
    np.testing.assert_allclose(asked.quantile(0.3), forecast.quantile(0.3), rtol=1e-5)
    with pytest.raises(ValueError, match="outside"):
        forecast.quantile(0.05)


def test_frames_of_pandas(client: Any, session_id: str) -> None:
    frame = client.session(session_id, "tiny").step([1.0, 2.0], 3).to_pandas()
    assert list(frame.columns) == list(LEVELS)
    assert list(frame.index) == [1, 2, 3]
    several = client.session(session_id + "3", "three").step(np.arange(6.0).reshape(2, 3), 2)
    wide = several.to_pandas()
    assert wide.shape == (2, 3 * len(LEVELS))
    np.testing.assert_array_equal(wide[("pressure", 0.9)], several.quantile(0.9)[:, 1])
    assert several.median.shape == (2, 3)


@pytest.mark.parametrize(
    "start_time",
    [
        NOON,
        NOON.astimezone(timezone(timedelta(hours=-5))),
        pd.Timestamp("2026-03-01T12:00Z"),
        np.datetime64("2026-03-01T12:00"),
    ],
)
def test_times_of_a_model_with_a_frequency(client: Any, session_id: str, start_time: Any) -> None:
    session = client.session(session_id, "hourly")
    forecast = session.step([1.0, 2.0], 3, start_time=start_time)
    assert forecast.start_time == NOON + timedelta(hours=2)
    assert list(forecast.to_pandas().index) == list(pd.date_range("2026-03-01T14:00Z", periods=3, freq="h"))
    assert session.observe(5.0, start_time=NOON + timedelta(hours=4)).version.step == 5
    assert session.info().last_time == NOON + timedelta(hours=4)
    with pytest.raises(PreconditionFailed) as caught:
        session.observe(5.0, start_time=NOON)
    assert caught.value.reason == "TIME_ORDER"


def test_the_same_request_id_appends_once(session: Any) -> None:
    first = session.observe([1.0, 2.0], request_id="mine")
    second = session.observe([1.0, 2.0], request_id="mine")
    assert second.replayed
    assert second.version == first.version
    with pytest.raises(InvalidArgument) as caught:
        session.observe([9.0], request_id="mine")
    assert caught.value.reason == "REQUEST_ID_REUSED"


def test_if_version_tells_where_the_session_stands(client: Any, session: Any) -> None:
    start = session.observe([1.0, 2.0]).version
    after = session.observe(3.0, if_version=start).version
    with pytest.raises(VersionMismatch) as caught:
        session.observe(4.0, if_version=start)
    assert caught.value.current == after
    with pytest.raises(VersionMismatch):
        session.forecast(2, if_version=Version(3, 1))


def test_long_histories_travel_in_parts(client: Any, session_id: str) -> None:
    values = np.sin(np.arange(20_000) / 9)
    whole, pieces = client.session(session_id, "tiny"), client.session(session_id + "2", "tiny")
    forecast = whole.step(values, 4)
    for start in range(0, len(values), 5000):
        pieces.observe(values[start : start + 5000])
    assert forecast.version == pieces.version
    np.testing.assert_allclose(forecast.values, pieces.forecast(4).values, rtol=1e-4, atol=1e-4)
    with pytest.raises(InvalidArgument, match="request_id"):
        whole.observe(values, request_id="mine")
    assert whole.observe(values, if_version=whole.version).version.step == 40_000
    with pytest.raises(VersionMismatch):
        whole.observe(values, if_version=forecast.version)


def test_parts_of_several_targets_end_with_a_row(client: Any, session_id: str) -> None:
    session = client.session(session_id, "three")
    assert session.observe(np.zeros((5000, 3))).version.step == 5000


def test_many_sessions_at_once(client: Any, session_id: str) -> None:
    sessions = [client.session(f"{session_id}-{number}", "tiny") for number in range(600)]
    receipts = client.observe_many([(session, [1.0, float(number)]) for number, session in enumerate(sessions)])
    assert all(receipt.opened and receipt.version.step == 2 for receipt in receipts)
    forecasts = client.step_many([(session, 3.0) for session in reversed(sessions)], 2)
    assert [forecast.session_id for forecast in forecasts] == [session.id for session in reversed(sessions)]
    assert {forecast.version.step for forecast in forecasts} == {3}
    assert len({forecast.version.tag for forecast in forecasts}) == 600


def test_one_session_many_times_at_once_keeps_its_order(client: Any, session_id: str) -> None:
    session, other = client.session(session_id, "tiny"), client.session(session_id + "2", "tiny")
    receipts = client.observe_many([(session, 1.0), (session, range(9000)), (other, 1.0), (session, (2.0, 3.0))])
    assert [receipt.version.step for receipt in receipts] == [1, 9001, 1, 9003]
    reference = client.session(session_id + "3", "tiny")
    reference.observe([1.0, *range(9000), 2.0, 3.0])
    assert session.version == reference.version


def test_some_may_fail_and_the_others_count(client: Any, session_id: str) -> None:
    good, bad = client.session(session_id, "tiny"), client.session(session_id + "2", "none")
    with pytest.raises(SomeFailed, match="2 of 3 requests failed") as caught:
        client.step_many([(bad, 1.0), (good, 2.0), (bad, 3.0)], 2)
    first, second, third = caught.value.results
    assert isinstance(first, NotFound)
    assert isinstance(third, NotFound)
    assert isinstance(second, Forecast)
    assert second.version == good.version == good.info().version
    assert second.version.step == 1


def test_masked_values_are_missing_ones(client: Any, session_id: str) -> None:
    masked, missing = client.session(session_id, "tiny"), client.session(session_id + "2", "tiny")
    masked.observe(np.ma.array([1, 99], mask=[False, True]))
    missing.observe([1.0, None])
    assert masked.version == missing.version


def test_a_closed_client_says_so(client: Any, session: Any) -> None:
    client.close()
    with pytest.raises(StatecastError, match="closed"):
        session.observe(1.0)


@pytest.mark.parametrize("pairs", [["a"], [("a", 1.0)], {"a": 1.0}, [None]])
def test_what_are_no_pairs_is_refused(client: Any, pairs: Any) -> None:
    for call in (client.observe_many, lambda pairs: client.step_many(pairs, 2)):
        with pytest.raises(InvalidArgument) as caught:
            call(pairs)
        assert caught.value.field == "pairs"


def test_nothing_for_nobody(client: Any) -> None:
    assert client.step_many([], 3) == []
    assert client.observe_many([]) == []


def test_threads_share_a_client(server: ServerThread, session_id: str) -> None:
    with Client(server.target) as client, ThreadPoolExecutor(8) as threads:
        sessions = [client.session(f"{session_id}-{number}", "tiny") for number in range(8)]
        jobs = [threads.submit(sessions[number % 8].step, float(number), 2) for number in range(80)]
        assert all(np.isfinite(job.result().values).all() for job in jobs)
        assert [session.info().version.step for session in sessions] == [10] * 8


async def test_many_tasks_share_an_async_client(server: ServerThread, session_id: str) -> None:
    async with AsyncClient(server.target) as client:
        sessions = [client.session(f"{session_id}-{number}", "tiny") for number in range(50)]
        forecasts = await asyncio.gather(*(session.step([1.0, 2.0], 3) for session in sessions))
        assert {forecast.version.step for forecast in forecasts} == {2}


async def test_a_cancelled_task_leaves_the_client_usable(server: ServerThread, session_id: str) -> None:
    async with AsyncClient(server.target) as client:
        session = client.session(session_id, "tiny")
        task = asyncio.create_task(session.observe(np.zeros(5000)))
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await session.observe(1.0)).version.step in (1, 5001)


def test_errors_are_one_tree() -> None:
    assert issubclass(SomeFailed, StatecastError)
    assert issubclass(InvalidArgument, ValueError)
