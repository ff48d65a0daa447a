"""Years of data in zones all over the world, through client and server, beside the same data without a zone."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.models import LEVELS, as_if_trained
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import Client, Forecast
from statecast.model import Forecaster, ModelConfig, save_model
from statecast.service.settings import Settings

ZONES = [
    "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Havana", "America/St_Johns", "Australia/Sydney",
    "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Chatham", "Africa/Cairo",
]  # fmt: skip
STEPS = {"D": 1100, "W-MON": 160, "MS": 48, "B": 800, "h": 24 * 400}
HORIZON = 30


def forecaster(frequency: str) -> Forecaster:
    """A model of some frequency that sees the calendar, and whose intervals adapt."""
    config = ModelConfig(
        name=frequency.lower(), version="1", hidden_size=8, head_size=8, horizon=HORIZON, quantile_levels=LEVELS,
        window=24, lags=(4, 12), frequency=frequency, calendar=("week", "year"), checked_steps=(1,),
        adaptation_rate=0.1,
    )  # fmt: skip
    return as_if_trained(config)


@pytest.fixture(scope="module")
def client(any_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("zones")
    for frequency in STEPS:
        save_model(forecaster(frequency), folder / frequency.lower() / "1")
    server = ServerThread(Settings(redis_url=any_redis.url, models=folder, namespace=uuid.uuid4().hex))
    with Client(server.target, timeout_seconds=60) as client:
        yield client
    server.stop()


def local(index: pd.DatetimeIndex, zone: str) -> pd.DatetimeIndex:
    """The same dates in a zone: midnights that are skipped begin later, of two the first one counts."""
    return index.tz_localize(zone, ambiguous=np.ones(len(index), bool), nonexistent="shift_forward")


@pytest.fixture(scope="module")
def without_zone(client: Client) -> dict[str, tuple["pd.Series[float]", Forecast]]:
    """For each frequency the data without a zone, and the forecast after them."""
    found = {}
    for frequency, steps in STEPS.items():
        index = pd.date_range("2015-10-01", periods=steps, freq=frequency)
        values = pd.Series(50 + 10 * np.sin(np.arange(steps)), index)
        found[frequency] = values, client.session(f"plain-{frequency}", model=frequency.lower()).step(values, HORIZON)
    return found


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("frequency", list(STEPS))
def test_a_zone_changes_no_step_no_version_and_no_forecast(
    client: Client, without_zone: dict[str, tuple["pd.Series[float]", Forecast]], frequency: str, zone: str
) -> None:
    plain, expected = without_zone[frequency]
    times = pd.DatetimeIndex(plain.index)
    own = plain.set_axis(times.tz_localize("UTC").tz_convert(zone) if frequency == "h" else local(times, zone))
    session = client.session(f"{frequency}-{zone}", model=frequency.lower())
    third = len(own) // 3
    session.observe(own[:third])
    forecast = session.step(own[third:], HORIZON)
    assert forecast.version == expected.version
    np.testing.assert_allclose(forecast.values, expected.values, rtol=1e-3, atol=1e-3)
    ahead = pd.DatetimeIndex(expected.to_pandas().index)
    dated = ahead.tz_convert(zone) if frequency == "h" else local(ahead.tz_localize(None), zone)
    index = pd.DatetimeIndex(forecast.to_pandas().index)
    assert str(index.tz) == zone
    assert index.tolist() == dated.tolist()
    assert forecast.start_time == dated[0].to_pydatetime()
    assert session.info().last_time == own.index[-1].to_pydatetime()


@pytest.mark.parametrize("zone", ZONES)
def test_holes_cost_steps_of_days(client: Client, zone: str) -> None:
    """One observation of every second day, a request each, over four changes of the clocks."""
    days = local(pd.date_range("2016-10-01", periods=400)[::2], zone)
    session = client.session(f"holes-{zone}", model="d", time_zone=zone)
    client.observe_many([(session, pd.Series([float(at)], days[at : at + 1])) for at in range(len(days))])
    info = session.info()
    assert info.version.step == 399
    assert info.last_time == days[-1].to_pydatetime()
