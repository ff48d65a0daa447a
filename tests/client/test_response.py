"""Responses are read from their bytes as the generated code would, whatever the bytes."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from statecast.client import StatecastError, Version, _messages, _response
from statecast.client._request import response_key
from statecast.client._response import Response, Result, read_response, read_results, to_response
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb

NAMES = st.text(max_size=140)
FLOATS = st.floats(width=32)
SECONDS = st.integers(-(2**33), 2**33)


@st.composite
def forecasts(draw: st.DrawFn) -> forecast_pb2.Forecast:
    """Forecasts whose values fit."""
    horizon, levels = draw(st.integers(0, 5)), draw(st.lists(st.floats(0, 1), max_size=12))
    targets, classes = draw(st.lists(NAMES, max_size=2)), draw(st.just([]) | st.lists(NAMES, min_size=1, max_size=3))
    size = horizon * len(classes or levels) * len(targets)
    return forecast_pb2.Forecast(
        start_time=draw(st.none() | st.builds(Timestamp, seconds=SECONDS, nanos=st.integers(0, 10**9 - 1))),
        horizon=horizon,
        quantile_levels=levels,
        targets=targets,
        values=draw(st.lists(FLOATS, min_size=size, max_size=size)),
        frequency=draw(st.sampled_from(["", "h"])),
        classes=classes,
        time_zone=draw(st.sampled_from(["", "Europe/Berlin", "no such zone"])),
    )


GATES = forecast_pb2.Gates(names=["input"], layers=1, hidden_size=2, values=[0.5, 1.0], hidden=[1.0, 2.0])
VERSIONS = st.builds(forecast_pb2.Version, step=st.integers(0, 2**64 - 1), tag=st.integers(0, 2**64 - 1))
RESPONSES = st.builds(
    pb.ForecastResponse,
    session_id=NAMES,
    request_id=NAMES,
    version=st.none() | VERSIONS,
    opened=st.booleans(),
    replayed=st.booleans(),
    forecast=st.none() | forecasts(),
    pit=st.lists(FLOATS, max_size=3),
    gates=st.none() | st.just(GATES),
    time_to_live=st.none() | st.builds(Duration, seconds=st.integers(0, 10**9)),
    missing_steps=st.integers(0, 2**32 - 1),
)


def usual(**changes: Any) -> pb.ForecastResponse:
    """Return the response that a server gives to a step."""
    fields: dict[str, Any] = {"session_id": "s", "request_id": "r", "version": forecast_pb2.Version(step=300, tag=7)}
    return pb.ForecastResponse(**fields | {"forecast": predicted(), "pit": [0.5]} | changes)


def predicted(**changes: Any) -> forecast_pb2.Forecast:
    fields: dict[str, Any] = {"horizon": 2, "quantile_levels": [0.1, 0.9], "targets": ["y"], "values": [1, 2, 3, 4]}
    return forecast_pb2.Forecast(**fields | changes)


def outlined_first(message: pb.ForecastResponse) -> bytes:
    """Encode a response as the server does: a forecast's start time and values come last."""
    head = forecast_pb2.Forecast()
    head.CopyFrom(message.forecast)
    head.ClearField("start_time")
    head.ClearField("values")
    start_time = message.forecast.start_time if message.forecast.HasField("start_time") else None
    tail = forecast_pb2.Forecast(start_time=start_time, values=message.forecast.values)
    before, after = pb.ForecastResponse(), pb.ForecastResponse()
    for part, numbers in ((before, range(1, 6)), (after, range(7, 11))):
        part.CopyFrom(message)
        for descriptor, _ in message.ListFields():
            if descriptor.number not in numbers:
                part.ClearField(descriptor.name)  # type: ignore[arg-type]
    content = field(6, head.SerializeToString() + tail.SerializeToString()) if message.HasField("forecast") else b""
    return before.SerializeToString() + content + after.SerializeToString()


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + varint(number >> 7)


