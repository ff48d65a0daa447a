"""Reads the tensors of inference requests, and makes those of their answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from statecast.oip.inference_service_pb2 import ModelInferRequest
from statecast.service.engine.request import NOTHING
from statecast.service.errors import InvalidRequest, Unsupported, quoted
from statecast.service.models.registry import Model
from statecast.service.rpc.fields import check_nanoseconds, first_too_large, too_large
from statecast.service.rpc.tensor_names import COVARIATES, FUTURE_COVARIATES, INPUTS, START_TIME, VALUES, TensorNames

Tensor: TypeAlias = ModelInferRequest.InferInputTensor

MOST_DIMENSIONS = 3
_TYPES: Mapping[str, tuple[str, str]] = {
    "FP32": ("<f4", "fp32_contents"),
    "FP64": ("<f8", "fp64_contents"),
    "INT8": ("<i1", "int_contents"),
    "INT16": ("<i2", "int_contents"),
    "INT32": ("<i4", "int_contents"),
    "INT64": ("<i8", "int64_contents"),
    "UINT8": ("<u1", "uint_contents"),
    "UINT16": ("<u2", "uint_contents"),
    "UINT32": ("<u4", "uint_contents"),
    "UINT64": ("<u8", "uint64_contents"),
}
"""The dtype of each type of elements, and the field that holds elements of a message."""
_WIDE = {"int_contents": "<i4", "uint_contents": "<u4"}
"""The fields that hold elements of several types, with their own."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is in its request, for errors."""

    name: str
    tensor: str
    elements: str

    def element(self, position: int, problem: str) -> InvalidRequest:
        """Return the error for one of its elements."""
        if self.elements.endswith("]"):  # raw ones have no paths
            return InvalidRequest(self.elements, f"element {position} of {quoted(self.name)}: {problem}")
        return InvalidRequest(f"{self.elements}[{position}]", problem)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a request's tensors say; absent ones are empty or None."""

    places: Mapping[str, Place]
    values: NDArray[np.float64]
    covariates: NDArray[np.float64]
    future_covariates: NDArray[np.float64]
    start_time: int | None


@dataclass(frozen=True, slots=True)
class _Read:
    """A tensor of a request, its elements in their own type, and where it is."""

    tensor: Tensor
    elements: NDArray[Any]
    place: Place


def to_inputs(message: ModelInferRequest, model: Model, names: TensorNames) -> Inputs:
    """Return the inputs of a ModelInferRequest to a model.

    Raises:
        InvalidRequest: if a tensor is unknown, missing or invalid.
        Unsupported: if one is in shared memory.
    """
    found = _named(message.inputs, model, names)
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidRequest("raw_input_contents", f"{len(raw)} for {len(message.inputs)} inputs; send one for each")
    read = {name: _read(message.inputs[at], at, raw[at] if raw else None) for name, at in found.items()}
    covariates = max(1, model.width - model.targets)
    values = _numbers(read[VALUES], model.targets, model)
    if not values.size:
        raise InvalidRequest(f"{read[VALUES].place.tensor}.shape", "has no elements; send at least one time step")
    return Inputs(
        {name: each.place for name, each in read.items()},
        values,
        _numbers(read[COVARIATES], covariates, model) if COVARIATES in read else NOTHING,
        _numbers(read[FUTURE_COVARIATES], covariates, model) if FUTURE_COVARIATES in read else NOTHING,
        _time(read[START_TIME]) if START_TIME in read else None,
    )


def _named(inputs: Sequence[Tensor], model: Model, names: TensorNames) -> dict[str, int]:
    """Return the position of each tensor among a request's inputs; one alone has the values, whatever its name."""
    name, found = model.config.name, dict[str, int]()
    if len(inputs) > len(INPUTS):
        raise InvalidRequest("inputs", f"{len(inputs)} are more than the {len(INPUTS)} tensors that a request may have")
    for position, each in enumerate(inputs):
        tensor = names.find(name, each.name)
        if tensor not in INPUTS:
            if len(inputs) > 1:
                known = ", ".join(names.shown(name, each) for each in INPUTS)
                problem = f"{quoted(each.name)} is not an input of model {quoted(name)}"
                raise InvalidRequest(f"inputs[{position}].name", f"{problem}; the inputs are {known}")
            tensor = VALUES
        if tensor in found:
            raise InvalidRequest(f"inputs[{position}].name", f"names the same input as inputs[{found[tensor]}].name")
        found[tensor] = position
    if VALUES not in found:
        raise InvalidRequest("inputs", f"lack {quoted(names.shown(name, VALUES))}, the observations to append")
    return found


