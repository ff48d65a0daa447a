"""Every method, with every credential, over both transports."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from support import await_true
from support.inference import infer
from support.redis_process import RedisProcess
from support.servers import ServerProcess, ServerThread
from support.wire import OPEN, failure, observations, reason

from statecast.oip import inference_service_pb2 as oip
from statecast.oip.inference_service_pb2_grpc import GRPCInferenceServiceStub
from statecast.service.access import api_keys
from statecast.service.rpc.accounting import UNSUPPORTED_METHODS
from statecast.service.settings import Settings
from statecast.v1 import admin_service_pb2 as admin
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1 import model_service_pb2 as models
from statecast.v1.admin_service_pb2_grpc import AdminServiceStub
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub
from statecast.v1.model_service_pb2_grpc import ModelServiceStub

SESSION = "meter 7"
"""A session of the tenant acme."""
SEQUENCE = "meter 8"
"""A sequence of the same tenant."""
SERVICES = (
    "statecast.v1.ForecastService", "statecast.v1.ModelService", "statecast.v1.AdminService",
    "inference.GRPCInferenceService",
    "grpc.reflection.v1alpha.ServerReflection",
)  # fmt: skip
OK = "OK"
NOT_FOUND = "NOT_FOUND SESSION_NOT_FOUND"
DENIED = "PERMISSION_DENIED ROLE_TOO_LOW"
UPGRADING = forecast_pb2.OpenOptions(model="tiny", upgrade=True)
ADMINISTRATION = ("ExportSessions", "ImportSessions", "SetModelAlias", "SetModelPolicy", "RetireModel")
NO_START = "INVALID_ARGUMENT INVALID_FIELD"


@dataclass
class Caller:
    """A caller of a server, with the header `authorization` or without."""

    server: ServerThread | ServerProcess
    authorization: str | None
    channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(self.server.target)
        self.forecasts, self.models = ForecastServiceStub(self.channel), ModelServiceStub(self.channel)
        self.admin: Any = AdminServiceStub(self.channel)
        self.inference: Any = GRPCInferenceServiceStub(self.channel)

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return () if self.authorization is None else (("authorization", self.authorization),)

    def call(self, method: Callable[..., Any], request: Any) -> Any:
        return method(request, metadata=self.headers, timeout=20)

    def stream(self, *requests: pb.ForecastRequest) -> list[pb.ForecastResult]:
        frames = iter([pb.ForecastStreamRequest(requests=requests)])
        answers = self.forecasts.ForecastStream(frames, metadata=self.headers, timeout=20)
        return [result for answer in answers for result in answer.results]

    def frame(self, *requests: pb.ForecastRequest) -> list[pb.ForecastResult]:
        answer = self.call(self.forecasts.ForecastMany, pb.ForecastManyRequest(requests=requests))
        return list(answer.results)

    def export(self, prefix: str = SESSION) -> list[admin.ExportedSession]:
        answers = self.call(self.admin.ExportSessions, admin.ExportSessionsRequest(prefix=prefix))
        return [session for answer in answers for session in answer.sessions]

    def take(self, *sessions: admin.ExportedSession, replace: bool = False) -> list[admin.ImportResult]:
        frame = admin.ImportSessionsRequest(sessions=sessions, replace=replace)
        return [result for answer in self.call(self.admin.ImportSessions, iter([frame])) for result in answer.results]

    def infer_on_a_stream(self, request: oip.ModelInferRequest) -> str:
        (answer,) = self.call(self.inference.ModelStreamInfer, iter([request]))
        if "role is read" in answer.error_message:
            return DENIED
        return NO_START if "START flag" in answer.error_message else answer.error_message or OK

    def unsupported(self) -> str:
        """Return OK if every such call is admitted, and then answered that there is nothing; else why not."""
        asked, found = oip.UnsupportedRequest(), set()
        for method in UNSUPPORTED_METHODS:
            code, status = failure(partial(self.call, getattr(self.inference, method), asked))
            found.add(OK if code is grpc.StatusCode.UNIMPLEMENTED else f"{code.name} {reason(status)}")
        (only,) = found
        return only

    def reflect(self, version: str) -> None:
        path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        asked = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
        method: Any = self.channel.stream_stream(path)
        list(method(iter([asked]), metadata=self.headers, timeout=20))


def request(name: str = SESSION, *values: float, **others: Any) -> pb.ForecastRequest:
    return pb.ForecastRequest(session_id=name, observations=observations(*values) if values else None, **others)


def only(results: Sequence[pb.ForecastResult]) -> str:
    (result,) = results
    return said(result.status)


def said(status: status_pb2.Status) -> str:
    if not status.code:
        return OK
    (code,) = (code for code in grpc.StatusCode if code.value[0] == status.code)
    return f"{code.name} {reason(status)}"


def new() -> str:
    return f"new {uuid.uuid4().hex}"


T = TypeVar("T")
Ask = Callable[[Caller], object]
METHODS: dict[str, tuple[str, Ask, str, str]] = {
    # what is asked: its method, how, and what a reader and another tenant's writer get; an admin gets everything
    "observe": ("Forecast", lambda on: on.call(on.forecasts.Forecast, request(SESSION, 1)), DENIED, NOT_FOUND),
    "step": ("Forecast", lambda on: on.call(on.forecasts.Forecast, request(SESSION, 1, horizon=2)), DENIED, NOT_FOUND),
    "forecast": ("Forecast", lambda on: on.call(on.forecasts.Forecast, request(horizon=2)), OK, NOT_FOUND),
    "resume": ("Forecast", lambda on: on.call(on.forecasts.Forecast, request(open=OPEN)), OK, OK),
    "open": ("Forecast", lambda on: on.call(on.forecasts.Forecast, request(new(), open=OPEN)), DENIED, OK),
    "observe in a frame": ("ForecastMany", lambda on: only(on.frame(request(SESSION, 1))), DENIED, NOT_FOUND),
    "forecast in a frame": ("ForecastMany", lambda on: only(on.frame(request(horizon=2))), OK, NOT_FOUND),
    "open in a frame": ("ForecastMany", lambda on: only(on.frame(request(new(), open=OPEN))), DENIED, OK),
    "observe on a stream": ("ForecastStream", lambda on: only(on.stream(request(SESSION, 1))), DENIED, NOT_FOUND),
    "forecast on a stream": ("ForecastStream", lambda on: only(on.stream(request(horizon=2))), OK, NOT_FOUND),
    "open on a stream": ("ForecastStream", lambda on: only(on.stream(request(new(), open=OPEN))), DENIED, OK),
    "OpenSession, resume": (
        "OpenSession",
        lambda on: on.call(on.forecasts.OpenSession, pb.OpenSessionRequest(session_id=SESSION, options=OPEN)),
        OK, OK,
    ),
    "OpenSession": (
        "OpenSession",
        lambda on: on.call(on.forecasts.OpenSession, pb.OpenSessionRequest(session_id=new(), options=OPEN)),
        DENIED, OK,
    ),
    "GetSession": (
        "GetSession", lambda on: on.call(on.forecasts.GetSession, pb.GetSessionRequest(session_id=SESSION)),
        OK, NOT_FOUND,
    ),
    "ListSessions": ("ListSessions", lambda on: on.call(on.forecasts.ListSessions, pb.ListSessionsRequest()), OK, OK),
    "ForkSession": (
        "ForkSession",
        lambda on: on.call(
            on.forecasts.ForkSession, pb.ForkSessionRequest(source_session_id=SESSION, session_id=new())
        ),
        DENIED, NOT_FOUND,
    ),
    "CloseSession": (
        "CloseSession", lambda on: on.call(on.forecasts.CloseSession, pb.CloseSessionRequest(session_id=SESSION)),
        DENIED, NOT_FOUND,
    ),
    "UpgradeSession": (
        "UpgradeSession",
        lambda on: on.call(on.forecasts.UpgradeSession, pb.UpgradeSessionRequest(session_id=SESSION)),
        DENIED, NOT_FOUND,
    ),
    "open with upgrade": (
        "OpenSession",
        lambda on: on.call(
            on.forecasts.OpenSession, pb.OpenSessionRequest(session_id=SESSION, options=UPGRADING)
        ),
        DENIED, OK,
    ),
    "ListModels": ("ListModels", lambda on: on.call(on.models.ListModels, models.ListModelsRequest()), OK, OK),
    "GetModel": ("GetModel", lambda on: on.call(on.models.GetModel, models.GetModelRequest()), OK, OK),
    "ExportSessions": ("ExportSessions", lambda on: on.export(), DENIED, DENIED),
    "ImportSessions": ("ImportSessions", lambda on: on.take(), DENIED, DENIED),
    "SetModelAlias": (
        "SetModelAlias",
        lambda on: on.call(
            on.admin.SetModelAlias, admin.SetModelAliasRequest(name="tiny", alias="live", version="1")
        ),
        DENIED, DENIED,
    ),
    "SetModelPolicy": (
        "SetModelPolicy",
        lambda on: on.call(on.admin.SetModelPolicy, admin.SetModelPolicyRequest(name="tiny", policy="pin")),
        DENIED, DENIED,
    ),
    "RetireModel": (
        "RetireModel",
        lambda on: on.call(on.admin.RetireModel, admin.RetireModelRequest(name="three", version="1", undo=True)),
        DENIED, DENIED,
    ),
    "infer, start": (
        "ModelInfer", lambda on: on.call(on.inference.ModelInfer, infer(new(), 1, start=True)), DENIED, OK
    ),
    "infer, go on": ("ModelInfer", lambda on: on.call(on.inference.ModelInfer, infer(SEQUENCE, 1)), DENIED, NO_START),
    "infer on a stream": ("ModelStreamInfer", lambda on: on.infer_on_a_stream(infer(SEQUENCE, 1)), DENIED, NO_START),
    "ServerLive": ("ServerLive", lambda on: on.call(on.inference.ServerLive, oip.ServerLiveRequest()), OK, OK),
    "ServerReady": ("ServerReady", lambda on: on.call(on.inference.ServerReady, oip.ServerReadyRequest()), OK, OK),
    "ServerMetadata": (
        "ServerMetadata", lambda on: on.call(on.inference.ServerMetadata, oip.ServerMetadataRequest()), OK, OK
    ),
    "ModelReady": (
        "ModelReady", lambda on: on.call(on.inference.ModelReady, oip.ModelReadyRequest(name="tiny")), OK, OK
    ),
    "ModelMetadata": (
        "ModelMetadata", lambda on: on.call(on.inference.ModelMetadata, oip.ModelMetadataRequest(name="tiny")), OK, OK
    ),
    "ModelConfig": (
        "ModelConfig", lambda on: on.call(on.inference.ModelConfig, oip.ModelConfigRequest(name="tiny")), OK, OK
    ),
    "what is not supported": (" ".join(UNSUPPORTED_METHODS), lambda on: on.unsupported(), OK, OK),
    "reflection v1": ("ServerReflectionInfo", lambda on: on.reflect("v1"), OK, OK),
    "reflection v1alpha": ("ServerReflectionInfo", lambda on: on.reflect("v1alpha"), OK, OK),
}  # fmt: skip


@dataclass
class Place:
    """A server, and the credentials of its callers."""

    server: ServerThread | ServerProcess
    keys: Path
    admin: str
    right: str
    reader: str
    other: str
    expired: str

    def __post_init__(self) -> None:
        self._owner, self._other = self.caller(self.right), self.caller(self.other)

    def caller(self, key: str | None) -> Caller:
        return Caller(self.server, key and f"Bearer {key}")

    def prepare(self) -> None:
        """Make sure that the session exists, and only for its tenant."""
        owner, other = self._owner, self._other
        owner.call(owner.forecasts.Forecast, request(SESSION, 1, open=OPEN))
        other.call(other.forecasts.OpenSession, pb.OpenSessionRequest(session_id=SESSION, options=OPEN))
        other.call(other.forecasts.CloseSession, pb.CloseSessionRequest(session_id=SESSION))
        owner.call(owner.inference.ModelInfer, infer(SEQUENCE, 1, start=True))


@pytest.fixture(scope="module", params=["grpc", "envoy"])
def place(
    request: pytest.FixtureRequest,
    any_redis: RedisProcess,
    models_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    tenant = f"acme-{uuid.uuid4().hex[:8]}"
    roles = ("admin", "write", "read")
    admin_key, right, reader = (api_keys.create(path, tenant, role)[1] for role in roles)
    other = api_keys.create(path, "other", "write")[1]
    expired = api_keys.create(path, tenant, "write", days=1e-9)[1]
    server: ServerThread | ServerProcess
    if request.param == "grpc":
        server = ServerThread(
            Settings(
                redis_url=any_redis.url,
                models=models_folder,
                default_model="tiny",
                api_keys=path,
                max_wrong_credentials=0,
            )
        )
    else:
        served = ("--models", str(models_folder), "--default-model", "tiny")
        access = ("--api-keys", str(path), "--max-wrong-credentials", "0")
        server = ServerProcess("--transport", "envoy", "--redis-url", any_redis.url, *served, *access)
    place = Place(server, path, admin_key, right, reader, other, expired)
    yield place
    server.stop()


def outcomes(place: Place, key: str) -> dict[str, str]:
    """Return what each method answers to the caller with the key."""
    caller, found = place.caller(key), {}
    for what, (_, ask, *_) in METHODS.items():
        place.prepare()
        found[what] = outcome(ask, caller)
    return found


def outcome(ask: Ask, caller: Caller) -> str:
    """Return OK, or the code and reason of the error, in band or not."""
    try:
        found = ask(caller)
    except grpc.RpcError as caught:
        error: Any = caught
        status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
        assert status.code == error.code().value[0]
        return said(status)
    return found if isinstance(found, str) else OK


def test_no_method_is_forgotten() -> None:
    services = [descriptor_pool.Default().FindServiceByName(name) for name in SERVICES]
    named = {name for each in METHODS.values() for name in each[0].split()}
    assert {method.name for service in services for method in service.methods} == named


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (None, "UNAUTHENTICATED CREDENTIAL_MISSING"),
        ("Bearer sck_000000000000_" + "a" * 43, "UNAUTHENTICATED CREDENTIAL_INVALID"),
        ("Bearer", "UNAUTHENTICATED CREDENTIAL_INVALID"),
        ("Basic dXNlcjpwYXNz", "UNAUTHENTICATED CREDENTIAL_INVALID"),
        ("wrong secret", "UNAUTHENTICATED CREDENTIAL_INVALID"),
        ("expired", "UNAUTHENTICATED CREDENTIAL_EXPIRED"),
    ],
)
def test_strangers_get_nothing(place: Place, authorization: str | None, expected: str) -> None:
    place.prepare()
    header = {
        "wrong secret": f"Bearer {place.right[:-1]}{'A' if place.right[-1] != 'A' else 'B'}",
        "expired": f"Bearer {place.expired}",
    }.get(authorization or "", authorization)
    caller = Caller(place.server, header)
    assert {what: outcome(ask, caller) for what, (_, ask, *_) in METHODS.items()} == dict.fromkeys(METHODS, expected)


def test_an_admin_may_do_everything(place: Place) -> None:
    assert outcomes(place, place.admin) == dict.fromkeys(METHODS, OK)


def test_a_writer_may_do_all_but_administer(place: Place) -> None:
    expected = {what: DENIED if what in ADMINISTRATION else OK for what in METHODS}
    assert outcomes(place, place.right) == expected


def test_a_reader_looks_only(place: Place) -> None:
    assert outcomes(place, place.reader) == {what: expected for what, (_, _, expected, _) in METHODS.items()}


def test_another_tenant_finds_its_own_sessions_only(place: Place) -> None:
    found = {
        what: each.replace("SESSION_CLOSED", "SESSION_NOT_FOUND") for what, each in outcomes(place, place.other).items()
    }
    assert found == {what: expected for what, (*_, expected) in METHODS.items()}


def test_another_tenants_session_is_as_one_that_does_not_exist(place: Place) -> None:
    owner, other = place.caller(place.right), place.caller(place.other)
    theirs, nowhere = new(), new()
    owner.call(owner.forecasts.Forecast, request(theirs, 1, open=OPEN))

    def told(name: str) -> str:
        code, status = failure(lambda: other.call(other.forecasts.GetSession, pb.GetSessionRequest(session_id=name)))
        return f"{code} {status}".replace(name, "it")

    assert told(theirs) == told(nowhere)
    everything = pb.ListSessionsRequest(page_size=1000)  # a page of few keys may hold another tenant's alone
    assert theirs in {each.session_id for each in owner.call(owner.forecasts.ListSessions, everything).sessions}
    listed = other.call(other.forecasts.ListSessions, pb.ListSessionsRequest(page_size=1000)).sessions
    assert theirs not in {each.session_id for each in listed}


def test_an_admin_moves_the_sessions_of_its_own_tenant_only(place: Place) -> None:
    owner, ours = place.caller(place.right), place.caller(place.admin)
    key_id, key = api_keys.create(place.keys, f"third-{uuid.uuid4().hex[:8]}", "admin")
    theirs = place.caller(key)
    await_true(lambda: outcome(METHODS["ListModels"][1], theirs) == OK)
    name = new()
    owner.call(owner.forecasts.Forecast, request(name, 1, open=OPEN))
    (exported,) = ours.export(name)
    assert not theirs.export(name)
    assert not theirs.export("")
    (taken,) = theirs.take(exported)
    assert taken.outcome == admin.IMPORT_OUTCOME_CREATED
    theirs.call(theirs.forecasts.Forecast, request(name, 5, 6))
    theirs.take(exported, replace=True)
    theirs.call(theirs.forecasts.Forecast, request(name, 7))
    still = owner.call(owner.forecasts.GetSession, pb.GetSessionRequest(session_id=name)).session
    assert still.version == exported.version
    assert [each.record for each in ours.export(name)] == [exported.record]
    theirs.call(theirs.forecasts.CloseSession, pb.CloseSessionRequest(session_id=name))
    api_keys.revoke(place.keys, key_id)


def test_an_import_ends_when_its_key_is_revoked(place: Place) -> None:
    key_id, key = api_keys.create(place.keys, "third", "admin")
    caller = place.caller(key)
    await_true(lambda: outcome(METHODS["ListModels"][1], caller) == OK)
    answers = caller.admin.ImportSessions(_forever(admin.ImportSessionsRequest()), metadata=caller.headers)
    assert not next(answers).results
    api_keys.revoke(place.keys, key_id)
    code, status = failure(lambda: list(answers))
    assert (code, reason(status)) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")


def test_equal_names_are_different_sessions(place: Place) -> None:
    name = new()
    for key, values in ((place.right, (1.0, 2.0)), (place.other, (5.0,))):
        caller = place.caller(key)
        answer = caller.call(caller.forecasts.Forecast, request(name, *values, open=OPEN))
        assert (answer.opened, answer.version.step) == (True, len(values))


def test_health_asks_for_no_credential(place: Place) -> None:
    with grpc.insecure_channel(place.server.target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(service=SERVICES[0])).status == 1
        assert next(health.Watch(health_pb2.HealthCheckRequest())).status == 1


def test_a_revoked_key_is_refused_and_its_stream_ends_after_its_answers(place: Place) -> None:
    key_id, key = api_keys.create(place.keys, "acme", "write")
    caller, name = place.caller(key), new()
    await_true(lambda: outcome(METHODS["ListModels"][1], caller) == OK)
    answers = caller.forecasts.ForecastStream(
        _forever(pb.ForecastStreamRequest(requests=[request(name, 1, open=OPEN)])), metadata=caller.headers
    )
    assert said(next(answers).results[0].status) == OK
    api_keys.revoke(place.keys, key_id)
    code, status = failure(lambda: list(answers))
    assert (code, reason(status)) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")
    assert outcome(METHODS["ListModels"][1], caller) == "UNAUTHENTICATED CREDENTIAL_INVALID"


@pytest.mark.parametrize("is_busy", [False, True], ids=["silent", "busy"])
def test_a_reflection_stream_ends_when_its_key_is_revoked(place: Place, is_busy: bool) -> None:
    key_id, key = api_keys.create(place.keys, "acme", "read")
    caller = place.caller(key)
    await_true(lambda: outcome(METHODS["ListModels"][1], caller) == OK)
    path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    asked = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    method: Any = caller.channel.stream_stream(path)
    answers = method(_often(asked) if is_busy else _forever(asked), metadata=caller.headers, timeout=20)
    assert next(answers)
    api_keys.revoke(place.keys, key_id)
    code, status = failure(lambda: list(answers))
    assert (code, reason(status)) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")


def test_a_stream_ends_when_its_key_expires(place: Place) -> None:
    _, key = api_keys.create(place.keys, "acme", "write", days=4 / 86_400)
    caller = place.caller(key)
    await_true(lambda: outcome(METHODS["ListModels"][1], caller) == OK)
    answers = caller.forecasts.ForecastStream(
        _forever(pb.ForecastStreamRequest(requests=[request(new(), 1, open=OPEN)])), metadata=caller.headers
    )
    code, status = failure(lambda: list(answers))
    assert (code, reason(status)) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_EXPIRED")


def _often(each: T) -> Iterator[T]:
    while True:
        yield each
        time.sleep(0.05)


def _forever(first: T) -> Iterator[T]:
    yield first
    time.sleep(30)


def test_a_message_is_not_read_before_its_caller_is_known(place: Place) -> None:
    """Else strangers could make the server decode what they like."""
    call: Any = Caller(place.server, None).channel.unary_unary("/statecast.v1.ForecastService/Forecast")
    code, status = failure(lambda: call(b"\xff", timeout=20))
    assert (code, reason(status)) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_MISSING")
