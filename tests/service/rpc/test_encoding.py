"""The generated code decodes hand-encoded responses correctly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.service.engine.request import ForecastOutput, Outcome, Outline, Request
from statecast.service.rpc import encoding
from statecast.service.version import Version
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb

uint64 = st.integers(0, 2**64 - 1)
names = st.text(max_size=300)
numbers = st.lists(st.floats(width=32, allow_nan=False), max_size=60)


@st.composite
def forecasts(draw: st.DrawFn) -> ForecastOutput:
    horizon, levels, targets = (draw(st.integers(0, 5)) for _ in range(3))
    outline = Outline(
        horizon,
        draw(names),
        tuple(draw(st.lists(st.floats(0, 1), max_size=levels))),
        tuple(draw(st.lists(names, max_size=3))),
        tuple(draw(st.lists(names, max_size=targets))),
        draw(names),
    )
    start = draw(st.none() | st.integers(-(2**62), 2**62))
    size = horizon * levels * targets
    values = draw(st.lists(st.floats(width=32, allow_nan=False), min_size=size, max_size=size))
    return ForecastOutput(outline, start, np.array(values, "<f4").tobytes())


@given(
    session_id=names,
    request_id=names,
    version=st.none() | st.builds(Version, uint64, uint64),
    opened=st.booleans(),
    replayed=st.booleans(),
    pit=st.none() | numbers,
    forecast=st.none() | forecasts(),
    missing=st.integers(0, 2**32 - 1),
)
def test_a_response_is_read_as_it_was_meant(
    session_id: str,
    request_id: str,
    version: Version | None,
    opened: bool,
    replayed: bool,
    pit: list[float] | None,
    forecast: ForecastOutput | None,
    missing: int,
) -> None:
    places = None if pit is None else np.array(pit, "<f4").tobytes()
    own = Outcome(version, None, opened, replayed, forecast, places, missing=missing)
    written = encoding.response(Request(session_id, request_id=request_id.encode()), own)
    expected = pb.ForecastResponse(
        session_id=session_id,
        request_id=request_id,
        version=None if version is None else forecast_pb2.Version(step=version.step, tag=version.tag),
        opened=opened,
        replayed=replayed,
        forecast=None if forecast is None else _message(forecast),
        pit=pit,
        missing_steps=missing,
    )
    assert pb.ForecastResponse.FromString(written) == expected
    results = encoding.results([encoding.succeeded(written), encoding.succeeded(b"")])
    assert pb.ForecastManyResponse.FromString(results).results == [
        pb.ForecastResult(response=expected),
        pb.ForecastResult(response=pb.ForecastResponse()),
    ]


def _message(forecast: ForecastOutput) -> forecast_pb2.Forecast:
    message = forecast_pb2.Forecast(
        horizon=forecast.outline.horizon,
        frequency=forecast.outline.frequency,
        quantile_levels=forecast.outline.quantile_levels,
        classes=forecast.outline.classes,
        targets=forecast.outline.targets,
        time_zone=forecast.outline.time_zone,
        values=np.frombuffer(forecast.data, "<f4"),
    )
    if forecast.start_time is not None:
        message.start_time.FromNanoseconds(forecast.start_time)
    return message


@pytest.mark.parametrize("number", [0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, 2**31, 2**63, 2**64 - 1])
def test_any_step_count_travels(number: int) -> None:
    written = encoding.response(Request("a"), Outcome(Version(number, 1)))
    assert pb.ForecastResponse.FromString(written).version.step == number