def _read(tensor: Tensor, position: int, raw: bytes | None) -> _Read:
    """Return a tensor with its elements, as one dimension."""
    where = f"inputs[{position}]"
    if "shared_memory_region" in tensor.parameters:
        raise Unsupported(f"{where} is in shared memory, which this server does not read; send its elements")
    if tensor.parameters:
        raise InvalidRequest(f"{where}.parameters", f"{quoted(next(iter(tensor.parameters)))} is unknown; leave it out")
    if tensor.datatype not in _TYPES:
        raise InvalidRequest(f"{where}.datatype", f"{quoted(tensor.datatype)} is not one of {', '.join(_TYPES)}")
    if not 1 <= len(tensor.shape) <= MOST_DIMENSIONS or any(size < 0 for size in tensor.shape):
        raise InvalidRequest(f"{where}.shape", f"must have 1 to {MOST_DIMENSIONS} dimensions, none of them negative")
    code, field = _TYPES[tensor.datatype]
    count, dtype, shape = math.prod(tensor.shape), np.dtype(code), list(tensor.shape)
    if raw is not None:
        place = Place(tensor.name, where, f"raw_input_contents[{position}]")
        if tensor.HasField("contents"):
            raise InvalidRequest(f"{where}.contents", "must not be given beside raw_input_contents")
        if len(raw) != count * dtype.itemsize:
            needed = f"the shape {shape} of {quoted(tensor.name)} needs {count * dtype.itemsize}"
            raise InvalidRequest(place.elements, f"{len(raw)} bytes, but {needed}")
        return _Read(tensor, np.frombuffer(raw, dtype), place)
    place = Place(tensor.name, where, f"{where}.contents.{field}")
    listed = getattr(tensor.contents, field)
    if len(listed) != count:
        problem = f"{len(listed)} elements in {field}, but the shape {shape} of {quoted(tensor.name)} needs {count}"
        raise InvalidRequest(f"{where}.contents" if tensor.HasField("contents") else where, problem)
    wide = np.array(listed[:], _WIDE.get(field, code))
    elements = wide.astype(dtype)
    wrong = np.flatnonzero(elements != wide) if field in _WIDE else np.empty(0, np.intp)
    if wrong.size:
        raise place.element(int(wrong[0]), f"{wide[wrong[0]]} is no {tensor.datatype}")
    return _Read(tensor, elements, place)


def _numbers(read: _Read, width: int, model: Model) -> NDArray[np.float64]:
    """Return the numbers of time steps, `width` each."""
    field, shape = f"{read.place.tensor}.shape", list(read.tensor.shape)
    rest = shape[1:] if len(shape) > 1 else shape
    if len(shape) > 1 and shape[0] != 1:
        raise InvalidRequest(field, f"{shape} begins with the batch, which must be 1; send each sequence by itself")
    is_step = len(rest) == 1 and (width == 1 or rest[0] == width)
    if not is_step and not (len(rest) == 2 and rest[1] == width):
        shapes = "[T], [1, T] or [1, T, 1]" if width == 1 else f"[{width}], [1, {width}] or [1, T, {width}]"
        raise InvalidRequest(field, f"{shape} does not fit {model}; send {shapes}, for T time steps")
    numbers = read.elements.astype(np.float64)
    if (position := first_too_large(numbers)) is not None:
        raise read.place.element(position, too_large(numbers[position]))
    return numbers


def _time(read: _Read) -> int:
    """Return the time of the first row, in nanoseconds since 1970."""
    if read.tensor.datatype != "INT64" or read.elements.size != 1:
        raise InvalidRequest(read.place.tensor, "must be one INT64: nanoseconds since 1970")
    return check_nanoseconds(int(read.elements[0]), read.place.tensor)
