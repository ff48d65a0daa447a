"""AdminService with raw stubs: sessions leave one server and go on in another one."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from support.redis_process import RedisProcess
from support.servers import ServerProcess, ServerThread
from support.wire import OPEN, failure, observations, reason

from statecast.service.settings import Settings
from statecast.v1 import admin_service_pb2 as admin
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.admin_service_pb2_grpc import AdminServiceStub
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

Server = ServerThread | ServerProcess


class Place:
    """A server as its administrator and its callers see it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.channel = grpc.insecure_channel(server.target)
        self.admin: Any = AdminServiceStub(self.channel)
        self.forecasts = ForecastServiceStub(self.channel)

    def messages(self, prefix: str, token: str = "") -> list[admin.ExportSessionsResponse]:
        return list(self.admin.ExportSessions(admin.ExportSessionsRequest(prefix=prefix, page_token=token), timeout=30))

    def export(self, prefix: str) -> dict[str, admin.ExportedSession]:
        found = [each for message in self.messages(prefix) for each in message.sessions]
        return {each.session_id: each for each in found}

    def take(self, sessions: Iterable[admin.ExportedSession], *, replace: bool = False) -> list[admin.ImportResult]:
        frame = admin.ImportSessionsRequest(sessions=sessions, replace=replace)
        (answer,) = self.admin.ImportSessions(iter([frame]), timeout=30)
        return list(answer.results)

    def observe(self, session_id: str, *values: float, **others: Any) -> pb.ForecastResponse:
        others.setdefault("open", OPEN)
        message = pb.ForecastRequest(session_id=session_id, observations=observations(*values), **others)
        return self.forecasts.Forecast(message, timeout=20)

    def get(self, session_id: str) -> forecast_pb2.Session:
        return self.forecasts.GetSession(pb.GetSessionRequest(session_id=session_id), timeout=20).session


@pytest.fixture(scope="module")
def here(server: Server) -> Place:
    return Place(server)


@pytest.fixture(scope="module")
def there(any_redis: RedisProcess, models_folder: Path) -> Iterator[Place]:
    """Another server, whose sessions are others."""
    server = ServerThread(Settings(redis_url=any_redis.url, models=models_folder, namespace="elsewhere"))
    yield Place(server)
    server.stop()


def outcomes(results: Sequence[admin.ImportResult]) -> list[str]:
    return [
        reason(each.status) if each.HasField("status") else admin.ImportOutcome.Name(each.outcome) for each in results
    ]


def test_a_session_goes_on_elsewhere_where_it_was(here: Place, there: Place, session_id: str) -> None:
    options = forecast_pb2.OpenOptions(model="hourly", time_zone="Asia/Kolkata", time_to_live=Duration(seconds=7200))
    options.max_ahead.seconds = 0
    start = observations(1.0)
    start.start_time.FromDatetime(datetime(2024, 1, 1, tzinfo=UTC))
    first = here.forecasts.Forecast(
        pb.ForecastRequest(session_id=session_id, open=options, observations=start, request_id="first"), timeout=20
    )
    before = [first] + [here.observe(session_id, value, open=None, request_id=f"{value}") for value in (2.0, 3.0, 5.0)]
    (exported,) = here.export(session_id).values()
    assert (exported.model, exported.model_version, exported.version) == ("hourly", "1", before[-1].version)
    assert outcomes(there.take([exported])) == ["IMPORT_OUTCOME_CREATED"]
    assert there.get(session_id) == here.get(session_id)
    for value, answer in zip((2.0, 3.0, 5.0), before[1:], strict=True):  # every id is known there
        replayed = there.observe(session_id, value, open=None, request_id=f"{value}", last_seen=answer.version)
        assert (replayed.replayed, replayed.version) == (True, before[-1].version)
    other = there.observe(session_id, 7.0, open=None, horizon=3, request_id="7.0", last_seen=before[-1].version)
    same = here.observe(session_id, 7.0, open=None, horizon=3, request_id="7.0", last_seen=before[-1].version)
    assert (other.version, other.forecast, repr(other.pit)) == (same.version, same.forecast, repr(same.pit))
    code, status = failure(
        lambda: there.observe(session_id, 1.0, open=None, last_seen=forecast_pb2.Version(step=2, tag=99))
    )
    assert (code, reason(status)) == (grpc.StatusCode.ABORTED, "SESSION_REGRESSED")


