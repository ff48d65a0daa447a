"""Requests of the Open Inference Protocol, and what their answers hold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statecast.oip import inference_service_pb2 as pb

_DTYPES = {"FP32": "<f4", "FP64": "<f8", "INT32": "<i4", "INT64": "<i8"}


def tensor(name: str, numbers: Any, datatype: str = "FP32", shape: Sequence[int] = ()) -> Any:
    """Return an input, and its raw elements."""
    array = np.array(numbers, _DTYPES[datatype])
    shape = shape or array.shape
    return pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape), array.tobytes()


def infer(sequence: int | str | None, *values: float, model: str = "tiny", **others: Any) -> pb.ModelInferRequest:
    """Return a request; `start`, `end`, `exactly_once`, `horizon` and `timeout` are parameters, others are fields."""
    message = pb.ModelInferRequest(model_name=model)
    if sequence is not None:
        kind = "string_param" if isinstance(sequence, str) else "int64_param"
        setattr(message.parameters["sequence_id"], kind, sequence)
    for name, parameter in (("start", "sequence_start"), ("end", "sequence_end"), ("exactly_once", "exactly_once")):
        if name in others:
            message.parameters[parameter].bool_param = others.pop(name)
    for name in ("horizon", "timeout"):
        if name in others:
            message.parameters[name].int64_param = others.pop(name)
    tensors = others.pop("tensors", [tensor("values", [values])] if values else [])
    for described, raw in tensors:
        message.inputs.append(described)
        message.raw_input_contents.append(raw)
    for name in others.pop("outputs", ()):
        message.outputs.add(name=name)
    message.MergeFrom(pb.ModelInferRequest(**others))
    return message


def numbers(response: pb.ModelInferResponse, name: str) -> NDArray[Any]:
    """Return an output of an answer."""
    names = [each.name for each in response.outputs]
    output, raw = response.outputs[names.index(name)], response.raw_output_contents[names.index(name)]
    return np.frombuffer(raw, _DTYPES[output.datatype]).reshape(output.shape)


def step(response: pb.ModelInferResponse) -> int:
    """Return the sequence's step after a request."""
    return int(numbers(response, "step").item())