def everything(response: Response | StatecastError) -> tuple[Any, ...]:
    """Return all that a caller could see of a response, comparable; NaN equals itself."""
    if isinstance(response, StatecastError):
        return type(response), str(response), response.reason
    outline, values, start_time = response.forecast or (None, None, None)
    arrays = [values, response.pit, *(vars(response.gates).values() if response.gates else ())]
    told = [(each.shape, each.dtype.str, each.tobytes()) if isinstance(each, np.ndarray) else each for each in arrays]
    known = response.session_id, response.key, response.version, response.opened, response.replayed
    numbers = response.missing_steps, response.time_to_live_seconds
    return *told, *known, *numbers, start_time, outline and outline.fields


def has_usual_form(data: bytes) -> bool:
    return _response._usual(data, 0, len(data)) is not None


@given(RESPONSES)
def test_it_is_what_the_message_says(message: pb.ForecastResponse) -> None:
    for data in (message.SerializeToString(), outlined_first(message)):
        assert everything(read_response(data)) == everything(to_response(message))


@pytest.mark.parametrize(
    "message",
    [
        usual(),
        usual(opened=True, time_to_live=Duration(seconds=60)),
        usual(replayed=True, pit=[]),
        usual(forecast=None),
        usual(forecast=None, pit=[]),
        usual(pit=[float("nan")]),
        usual(missing_steps=1000, forecast=predicted(start_time=Timestamp(seconds=5), frequency="D", time_zone="UTC")),
        usual(forecast=predicted(quantile_levels=[], classes=["a", "b"])),
        usual(forecast=predicted(targets=["x", "y"], values=range(8)), pit=[0.5, 0.25]),
        usual(gates=GATES),
        usual(session_id="größe"),
        usual(forecast=predicted(horizon=50_000, values=range(100_000))),
    ],
    ids=lambda message: "-".join(descriptor.name for descriptor, _ in message.ListFields()[2:]) or "nothing",
)
def test_what_a_server_sends_has_the_usual_form(message: pb.ForecastResponse) -> None:
    data = outlined_first(message)
    assert has_usual_form(data)
    assert everything(read_response(data)) == everything(to_response(message))


def rare() -> Iterator[tuple[str, bytes]]:
    """Responses that mean something, but not in the form that servers give them."""
    whole, ids = outlined_first(usual()), b"\x0a\x01s\x12\x01r"
    version, forecast = usual().version.SerializeToString(), predicted().SerializeToString()
    yield "a new field at the end", whole + b"\x78\x05"
    yield "a new field at the beginning", b"\x78\x05" + whole
    yield "a new field in the forecast", outlined_first(usual(forecast=None)) + field(6, forecast + b"\x78\x05")
    yield "a new field in the version", ids + field(3, version + b"\x78\x05")
    yield "twice the session", b"\x0a\x01x" + whole
    yield "twice the version", whole + field(3, b"\x08\x05")
    yield "a forecast in two pieces", ids + field(3, version) + field(6, forecast[:20]) + field(6, forecast[20:])
    yield "twice the pit", whole + field(7, b"\0\0\0\x3f")
    yield "a pit that is not packed", whole + b"\x3d\0\0\0\x3f"
    unpacked = b"\x10\x01\x1a\x08" + bytes(8) + b"\x22\x01y\x2d\0\0\0\x3f"
    yield "values that are not packed", ids + field(3, version) + field(6, unpacked)
    yield "a pit of nothing", ids + field(3, version) + b"\x3a\0"
    yield "no version", ids
    yield "a version without a tag", ids + field(3, b"\x08\x05")
    yield "a version the other way around", ids + field(3, b"\x11" + bytes(range(8)) + b"\x08\x05")
    yield "flags that are false", ids + field(3, version) + b"\x20\0\x28\0"
    yield "a flag that is two", ids + field(3, version) + b"\x20\x02"
    yield "a flag of two bytes", ids + field(3, version) + b"\x20\x81\0"
    yield "a length of too many bytes", b"\x0a\x81\0s\x12\x01r" + field(3, version)
    yield "a step beyond 2**28", ids + field(3, forecast_pb2.Version(step=2**40, tag=1).SerializeToString())
    yield (
        "a forecast in the order of its numbers",
        usual(forecast=predicted(start_time=Timestamp(seconds=5), frequency="h")).SerializeToString(),
    )
    yield "no request id", b"\x0a\x01s" + field(3, version)
    yield "nothing", b""


