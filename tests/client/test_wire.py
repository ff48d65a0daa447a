"""Arrays are read out of messages as the generated code would."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from statecast.client import _wire
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb

floats = st.lists(st.floats(width=32), max_size=300)


@given(
    values=floats,
    horizon=st.integers(0, 2**32 - 1),
    levels=st.lists(st.floats(0, 1), max_size=40),
    targets=st.lists(st.text(max_size=200), max_size=3),
    seconds=st.none() | st.integers(-(2**30), 2**30),
)
def test_values_are_those_of_the_message(
    values: list[float], horizon: int, levels: list[float], targets: list[str], seconds: int | None
) -> None:
    message = forecast_pb2.Forecast(
        horizon=horizon, quantile_levels=levels, targets=targets, values=values, frequency="h", classes=targets
    )
    if seconds is not None:
        message.start_time.seconds = seconds
    found = _wire.floats(message, forecast_pb2.Forecast.VALUES_FIELD_NUMBER)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(values, np.float32))
    found[:] = 0.0  # they are the caller's own


@given(pit=floats, step=st.integers(0, 2**64 - 1), tag=st.integers(0, 2**64 - 1), opened=st.booleans())
def test_submessages_are_passed_over(pit: list[float], step: int, tag: int, opened: bool) -> None:
    version = forecast_pb2.Version(step=step, tag=tag)
    message = pb.ForecastResponse(session_id="a", version=version, opened=opened, pit=pit)
    message.forecast.values.extend([1.0, 2.0])
    found = _wire.floats(message, pb.ForecastResponse.PIT_FIELD_NUMBER)
    np.testing.assert_array_equal(found, np.array(pit, np.float32))
