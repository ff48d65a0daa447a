"""The checks find wrong answers."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from fuzz.checks import Levels, has_path, wrong_with, wrong_with_response, wrong_with_status
from fuzz.messages import bytes_of
from fuzz.place import TROUBLE
from fuzz.rpcs import RPCS, Answer
from fuzz.words import LONE
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb

LEVELS: Levels = {("value",): {(0.1, 0.5, 0.9)}}
REQUEST = pb.ForecastRequest(session_id="a", horizon=2, observations=forecast_pb2.Observations(values=[1, 2]))


def status(code: int, message: str, *details: Message) -> status_pb2.Status:
    made = status_pb2.Status(code=code, message=message)
    for each in details:
        made.details.add().Pack(each)
    return made


def info(reason: str = "INVALID_FIELD") -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="statecast")


def violation(field: str) -> error_details_pb2.BadRequest:
    one = error_details_pb2.BadRequest.FieldViolation(field=field, description="wrong")
    return error_details_pb2.BadRequest(field_violations=[one])


BAD = code_pb2.INVALID_ARGUMENT


def test_an_honest_error_is_right() -> None:
    assert not list(wrong_with_status(status(BAD, "m", info(), violation("observations.values[1]")), REQUEST))


def test_a_session_may_be_called_like_a_class() -> None:
    gone = status(code_pb2.NOT_FOUND, "there is no session 'ModelError'", info("SESSION_NOT_FOUND"))
    assert not list(wrong_with_status(gone, REQUEST))
    gone.message = "ModelError: there is no session 'a'"
    assert list(wrong_with_status(gone, REQUEST))


@pytest.mark.parametrize(
    "wrong",
    [
        status(BAD, "", info(), violation("horizon")),
        status(BAD, "m" * 5000, info(), violation("horizon")),
        status(BAD, "Traceback (most recent call last)", info(), violation("horizon")),
        status(BAD, "<Thing object at 0x7f00aa>", info(), violation("horizon")),
        status(BAD, "got np.float64(1)", info(), violation("horizon")),
        status(BAD, "m", violation("horizon")),
        status(BAD, "m", info("WHATEVER"), violation("horizon")),
        status(BAD, "m", info()),
        status(BAD, "m", info(), violation("nothing")),
        status(BAD, "m", info(), violation("observations.values[2]")),
        status(BAD, "m", info(), violation("request")),
        status(code_pb2.ABORTED, "m", info("VERSION_MISMATCH")),
        status(code_pb2.RESOURCE_EXHAUSTED, "m", info("QUEUE_FULL")),
        status(code_pb2.DEADLINE_EXCEEDED, "m", info("DEADLINE_PASSED")),
        status(code_pb2.INTERNAL, "m", info()),
        status(code_pb2.UNAVAILABLE, "m", info("CONTENDED")),
    ],
)
def test_an_error_that_must_not_be_is_wrong(wrong: status_pb2.Status) -> None:
    assert list(wrong_with_status(wrong, REQUEST))


def response(**others: Any) -> pb.ForecastResponse:
    fields: dict[str, Any] = {"horizon": 2, "quantile_levels": [0.1, 0.5, 0.9], "targets": ["value"]}
    fields["values"] = [1, 2, 3, 1, 2, 3]
    return pb.ForecastResponse(
        session_id="a",
        version=forecast_pb2.Version(step=2),
        forecast=forecast_pb2.Forecast(**fields | others),
        pit=[float("nan"), 0.5],
    )


def test_an_honest_forecast_is_right() -> None:
    assert not list(wrong_with_response(REQUEST, response(), LEVELS))
    assert not list(wrong_with_response(REQUEST, response(values=[float("nan")] * 6), LEVELS))


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.forecast.values.__setitem__(0, 2.5),
        lambda it: it.forecast.values.__setitem__(5, float("inf")),
        lambda it: it.forecast.values.__setitem__(5, float("nan")),
        lambda it: it.forecast.values.append(1),
        lambda it: it.forecast.quantile_levels.__setitem__(0, 0.2),
        lambda it: it.forecast.targets.append("other"),
        lambda it: setattr(it.forecast, "horizon", 3),
        lambda it: it.ClearField("forecast"),
        lambda it: it.forecast.classes.append("a"),
        lambda it: it.ClearField("pit"),
        lambda it: setattr(it, "replayed", True),
        lambda it: it.pit.__setitem__(1, 1.5),
        lambda it: it.gates.values.append(0.5),
        lambda it: setattr(it, "session_id", "b"),
        lambda it: setattr(it, "request_id", "b"),
        lambda it: it.MergeFrom(pb.ForecastResponse(opened=True, version=forecast_pb2.Version(step=3))),
    ],
)
def test_a_forecast_that_must_not_be_is_wrong(change: Callable[[pb.ForecastResponse], object]) -> None:
    answer = response()
    change(answer)
    assert list(wrong_with_response(REQUEST, answer, LEVELS))


def test_calls_that_end_as_they_must_not() -> None:
    for rpc in RPCS.values():
        for answer in (
            Answer((), grpc.StatusCode.DEADLINE_EXCEEDED),
            Answer((), grpc.StatusCode.UNKNOWN, "m"),
            Answer((), grpc.StatusCode.NOT_FOUND, "m"),
            Answer((), grpc.StatusCode.NOT_FOUND, "m", b"\xff"),
            Answer((), grpc.StatusCode.NOT_FOUND, "m", status(BAD, "m", info(), violation("a")).SerializeToString()),
        ):
            assert list(wrong_with(rpc, (b"",), answer, LEVELS)), (rpc.name, answer)


def test_results_that_are_missing_or_of_nobody() -> None:
    frame = pb.ForecastManyRequest(requests=[REQUEST] * 2).SerializeToString()
    for count, name in ((1, "a"), (3, "a"), (2, "b")):
        answer = response()
        answer.session_id = name
        result = pb.ForecastResult(response=answer)
        for rpc, kind in (("ForecastMany", pb.ForecastManyResponse), ("ForecastStream", pb.ForecastStreamResponse)):
            ended = Answer((kind(results=[result] * count),), grpc.StatusCode.OK)
            assert list(wrong_with(RPCS[rpc], (frame,), ended, LEVELS))


def test_other_responses_that_must_not_be() -> None:
    session = forecast_pb2.Session(session_id="a", model="m", model_version="1", time_to_live=Duration(seconds=60))
    asked = pb.GetSessionRequest(session_id="a")
    assert not list(wrong_with_response(asked, pb.GetSessionResponse(session=session), LEVELS))
    session.session_id = "b"
    assert list(wrong_with_response(asked, pb.GetSessionResponse(session=session), LEVELS))
    page = pb.ListSessionsResponse(sessions=[session])
    assert list(wrong_with_response(pb.ListSessionsRequest(prefix="a"), page, LEVELS))
    session.time_to_live.seconds = 0
    assert list(
        wrong_with_response(pb.GetSessionRequest(session_id="b"), pb.GetSessionResponse(session=session), LEVELS)
    )


def test_probabilities() -> None:
    levels: Levels = {("symbol",): {()}}
    fields: dict[str, Any] = {"quantile_levels": [], "classes": ["a", "b"], "targets": ["symbol"]}
    assert not list(wrong_with_response(REQUEST, response(**fields, values=[0.4, 0.6, 1, 0]), levels))
    assert list(wrong_with_response(REQUEST, response(**fields, values=[0.4, 0.7, 1, 0]), levels))
    assert list(wrong_with_response(REQUEST, response(**fields, values=[0.4, 0.6]), levels))


def test_paths_to_keys_of_maps() -> None:
    request = pb.OpenSessionRequest(options=forecast_pb2.OpenOptions(categories={"a": "b"}))
    assert has_path(request, "options.categories['a']")
    assert has_path(request, 'options.categories["it\'s"]')
    assert has_path(request, "options.categories")
    for path in ("options.categories[a]", "options.model['a']", "categories['a']", "open.categories['a']"):
        assert not has_path(request, path)
    assert not has_path(pb.OpenSessionRequest(), "options.categories['a']")


@pytest.mark.parametrize("path", ["", ".", "observations[0]", "observations.values[]", "horizon.x", "session_id[0]"])
def test_paths_that_lead_nowhere(path: str) -> None:
    assert not has_path(REQUEST, path)


def test_lone_surrogates_are_sent_as_they_are() -> None:
    assert bytes_of(pb.GetSessionRequest(session_id=LONE)) == b"\x0a\x03\xed\xa0\x80"
    assert RPCS["GetSession"].parse(b"\x0a\x03\xed\xa0\x80") is None


@pytest.mark.parametrize(
    "line", ["Traceback (most recent call last):", "2026 ERROR x: y", "a.BError: c", "Fatal Python"]
)
def test_what_a_log_must_not_have_is_seen(line: str) -> None:
    assert TROUBLE.search(f"2026 INFO a: b\n{line}\n")
