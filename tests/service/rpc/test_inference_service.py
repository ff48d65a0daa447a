"""The Open Inference Protocol as raw calls, over both transports."""

import itertools
import queue
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from support import await_true
from support.engines import assert_close, expected
from support.inference import infer, numbers, step, tensor
from support.models import HORIZON, LEVELS
from support.wire import detail, failure, reason

from statecast.oip import inference_service_pb2 as pb
from statecast.oip.inference_service_pb2_grpc import GRPCInferenceServiceStub
from statecast.service.rpc.accounting import UNSUPPORTED_METHODS
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as forecasts
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

DAY = 86_400_000_000_000


@pytest.fixture(scope="module")
def oip(channel: grpc.Channel) -> Any:
    return GRPCInferenceServiceStub(channel)


@pytest.fixture
def sequence() -> str:
    return uuid.uuid4().hex


def session_of(stub: ForecastServiceStub, sequence: str, model: str = "tiny") -> forecast_pb2.Session:
    session_id = f"oip/{model}/{sequence}"
    return stub.GetSession(forecasts.GetSessionRequest(session_id=session_id)).session


def refused(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """Return the code of a call that fails, the field that it names and its message."""
    code, status = failure(call)
    bad = detail(status, error_details_pb2.BadRequest) if code is grpc.StatusCode.INVALID_ARGUMENT else None
    return code, bad.field_violations[0].field if bad else "", status.message


def test_a_sequence_is_a_session(oip: Any, stub: ForecastServiceStub, sequence: str) -> None:
    first = oip.ModelInfer(infer(sequence, 1, 2, start=True, id="x"))
    assert (first.model_name, first.model_version, first.id) == ("tiny", "1", "x")
    assert [(each.name, each.datatype, list(each.shape)) for each in first.outputs] == [
        ("OUTPUT", "FP32", [1, HORIZON, len(LEVELS), 1]), ("quantile_levels", "FP32", [len(LEVELS)]),
        ("step", "INT64", [1]),
    ]  # fmt: skip
    assert not first.parameters
    assert_close(numbers(first, "OUTPUT")[0], expected([1, 2]))
    assert_close(numbers(first, "quantile_levels"), LEVELS)
    second = oip.ModelInfer(infer(sequence, 3, id="x"))  # programs use ids again
    assert (second.id, step(second)) == ("x", 3)
    assert_close(numbers(second, "OUTPUT")[0], expected([1, 2, 3]))
    session = session_of(stub, sequence)
    assert (session.model, session.version.step) == ("tiny", 3)
    native = stub.Forecast(forecasts.ForecastRequest(session_id=session.session_id, horizon=HORIZON))
    assert_close(np.array(native.forecast.values), numbers(second, "OUTPUT").ravel())


def test_an_integer_names_the_sequence_as_its_text_does(oip: Any, sequence: str) -> None:
    number = int(sequence[:8], 16)
    oip.ModelInfer(infer(number, 1, start=True))
    assert step(oip.ModelInfer(infer(str(number), 2))) == 2
    assert step(oip.ModelInfer(infer(-number, 1, start=True))) == 1


@pytest.mark.parametrize(
    ("elements", "datatype", "shape"),
    [
        ([1, 2], "FP32", [2]), ([1, 2], "FP64", [1, 2]), ([1, 2], "FP32", [1, 2, 1]), ([1], "FP64", [1, 1, 1]),
        ([1], "FP32", [1]), ([1, 2], "INT32", [1, 2]), ([1, 2], "INT64", [2]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_raw", [True, False])
def test_values_come_in_many_forms(
    oip: Any, sequence: str, elements: Sequence[float], datatype: str, shape: Sequence[int], is_raw: bool
) -> None:
    message = infer(sequence, start=True, tensors=[tensor("anything", elements, datatype, shape)])
    if not is_raw:
        fields = {"FP32": "fp32_contents", "FP64": "fp64_contents", "INT32": "int_contents", "INT64": "int64_contents"}
        getattr(message.inputs[0].contents, fields[datatype]).extend(elements)
        message.ClearField("raw_input_contents")
    assert_close(numbers(oip.ModelInfer(message), "OUTPUT")[0], expected(elements))


def test_several_targets(oip: Any, sequence: str) -> None:
    rows = np.arange(6.0)
    oip.ModelInfer(infer(sequence, model="three", start=True, tensors=[tensor("x", rows[:3], shape=[1, 3])]))
    both = oip.ModelInfer(
        infer(sequence + "2", model="three", start=True, tensors=[tensor("x", rows, "FP64", [1, 2, 3])])
    )
    one = oip.ModelInfer(infer(sequence, model="three", tensors=[tensor("x", rows[3:], shape=[3])]))
    assert numbers(one, "forecast").shape == (1, HORIZON, len(LEVELS), 3)
    assert_close(numbers(one, "forecast"), numbers(both, "forecast"))


def test_names_of_the_operator_and_of_the_server(oip: Any, sequence: str) -> None:
    message = infer(sequence, start=True, tensors=[tensor("INPUT", [1.0])], outputs=["forecast", "OUTPUT"])
    answer = oip.ModelInfer(message)
    assert [each.name for each in answer.outputs] == ["forecast", "OUTPUT"]
    assert (numbers(answer, "forecast") == numbers(answer, "OUTPUT")).all()
    assert [each.name for each in oip.ModelInfer(infer(sequence, 1, outputs=["step"])).outputs] == ["step"]


def test_a_model_with_times(oip: Any, stub: ForecastServiceStub, sequence: str) -> None:
    noon = 20_000 * DAY + DAY // 2
    values, start = tensor("values", [[1.0, 2.0]]), tensor("start_time", [noon], "INT64")
    oip.ModelInfer(infer(sequence, model="hourly", start=True, tensors=[start, values]))
    assert session_of(stub, sequence, "hourly").last_time.seconds == noon // 10**9 + 3600
    assert step(oip.ModelInfer(infer(sequence, 3, model="hourly"))) == 3
    code, field, message = refused(lambda: oip.ModelInfer(infer(sequence + "2", 1, model="hourly", start=True)))
    assert (code, field) == (grpc.StatusCode.INVALID_ARGUMENT, "inputs")
    assert message.startswith("inputs: start_time: ")


def test_the_horizon_is_the_models_unless_asked(oip: Any, sequence: str) -> None:
    short = oip.ModelInfer(infer(sequence, 1, start=True, horizon=2))
    assert numbers(short, "OUTPUT").shape == (1, 2, len(LEVELS), 1)
    code, field, _ = refused(lambda: oip.ModelInfer(infer(sequence, 1, horizon=HORIZON + 1)))
    assert (code, field) == (grpc.StatusCode.INVALID_ARGUMENT, "parameters['horizon']")


def test_a_start_begins_anew_and_a_repeated_one_does_not(oip: Any, sequence: str) -> None:
    oip.ModelInfer(infer(sequence, 1, 2, start=True))
    begun = infer(sequence, 5, start=True, id="s", exactly_once=True)
    first = oip.ModelInfer(begun)
    assert (step(first), dict(first.parameters)) == (1, {})
    oip.ModelInfer(infer(sequence, 6))
    again = oip.ModelInfer(begun)
    assert (step(again), again.parameters["replayed"].bool_param) == (2, True)
    assert_close(numbers(again, "OUTPUT")[0], expected([5, 6]))
    assert step(oip.ModelInfer(infer(sequence, 5, start=True, id="s"))) == 1  # without exactly_once it is an echo


def test_an_end_may_be_repeated_and_then_a_start_is_needed(oip: Any, stub: ForecastServiceStub, sequence: str) -> None:
    oip.ModelInfer(infer(sequence, 1, start=True))
    last = infer(sequence, 2, end=True, id="e", exactly_once=True)
    ended, again = oip.ModelInfer(last), oip.ModelInfer(last)
    assert again.parameters["replayed"].bool_param
    assert_close(numbers(again, "OUTPUT"), numbers(ended, "OUTPUT"))
    code, field, message = refused(lambda: oip.ModelInfer(infer(sequence, 3)))
    assert (code, field) == (grpc.StatusCode.INVALID_ARGUMENT, "parameters")
    assert "START flag" in message
    assert message.endswith("it has ended, or was closed")
    code, status = failure(lambda: session_of(stub, sequence))
    assert (code, reason(status)) == (grpc.StatusCode.NOT_FOUND, "SESSION_CLOSED")
    assert step(oip.ModelInfer(infer(sequence, 3, start=True))) == 1


def wrong(**changes: Any) -> pb.ModelInferRequest:
    message = infer("w", 1.0, start=True)
    for path, value in changes.items():
        if isinstance(value, pb.InferParameter):
            message.parameters[path].CopyFrom(value)
        elif path.startswith("input_"):
            field = path.removeprefix("input_")
            message.inputs[0].ClearField(field)  # type: ignore[arg-type]
            message.inputs[0].MergeFrom(pb.ModelInferRequest.InferInputTensor(**{field: value}))
        else:
            message.ClearField(path)  # type: ignore[arg-type]
            message.MergeFrom(pb.ModelInferRequest(**{path: value}))
    return message


def parameter(**choice: Any) -> pb.InferParameter:
    return pb.InferParameter(**choice)


SHM = {"shared_memory_region": pb.InferParameter(string_param="x")}
TWO = [tensor("values", [1.0])[0]] * 2
INVALID = {
    "no model": (wrong(model_name=""), "model_name"),
    "no sequence": (infer(None, 1.0), "parameters"),
    "sequence 0": (infer(0, 1.0, start=True), "parameters"),
    "empty sequence": (infer("", 1.0, start=True), "parameters"),
    "sequence of another type": (wrong(sequence_id=parameter(double_param=1)), "parameters['sequence_id']"),
    "sequence without a value": (wrong(sequence_id=parameter()), "parameters['sequence_id']"),
    "long sequence": (infer("x" * 300, 1.0, start=True), "parameters['sequence_id']"),
    "unprintable sequence": (infer("a\nb", 1.0, start=True), "parameters['sequence_id']"),
    "start as a number": (wrong(sequence_start=parameter(int64_param=1)), "parameters['sequence_start']"),
    "misspelled parameter": (wrong(exactly_onc=parameter(bool_param=True)), "parameters['exactly_onc']"),
    "exactly once as text": (wrong(exactly_once=parameter(string_param="true")), "parameters['exactly_once']"),
    "exactly once without an id": (wrong(exactly_once=parameter(bool_param=True)), "id"),
    "long id": (infer("w", 1.0, start=True, exactly_once=True, id="x" * 65), "id"),
    "horizon 0": (infer("w", 1.0, start=True, horizon=0), "parameters['horizon']"),
    "negative timeout": (infer("w", 1.0, start=True, timeout=-1), "parameters['timeout']"),
    "no inputs": (infer("w", start=True), "inputs"),
    "two equal inputs": (infer("w", start=True, tensors=[tensor("values", [1.0])] * 2), "inputs[1].name"),
    "one name and its other": (
        infer("w", start=True, tensors=[tensor("values", [1.0]), tensor("INPUT", [1.0])]), "inputs[1].name"
    ),
    "unknown second input": (
        infer("w", start=True, tensors=[tensor("values", [1.0]), tensor("x", [1.0])]), "inputs[1].name"
    ),
    "many inputs": (infer("w", start=True, tensors=[tensor("values", [1.0])] * 5), "inputs"),
    "no values": (infer("w", start=True, tensors=[tensor("start_time", [1], "INT64")]), "inputs"),
    "type": (wrong(input_datatype="BYTES"), "inputs[0].datatype"),
    "parameters of an input": (wrong(input_parameters={"x": parameter(bool_param=True)}), "inputs[0].parameters"),
    "no shape": (wrong(input_shape=[]), "inputs[0].shape"),
    "negative shape": (wrong(input_shape=[-1, -1]), "inputs[0].shape"),
    "many dimensions": (wrong(input_shape=[1] * 1000), "inputs[0].shape"),
    "huge shape": (wrong(input_shape=[2**63 - 1] * 3), "raw_input_contents[0]"),
    "two sequences": (infer("w", start=True, tensors=[tensor("x", [[1.0], [2.0]])]), "inputs[0].shape"),
    "too many targets": (infer("w", start=True, tensors=[tensor("x", [[[1.0, 2.0]]])]), "inputs[0].shape"),
    "too few targets": (infer("w", 1, 2, model="three", start=True), "inputs[0].shape"),
    "nothing": (infer("w", start=True, tensors=[tensor("x", [], shape=[0])]), "inputs[0].shape"),
    "short raw contents": (wrong(raw_input_contents=[b"abc"]), "raw_input_contents[0]"),
    "too many raw contents": (wrong(raw_input_contents=[b"abcd"] * 2), "raw_input_contents"),
    "both contents": (wrong(input_contents={"fp32_contents": [1.0]}), "inputs[0].contents"),
    "contents of another type": (
        wrong(raw_input_contents=[], input_contents={"fp64_contents": [1.0]}), "inputs[0].contents"
    ),
    "no contents": (wrong(raw_input_contents=[]), "inputs[0]"),
    "overflow": (
        wrong(raw_input_contents=[], input_datatype="INT8", input_contents={"int_contents": [300]}),
        "inputs[0].contents.int_contents[0]",
    ),
    "infinite": (infer("w", 1, np.inf, start=True), "raw_input_contents[0]"),
    "infinite, typed": (
        wrong(raw_input_contents=[], input_contents={"fp32_contents": [np.inf]}), "inputs[0].contents.fp32_contents[0]"
    ),
    "too many steps": (infer("w", start=True, tensors=[tensor("x", np.zeros(10_001))]), "inputs[0]"),
    "covariates of a model without": (
        infer("w", start=True, tensors=[tensor("values", [1.0]), tensor("covariates", [1.0])]), "inputs[1]"
    ),
    "time as a number": (
        infer("w", model="hourly", start=True, tensors=[tensor("values", [1.0]), tensor("start_time", [1.0])]),
        "inputs[1]",
    ),
    "time of no year": (
        infer(
            "w", model="hourly", start=True,
            tensors=[tensor("values", [1.0]), tensor("start_time", [2**63 - 1], "INT64")],
        ),
        "inputs[1]",
    ),
    "time without a frequency": (
        infer("w", start=True, tensors=[tensor("values", [1.0]), tensor("start_time", [1], "INT64")]), "inputs[1]"
    ),
    "unknown output": (infer("w", 1, start=True, outputs=["x"]), "outputs[0].name"),
    "an input as output": (infer("w", 1, start=True, outputs=["step", "INPUT"]), "outputs[1].name"),
    "many outputs": (infer("w", 1, start=True, outputs=["step"] * 4), "outputs"),
    "no start": (infer("never started", 1.0), "parameters"),
}  # fmt: skip


@pytest.mark.parametrize("what", INVALID)
def test_a_wrong_request_is_refused_by_field(oip: Any, what: str) -> None:
    message, field = INVALID[what]
    # With a short deadline a slow server would refuse 10,001 steps before it has read them.
    code, named, text = refused(lambda: oip.ModelInfer(message, timeout=120))
    assert (code, named) == (grpc.StatusCode.INVALID_ARGUMENT, field), text


@pytest.mark.parametrize(
    "message",
    [
        wrong(input_parameters=SHM),
        wrong(outputs=[{"name": "step", "parameters": {"classification": parameter(int64_param=1)}}]),
        wrong(outputs=[{"name": "step", "parameters": SHM}]),
    ],
)
def test_what_makes_no_sense_here(oip: Any, message: pb.ModelInferRequest) -> None:
    code, status = failure(lambda: oip.ModelInfer(message, timeout=20))
    assert (code, reason(status)) == (grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED")


@pytest.mark.parametrize("method", UNSUPPORTED_METHODS)
def test_other_methods_say_what_to_use(oip: Any, method: str) -> None:
    code, status = failure(lambda: getattr(oip, method)(pb.UnsupportedRequest(), timeout=20))
    assert (code, reason(status)) == (grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED")
    assert "; " in status.message


def test_another_model_or_version(oip: Any, sequence: str) -> None:
    for message in (infer(sequence, 1, model="none", start=True), infer(sequence, 1, model_version="9", start=True)):
        code, status = failure(partial(oip.ModelInfer, message))
        assert (code, reason(status)) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert oip.ModelInfer(infer(sequence, 1, model_version="1", start=True)).model_version == "1"


def test_the_timeout_is_that_of_the_caller(oip: Any, sequence: str) -> None:
    code, status = failure(lambda: oip.ModelInfer(infer(sequence, 1, start=True, timeout=1)))
    # Refused at once, if the server knows how long a batch takes.
    assert (code.name, reason(status)) in (
        ("DEADLINE_EXCEEDED", "DEADLINE_PASSED"),
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL"),
    )
    assert step(oip.ModelInfer(infer(sequence, 1, start=True, timeout=20_000_000))) == 1


def test_server_and_models_are_described(oip: Any) -> None:
    assert oip.ServerLive(pb.ServerLiveRequest()).live
    assert oip.ServerReady(pb.ServerReadyRequest()).ready
    assert oip.ServerMetadata(pb.ServerMetadataRequest()).name == "statecast"
    ready = {
        (name, version): oip.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready
        for name in ("tiny", "none")
        for version in ("", "1", "9")
    }
    assert [which for which, is_ready in ready.items() if is_ready] == [("tiny", ""), ("tiny", "1")]
    for name, inputs in (("tiny", ["INPUT"]), ("hourly", ["values", "start_time"])):
        described = oip.ModelMetadata(pb.ModelMetadataRequest(name=name))
        assert (described.name, list(described.versions), described.platform) == (name, ["1"], "statecast")
        assert [each.name for each in described.inputs] == inputs
        config = oip.ModelConfig(pb.ModelConfigRequest(name=name)).config
        assert [(each.name, each.optional) for each in config.input] == list(zip(inputs, (False, True), strict=False))
        assert [list(each.dims) for each in config.output] == [list(each.shape) for each in described.outputs]
        assert config.parameters["targets"].string_value == "value"
    assert config.parameters["frequency"].string_value == "h"
    assert config.sequence_batching.max_sequence_idle_microseconds == 30 * 86_400 * 10**6
    code, status = failure(lambda: oip.ModelMetadata(pb.ModelMetadataRequest(name="none")))
    assert (code, reason(status)) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


def test_a_stream_answers_in_the_order_of_its_requests(oip: Any, sequence: str) -> None:
    steps, sequences = 20, [f"{sequence}-{number}" for number in range(5)]
    asked = [
        infer(each, float(number), start=number == 0, end=number == steps - 1, id=f"{each} {number}")
        for number, each in itertools.product(range(steps), sequences)
    ]
    asked += asked  # each sequence starts again once it has ended
    answers = list(oip.ModelStreamInfer(iter(asked), timeout=60))
    assert [each.infer_response.id for each in answers] == [each.id for each in asked]
    assert not any(each.error_message for each in answers)
    assert all(each.infer_response.parameters["triton_final_response"].bool_param for each in answers)
    assert [step(each.infer_response) for each in answers] == 2 * [
        number + 1 for number in range(steps) for _ in sequences
    ]
    last = numbers(answers[-1].infer_response, "OUTPUT")[0]
    assert_close(last, expected([float(number) for number in range(steps)]))


def test_a_wrong_request_does_not_end_a_stream(oip: Any, sequence: str) -> None:
    asked = [
        infer(sequence, 1, start=True, id="a"), infer(sequence + "?", 1, id="b"), infer(sequence, np.inf, id="c"),
        infer(sequence, 2, id="d", timeout=1), infer(sequence, 3, id="e"),
    ]  # fmt: skip
    answers = list(oip.ModelStreamInfer(iter(asked), timeout=20))
    assert [each.infer_response.id for each in answers] == list("abcde")
    assert [bool(each.error_message) for each in answers] == [False, True, True, True, False]
    assert "START flag" in answers[1].error_message
    assert step(answers[4].infer_response) == 2


def test_a_stream_answers_each_request_at_once(oip: Any, sequence: str) -> None:
    asked: queue.Queue[pb.ModelInferRequest | None] = queue.Queue()
    answers = oip.ModelStreamInfer(iter(asked.get, None), timeout=30)
    for number in range(3):
        asked.put(infer(sequence, float(number), start=not number))
        assert step(next(answers).infer_response) == number + 1
    asked.put(None)
    assert not list(answers)


def test_a_caller_that_leaves_its_stream_strands_nobody(oip: Any, sequence: str) -> None:
    def requests() -> Iterator[pb.ModelInferRequest]:
        for number in itertools.count():
            yield infer(sequence, float(number), start=not number)

    answers = oip.ModelStreamInfer(requests(), timeout=30)
    next(answers)
    answers.cancel()
    # What it has sent is carried out or dropped, and others are served.
    assert step(oip.ModelInfer(infer(sequence + "b", 1, start=True), timeout=20)) == 1

    def is_still() -> bool:
        return step(oip.ModelInfer(infer(sequence, 1))) + 1 == step(oip.ModelInfer(infer(sequence, 1)))

    await_true(is_still)


def test_a_message_of_a_stream_may_not_be_too_large(oip: Any, sequence: str) -> None:
    large = infer(sequence, start=True, tensors=[tensor("x", np.zeros(1_100_000))])
    code, field, _ = refused(lambda: list(oip.ModelStreamInfer(iter([large]), timeout=20)))
    assert (code, field) == (grpc.StatusCode.INVALID_ARGUMENT, "inputs")
