"""ForecastService over raw stubs, as a client in any language uses it."""

import math
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2
from support.models import HORIZON, LEVELS
from support.redis_process import RedisProcess
from support.servers import ServerThread
from support.wire import OPEN, detail, failure, observations

from statecast.service.settings import Settings
from statecast.v1 import forecast_pb2, model_service_pb2
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub
from statecast.v1.model_service_pb2_grpc import ModelServiceStub


def test_open_observe_forecast_look_close(stub: ForecastServiceStub, session_id: str) -> None:
    opened = stub.OpenSession(pb.OpenSessionRequest(session_id=session_id, options=OPEN))
    assert opened.opened
    assert (opened.session.model, opened.session.model_version, opened.session.version.step) == ("tiny", "1", 0)
    again = stub.OpenSession(pb.OpenSessionRequest(session_id=session_id))
    assert not again.opened
    observed = stub.Forecast(pb.ForecastRequest(session_id=session_id, observations=observations(1, math.nan, 2)))
    assert observed.version.step == 3
    assert not observed.HasField("forecast")
    response = stub.Forecast(pb.ForecastRequest(session_id=session_id, horizon=4, request_id="x"))
    assert response.session_id == session_id
    assert response.request_id == "x"
    assert response.version == observed.version
    forecast = response.forecast
    assert (forecast.horizon, tuple(forecast.quantile_levels), list(forecast.targets)) == (4, LEVELS, ["value"])
    assert len(forecast.values) == 4 * len(LEVELS)
    assert all(map(math.isfinite, forecast.values))
    assert not forecast.HasField("start_time")
    looked = stub.GetSession(pb.GetSessionRequest(session_id=session_id))
    assert looked.session.version == observed.version
    assert looked.session.time_to_live.seconds == 30 * 86_400
    closed = stub.CloseSession(pb.CloseSessionRequest(session_id=session_id))
    assert closed.version == observed.version
    code, status = failure(lambda: stub.GetSession(pb.GetSessionRequest(session_id=session_id)))
    assert code is grpc.StatusCode.NOT_FOUND
    assert detail(status, error_details_pb2.ErrorInfo).reason == "SESSION_CLOSED"
    assert detail(status, error_details_pb2.ErrorInfo).domain == "statecast"


def test_one_call_opens_observes_and_forecasts(stub: ForecastServiceStub, session_id: str) -> None:
    options = forecast_pb2.OpenOptions(model="tiny", time_to_live=Duration(seconds=90))
    request = pb.ForecastRequest(session_id=session_id, open=options, observations=observations(1, 2), horizon=HORIZON)
    response = stub.Forecast(request)
    assert response.opened
    assert response.version.step == 2
    assert stub.GetSession(pb.GetSessionRequest(session_id=session_id)).session.time_to_live.seconds == 90
    assert not stub.Forecast(request).opened


