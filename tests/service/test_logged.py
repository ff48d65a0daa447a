"""The log of a whole server over both transports: what it says, and what it must never say."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from support import await_true
from support.certificates import Authority
from support.redis_process import RedisProcess
from support.servers import ServerProcess
from support.wire import OPEN, observations

from statecast.service.access import api_keys
from statecast.service.rpc.request_log import MOST_LINES
from statecast.v1 import admin_service_pb2 as admin
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.admin_service_pb2_grpc import AdminServiceStub
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
FLOOD = 100
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
VALUE, TOO_LARGE = 987654.25, 8.7654321e30
Event = dict[str, Any]


class Seen:
    """A server with TLS and API keys that writes all that it can, as JSON."""

    def __init__(self, redis: RedisProcess, folder: Path, transport: str, namespace: str) -> None:
        self.keys = folder / "keys.json"
        self.key_id, self.key = api_keys.create(self.keys, "acme", "write")
        authority = Authority(folder)
        pair = authority.server()
        self.private_key = pair.key.read_text().splitlines()[1]
        options = ("--redis-url", redis.url, "--namespace", namespace, "--api-keys", str(self.keys))
        tls = ("--tls-cert", str(pair.cert), "--tls-key", str(pair.key))
        chatty = ("--log-format", "json", "--log-level", "debug", "--slow-request-seconds", "0.000001")
        module = ("support.hash_model_server",)
        self.server = ServerProcess("--transport", transport, *options, *tls, *chatty, module=module)
        credentials = grpc.ssl_channel_credentials(authority.ca.read_bytes())
        self.channel = grpc.secure_channel(self.server.target, credentials)
        self.stub = ForecastServiceStub(self.channel)

    def ask(self, call: Callable[..., Any], message: object, key: str = "") -> None:
        """Make a call, whatever comes of it."""
        headers = [("authorization", f"Bearer {key or self.key}"), ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")]
        with suppress(grpc.RpcError):
            answer = call(message, metadata=headers)
            if isinstance(answer, grpc.Call):
                list(answer)  # type: ignore[call-overload]  # a stream

    def events(self) -> list[Event]:
        """Return all lines so far."""
        return [json.loads(line) for line in self.server.log.splitlines()]

    def told(self, logger: str, message: str) -> list[Event]:
        return [event for event in self.events() if event["logger"] == logger and message in event["message"]]

    def stop(self) -> None:
        self.channel.close()
        assert self.server.stop() == 0


@pytest.fixture(params=["grpc", "envoy"])
def seen(request: pytest.FixtureRequest, any_redis: RedisProcess, tmp_path: Path, session_id: str) -> Iterator[Seen]:
    seen = Seen(any_redis, tmp_path, request.param, session_id)
    yield seen
    seen.channel.close()
    seen.server.stop()


def missing(request_id: str) -> pb.ForecastRequest:
    return pb.ForecastRequest(session_id="none", horizon=1, request_id=request_id)


def ask_everything(seen: Seen) -> None:
    stub, ask = seen.stub, seen.ask
    ask(stub.Forecast, pb.ForecastRequest(session_id="s", open=OPEN, observations=observations(VALUE), horizon=1))
    ask(stub.Forecast, pb.ForecastRequest(session_id="s", open=OPEN, observations=observations(TOO_LARGE)))
    ask(stub.Forecast, missing("alone"))
    ask(stub.ForecastMany, pb.ForecastManyRequest(requests=[missing("framed"), missing("framed too")]))
    ask(stub.ForecastStream, iter([pb.ForecastStreamRequest(requests=[missing("streamed")])]))
    ask(stub.Forecast, missing("unknown"), "sck_0123456789ab_" + "x" * 43)
    ask(stub.Forecast, missing("no key"), "eyJ.secret-token.x")
    ask(seen.channel.stream_stream(REFLECTION), iter([b""]), "wrong")
    ask(stub.ForkSession, pb.ForkSessionRequest(source_session_id="s", session_id="t"))
    ask(stub.CloseSession, pb.CloseSessionRequest(session_id="t"))
    for number in range(FLOOD):
        ask(stub.GetSession, pb.GetSessionRequest(session_id=f"{'x' * 70}\n{number}"))
    api_keys.create(seen.keys, "acme", "read")
    await_true(lambda: bool(seen.told("statecast.audit", "was read again")))


def test_each_event_is_there_once_and_no_secret_or_value(seen: Seen) -> None:
    ask_everything(seen)
    seen.stop()
    events = seen.events()
    assert all(list(event)[:4] == ["time", "level", "logger", "message"] for event in events)
    check_failures(seen)
    check_slow_and_all(seen)
    check_audit(seen)
    log = seen.server.log
    for secret in (seen.key, seen.key.rpartition("_")[2], "x" * 43 + '"', "secret-token", seen.private_key):
        assert secret not in log
    assert "987654.2" not in log
    assert not re.search(r"8\.7654\d*e", log)
    assert "Traceback" not in log


def check_failures(seen: Seen) -> None:
    failed = seen.told("statecast.requests", "request failed")
    assert {event["level"] for event in failed} == {"INFO"}
    reasons = Counter(event["reason"] for event in failed if "more" not in event)
    assert reasons == {"SESSION_NOT_FOUND": 4, "CREDENTIAL_INVALID": 3, "INVALID_FIELD": MOST_LINES}
    found = {event["request_id"]: event for event in failed if event["reason"] == "SESSION_NOT_FOUND"}
    assert found.keys() == {"alone", "framed", "framed too", "streamed"}
    for event in found.values():
        assert (event["kind"], event["code"], event["session"]) == ("forecast", "NOT_FOUND", "none")
        assert (event["tenant"], event["credential"], event["trace_id"]) == ("acme", f"key {seen.key_id}", TRACE)
        assert event["peer"]
        assert 0 < event["seconds"] < 10
        assert "there is no session" in event["error"]
    for event in failed:
        if event["reason"] == "CREDENTIAL_INVALID":
            assert not event.keys() & {"tenant", "credential", "session"}
            assert event["trace_id"] == TRACE
    (summary,) = [event for event in failed if "more" in event]
    more = FLOOD + 1 - MOST_LINES
    assert (summary["reason"], summary["more"]) == ("INVALID_FIELD", more)
    assert f"... and {more} more like it" in summary["message"]


def check_slow_and_all(seen: Seen) -> None:
    (slow,) = [each for each in seen.told("statecast.requests", "slow request") if each.get("kind") == "step"]
    assert (slow["code"], slow["session"]) == ("OK", "s")
    assert 0 <= slow["queue_seconds"] < slow["seconds"]
    every = [event for event in seen.told("statecast.requests", "request") if event["message"] == "request"]
    assert {event["level"] for event in every} == {"DEBUG"}
    assert Counter(event["kind"] for event in every)["get"] == FLOOD
    assert all(len(event.get("session", "")) <= 64 + len("...") for event in every)


def check_audit(seen: Seen) -> None:
    audit = [event for event in seen.events() if event["logger"] == "statecast.audit"]
    forked, closed, reread = audit
    assert (forked["message"], forked["source"], forked["session"]) == ("session forked", "s", "t")
    assert (closed["message"], closed["session"]) == ("session closed", "t")
    for event in (forked, closed):
        assert (event["tenant"], event["credential"]) == ("acme", f"key {seen.key_id}")
    assert (reread["added"], reread["removed"], reread["changed"]) == (1, 0, 0)


def test_text_has_the_same_fields(any_redis: RedisProcess, session_id: str) -> None:
    server = ServerProcess("--redis-url", any_redis.url, "--namespace", session_id, "--transport", "grpc")
    with grpc.insecure_channel(server.target) as channel, suppress(grpc.RpcError):
        ForecastServiceStub(channel).Forecast(pb.ForecastRequest(session_id="a b", horizon=1))
    assert server.stop() == 0
    (line,) = [line for line in server.log.splitlines() if "request failed" in line]
    assert " INFO statecast.requests: request failed code=NOT_FOUND reason=SESSION_NOT_FOUND kind=forecast " in line
    assert ' session="a b" tenant=default peer=' in line
    assert "credential" not in line


def test_exports_and_imports_are_administrative_acts(seen: Seen) -> None:
    key_id, key = api_keys.create(seen.keys, "acme", "admin")
    await_true(lambda: bool(seen.told("statecast.audit", "was read again")))
    opening = pb.ForecastRequest(session_id="s", open=OPEN, observations=observations(VALUE))
    seen.ask(seen.stub.Forecast, opening)
    stub: Any = AdminServiceStub(seen.channel)
    headers = [("authorization", f"Bearer {key}")]
    answers = stub.ExportSessions(admin.ExportSessionsRequest(prefix="s"), metadata=headers)
    exported = [session for answer in answers for session in answer.sessions]
    seen.ask(seen.stub.Forecast, opening)  # so that it is another one
    renamed = admin.ExportedSession(session_id="t", record=exported[0].record)
    frame = admin.ImportSessionsRequest(sessions=[*exported, renamed], replace=True)
    list(stub.ImportSessions(iter([frame]), metadata=headers))
    seen.ask(stub.ExportSessions, admin.ExportSessionsRequest())  # by a writer
    seen.stop()
    acts = [event for event in seen.events() if event["logger"] == "statecast.audit"][1:]
    assert [event["message"] for event in acts] == ["sessions exported", "session replaced", "sessions imported"]
    assert all((event["tenant"], event["credential"]) == ("acme", f"key {key_id}") for event in acts)
    told, replaced, taken = acts
    assert (told["prefix"], told["sessions"]) == ("s", 1)
    assert replaced["session"] == "s"
    assert (taken["replaced"], taken["refused"]) == (1, 1)
    failed = seen.told("statecast.requests", "request failed")
    assert {(event["kind"], event["reason"]) for event in failed} == {
        ("import", "INVALID_FIELD"), ("export", "ROLE_TOO_LOW"),
    }  # fmt: skip
    assert "987654.2" not in seen.server.log
    assert "Traceback" not in seen.server.log
