"""Sessions over the wire: closed, expired, regressed, listed and forked."""

import time
import uuid
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from support.models import HORIZON
from support.redis_process import RedisProcess
from support.wire import OPEN, detail, failure, observations, reason

from statecast.service.rpc import sessions
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

NAMESPACE = "shared"


def observe(stub: ForecastServiceStub, session_id: str, *values: float, **others: Any) -> pb.ForecastResponse:
    others.setdefault("open", OPEN)
    request = pb.ForecastRequest(session_id=session_id, observations=observations(*values), horizon=HORIZON, **others)
    return stub.Forecast(request)


def look(stub: ForecastServiceStub, session_id: str) -> forecast_pb2.Session:
    return stub.GetSession(pb.GetSessionRequest(session_id=session_id)).session


def test_options_of_any_length_are_read_and_only_short_ones_remembered() -> None:
    unknown = b"\xfa\x3f" + b"\x80\x08" + 1024 * b"x"  # an unknown field, number 127
    for _ in range(2):
        options = forecast_pb2.OpenOptions.FromString(forecast_pb2.OpenOptions(model="a").SerializeToString() + unknown)
        before = sessions._remembered.cache_info()
        assert sessions.to_opening(options, "open").model == "a"
        assert sessions._remembered.cache_info() == before
    sessions.to_opening(forecast_pb2.OpenOptions(model="a"), "open")
    assert sessions._remembered.cache_info() != before


def test_a_closed_session_is_said_to_be_closed_until_it_is_opened_anew(
    stub: ForecastServiceStub, session_id: str
) -> None:
    observe(stub, session_id, 1, 2)
    stub.CloseSession(pb.CloseSessionRequest(session_id=session_id))
    for call in (
        lambda: look(stub, session_id),
        lambda: stub.Forecast(pb.ForecastRequest(session_id=session_id, observations=observations(3))),
        lambda: stub.CloseSession(pb.CloseSessionRequest(session_id=session_id)),
    ):
        code, status = failure(call)
        assert (code, reason(status)) == (grpc.StatusCode.NOT_FOUND, "SESSION_CLOSED")
        assert "step 2" in status.message
    anew = observe(stub, session_id, 3)
    assert anew.opened
    assert anew.version.step == 1


def test_an_expired_session_is_said_to_have_expired(stub: ForecastServiceStub, session_id: str) -> None:
    options = forecast_pb2.OpenOptions(model="tiny", time_to_live=Duration(seconds=1))
    seen = observe(stub, session_id, 1, 2, open=options).version
    time.sleep(1.3)
    request = pb.ForecastRequest(session_id=session_id, observations=observations(3))
    code, status = failure(lambda: stub.Forecast(request))
    assert (code, reason(status)) == (grpc.StatusCode.NOT_FOUND, "SESSION_EXPIRED")
    # A caller that has seen it gets no new one by accident, even if every request has `open`.
    code, status = failure(lambda: observe(stub, session_id, 3, last_seen=seen))
    assert (code, reason(status)) == (grpc.StatusCode.NOT_FOUND, "SESSION_EXPIRED")
    anew = observe(stub, session_id, 3, open=options)
    assert anew.opened
    assert anew.version.step == 1
    time.sleep(2.6)
    code, status = failure(lambda: look(stub, session_id))
    assert (code, reason(status)) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")


def test_a_session_in_use_does_not_expire(stub: ForecastServiceStub, session_id: str) -> None:
    options = forecast_pb2.OpenOptions(model="tiny", time_to_live=Duration(seconds=1))
    for step in range(1, 8):
        assert observe(stub, session_id, step, open=options).version.step == step
        time.sleep(0.25)


def test_a_session_that_lost_what_was_acknowledged_says_so(
    stub: ForecastServiceStub, any_redis: RedisProcess, session_id: str
) -> None:
    older = observe(stub, session_id, 1, 2).version
    key = f"{NAMESPACE}:default:{session_id}"
    copy = any_redis.client.get(key)
    newer = observe(stub, session_id, 3).version
    assert observe(stub, session_id, last_seen=newer).version == newer
    assert isinstance(copy, bytes)
    any_redis.client.set(key, copy, keepttl=True)
    code, status = failure(lambda: observe(stub, session_id, 4, last_seen=newer))
    assert (code, reason(status)) == (grpc.StatusCode.ABORTED, "SESSION_REGRESSED")
    assert detail(status, forecast_pb2.Version) == older
    # It continues for callers who saw only what is left ...
    observe(stub, session_id, 5, last_seen=older)
    observe(stub, session_id, 6)
    # ... and stays lost for those who saw more, even once it is beyond that step again.
    code, status = failure(lambda: observe(stub, session_id, 7, last_seen=newer))
    assert (code, reason(status)) == (grpc.StatusCode.ABORTED, "SESSION_REGRESSED")
    assert look(stub, session_id).version.step == 4


def test_a_record_that_is_damaged_names_its_session_and_harms_no_other(
    stub: ForecastServiceStub, any_redis: RedisProcess, session_id: str
) -> None:
    names = [f"{session_id}-{number}" for number in range(3)]
    for name in names:
        observe(stub, name, 1)
    key = f"{NAMESPACE}:default:{names[1]}"
    other = any_redis.client.get(f"{NAMESPACE}:default:{names[0]}")
    assert isinstance(other, bytes)
    any_redis.client.set(key, other, keepttl=True)
    requests = [pb.ForecastRequest(session_id=name, observations=observations(2)) for name in names]
    results = stub.ForecastMany(pb.ForecastManyRequest(requests=requests)).results
    assert [result.WhichOneof("result") for result in results] == ["response", "status", "response"]
    assert (results[1].status.code, reason(results[1].status)) == (9, "RECORD_DAMAGED")
    assert names[1] in results[1].status.message
    assert results[1].session_id == names[1]
    page = stub.ListSessions(pb.ListSessionsRequest(prefix=session_id, page_size=1000))
    while page.next_page_token and not page.sessions:
        page = stub.ListSessions(pb.ListSessionsRequest(prefix=session_id, page_token=page.next_page_token))
    damaged = [session for session in page.sessions if session.session_id == names[1]]
    assert damaged in ([], [forecast_pb2.Session(session_id=names[1])])


