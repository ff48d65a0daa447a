"""Describes models to clients of the Open Inference Protocol."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from statecast.oip import inference_service_pb2 as pb
from statecast.service.models.registry import Model
from statecast.service.rpc.tensor_names import (
    COVARIATES,
    FORECAST,
    FUTURE_COVARIATES,
    QUANTILE_LEVELS,
    START_TIME,
    STEP,
    VALUES,
    TensorNames,
)

PLATFORM = "statecast"


class _Tensor(NamedTuple):
    name: str
    datatype: str
    shape: Sequence[int]


def metadata(model: Model, versions: Iterable[str], names: TensorNames) -> pb.ModelMetadataResponse:
    """Return the description of a model's tensors."""
    answer = pb.ModelMetadataResponse(name=model.config.name, versions=versions, platform=PLATFORM)
    for tensors, described in ((_inputs(model), answer.inputs), (_outputs(model), answer.outputs)):
        for each in tensors:
            described.add(name=names.shown(model.config.name, each.name), datatype=each.datatype, shape=each.shape)
    return answer


def configuration(model: Model, names: TensorNames, idle_microseconds: int) -> pb.ModelConfig:
    """Return the model's configuration, whose sequences are kept for so long without a request."""
    config = model.config
    answer = pb.ModelConfig(name=config.name, platform=PLATFORM, backend=PLATFORM)
    answer.sequence_batching.max_sequence_idle_microseconds = idle_microseconds
    for each in _inputs(model):
        name, kind = names.shown(config.name, each.name), pb.DataType.Value(f"TYPE_{each.datatype}")
        answer.input.add(name=name, data_type=kind, dims=each.shape, optional=each.name != VALUES)
    for each in _outputs(model):
        name, kind = names.shown(config.name, each.name), pb.DataType.Value(f"TYPE_{each.datatype}")
        answer.output.add(name=name, data_type=kind, dims=each.shape)
    lists = {"targets": config.targets, "covariates": config.covariates, "classes": config.classes}
    parameters = {name: ",".join(listed) for name, listed in lists.items()} | {"frequency": config.frequency}
    for name, value in parameters.items():
        if value:
            answer.parameters[name].string_value = value
    return answer


def _inputs(model: Model) -> Iterable[_Tensor]:
    yield _Tensor(VALUES, "FP32", (1, -1, model.targets))
    if covariates := model.width - model.targets:
        yield _Tensor(COVARIATES, "FP32", (1, -1, covariates))
        yield _Tensor(FUTURE_COVARIATES, "FP32", (1, -1, covariates))
    if model.frequency:
        yield _Tensor(START_TIME, "INT64", (1,))


def _outputs(model: Model) -> Iterable[_Tensor]:
    levels = model.config.quantile_levels
    yield _Tensor(FORECAST, "FP32", (1, -1, len(levels or model.config.classes), model.targets))
    yield _Tensor(QUANTILE_LEVELS, "FP32", (len(levels),))
    yield _Tensor(STEP, "INT64", (1,))
