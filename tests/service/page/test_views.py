"""What a viewer is sent is what the session's callers are told; and looking changes nothing."""

import math
import time
import urllib.request
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from support.looking import Looking
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import Client

VALUES = [20.0, 21.5, 19.25, 22.0, 20.5, math.nan, 21.0, 20.0, 23.5, 19.0, 20.5, 22.5, 21.5]


def test_values_surprise_and_forecast_are_those_of_the_callers(
    looking: Looking, client: Client, session_id: str
) -> None:
    session = client.session(session_id, model="tiny")
    session.observe(VALUES)
    with looking.following(session_id) as following:
        first = following.view()
        assert (first["reset"], first["step"], first["points"]["first"]) == (True, len(VALUES), 1)
        np.testing.assert_array_equal(np.array(first["points"]["values"], float), VALUES)
        pits = [session.step(value, horizon=6) for value in (20.25, 24.0)]
        *_, view = following.view_at(len(VALUES) + 2)
    forecast = pits[-1]
    told = np.array(view["forecast"]["values"])
    np.testing.assert_allclose(told, forecast.values[:, :, 0], rtol=1e-4)
    assert view["tag"] == f"{forecast.version.tag:016x}"
    before = view["points"]["before"][-1]
    np.testing.assert_allclose(before, pits[0].values[0, :, 0], rtol=1e-4)
    assert view["points"]["surprise"][-1] == pytest.approx(
        np.interp(24.0, before, first["session"]["levels"]), abs=0.11
    )
    assert {part["name"] for part in view["memory"]} == {"hidden", "cell"}
    assert first["session"]["levels"] == list(forecast.quantile_levels)


def test_steps_are_complete_however_many_snapshots_lie_between_two_looks(
    looking: Looking, client: Client, session_id: str, snapshot_every: int
) -> None:
    session, sent = client.session(session_id, model="tiny"), []
    with looking.following(session_id) as following:
        assert following.view()["gone"]
        for round_ in range(1, 5):
            new = [float(round_ * 100 + at) for at in range(snapshot_every - 3)]
            session.observe(new)
            sent += new
            views = following.view_at(len(sent))
        points = [views[-1]["points"]]
        assert points[0]["first"] + len(points[0]["values"]) - 1 == len(sent)
        session.observe([1.0] * 20)  # more than a snapshot, and less than the window
        view = following.view_at(len(sent) + 20)[-1]
    values = view["points"]["values"]
    assert values == ([*sent, *[1.0] * 20] if view["reset"] else [1.0] * 20)
    assert view["points"]["first"] == (1 if view["reset"] else len(sent) + 1)


def test_several_targets_times_and_categories(looking: Looking, client: Client, session_id: str) -> None:
    zone = ZoneInfo("Europe/Berlin")
    session = client.session(
        session_id, model="shop", categories={"region": "north"}, time_zone="Europe/Berlin", max_ahead=0
    )
    rows = np.arange(20.0).reshape(10, 2) + 30
    start = datetime(2024, 3, 30, 20, tzinfo=zone)
    session.observe(rows, start_time=start)
    with looking.following(session_id, target=1) as following:
        view = following.view()
        np.testing.assert_allclose(view["forecast"]["values"], session.forecast(6).values[:, :, 1], rtol=1e-4)
        pit = session.step([50.0, 31.5], horizon=1).pit
        assert pit is not None
        *_, later = following.view_at(11)
    assert later["points"]["surprise"] == [pytest.approx(float(pit[0, 1]), rel=1e-3)]
    assert view["points"]["values"] == rows[:, 1].tolist()
    seconds = [start.timestamp() + 3600 * at for at in range(16)]
    assert view["points"]["times"] == [1000 * each for each in seconds[:10]]
    assert view["forecast"]["times"] == [1000 * each for each in seconds[10:]]
    assert view["session"]["targets"] == ["sold", "returned"]
    assert (view["session"]["categories"], view["session"]["zone"]) == ({"region": "north"}, "Europe/Berlin")
    assert view["time"] == 1000 * (start + timedelta(0)).timestamp() + 9 * 3_600_000


