"""Calls as the documentation shows them: type checkers must take all of them. Nothing here is run."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import grpc
import numpy as np
import pandas as pd
import polars as pl

from statecast.client import AsyncClient, Client, Forecast, Observations, Receipt, StatecastError, Version

client = Client("localhost:50051", timeout_seconds=10)
Client("forecasts:443", tls=True, api_key="sck_...")
Client("forecasts:443", tls=grpc.ssl_channel_credentials(), token=lambda: "...")
Client(
    "forecasts:443", ca="ca.pem", cert=Path("client.pem"), key=Path("client-key.pem"), server_name="forecasts.example"
)
session = client.session("meter-3", model="base", time_to_live=30 * 86_400)
named = client.session("meter-4", time_to_live=timedelta(days=1), time_zone="Europe/Berlin", max_ahead=0, frequency="h")
zoned = client.session("meter-5", time_zone=ZoneInfo("Europe/Berlin"), categories={"region": "north"})

receipt: Receipt = session.observe(20.1)
session.observe(20)
session.observe([20.4, None, 20.3])
session.observe([20, 21, None])
session.observe((20.4, 20.3))
session.observe(range(3))
session.observe([[1.0, None], [2.0, 3.0]])
session.observe(np.arange(3.0))
session.observe(np.float32(3))
session.observe([np.float64(3), 4.0])
session.observe([np.arange(2.0), np.arange(2.0)])
session.observe(pd.Series([1.0, 2.0]))
session.observe(pd.DataFrame({"a": [1.0], "b": [2.0]}))
values: list[float] = [1.0, 2.0]
session.observe(values)
missing: Sequence[float | None] = [1.0, None]
session.observe(missing)
session.observe([12, 15], covariates=[[9.9, 0], [9.9, 1]], start_time=datetime(2024, 3, 1, tzinfo=UTC))
session.observe([12, 15], start_time=np.datetime64("2024-03-01"))
session.observe([12, 15], start_time=pd.Timestamp("2024-03-01", tz="UTC"))
session.observe([12, 15], times=pd.DatetimeIndex(["2024-03-01", "2024-03-02"], tz="Europe/Berlin"))
session.observe([12], times=[datetime(2024, 3, 1, tzinfo=UTC)])
session.observe([12], times=np.array(["2024-03-01"], "M8[D]"))

forecast: Forecast = session.forecast(horizon=24)
forecast = session.step(20.6, horizon=24, future_covariates=[[1.0]] * 24, quantile_levels=(0.1, 0.9))
version: Version | None = session.version
session.observe(20.3, if_version=forecast.version, request_id="mine", explain=True, timeout_seconds=60)
receipts: list[Receipt] = client.observe_many(
    [(session, [1.0, None]), (named, Observations([1.0], times=[datetime.now()]))]
)
forecasts: list[Forecast] = client.step_many([(session, 0.5)], horizon=12)
for own, result in client.stream(((session, value) for value in values), horizon=12):
    outcome: Forecast | Receipt | StatecastError = result
    print(own.id, outcome)


async def token() -> str:
    """Return a token."""
    return "..."


async def main() -> None:
    AsyncClient("localhost:50051", token=token)
    AsyncClient("localhost:50051", token=lambda: "...")
    async with AsyncClient("localhost:50051") as aclient:
        asession = aclient.session("pod-1", time_zone="+05:30")
        taken: Receipt = await asession.observe([20.4, None, 20.3])
        ahead: Forecast = await asession.step([1.0, 2.0], horizon=6)
        print(taken, ahead.to_pandas())


frame = pd.DataFrame({"unique_id": ["a"], "ds": [datetime(2024, 3, 1)], "y": [1.0]})
quantiles: pd.DataFrame = client.step_frame(frame, 6, "daily", future=frame, quantile_levels=[0.5], id_col="unique_id")
quantiles = client.forecast_frame(frame, horizon=6, model="daily", time_zone="Europe/Berlin", progress=True)
client.observe_frame(pl.DataFrame(frame), "daily", target_col=["y"], rows="all", time_to_live=timedelta(days=1))
session.plot(24, history=pd.Series([1.0])).savefig("fan.png")
