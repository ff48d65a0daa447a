"""An HTTP gateway for sensors that cannot speak gRPC: FastAPI in front, one AsyncClient behind.

    pip install fastapi uvicorn
    STATECAST_TARGET=localhost:50051 uvicorn --app-dir examples gateway:app

    curl -X POST localhost:8000/sensors/pump-3/values -H 'Idempotency-Key: 42' \\
        -H 'Content-Type: application/json' -d '{"values": [20.1, null, 20.4], "horizon": 3}'

Requests that arrive at the same time travel to the server together. A sensor that repeats a request with the same
Idempotency-Key has its values appended once.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel, Field

from statecast.client import (
    AsyncClient,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    StatecastError,
    Unavailable,
)

STATUSES = (
    (InvalidArgument, 422),
    (NotFound, 404),
    (ResourceExhausted, 429),
    (Unavailable, 503),
    (DeadlineExceeded, 504),
)


class Reading(BaseModel):
    """Values of a sensor; null where one is missing."""

    values: list[float | None] = Field(max_length=1000)
    horizon: int = Field(default=12, ge=1)


class Answer(BaseModel):
    """The session's step, and the forecast of the next steps by quantile level."""

    step: int
    quantiles: dict[str, list[float]]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one client for as long as the gateway runs."""
    async with AsyncClient(os.environ.get("STATECAST_TARGET", "localhost:50051"), timeout_seconds=5) as client:
        app.state.client = client
        yield


app = FastAPI(title="Forecasts of sensors", lifespan=lifespan)


@app.post("/sensors/{sensor}/values")
async def step(sensor: str, reading: Reading, idempotency_key: Annotated[str | None, Header()] = None) -> Answer:
    """Append values of a sensor and forecast what comes next."""
    client: AsyncClient = app.state.client
    try:
        forecast = await client.session(f"sensors/{sensor}").step(
            reading.values, reading.horizon, request_id=idempotency_key
        )
    except StatecastError as error:
        status = next((status for kind, status in STATUSES if isinstance(error, kind)), 502)
        raise HTTPException(status, error.message) from error
    quantiles = {f"{level:g}": forecast.quantile(level).tolist() for level in forecast.quantile_levels}
    return Answer(step=forecast.version.step, quantiles=quantiles)