def test_the_default_model_forecasts_anything(stub: ForecastServiceStub, session_id: str) -> None:
    options = forecast_pb2.OpenOptions()
    values = [100 + 10 * math.sin(step / 4) for step in range(200)]
    request = pb.ForecastRequest(session_id=session_id, open=options, observations=observations(*values), horizon=24)
    forecast = stub.Forecast(request).forecast
    levels = len(forecast.quantile_levels)
    median = [forecast.values[step * levels + levels // 2] for step in range(24)]
    truth = [100 + 10 * math.sin(step / 4) for step in range(200, 224)]
    errors = [abs(one - other) for one, other in zip(median, truth, strict=True)]
    assert sum(errors) / 24 < 5


def test_versions_do_not_depend_on_how_observations_were_cut(stub: ForecastServiceStub, session_id: str) -> None:
    def observe(name: str, *values: float) -> forecast_pb2.Version:
        request = pb.ForecastRequest(session_id=name, open=OPEN, observations=observations(*values))
        return stub.Forecast(request).version

    whole = observe(session_id, 1, 2, math.nan)
    for value in (1, 2):
        observe(session_id + "b", value)
    assert observe(session_id + "b", math.nan) == whole
    assert observe(session_id + "c", 1, 2, 3) != whole


def test_if_version_that_does_not_hold_is_aborted_with_the_current_one(
    stub: ForecastServiceStub, session_id: str
) -> None:
    current = stub.Forecast(pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(1))).version
    wrong = forecast_pb2.Version(step=1, tag=7)
    request = pb.ForecastRequest(session_id=session_id, observations=observations(2), if_version=wrong)
    code, status = failure(lambda: stub.Forecast(request))
    assert code is grpc.StatusCode.ABORTED
    assert detail(status, forecast_pb2.Version) == current
    assert detail(status, error_details_pb2.ErrorInfo).reason == "VERSION_MISMATCH"


def test_start_times_come_back_as_times(stub: ForecastServiceStub, session_id: str) -> None:
    start = Timestamp(seconds=1_700_000_400 // 3600 * 3600)
    request = pb.ForecastRequest(
        session_id=session_id,
        open=forecast_pb2.OpenOptions(model="hourly"),
        observations=observations(1, 2, start_time=start),
        horizon=1,
    )
    assert stub.Forecast(request).forecast.start_time.seconds == start.seconds + 2 * 3600
    session = stub.GetSession(pb.GetSessionRequest(session_id=session_id)).session
    assert session.last_time.seconds == start.seconds + 3600
    code, status = failure(lambda: stub.Forecast(request))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert detail(status, error_details_pb2.ErrorInfo).reason == "TIME_ORDER"
    assert status.message.startswith("observations.start_time: ")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "empty id": ({"session_id": ""}, "session_id"),
    "long id": ({"session_id": "x" * 257}, "session_id"),
    "unprintable id": ({"session_id": "a\nb"}, "session_id"),
    "long request id": ({"request_id": "é" * 33}, "request_id"),
    "2 values for 3 targets": (
        {"open": forecast_pb2.OpenOptions(model="three"), "observations": observations(1, 2)},
        "observations.values",
    ),
    "another number of targets": ({"observations": observations(1, 2, targets=2)}, "observations.targets"),
    "infinity": ({"observations": observations(1, math.inf)}, "observations.values[1]"),
    "minus infinity": ({"observations": observations(-math.inf)}, "observations.values[0]"),
    "too large": ({"observations": observations(1, 2, -1e31)}, "observations.values[2]"),
    "too many values": ({"observations": observations(*range(10_001))}, "observations.values"),
    "horizon too long": ({"horizon": HORIZON + 1}, "horizon"),
    "quantile 0": ({"horizon": 1, "quantile_levels": [0.0]}, "quantile_levels[0]"),
    "quantile 1": ({"horizon": 1, "quantile_levels": [0.5, 1.0]}, "quantile_levels[1]"),
    "quantile NaN": ({"horizon": 1, "quantile_levels": [math.nan]}, "quantile_levels[0]"),
    "many quantiles": ({"horizon": 1, "quantile_levels": [0.5] * 129}, "quantile_levels"),
    "time without frequency": (
        {"observations": observations(1, start_time=Timestamp(seconds=1))},
        "observations.start_time",
    ),
    "no time with frequency": (
        {"open": forecast_pb2.OpenOptions(model="hourly"), "observations": observations(1)},
        "observations.start_time",
    ),
    "time before years": (
        {"observations": observations(1, start_time=Timestamp(seconds=-(2**60)))},
        "observations.start_time",
    ),
    "time that nanoseconds cannot count": (
        {"observations": observations(1, start_time=Timestamp(seconds=253_402_300_799)), "request_id": "x"},
        "observations.start_time",
    ),
    "long model name": ({"open": forecast_pb2.OpenOptions(model="x" * 257)}, "open.model"),
    "long model version": ({"open": forecast_pb2.OpenOptions(model_version="x" * 257)}, "open.model_version"),
    "no time to live": (
        {"open": forecast_pb2.OpenOptions(time_to_live=Duration())},
        "open.time_to_live",
    ),
    "endless time to live": (
        {"open": forecast_pb2.OpenOptions(time_to_live=Duration(seconds=2**40))},
        "open.time_to_live",
    ),
}


@pytest.mark.parametrize(("change", "field"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_field_is_named_and_the_session_unharmed(
    stub: ForecastServiceStub, session_id: str, change: dict[str, Any], field: str
) -> None:
    fields: dict[str, Any] = {"session_id": session_id, "open": OPEN} | change
    code, status = failure(lambda: stub.Forecast(pb.ForecastRequest(**fields)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = detail(status, error_details_pb2.BadRequest).field_violations
    assert violation.field == field
    assert status.message == f"{field}: {violation.description}"
    code, _ = failure(lambda: stub.GetSession(pb.GetSessionRequest(session_id=session_id)))
    assert code is grpc.StatusCode.NOT_FOUND


def test_an_unknown_model_is_not_found(stub: ForecastServiceStub, session_id: str) -> None:
    options = forecast_pb2.OpenOptions(model="nope")
    code, status = failure(lambda: stub.OpenSession(pb.OpenSessionRequest(session_id=session_id, options=options)))
    assert code is grpc.StatusCode.NOT_FOUND
    assert detail(status, error_details_pb2.ErrorInfo).reason == "MODEL_NOT_FOUND"
    assert "base, hourly, three, tiny" in status.message


def test_ten_million_values_are_turned_away_and_the_session_unharmed(
    stub: ForecastServiceStub, session_id: str
) -> None:
    before = stub.Forecast(pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(1)))
    huge = pb.ForecastRequest(session_id=session_id, observations=observations(*([0.0] * 10_000_000)))
    code, _ = failure(lambda: stub.Forecast(huge))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.GetSession(pb.GetSessionRequest(session_id=session_id)).session.version == before.version


def test_horizon_zero_only_observes(stub: ForecastServiceStub, session_id: str) -> None:
    request = pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(1), horizon=0)
    response = stub.Forecast(request)
    assert response.version.step == 1
    assert not response.HasField("forecast")


def test_many_requests_are_answered_each_for_itself(stub: ForecastServiceStub, session_id: str) -> None:
    requests = [
        pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(1), horizon=1),
        pb.ForecastRequest(session_id="", horizon=1),
        pb.ForecastRequest(session_id=session_id, observations=observations(2), request_id="r"),
        pb.ForecastRequest(session_id=session_id + "-missing"),
    ]
    results = stub.ForecastMany(pb.ForecastManyRequest(requests=requests)).results
    kinds = [result.WhichOneof("result") for result in results]
    assert kinds == ["response", "status", "response", "status"]
    assert results[0].response.version.step == 1
    assert results[2].response.version.step == 2
    assert [results[at].status.code for at in (1, 3)] == [code_pb2.INVALID_ARGUMENT, code_pb2.NOT_FOUND]
    assert detail(results[1].status, error_details_pb2.BadRequest).field_violations[0].field == "session_id"
    assert not stub.ForecastMany(pb.ForecastManyRequest()).results


def test_models_are_described(channel: grpc.Channel) -> None:
    stub = ModelServiceStub(channel)
    listed = stub.ListModels(model_service_pb2.ListModelsRequest())
    assert [model.name for model in listed.models] == ["base", "hourly", "three", "tiny"]
    assert listed.default_model == "base"
    model = stub.GetModel(model_service_pb2.GetModelRequest(name="three")).model
    assert list(model.targets) == ["flow", "pressure", "heat"]
    assert (model.version, model.horizon, model.cell, model.layers) == ("1", HORIZON, "lstm", 1)
    assert tuple(model.quantile_levels) == LEVELS
    assert len(model.digest) == 64
    assert model.state_bytes > 0
    code, status = failure(lambda: stub.GetModel(model_service_pb2.GetModelRequest(name="three", version="9")))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "it has: 1" in status.message


def test_what_is_no_message_is_refused(channel: grpc.Channel) -> None:
    call: Any = channel.unary_unary("/statecast.v1.ForecastService/Forecast")
    code, status = failure(lambda: call(b"\x0a\x02\xff\xfe"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be decoded" in status.message


def test_closing_under_a_version_that_does_not_hold_is_aborted(stub: ForecastServiceStub, session_id: str) -> None:
    version = stub.Forecast(pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(1))).version
    stub.Forecast(pb.ForecastRequest(session_id=session_id, observations=observations(2)))
    code, _ = failure(lambda: stub.CloseSession(pb.CloseSessionRequest(session_id=session_id, if_version=version)))
    assert code is grpc.StatusCode.ABORTED
    assert stub.CloseSession(pb.CloseSessionRequest(session_id=session_id)).version.step == 2


def test_a_full_queue_leaves_no_hole_in_a_session(
    any_redis: RedisProcess, models_folder: Path, session_id: str
) -> None:
    small = Settings(redis_url=any_redis.url, models=models_folder, namespace="small", queue_requests=8)
    server = ServerThread(small)
    with grpc.insecure_channel(server.target) as channel:
        requests = [
            pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(at)) for at in range(300)
        ]
        results = ForecastServiceStub(channel).ForecastMany(pb.ForecastManyRequest(requests=requests)).results
    server.stop()
    taken = [result.HasField("response") for result in results]
    assert taken == sorted(taken, reverse=True)
    assert not all(taken)
    assert {result.status.code for result in results if result.HasField("status")} == {code_pb2.RESOURCE_EXHAUSTED}