def test_the_time_that_is_left_is_kept(here: Place, there: Place, any_redis: RedisProcess, session_id: str) -> None:
    here.observe(session_id, 1.0, open=forecast_pb2.OpenOptions(model="tiny", time_to_live=Duration(seconds=1000)))
    any_redis.client.pexpire(f"shared:default:{session_id}", 1_000_000 + 300_000)  # 1,000 s of it after its life
    (exported,) = here.export(session_id).values()
    assert 290_000 < exported.time_left.ToMilliseconds() <= 300_000
    there.take([exported])
    left = any_redis.client.pttl(f"elsewhere:default:{session_id}")
    assert abs(left - 1_000_000 - exported.time_left.ToMilliseconds()) < 2_000
    there.observe(session_id, 2.0)
    assert any_redis.client.pttl(f"elsewhere:default:{session_id}") > 1_990_000
    exported.ClearField("time_left")
    exported.session_id = session_id


def test_what_is_gone_is_not_exported_and_may_be_imported_over(
    here: Place, there: Place, any_redis: RedisProcess, session_id: str
) -> None:
    for name in ("closed", "expired", "open"):
        here.observe(f"{session_id}-{name}", 1.0)
    exported = here.export(session_id)
    here.forecasts.CloseSession(pb.CloseSessionRequest(session_id=f"{session_id}-closed"))
    any_redis.client.pexpire(f"shared:default:{session_id}-expired", 60_000)
    assert set(here.export(session_id)) == {f"{session_id}-open"}
    results = {each.session_id: each for each in here.take(exported.values())}
    assert {name.rpartition("-")[2]: outcomes([each]) for name, each in results.items()} == {
        "closed": ["IMPORT_OUTCOME_CREATED"],
        "expired": ["IMPORT_OUTCOME_CREATED"],
        "open": ["IMPORT_OUTCOME_UNCHANGED"],
    }
    for name in ("closed", "expired"):
        assert here.observe(f"{session_id}-{name}", 2.0, open=None).version.step == 2


def test_a_session_that_exists_is_refused_unless_it_may_be_replaced(here: Place, there: Place, session_id: str) -> None:
    here.observe(session_id, 1.0, 2.0)
    (exported,) = here.export(session_id).values()
    theirs = there.observe(session_id, 8.0, request_id="theirs").version
    (refused,) = there.take([exported])
    assert outcomes([refused]) == ["SESSION_EXISTS"]
    assert "exists already, at step 1, tag" in refused.status.message
    assert there.get(session_id).version == theirs
    (replaced,) = there.take([exported], replace=True)
    assert (outcomes([replaced]), replaced.replaced_version) == (["IMPORT_OUTCOME_REPLACED"], theirs)
    # The copy in the server's memory is stale: the next request must go on from the imported session.
    after = there.observe(session_id, 3.0, open=None, horizon=2)
    same = here.observe(session_id, 3.0, open=None, horizon=2)
    assert (after.version, after.forecast) == (same.version, same.forecast)


def test_a_frame_whose_answer_was_lost_may_be_sent_again(here: Place, there: Place, session_id: str) -> None:
    here.observe(session_id, 1.0)
    exported = list(here.export(session_id).values())
    for replace in (False, True):
        there.take(exported)
        assert outcomes(there.take(exported, replace=replace)) == ["IMPORT_OUTCOME_UNCHANGED"]


def test_a_damaged_session_is_named_and_the_others_come(here: Place, any_redis: RedisProcess, session_id: str) -> None:
    here.observe(f"{session_id}-good", 1.0)
    any_redis.client.set(f"shared:default:{session_id}-bad", b"damaged")
    messages = here.messages(session_id)
    assert [each.session_id for message in messages for each in message.sessions] == [f"{session_id}-good"]
    (bad,) = (each for message in messages for each in message.unreadable)
    assert (bad.session_id, reason(bad.status)) == (f"{session_id}-bad", "RECORD_DAMAGED")
    assert messages[0].source.tenant == "default"
    assert messages[0].source.session_count >= 2
    assert not any(message.HasField("source") for message in messages[1:])


