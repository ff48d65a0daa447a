"""Covariates, categories, symbols and gates over the wire."""

import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from support.engines import assert_close
from support.inference import infer, numbers, tensor
from support.models import HORIZON, SYMBOLS, shop_model, write_rich_models
from support.redis_process import RedisProcess
from support.rich_model import BEGIN, CATEGORY_VALUES, TARGETS, History, future, history
from support.servers import ServerThread
from support.wire import detail, failure, observations, reason

from statecast.oip import inference_service_pb2
from statecast.oip.inference_service_pb2_grpc import GRPCInferenceServiceStub
from statecast.service.settings import Settings
from statecast.v1 import forecast_pb2, model_service_pb2
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub
from statecast.v1.model_service_pb2_grpc import ModelServiceStub

START = Timestamp(seconds=BEGIN // 10**9)
SHOP = forecast_pb2.OpenOptions(model="shop", categories=CATEGORY_VALUES)
LETTERS = forecast_pb2.OpenOptions(model="letters")


@pytest.fixture(scope="module")
def rich_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rich_models(tmp_path_factory.mktemp("rich"))


@pytest.fixture(scope="module")
def rich_settings(any_redis: RedisProcess, rich_models: Path) -> Settings:
    return Settings(redis_url=any_redis.url, models=rich_models, namespace="rich", snapshot_every=5)


@pytest.fixture(scope="module")
def rich_server(rich_settings: Settings) -> Iterator[ServerThread]:
    server = ServerThread(rich_settings)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def channel(rich_server: ServerThread) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(rich_server.target) as channel:
        yield channel


def request(sales: History, session_id: str, start: int, stop: int, **others: Any) -> pb.ForecastRequest:
    rows = sales.rows[start:stop]
    told = observations(*rows[:, :TARGETS].ravel(), covariates=rows[:, TARGETS:].ravel())
    if start == 0:
        told.start_time.CopyFrom(START)
    return pb.ForecastRequest(session_id=session_id, open=SHOP, observations=told, **others)


def values(response: pb.ForecastResponse) -> Any:
    forecast = response.forecast
    depth = len(forecast.quantile_levels) or len(forecast.classes)
    return np.array(forecast.values).reshape(forecast.horizon, depth, len(forecast.targets))


def test_a_sequence_has_covariates_times_and_the_categories_of_its_session(
    channel: grpc.Channel, stub: ForecastServiceStub, session_id: str
) -> None:
    sales, coming = history(30), future()
    oip: Any = GRPCInferenceServiceStub(channel)
    stub.OpenSession(pb.OpenSessionRequest(session_id=f"oip/shop/{session_id}", options=SHOP))
    for start, stop in ((0, 20), (20, 30)):
        rows = sales.rows[None, start:stop]
        tensors = [tensor("covariates", rows[..., TARGETS:], "FP64"), tensor("values", rows[..., :TARGETS], "FP64")]
        if start == 0:
            tensors.append(tensor("start_time", [BEGIN], "INT64"))
        tensors.append(tensor("future_covariates", coming[None], "FP64"))
        answer = oip.ModelInfer(infer(session_id, model="shop", tensors=tensors, horizon=HORIZON))
    assert_close(numbers(answer, "forecast")[0], sales.forecast(coming))
    tensors[0] = tensor("covariates", [1.0])
    code, status = failure(lambda: oip.ModelInfer(infer(session_id, model="shop", tensors=tensors)))
    assert (code, reason(status)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    described = oip.ModelMetadata(inference_service_pb2.ModelMetadataRequest(name="shop"))
    assert [each.name for each in described.inputs] == ["values", "covariates", "future_covariates", "start_time"]


def test_a_sequence_of_symbols(channel: grpc.Channel, session_id: str) -> None:
    oip: Any = GRPCInferenceServiceStub(channel)
    answer = oip.ModelInfer(infer(session_id, model="letters", start=True, tensors=[tensor("x", [0, 3], "INT32")]))
    assert numbers(answer, "forecast").shape == (1, 3, len(SYMBOLS), 1)
    assert_close(numbers(answer, "forecast").sum(axis=2), 1.0)
    assert numbers(answer, "quantile_levels").size == 0
    code, status = failure(lambda: oip.ModelInfer(infer(session_id, 1, 4, model="letters")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert status.message.startswith("raw_input_contents[0]: element 1 of 'values': 4 is not the number of one")
    config = oip.ModelConfig(inference_service_pb2.ModelConfigRequest(name="letters")).config
    assert config.parameters["classes"].string_value == ",".join(SYMBOLS)


def test_covariates_pit_and_gates_are_those_of_the_model(stub: ForecastServiceStub, session_id: str) -> None:
    sales, coming = history(30), future()
    stub.Forecast(request(sales, session_id, 0, 20))
    response = stub.Forecast(
        request(sales, session_id, 20, 30, horizon=HORIZON, future_covariates=coming.ravel(), explain=True)
    )
    assert (response.version.step, response.version.tag) == sales.version
    assert_close(values(response), sales.forecast(coming))
    assert_close(np.array(response.pit).reshape(-1, TARGETS), sales.trace().pit[0, 20:].numpy())
    gates, wanted = response.gates, sales.gates(30)
    assert (list(gates.names), gates.layers, gates.hidden_size) == (["input", "forget", "candidate", "output"], 2, 8)
    assert wanted.cell is not None
    assert_close(np.array(gates.values).reshape(2, 4, 8), wanted.values.numpy())
    assert_close(np.array(gates.cell).reshape(2, 8), wanted.cell.numpy())
    assert_close(np.array(gates.hidden).reshape(2, 8), wanted.hidden.numpy())
    silent = stub.Forecast(pb.ForecastRequest(session_id=session_id, horizon=1, explain=True))
    assert not silent.HasField("gates")
    assert not silent.pit


def test_it_goes_on_through_restarts_and_replicas(rich_settings: Settings, session_id: str) -> None:
    sales, servers = history(24), [ServerThread(rich_settings) for _ in range(2)]
    for number, (start, stop) in enumerate([(0, 3), (3, 4), (4, 11), (11, 24)]):
        with grpc.insecure_channel(servers[number % 2].target) as channel:
            stub: Any = ForecastServiceStub(channel)
            response = stub.Forecast(request(sales, session_id, start, stop, horizon=HORIZON))
        if number == 1:
            servers[0].stop()
            servers[0] = ServerThread(rich_settings)
    for server in servers:
        server.stop()
    assert (response.version.step, response.version.tag) == sales.version
    assert_close(values(response), sales.forecast())


def test_frames_carry_everything(channel: grpc.Channel, stub: ForecastServiceStub, session_id: str) -> None:
    sales = history(12)
    requests = [
        request(sales, session_id, 0, 5, request_id="1", explain=True),
        request(sales, session_id, 5, 12, request_id="2", horizon=2, future_covariates=[1.0] * 4),
        request(sales, session_id, 5, 12, request_id="3", future_covariates=[1.0]),
    ]
    results = stub.ForecastMany(pb.ForecastManyRequest(requests=requests)).results
    pit = np.concatenate([result.response.pit for result in results[:2]]).reshape(-1, TARGETS)
    assert_close(pit, sales.trace().pit[0].numpy())
    assert_close(values(results[1].response), sales.forecast(np.ones((2, 2)), 2))
    assert [result.response.HasField("gates") for result in results] == [True, False, False]
    violation = detail(results[2].status, error_details_pb2.BadRequest).field_violations[0]
    assert violation.field == "future_covariates"
    repeated = stub.ForecastStream(iter([pb.ForecastStreamRequest(requests=requests[1:2])]))
    (again,) = [result.response for frame in repeated for result in frame.results]
    assert (again.replayed, list(again.pit)) == (True, [])


def test_sessions_show_their_categories(stub: ForecastServiceStub, session_id: str) -> None:
    opened = stub.OpenSession(pb.OpenSessionRequest(session_id=session_id, options=SHOP))
    assert opened.session.categories == CATEGORY_VALUES
    stub.Forecast(request(history(7), session_id, 0, 7))
    stub.ForkSession(pb.ForkSessionRequest(source_session_id=session_id, session_id=session_id + "-fork"))
    for name in (session_id, session_id + "-fork"):
        looked = stub.GetSession(pb.GetSessionRequest(session_id=name)).session
        assert looked.categories == CATEGORY_VALUES
        page = stub.ListSessions(pb.ListSessionsRequest(prefix=name, page_size=1000))
        while page.next_page_token and looked not in page.sessions:
            page = stub.ListSessions(
                pb.ListSessionsRequest(prefix=name, page_size=1000, page_token=page.next_page_token)
            )
        assert looked in page.sessions
    other = forecast_pb2.OpenOptions(categories={"region": "north"})
    code, status = failure(lambda: stub.OpenSession(pb.OpenSessionRequest(session_id=session_id, options=other)))
    assert (code, reason(status)) == (grpc.StatusCode.FAILED_PRECONDITION, "OTHER_CATEGORIES")
    assert "'south'" in status.message


def test_a_model_of_symbols_gives_probabilities(stub: ForecastServiceStub, session_id: str) -> None:
    response = stub.Forecast(
        pb.ForecastRequest(session_id=session_id, open=LETTERS, observations=observations(0, math.nan, 3), horizon=2)
    )
    forecast = response.forecast
    assert (list(forecast.classes), list(forecast.quantile_levels)) == (list(SYMBOLS), [])
    assert_close(values(response).sum(axis=1), 1.0)
    assert np.isnan(response.pit).tolist() == [True] * 3


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "infinite covariate": (
        {"observations": observations(1, 2, covariates=[0, math.inf])},
        "observations.covariates[1]",
    ),
    "large covariate": ({"observations": observations(1, 2, covariates=[-1e31, 0])}, "observations.covariates[0]"),
    "covariates of half a step": ({"observations": observations(1, 2, covariates=[0])}, "observations.covariates"),
    "covariates of no values": ({"observations": observations(covariates=[0, 0])}, "observations.covariates"),
    "covariates of a model without": (
        {"open": LETTERS, "observations": observations(1, covariates=[0])},
        "observations.covariates",
    ),
    "infinite future": ({"horizon": 1, "future_covariates": [0, -math.inf]}, "future_covariates[1]"),
    "future of another length": ({"horizon": 2, "future_covariates": [0, 0]}, "future_covariates"),
    "future of no horizon": ({"future_covariates": [0, 0]}, "future_covariates"),
    "future of a model without": ({"open": LETTERS, "horizon": 1, "future_covariates": [0]}, "future_covariates"),
    "other category": (
        {"open": forecast_pb2.OpenOptions(model="shop", categories={"colour": "red"})},
        "open.categories['colour']",
    ),
    "category of a model without": (
        {"open": forecast_pb2.OpenOptions(model="letters", categories={"region": "north"})},
        "open.categories['region']",
    ),
    "long category": (
        {"open": forecast_pb2.OpenOptions(model="shop", categories={"region": "x" * 257})},
        "open.categories['region']",
    ),
    "long name of a category": (
        {"open": forecast_pb2.OpenOptions(model="shop", categories={"x" * 257: "y"})},
        f"open.categories['{'x' * 64}...']",
    ),
    "many categories": (
        {"open": forecast_pb2.OpenOptions(model="shop", categories={str(at): "" for at in range(101)})},
        "open.categories",
    ),
    "no symbol": ({"open": LETTERS, "observations": observations(0, 4)}, "observations.values[1]"),
    "half a symbol": ({"open": LETTERS, "observations": observations(0.5)}, "observations.values[0]"),
    "quantiles of symbols": ({"open": LETTERS, "horizon": 1, "quantile_levels": [0.5]}, "quantile_levels"),
}


@pytest.mark.parametrize(("change", "field"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_field_is_named_and_no_session_opened(
    stub: ForecastServiceStub, session_id: str, change: dict[str, Any], field: str
) -> None:
    fields: dict[str, Any] = {"session_id": session_id, "open": SHOP} | change
    code, status = failure(lambda: stub.Forecast(pb.ForecastRequest(**fields)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = detail(status, error_details_pb2.BadRequest).field_violations
    assert violation.field == field
    assert status.message == f"{field}: {violation.description}"
    code, _ = failure(lambda: stub.GetSession(pb.GetSessionRequest(session_id=session_id)))
    assert code is grpc.StatusCode.NOT_FOUND


def test_a_wrong_option_is_named_as_it_stands_in_the_call(stub: ForecastServiceStub, session_id: str) -> None:
    for categories, field in (
        ({"colour": "red"}, "options.categories['colour']"),
        ({"kind": "x" * 257}, "options.categories['kind']"),
    ):
        options = forecast_pb2.OpenOptions(model="shop", categories=categories)
        call = partial(stub.OpenSession, pb.OpenSessionRequest(session_id=session_id, options=options))
        code, status = failure(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert detail(status, error_details_pb2.BadRequest).field_violations[0].field == field


def test_models_tell_what_they_take_and_give(channel: grpc.Channel) -> None:
    stub: Any = ModelServiceStub(channel)
    listed = {model.name: model for model in stub.ListModels(model_service_pb2.ListModelsRequest()).models}
    shop = stub.GetModel(model_service_pb2.GetModelRequest(name="shop")).model
    assert listed["shop"] == shop
    assert list(shop.covariates) == ["price", "holiday"]
    assert [(each.name, list(each.values)) for each in shop.categories] == [
        ("region", ["north", "south"]),
        ("kind", ["small", "large", "huge"]),
    ]
    assert (shop.adaptive, list(shop.classes)) == (True, [])
    letters = listed["letters"]
    assert (list(letters.classes), list(letters.quantile_levels)) == (list(SYMBOLS), [])
    assert (letters.adaptive, letters.window, len(letters.covariates)) == (False, 0, 0)
    assert not listed["tiny"].adaptive


def test_live_coverage_is_counted_once(rich_models: Path, any_redis: RedisProcess, session_id: str) -> None:
    settings = Settings(redis_url=any_redis.url, models=rich_models, namespace=session_id)
    server, sales = ServerThread(settings), history(30)
    with grpc.insecure_channel(server.target) as channel:
        stub: Any = ForecastServiceStub(channel)
        for number, start in enumerate(range(0, 30, 10)):
            asked = request(sales, session_id, start, start + 10, request_id=str(number))
            assert [stub.Forecast(asked).replayed for _ in range(3)] == [False, True, True]
        text = urlopen(server.metrics_url).read().decode()
    server.stop()
    pattern = (
        r'^statecast_interval_observations_total\{inside="(\w+)",level="80",model="shop",model_version="1"\} (\S+)$'
    )
    counted = {inside: float(count) for inside, count in re.findall(pattern, text, re.MULTILINE)}
    pit = sales.trace().pit.numpy()
    inside = int(((pit >= 0.1) & (pit <= 0.9)).sum())
    assert counted == {"true": inside, "false": int(np.isfinite(pit).sum()) - inside}
    assert shop_model().config.quantile_levels[1::2] == (0.1, 0.9)
