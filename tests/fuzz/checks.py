"""Checks of answers: errors have a type and a message, violations name existing fields, forecasts are possible."""

import math
import re
from collections.abc import Iterator
from functools import reduce
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from fuzz.rpcs import Answer, Rpc
from statecast.v1 import forecast_pb2
from statecast.v1.reasons import Reason

ALLOWED = frozenset({
    "OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "ABORTED", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED", "UNIMPLEMENTED",
})  # fmt: skip
LEAKS = re.compile(
    r"Traceback|0x[0-9a-f]{4}|object at|<class|<function|site-packages|\.py\b|np\.|numpy|array\(|\b[A-Z]\w+Error\b"
)
"""Pattern of errors that expose the server's internals."""
LONGEST_MESSAGE = 4096
WHOLE_REQUEST = "request"
"""Field that the violation names if the request cannot be decoded."""
_STEP = re.compile(r"(\w+)(?:\[(\d+)\])?")
_QUOTED = re.compile(r"'[^']*'")
_KEY = re.compile(r"\[(?:'.*'|\".*\")\]\Z")

Levels = dict[tuple[str, ...], set[tuple[float, ...]]]
"""Quantile levels of models, by their targets."""
Pairs = dict[bytes, tuple[list[Any], Any]]
"""Results by key, each with the requests that it may answer."""


def wrong_with(rpc: Rpc, frames: tuple[bytes, ...], answer: Answer, levels: Levels) -> Iterator[str]:
    """Yield every error in the end of a call."""
    requests = [rpc.parse(frame) for frame in frames]
    if answer.hangs or answer.code.name not in ALLOWED:
        yield f"ended with {answer.code.name}: {answer.message[:300]}"
        return
    if answer.code is grpc.StatusCode.UNIMPLEMENTED and not rpc.path.startswith("/inference."):
        yield f"is not there: {answer.message[:300]}"
    if answer.code is not grpc.StatusCode.OK:
        yield from _wrong_with_failure(answer, requests)
    elif None in requests:
        yield "accepted a request that cannot be decoded"
    if rpc.name == "ImportSessions":
        yield from _wrong_with_imports(requests, answer)
    elif rpc.name in ("ForecastMany", "ForecastStream"):
        yield from _wrong_with_frames(rpc, requests, answer, levels)
    elif rpc.name == "ModelStreamInfer":
        yield from _wrong_with_inferences(requests, answer)
    elif answer.responses and requests[0] is not None:
        yield from wrong_with_response(requests[0], answer.responses[0], levels)


def _wrong_with_failure(answer: Answer, requests: list[Message | None]) -> Iterator[str]:
    if answer.details is None:
        yield f"{answer.code.name} without details: {answer.message[:300]}"
        return
    try:
        status = status_pb2.Status.FromString(answer.details)
    except DecodeError:
        yield "details that cannot be decoded"
        return
    if status.code != answer.code.value[0] or status.message != answer.message:
        yield f"the details say {status.code}: {status.message!r}, the call {answer.code}: {answer.message!r}"
    # The error of a stream does not show which frame was refused.
    yield from min((list(wrong_with_status(status, request)) for request in requests), key=len)


def wrong_with_status(status: status_pb2.Status, request: Message | None) -> Iterator[str]:
    """Yield the faults of an error status; the request is None if it could not be decoded."""
    name = code_pb2.Code.Name(status.code)
    if name not in ALLOWED - {"OK"}:
        yield f"{name}: {status.message[:300]}"
        return
    if not status.message or len(status.message) > LONGEST_MESSAGE:
        yield f"{name} with a message of {len(status.message)} characters"
    # Quoted text comes from the caller, and a session's name may look like a leak.
    if leak := LEAKS.search(_QUOTED.sub("''", status.message) if name == "NOT_FOUND" else status.message):
        yield f"{name} exposes {leak.group()!r}: {status.message[:300]}"
    info = _detail(status, error_details_pb2.ErrorInfo)
    if info is None or info.domain != "statecast" or info.reason not in Reason.__members__:
        yield f"{name} with the reason {info}"
    if name == "RESOURCE_EXHAUSTED" and _detail(status, error_details_pb2.RetryInfo) is None:
        yield f"{name} without a retry delay"
    if name == "ABORTED" and _detail(status, forecast_pb2.Version) is None:
        yield f"{name} without the session's version"
    if name == "DEADLINE_EXCEEDED" and not _is_hurried(request):
        yield f"{name}, although the request sets no timeout"
    if name == "INVALID_ARGUMENT":
        yield from _wrong_with_violations(_detail(status, error_details_pb2.BadRequest), request)


def _is_hurried(request: Message | None) -> bool:
    if request is None:
        return False
    return "timeout" in getattr(request, "parameters", {}) or any(
        field.name == "timeout" for field, _ in request.ListFields()
    )


