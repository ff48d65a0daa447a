"""Makes the answers to inference requests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from statecast.oip import inference_service_pb2 as pb
from statecast.service.engine.request import Outcome
from statecast.service.errors import InvalidRequest, Unsupported, quoted
from statecast.service.models.registry import Model
from statecast.service.rpc.tensor_names import FORECAST, OUTPUTS, QUANTILE_LEVELS, TensorNames


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the answer to a request has: the model's name, the request's id, and each output's name with its tensor."""

    model: str
    id: str
    outputs: Sequence[tuple[str, str]]


def to_wanted(message: pb.ModelInferRequest, model: Model, names: TensorNames) -> Wanted:
    """Return what a ModelInferRequest wants; without a list of outputs, all of them.

    Raises:
        InvalidRequest: if it wants an unknown tensor.
        Unsupported: if it wants one in another form.
    """
    name = model.config.name
    outputs = [(names.shown(name, tensor), tensor) for tensor in OUTPUTS]
    if message.outputs:
        if len(message.outputs) > len(OUTPUTS):
            raise InvalidRequest("outputs", f"{len(message.outputs)} are more than the {len(OUTPUTS)} that there are")
        outputs = [(each.name, _tensor(each, at, name, names)) for at, each in enumerate(message.outputs)]
    return Wanted(name, message.id, outputs)


def _tensor(
    wanted: pb.ModelInferRequest.InferRequestedOutputTensor, position: int, model: str, names: TensorNames
) -> str:
    tensor, place = names.find(model, wanted.name), f"outputs[{position}]"
    if tensor is None or tensor not in OUTPUTS:
        known = ", ".join(names.shown(model, each) for each in OUTPUTS)
        problem = f"{quoted(wanted.name)} is not an output of model {quoted(model)}"
        raise InvalidRequest(f"{place}.name", f"{problem}; the outputs are {known}")
    if "classification" in wanted.parameters:
        raise Unsupported(f"{place} asks for a classification, but outputs are numbers here; leave class_count out")
    if "shared_memory_region" in wanted.parameters:
        raise Unsupported(f"{place} asks for shared memory, which this server does not write; leave it out")
    if wanted.parameters:
        parameter = quoted(next(iter(wanted.parameters)))
        raise InvalidRequest(f"{place}.parameters", f"{parameter} is unknown; leave it out")
    return tensor


def response(wanted: Wanted, outcome: Outcome) -> pb.ModelInferResponse:
    """Return the answer to a request that was carried out."""
    if outcome.model is None or outcome.forecast is None or outcome.version is None:
        raise ValueError("an inference request has a forecast")
    answer = pb.ModelInferResponse(model_name=wanted.model, model_version=outcome.model.config.version, id=wanted.id)
    if outcome.replayed:
        answer.parameters["replayed"].bool_param = True
    forecast = outcome.forecast
    for name, tensor in wanted.outputs:
        if tensor == FORECAST:
            datatype, elements = "FP32", forecast.values[np.newaxis]
        elif tensor == QUANTILE_LEVELS:
            datatype, elements = "FP32", np.array(forecast.outline.quantile_levels, "<f4")
        else:
            datatype, elements = "INT64", np.array([outcome.version.step], "<i8")
        answer.outputs.add(name=name, datatype=datatype, shape=elements.shape)
        answer.raw_output_contents.append(elements.tobytes())
    return answer
