"""Converts a ModelInferRequest, a step of a sequence, to a request of the engine, and errors back to its terms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from statecast.oip.inference_service_pb2 import InferParameter, ModelInferRequest
from statecast.service.engine.request import Entrance, Opening, Request, cost
from statecast.service.errors import InvalidRequest, NotFound, ServiceError, quoted
from statecast.service.models.registry import Model, Registry
from statecast.service.rpc.engine_client import Call
from statecast.service.rpc.fields import to_model_name, to_request_id, to_session_id
from statecast.service.rpc.inference_answers import Wanted, to_wanted
from statecast.service.rpc.inference_tensors import Place, to_inputs
from statecast.service.rpc.tensor_names import COVARIATES, FUTURE_COVARIATES, START_TIME, VALUES, TensorNames
from statecast.v1.reasons import Reason

PREFIX = "oip"
"""The session of a sequence is oip/MODEL/SEQUENCE."""
MICROSECONDS = 1_000_000
_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "sequence_id": ("int64_param", "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
    "exactly_once": ("bool_param",),
    "horizon": ("int64_param",),
    "timeout": ("int64_param", "uint64_param"),
    "priority": ("int64_param", "uint64_param"),
    "triton_enable_empty_final_response": ("bool_param",),
}
"""The types of each parameter; the last two change nothing here."""
_TENSORS = {
    "observations.values": VALUES,
    "observations.targets": VALUES,
    "observations.covariates": COVARIATES,
    "observations.times": START_TIME,
    "observations.start_time": START_TIME,
    "future_covariates": FUTURE_COVARIATES,
}
"""The tensor that an engine's error about a field is about."""
_FIELDS = {"request_id": "id", "horizon": "parameters['horizon']"}
_WHY = {
    Reason.SESSION_CLOSED: "it has ended, or was closed",
    Reason.SESSION_EXPIRED: "it has expired",
    Reason.SESSION_NOT_FOUND: "there is none of that name",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """An inference request: the engine's request, the sequence that it names, and what its answer has."""

    request: Request
    sequence: str
    places: Mapping[str, Place]
    wanted: Wanted


def cost_of(message: ModelInferRequest) -> int:
    """Estimate the cost of a ModelInferRequest."""
    numbers = sum(len(raw) for raw in message.raw_input_contents) // 4
    numbers += sum(len(each.contents.fp32_contents) + len(each.contents.fp64_contents) for each in message.inputs)
    return cost(numbers, 1, explain=False)


def to_asked(message: ModelInferRequest, call: Call, registry: Registry, names: TensorNames) -> Asked:
    """Return what a ModelInferRequest asks for.

    Raises:
        InvalidRequest: if a field is invalid.
        NotFound: if there is no such model.
        PermissionDenied: if the caller may not append observations.
        Unsupported: if it asks for something that makes no sense here.
    """
    call.require_write("append observations, as every inference request does")
    given = _parameters(message.parameters)
    model = _model(message, registry)
    sequence = _sequence(given, model)
    session_id = to_session_id(f"{PREFIX}/{model.config.name}/{sequence}", "parameters['sequence_id']")
    inputs = to_inputs(message, model, names)
    entrance = Entrance.RESTART if given.get("sequence_start") else Entrance.RESUME
    request = Request(
        session_id,
        Opening(model.config.name, message.model_version, entrance=entrance),
        inputs.values,
        inputs.covariates,
        start_time=inputs.start_time,
        horizon=_horizon(given, message, registry),
        future_covariates=inputs.future_covariates,
        request_id=_request_id(message.id) if given.get("exactly_once") else b"",
        deadline=call.until(_timeout(given)),
        tenant=call.principal.tenant,
        may_open=call.may_write,
        ends=bool(given.get("sequence_end")),
        up_to_horizon="horizon" not in given,
    )
    return Asked(request, sequence, inputs.places, to_wanted(message, model, names))


def in_its_terms(error: ServiceError, asked: Asked) -> ServiceError:
    """Return an engine's error in the terms of the inference request that it is about."""
    if isinstance(error, NotFound) and error.reason in _WHY:
        return InvalidRequest(
            "parameters",
            f"sequence {quoted(asked.sequence)} of model {quoted(asked.wanted.model)} needs the START flag "
            f"(sequence_start) on its first request; {_WHY[error.reason]}",
        )
    if not isinstance(error, InvalidRequest):
        return error
    name, bracket, rest = error.field.partition("[")
    if name in _FIELDS:
        return InvalidRequest(_FIELDS[name], error.problem, error.reason)
    if name not in _TENSORS:
        return error
    place = asked.places.get(_TENSORS[name])
    if place is None:
        return InvalidRequest("inputs", f"{_TENSORS[name]}: {error.problem}", error.reason)
    if bracket:
        return place.element(int(rest.rstrip("]")), error.problem)
    return InvalidRequest(place.tensor, error.problem, error.reason)


def _parameters(parameters: Mapping[str, InferParameter]) -> dict[str, Any]:
    """Return the values of a request's parameters."""
    given = {}
    for name, value in parameters.items():
        place = f"parameters[{quoted(name)}]"
        if name not in _PARAMETERS:
            raise InvalidRequest(place, f"unknown; the parameters are {', '.join(_PARAMETERS)}")
        kind = value.WhichOneof("parameter_choice")
        if kind not in _PARAMETERS[name]:
            expected = " or ".join(_PARAMETERS[name])
            raise InvalidRequest(place, f"has {kind or 'no value'}; it must have {expected}")
        given[name] = getattr(value, kind)
    return given


def _model(message: ModelInferRequest, registry: Registry) -> Model:
    if not message.model_name:
        raise InvalidRequest("model_name", "empty; name the model")
    name = to_model_name(message.model_name, "model_name")
    return registry.get(name, to_model_name(message.model_version, "model_version"))


def _sequence(given: Mapping[str, Any], model: Model) -> str:
    sequence = given.get("sequence_id", 0)
    if sequence in (0, ""):
        name = quoted(model.config.name)
        problem = f"sequence_id is missing, 0 or empty; name the sequence of model {name} that the request belongs to"
        raise InvalidRequest("parameters", problem)
    return str(sequence)


def _horizon(given: Mapping[str, Any], message: ModelInferRequest, registry: Registry) -> int:
    """Return how far to forecast: as asked, or as usual for any version that the sequence may run on."""
    if "horizon" not in given:
        versions = registry.versions(message.model_name)
        return max(model.usual_horizon for model in versions.values())
    horizon: int = given["horizon"]
    if horizon < 1:
        raise InvalidRequest("parameters['horizon']", f"{horizon} steps; must be 1 or more")
    return horizon


def _request_id(text: str) -> bytes:
    if not text:
        raise InvalidRequest("id", "empty, but exactly_once is true; give each request of the sequence another id")
    try:
        return to_request_id(text)
    except InvalidRequest as error:
        raise InvalidRequest("id", error.problem) from error


def _timeout(given: Mapping[str, Any]) -> float | None:
    """Return the time that the caller waits, in seconds; None or 0 microseconds for any."""
    microseconds: int = given.get("timeout", 0)
    if microseconds < 0:
        raise InvalidRequest("parameters['timeout']", f"{microseconds} microseconds; must be 0 or more")
    return microseconds / MICROSECONDS or None
