"""Between the messages of a Forecast call and the engine's request and outcome."""

from statecast.model import Gates
from statecast.service.engine.request import ForecastResult, Outcome, Request, cost
from statecast.service.errors import InvalidRequest
from statecast.service.rpc.scalars import (
    from_nanoseconds,
    from_version,
    to_nanoseconds,
    to_numbers,
    to_request_id,
    to_seconds,
    to_session_id,
    to_version,
)
from statecast.service.rpc.sessions import to_opening
from statecast.v1 import forecast_pb2
from statecast.v1.forecast_service_pb2 import ForecastRequest, ForecastResponse

MAX_QUANTILE_LEVELS = 128
LONGEST_TIMEOUT_SECONDS = 86_400 * 365


def to_request(message: ForecastRequest) -> Request:
    """The request of a Forecast call.

    Raises:
        InvalidRequest: naming the field that is wrong.
    """
    observations = message.observations
    return Request(
        session_id=to_session_id(message.session_id),
        opening=to_opening(message.open, "open") if message.HasField("open") else None,
        values=to_numbers(observations.values, "observations.values"),
        covariates=to_numbers(observations.covariates, "observations.covariates"),
        width=observations.targets,
        start_time=_start_time(observations),
        horizon=message.horizon,
        quantile_levels=_quantile_levels(message),
        future_covariates=to_numbers(message.future_covariates, "future_covariates"),
        explain=message.explain,
        request_id=to_request_id(message.request_id),
        if_version=to_version(message.if_version) if message.HasField("if_version") else None,
        last_seen=to_version(message.last_seen) if message.HasField("last_seen") else None,
    )


def cost_of(message: ForecastRequest) -> int:
    """The cost of the request that the message will become."""
    numbers = len(message.observations.values) + len(message.observations.covariates)
    return cost(numbers, message.horizon, explain=message.explain)


def to_timeout(message: ForecastRequest) -> float | None:
    """How many seconds the caller of a Forecast call waits, if the message tells."""
    if not message.HasField("timeout"):
        return None
    seconds = to_seconds(message.timeout, "timeout")
    if not 0 < seconds <= LONGEST_TIMEOUT_SECONDS:
        raise InvalidRequest("timeout", f"{seconds:g} s is not more than 0 and at most {LONGEST_TIMEOUT_SECONDS} s")
    return seconds


def to_response(request: Request, outcome: Outcome) -> ForecastResponse:
    """The response of a Forecast call."""
    return ForecastResponse(
        session_id=request.session_id,
        request_id=request.request_id.decode(),
        version=from_version(outcome.version),
        opened=outcome.opened,
        replayed=outcome.replayed,
        forecast=_forecast(outcome.forecast) if outcome.forecast else None,
        pit=None if outcome.pit is None else outcome.pit.ravel(),
        gates=_gates(outcome.gates) if outcome.gates else None,
    )


def _start_time(observations: forecast_pb2.Observations) -> int | None:
    if not observations.HasField("start_time"):
        return None
    return to_nanoseconds(observations.start_time, "observations.start_time")


def _quantile_levels(message: ForecastRequest) -> tuple[float, ...]:
    levels = tuple(message.quantile_levels)
    if len(levels) > MAX_QUANTILE_LEVELS:
        raise InvalidRequest("quantile_levels", f"{len(levels)} levels are more than {MAX_QUANTILE_LEVELS}")
    return levels


def _forecast(forecast: ForecastResult) -> forecast_pb2.Forecast:
    return forecast_pb2.Forecast(
        start_time=from_nanoseconds(forecast.start_time),
        horizon=len(forecast.values),
        quantile_levels=forecast.quantile_levels,
        targets=forecast.targets,
        values=forecast.values.ravel(),
        frequency=forecast.frequency,
        classes=forecast.classes,
    )


def _gates(gates: Gates) -> forecast_pb2.Gates:
    layers, _, hidden_size = gates.values.shape
    return forecast_pb2.Gates(
        names=gates.names,
        layers=layers,
        hidden_size=hidden_size,
        values=gates.values.flatten().tolist(),
        cell=None if gates.cell is None else gates.cell.flatten().tolist(),
        hidden=gates.hidden.flatten().tolist(),
    )