def _wrong_with_violations(bad: Any, request: Message | None) -> Iterator[str]:
    if bad is None or not bad.field_violations:
        yield "INVALID_ARGUMENT without a field"
        return
    for violation in bad.field_violations:
        exists = violation.field == WHOLE_REQUEST if request is None else has_path(request, violation.field)
        if not exists or not violation.description:
            yield f"INVALID_ARGUMENT names the field {violation.field!r}: {violation.description!r}"


def has_path(message: Message, path: str) -> bool:
    """Return whether a path such as `observations.values[3]` or `open.categories['x']` exists in this message."""
    if key := _KEY.search(path):
        path = path[: key.start()]
        # A key may be shortened, but there must be keys.
        if not path.endswith(("categories", "parameters")) or not has_path(message, path):
            return False
        *parents, name = path.split(".")
        return len(getattr(reduce(getattr, parents, message), name)) > 0
    where: Any = message
    for step in path.split("."):
        match = _STEP.fullmatch(step)
        if not match or not isinstance(where, Message):
            return False
        name, index = match.groups()
        field = where.DESCRIPTOR.fields_by_name.get(name)
        if field is None or (index is not None and not field.is_repeated):
            return False
        where = getattr(where, name)
        if index is not None:
            if int(index) >= len(where):
                return False
            where = where[int(index)]
    return True


def _detail(status: status_pb2.Status, kind: type[Message]) -> Any:
    for packed in status.details:
        found = kind()
        if packed.Unpack(found):
            return found
    return None


def _wrong_with_frames(rpc: Rpc, requests: list[Message | None], answer: Answer, levels: Levels) -> Iterator[str]:
    """Check that every request has one result, or at most one if its stream was refused half-way."""
    asked: list[Any] = []
    for frame in requests:
        if frame is None:
            break
        asked.extend(getattr(frame, "requests"))  # noqa: B009
    results = [result for response in answer.responses for result in response.results]
    if len(results) > len(asked) or (answer.code is grpc.StatusCode.OK and len(results) < len(asked)):
        yield f"{len(results)} results of {len(asked)} requests"
    if len(results) == len(asked) and answer.code is grpc.StatusCode.OK and rpc.name == "ForecastMany":
        pairs = {_key(request, result): ([request], result) for request, result in zip(asked, results, strict=True)}
    else:
        pairs = _pairs(asked, results)
    for candidates, result in pairs.values():
        # Requests with the same ids are indistinguishable: the result must be right for one of them.
        found = [list(_wrong_with_result(request, result, levels)) for request in candidates]
        yield from min(found, key=len, default=["a result without a request"])


def _wrong_with_imports(requests: list[Message | None], answer: Answer) -> Iterator[str]:
    """Check that every session of every frame has one result, in order."""
    for request, response in zip(requests, answer.responses, strict=False):
        asked = [session.session_id for session in getattr(request, "sessions", ())]
        if [result.session_id for result in response.results] != asked:
            yield f"{len(response.results)} results of {len(asked)} sessions, or in another order"
        for result in response.results:
            if result.HasField("status") == bool(result.outcome):
                yield f"both an outcome and a status, or neither: {result}"
            elif result.HasField("status"):
                yield from wrong_with_status(result.status, request)


def _wrong_with_inferences(requests: list[Message | None], answer: Answer) -> Iterator[str]:
    """Check that every request has one answer, in order, unless the stream was refused."""
    if answer.code is grpc.StatusCode.OK and len(answer.responses) != len(requests):
        yield f"{len(answer.responses)} answers to {len(requests)} requests"
    for request, response in zip(requests, answer.responses, strict=False):
        if response.error_message:
            if leak := LEAKS.search(_QUOTED.sub("''", response.error_message)):
                yield f"exposes {leak.group()!r}: {response.error_message[:300]}"
        else:
            yield from _wrong_with_tensors(request, response.infer_response)


def _wrong_with_tensors(request: Any, response: Any) -> Iterator[str]:
    if (response.model_name, response.id) != (request.model_name, request.id):
        yield f"answers {response.model_name!r} {response.id!r}, not {request.model_name!r} {request.id!r}"
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        numbers = np.frombuffer(raw, {"FP32": "<f4", "INT64": "<i8"}[output.datatype])
        if numbers.size != math.prod(output.shape) or np.isinf(numbers).any():
            yield f"{output.name} holds {numbers.size} numbers in the shape {list(output.shape)}, or infinite ones"
        elif output.name == "forecast":
            quantiles = numbers.reshape(output.shape)  # those of the model "letters" are probabilities
            with np.errstate(invalid="ignore"):
                is_crossed = (np.diff(quantiles, axis=2) < 0).any()
            if is_crossed and request.model_name != "letters":
                yield "quantiles that cross"
    if request.outputs and [each.name for each in response.outputs] != [each.name for each in request.outputs]:
        yield "other outputs than those that were asked for"


def _key(*messages: Message) -> bytes:
    """Return a key that is equal for equal messages, so that thousands of them are checked once."""
    return b"".join(len(data).to_bytes(4) + data for data in (each.SerializeToString() for each in messages))