def listed(stub: ForecastServiceStub, **request: Any) -> dict[str, forecast_pb2.Session]:
    found: dict[str, forecast_pb2.Session] = {}
    token = ""
    while True:
        page = stub.ListSessions(pb.ListSessionsRequest(page_token=token, **request))
        found |= {session.session_id: session for session in page.sessions}
        token = page.next_page_token
        if not token:
            return found


def test_sessions_are_listed_as_they_stand(stub: ForecastServiceStub, session_id: str) -> None:
    names = [f"{session_id}*{number}" for number in range(30)]
    for name in names:
        observe(stub, name, 1)
        observe(stub, name, 2)
    stub.CloseSession(pb.CloseSessionRequest(session_id=names[0]))
    sessions = listed(stub, prefix=session_id + "*", page_size=7)
    assert sorted(sessions) == sorted(names[1:])
    for name in names[1:]:
        assert sessions[name] == look(stub, name)
    assert not listed(stub, prefix=session_id + "?")
    assert set(names[1:]) <= set(listed(stub))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ListSessionsRequest(page_size=1001), "page_size"),
        (pb.ListSessionsRequest(page_token="x"), "page_token"),
        (pb.ListSessionsRequest(page_token="9" * 30), "page_token"),
        (pb.ListSessionsRequest(page_token=str(2**64)), "page_token"),
        (pb.ListSessionsRequest(prefix="x" * 257), "prefix"),
    ],
)
def test_a_wrong_listing_is_refused(stub: ForecastServiceStub, request_: pb.ListSessionsRequest, field: str) -> None:
    code, status = failure(lambda: stub.ListSessions(request_))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert detail(status, error_details_pb2.BadRequest).field_violations[0].field == field


def fork(stub: ForecastServiceStub, source: str, target: str, **others: Any) -> pb.ForkSessionResponse:
    return stub.ForkSession(pb.ForkSessionRequest(source_session_id=source, session_id=target, **others))


def test_a_fork_goes_its_own_way_from_where_its_source_stands(stub: ForecastServiceStub, session_id: str) -> None:
    before = observe(stub, session_id, 1, 2, 3)
    other = session_id + "-fork"
    made = fork(stub, session_id, other, time_to_live=Duration(seconds=90))
    assert made.session.version == before.version
    assert made.session.time_to_live.seconds == 90
    assert not made.replayed
    ahead = stub.Forecast(pb.ForecastRequest(session_id=other, horizon=HORIZON))
    assert list(ahead.forecast.values) == pytest.approx(list(before.forecast.values))
    assert observe(stub, session_id, 4).version == observe(stub, other, 4).version
    assert observe(stub, session_id, 5).version != observe(stub, other, 6).version


def test_a_fork_is_made_once(stub: ForecastServiceStub, session_id: str) -> None:
    observe(stub, session_id, 1)
    other, request_id = session_id + "-fork", uuid.uuid4().hex
    version = look(stub, session_id).version
    made = fork(stub, session_id, other, request_id=request_id, if_version=version)
    observe(stub, session_id, 2)  # its source moves on, and closes
    stub.CloseSession(pb.CloseSessionRequest(session_id=session_id))
    again = fork(stub, session_id, other, request_id=request_id, if_version=version)
    assert again.replayed
    assert again.session == made.session
    code, status = failure(lambda: fork(stub, session_id, other, request_id="another"))
    assert (code, reason(status)) == (grpc.StatusCode.ALREADY_EXISTS, "SESSION_EXISTS")
    code, status = failure(lambda: fork(stub, "elsewhere", other, request_id=request_id))
    assert (code, reason(status)) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


def test_a_fork_remembers_what_its_source_took(stub: ForecastServiceStub, session_id: str) -> None:
    first = observe(stub, session_id, 1, request_id="first").version
    fork(stub, session_id, session_id + "-fork")
    again = observe(stub, session_id + "-fork", 1, request_id="first", last_seen=first)
    assert again.replayed
    assert again.version.step == 1


def test_forks_that_cannot_be(stub: ForecastServiceStub, session_id: str) -> None:
    code, status = failure(lambda: fork(stub, session_id, session_id + "-fork"))
    assert (code, reason(status)) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    observe(stub, session_id, 1)
    code, status = failure(lambda: fork(stub, session_id, session_id))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    wrong = forecast_pb2.Version(step=7)
    code, status = failure(lambda: fork(stub, session_id, session_id + "-fork", if_version=wrong))
    assert code is grpc.StatusCode.ABORTED
    for fields, field in (
        ({"source_session_id": ""}, "source_session_id"),
        ({"session_id": ""}, "session_id"),
        ({"time_to_live": Duration()}, "time_to_live"),
        ({"request_id": "x" * 65}, "request_id"),
    ):
        names: dict[str, Any] = {"source_session_id": session_id, "session_id": session_id + "-fork"} | fields
        code, status = failure(partial(stub.ForkSession, pb.ForkSessionRequest(**names)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert detail(status, error_details_pb2.BadRequest).field_violations[0].field == field