def test_a_damaged_session_is_replaced_if_asked_to(here: Place, any_redis: RedisProcess, session_id: str) -> None:
    here.observe(session_id, 1.0)
    (exported,) = here.export(session_id).values()
    any_redis.client.set(f"shared:default:{session_id}", b"damaged")
    assert outcomes(here.take([exported])) == ["SESSION_EXISTS"]
    (replaced,) = here.take([exported], replace=True)
    assert outcomes([replaced]) == ["IMPORT_OUTCOME_REPLACED"]
    assert not replaced.HasField("replaced_version")
    assert here.observe(session_id, 2.0, open=None).version.step == 2
    any_redis.client.delete(f"shared:default:{session_id}")
    any_redis.client.lpush(f"shared:default:{session_id}", "other data")
    assert outcomes(here.take([exported], replace=True)) == ["RECORD_DAMAGED"]
    any_redis.client.delete(f"shared:default:{session_id}")


def changed(session: admin.ExportedSession, **fields: Any) -> admin.ExportedSession:
    other = admin.ExportedSession()
    other.CopyFrom(session)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def test_what_is_no_exported_session_is_refused_by_field(here: Place, there: Place, session_id: str) -> None:
    here.observe(session_id, 1.0)
    (good,) = here.export(session_id).values()
    flipped = bytearray(good.record)
    flipped[40] ^= 1
    negative, endless = changed(good, session_id=session_id + "1"), changed(good, session_id=session_id + "2")
    negative.time_left.seconds, endless.time_left.seconds = -1, 10**10
    wrong = {
        "sessions[0].session_id": changed(good, session_id=""),
        "sessions[1].record": changed(good, session_id=f"{session_id}-other"),
        "sessions[2].record": changed(good, record=bytes(flipped)),
        "sessions[3].session_id": good,
        "sessions[4].time_left": negative,
        "sessions[5].time_left": endless,
        "sessions[6].record": changed(good, session_id="x", record=b""),
    }
    results = there.take(wrong.values())
    assert [each.status.message.partition(":")[0] for each in results] == list(wrong)
    assert set(outcomes(results)) == {"INVALID_FIELD"}
    assert not there.export(session_id)
    assert outcomes(there.take([good])) == ["IMPORT_OUTCOME_CREATED"]


def test_a_broken_frame_ends_the_stream(here: Place) -> None:
    many = admin.ImportSessionsRequest(sessions=[admin.ExportedSession()] * 257)
    code, status = failure(lambda: list(here.admin.ImportSessions(iter([many]), timeout=20)))
    assert (code, status.message) == (
        grpc.StatusCode.INVALID_ARGUMENT, "sessions: 257 sessions are more than 256; send several frames",
    )  # fmt: skip
    call: Any = here.channel.stream_stream("/statecast.v1.AdminService/ImportSessions")
    assert failure(lambda: list(call(iter([b"\xff"]), timeout=20)))[0] is grpc.StatusCode.INVALID_ARGUMENT
    raw: Any = here.channel.stream_stream("/statecast.v1.AdminService/ExportSessions")
    code, status = failure(lambda: list(raw(iter([]), timeout=20)))
    assert (code, status.message) == (grpc.StatusCode.INVALID_ARGUMENT, "request: is missing; send one message")
    code, status = failure(lambda: here.messages("", "not a token"))
    assert status.message == "page_token: not the next_page_token of an earlier message"


def test_an_export_goes_on_where_it_broke_off(here: Place, session_id: str) -> None:
    names = {f"{session_id}-{number}" for number in range(2500)}
    frame = pb.ForecastManyRequest(requests=[pb.ForecastRequest(session_id=name, open=OPEN) for name in names])
    here.forecasts.ForecastMany(frame, timeout=60)
    messages = here.messages(session_id)
    assert max(len(message.sessions) for message in messages) <= 64
    cut = next(at for at, message in enumerate(messages) if message.next_page_token)
    before = {each.session_id for message in messages[:cut] for each in message.sessions}
    rest = here.messages(session_id, messages[cut].next_page_token)
    after = {each.session_id for message in rest for each in message.sessions}
    assert before | after == names
    assert len(after) < len(names)