def test_symbols(looking: Looking, client: Client, session_id: str) -> None:
    session = client.session(session_id, model="letters")
    session.observe([0.0, 1.0, 2.0])
    before = session.forecast(1).values[0, :, 0]
    session.observe([3.0])
    with looking.following(session_id) as following:
        view = following.view()
    assert view["points"]["symbols"][-1] == "d"
    assert view["points"]["surprise"][-1] == pytest.approx(float(before[3]), rel=1e-3)
    likeliest = view["forecast"]["symbols"][0]
    after = session.forecast(1).values[0, :, 0]
    assert {name: pytest.approx(share, rel=1e-3) for name, share in likeliest} == dict(
        zip("abcd", after.tolist(), strict=True)
    )


def test_imported_models(looking: Looking, client: Client, session_id: str) -> None:
    pump, valve = client.session(f"{session_id} pump", model="pump"), client.session(f"{session_id} v", model="valve")
    pump.observe([20.0, 21.0])
    with looking.following(pump.id) as following:
        assert "more observations" in following.view()["note"]
        pump.observe([22.0, 23.0, 21.0])
        *_, view = following.view_at(5)
    np.testing.assert_allclose(view["forecast"]["values"], pump.forecast(3).values[:, :, 0], rtol=1e-4)
    (inputs,) = view["memory"]
    assert (inputs["name"], inputs["rows"], inputs["columns"]) == ("window", 4, 1)
    valve.observe([20.0, 21.0], covariates=[[1.0], [2.0]])
    with looking.following(valve.id) as following:
        view = following.view()
    assert view["forecast"] is None
    assert "covariates of the steps ahead" in view["note"]
    assert [part["name"] for part in view["memory"]] == ["hidden"]


def test_another_session_of_that_name_begins_anew(looking: Looking, client: Client, session_id: str) -> None:
    session = client.session(session_id, model="tiny")
    session.observe([1.0, 2.0, 3.0])
    with looking.following(session_id) as following:
        assert following.view()["reset"]
        session.close()
        gone = following.view()
        assert gone["gone"]
        assert gone["problem"] == f"Session '{session_id}' was closed at step 3."
        client.session(session_id, model="tiny").observe([7.0, 8.0, 9.0, 10.0])
        *_, view = following.view_at(4)
    assert (view["reset"], view["points"]["values"], view["problem"]) == (True, [7.0, 8.0, 9.0, 10.0], "")


def batches(server: ServerThread) -> str:
    with urllib.request.urlopen(server.metrics_url, timeout=20) as response:
        text: str = response.read().decode()
    return next(line for line in text.splitlines() if line.startswith("statecast_batch_sessions_count"))


def test_looking_changes_nothing_and_does_not_ask_the_engine(
    looking: Looking,
    client: Client,
    session_id: str,
    any_redis: RedisProcess,
    page_server: ServerThread,
    namespace: str,
) -> None:
    client.session(session_id, model="tiny", time_to_live=60).observe(VALUES)
    key = f"{namespace}:default:{session_id}"
    record, asked = any_redis.client.get(key), batches(page_server)
    expires = time.time() + any_redis.client.pttl(key) / 1000
    with looking.following(session_id) as one, looking.following(session_id) as other:
        assert one.view() == other.view()
        looking.ask("sessions", prefix=session_id)
    assert any_redis.client.get(key) == record
    assert time.time() + any_redis.client.pttl(key) / 1000 == pytest.approx(expires, abs=0.2)
    assert batches(page_server) == asked


def test_a_damaged_record_and_a_target_that_is_not_there(
    looking: Looking, client: Client, session_id: str, any_redis: RedisProcess, namespace: str
) -> None:
    client.session(session_id, model="tiny").observe([1.0])
    with looking.following(session_id, target=1) as following:
        name, content = next(following.events())
    assert (name, content["reason"]) == ("refused", "INVALID_FIELD")
    assert "numbered 0 to 0" in content["error"]
    any_redis.client.append(f"{namespace}:default:{session_id}", b"x" * 40)
    with looking.following(session_id) as following:
        assert any("damaged" in content["problem"] for _, content in following.events())