@pytest.mark.parametrize("data", [data for _, data in rare()], ids=[name for name, _ in rare()])
def test_what_has_another_form_is_left_to_the_generated_code(data: bytes) -> None:
    assert everything(read_response(data)) == everything(to_response(pb.ForecastResponse.FromString(data)))


def outcome(read: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return read(data)
    except DecodeError:
        return DecodeError


@given(st.data())
def test_damaged_bytes_are_read_or_refused_as_the_generated_code_would(data: st.DataObject) -> None:
    whole = bytearray(outlined_first(usual(forecast=predicted(start_time=Timestamp(seconds=5), frequency="h"))))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    expected = outcome(lambda each: everything(to_response(pb.ForecastResponse.FromString(each))), damaged)
    assert outcome(lambda each: everything(read_response(each)), damaged) == expected


def of_message(result: pb.ForecastResult) -> tuple[bytes, Any]:
    if result.HasField("response"):
        response = to_response(result.response)
        return response.key, everything(response)
    return response_key(result.session_id, result.request_id), result.status.message


def of_result(result: Result) -> tuple[bytes, Any]:
    key, found = result
    return key, str(found.message) if isinstance(found, StatecastError) else everything(found)


FAILED = status_pb2.Status(code=3, message="no such horizon")
RESULTS = st.builds(pb.ForecastResult, response=RESPONSES) | st.builds(
    pb.ForecastResult, status=st.just(FAILED), session_id=NAMES, request_id=NAMES
)


@given(st.lists(RESULTS, max_size=5), st.sampled_from([b"", b"\x78\x05"]))
def test_results_come_in_order_each_with_its_key(results: list[pb.ForecastResult], further: bytes) -> None:
    data = pb.ForecastManyResponse(results=results).SerializeToString() + further
    assert [of_result(each) for each in read_results(data)] == [of_message(each) for each in results]


def test_results_that_end_too_early_are_no_message() -> None:
    data = field(1, field(1, outlined_first(usual())))
    ((key, _),) = read_results(data)
    assert key == response_key("s", "r")
    for end in range(1, len(data)):
        with pytest.raises(DecodeError):
            read_results(data[:end])


def test_values_that_do_not_fit_are_refused() -> None:
    for message in (usual(forecast=predicted(horizon=3)), usual(forecast=predicted(values=[]))):
        for data in (message.SerializeToString(), outlined_first(message)):
            with pytest.raises(DecodeError, match="shape"):
                read_response(data)


def test_arrays_are_the_callers_own() -> None:
    data = outlined_first(usual())
    first, second = (_messages.to_forecast(read_response(data)) for _ in range(2))
    first.values[:] = 9.0
    assert first.pit is not None
    first.pit[:] = 9.0
    np.testing.assert_array_equal(second.values.ravel(), [1, 2, 3, 4])
    np.testing.assert_array_equal(second.pit, [[0.5]])
    assert first.values.flags.c_contiguous


def test_only_so_many_outlines_are_remembered() -> None:
    for horizon in range(_response._MOST_OUTLINES + 10):
        message = usual(forecast=predicted(horizon=1, quantile_levels=[0.5], targets=["y" * horizon], values=[1.0]))
        assert read_response(outlined_first(message)).version == Version(300, 7)
    assert len(_response._TAILS) <= _response._MOST_OUTLINES
    assert len(_response._OUTLINES) <= _response._MOST_OUTLINES