def _pairs(asked: list[Any], results: list[Any]) -> Pairs:
    """Return every result with the requests that it may answer."""
    by_name: dict[tuple[str, str], dict[bytes, Any]] = {}
    for request in asked:
        by_name.setdefault((request.session_id, request.request_id), {})[_key(request)] = request
    pairs: Pairs = {}
    for result in results:
        named = result.response if result.HasField("response") else result
        pairs[_key(result)] = list(by_name.get((named.session_id, named.request_id), {}).values()), result
    return pairs


def _wrong_with_result(request: Any, result: Any, levels: Levels) -> Iterator[str]:
    if result.HasField("response"):
        yield from wrong_with_response(request, result.response, levels)
    elif result.HasField("status"):
        yield from wrong_with_status(result.status, request)
    else:
        yield "an empty result"


def wrong_with_response(request: Any, response: Any, levels: Levels) -> Iterator[str]:
    """Yield the errors in a successful response."""
    kind = response.DESCRIPTOR.name
    if kind == "ForecastResponse":
        yield from _wrong_with_forecast(request, response, levels)
    elif kind == "ModelInferResponse":
        yield from _wrong_with_tensors(request, response)
    elif kind in ("OpenSessionResponse", "GetSessionResponse", "ForkSessionResponse"):
        yield from _wrong_with_session(request.session_id, response.session)
    elif kind == "ListSessionsResponse":
        for session in response.sessions:
            if not session.session_id.startswith(request.prefix):
                yield f"lists {session.session_id!r} under the prefix {request.prefix!r}"
            yield from _wrong_with_session(session.session_id, session)
    elif kind == "GetModelResponse" and request.name not in ("", response.model.name):
        yield f"the model {response.model.name!r} for {request.name!r}"


def _wrong_with_session(session_id: str, session: forecast_pb2.Session) -> Iterator[str]:
    if session.session_id != session_id or not session.model or not session.model_version:
        yield f"not the session that was asked for: {session}"
    ttl = session.time_to_live
    if not (1 <= ttl.seconds <= 315_360_000 and 0 <= ttl.nanos < 10**9):
        yield f"a session that is kept for {ttl}"


def _wrong_with_forecast(request: Any, response: Any, levels: Levels) -> Iterator[str]:
    if (response.session_id, response.request_id) != (request.session_id, request.request_id):
        yield "the answer to another request"
    yield from _wrong_with_what_it_tells(request, response)
    if response.HasField("forecast") != bool(request.horizon):
        yield f"a forecast: {response.HasField('forecast')}, although the horizon is {request.horizon}"
    if not response.HasField("forecast"):
        return
    forecast = response.forecast
    targets, asked = tuple(forecast.targets), tuple(request.quantile_levels)
    if forecast.horizon != request.horizon or targets not in levels:
        yield f"{forecast.horizon} steps of {targets}, although {request.horizon} were asked for"
    elif tuple(forecast.quantile_levels) not in ({asked} if asked else levels[targets]):
        yield f"levels {forecast.quantile_levels}, although {asked} were asked for"
    elif bool(forecast.classes) == bool(forecast.quantile_levels):
        yield f"{len(forecast.quantile_levels)} levels and {len(forecast.classes)} classes"
    elif len(forecast.values) != forecast.horizon * _depth(forecast) * len(targets):
        yield f"{len(forecast.values)} values"
    else:
        yield from _wrong_with_values(forecast)
        if response.opened and response.version.step * len(targets) != len(request.observations.values):
            yield f"a new session at step {response.version.step}"


def _depth(forecast: forecast_pb2.Forecast) -> int:
    return len(forecast.quantile_levels) or len(forecast.classes)


def _wrong_with_what_it_tells(request: Any, response: Any) -> Iterator[str]:
    """Yield the errors in `pit` and the gates."""
    told = np.array(response.pit)
    if told.size != (0 if response.replayed else len(request.observations.values)):
        yield f"{told.size} pit for {len(request.observations.values)} values"
    if ((told < 0) | (told > 1)).any():
        yield "a pit outside 0..1"
    if response.HasField("gates") and not (request.explain and told.size):
        yield "gates without explain"
    elif response.HasField("gates") and not np.isfinite([*response.gates.values, *response.gates.hidden]).all():
        yield "gates that are neither open nor closed"


def _wrong_with_values(forecast: forecast_pb2.Forecast) -> Iterator[str]:
    values = np.array(forecast.values, np.float32).reshape(forecast.horizon, _depth(forecast), len(forecast.targets))
    if forecast.classes:
        if not np.allclose(values.sum(axis=1), 1.0, atol=1e-4):
            yield "probabilities that do not add up"
        return
    ascending = values[:, np.argsort(forecast.quantile_levels, kind="stable")]
    if np.isinf(values).any():
        yield "a forecast of infinite values"
    if np.isnan(values).any(axis=(0, 1)).tolist() != np.isnan(values).all(axis=(0, 1)).tolist():
        yield "a target that is forecast in part"
    with np.errstate(invalid="ignore"):
        if (np.diff(ascending, axis=1) < 0).any():
            yield "quantiles that cross"
