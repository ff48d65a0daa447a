"""HTTP/JSON on the port of gRPC: with the same credentials, tenants, limits and errors."""

import json
import re
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from jsonschema import Draft202012Validator
from support import await_true
from support.certificates import Authority
from support.redis_process import RedisProcess
from support.servers import ServerProcess
from support.wire import OPEN, observations

from statecast.service.access import api_keys
from statecast.service.envoy import launcher
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

pytestmark = pytest.mark.skipif(bool(launcher.why_not()), reason=launcher.why_not())
ORIGIN = "https://app.example.org"
ROLES = ("read", "write")


DOCUMENT = json.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_text())


def check(verb: str, path: str, status: int, answer: Any) -> None:
    """Check an answer against the OpenAPI document, if it describes the call."""
    for template, verbs in DOCUMENT["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path.partition("?")[0]) and verb.lower() in verbs:
            responses = verbs[verb.lower()]["responses"]
            described = DOCUMENT["components"]["responses"][str(status)] if status >= 400 else responses[str(status)]
            schema = {**described["content"]["application/json"]["schema"], "components": DOCUMENT["components"]}
            Draft202012Validator(schema).validate(answer)
            break


class Caller:
    """A caller over HTTP/1.1, with a connection for each call."""

    def __init__(self, server: ServerProcess, key: str = "", context: ssl.SSLContext | None = None) -> None:
        self._server, self._context = server, context
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def raw(self, verb: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Make a call; return status, headers and body."""
        place = "127.0.0.1", self._server.port
        context = self._context
        connection = HTTPSConnection(*place, context=context) if context else HTTPConnection(*place, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(verb, path, body, {**self._headers, **named})
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def get(self, path: str, verb: str = "GET") -> tuple[int, Any]:
        status, _, body = self.raw(verb, path)
        answer = json.loads(body)
        check(verb, path, status, answer)
        return status, answer

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        kind = {"content_type": "application/json", **headers}
        status, _, said = self.raw("POST", path, json.dumps(body).encode(), **kind)
        answer = json.loads(said)
        check("POST", path, status, answer)
        return status, answer

    def forecast(self, session: str, **request: Any) -> tuple[int, Any]:
        return self.post(f"/v1/sessions/{quote(session, safe='')}:forecast", request)


def reason(answer: Any) -> str:
    """Return the reason of an error."""
    found: str = next(each["reason"] for each in answer["details"] if each["@type"].endswith("/google.rpc.ErrorInfo"))
    return found


@pytest.fixture(scope="module")
def server(any_redis: RedisProcess, models_folder: Path) -> Iterator[ServerProcess]:
    arguments = ("--transport", "envoy", "--redis-url", any_redis.url, "--models", str(models_folder))
    server = ServerProcess(*arguments, "--web-origins", ORIGIN, "--max-message-mib", "1")
    yield server
    assert server.stop() == 0


@pytest.fixture
def caller(server: ServerProcess) -> Caller:
    return Caller(server)


def test_a_session_from_its_opening_to_its_end(caller: Caller, session_id: str) -> None:
    name = f"{session_id} / ä:b"
    path = f"/v1/sessions/{quote(name, safe='')}"
    status, opened = caller.post(f"{path}:open", {"options": {"model": "tiny"}})
    assert (status, opened["opened"], opened["session"]["sessionId"]) == (200, True, name)
    status, answer = caller.forecast(name, observations={"values": [1, None, 3]}, horizon=2, requestId="one")
    assert (status, answer["version"]["step"], answer["forecast"]["horizon"]) == (200, "3", 2)
    assert answer["pit"][1] == "NaN"
    _, again = caller.forecast(name, observations={"values": [1, "NaN", 3]}, requestId="one")
    assert (again["replayed"], again["version"]) == (True, answer["version"])
    status, fork = caller.post(f"{path}:fork", {"sessionId": session_id})
    assert (status, fork["session"]["version"]) == (200, answer["version"])
    upgrade = {"observations": {"values": [1, None, 3]}, "requestId": "up"}
    status, upgraded = caller.post(f"{path}:upgrade", upgrade)
    assert (status, upgraded["session"]["version"]) == (200, answer["version"])
    assert (upgraded["reencodedSteps"], upgraded["exact"], upgraded["replayed"]) == ("3", True, False)
    assert caller.post(f"{path}:upgrade", upgrade)[1]["replayed"]
    listed, token = set[str](), None
    while token != "":  # a page that takes too long ends early, even without a session
        page = caller.get(f"/v1/sessions?prefix={session_id}&pageToken={quote(token or '')}")[1]
        listed |= {each["sessionId"] for each in page["sessions"]}
        token = page["nextPageToken"]
    assert listed == {name, session_id}
    status, refused = caller.get(f"{path}?if_version.step=2", "DELETE")
    assert (status, reason(refused)) == (409, "VERSION_MISMATCH")
    version = answer["version"]
    closed = caller.get(f"{path}?ifVersion.step=3&ifVersion.tag={version['tag']}", "DELETE")
    assert closed == (200, {"version": version})
    status, gone = caller.get(path)
    assert (status, reason(gone)) == (404, "SESSION_CLOSED")


def test_grpc_and_json_are_the_same_session(server: ServerProcess, caller: Caller, session_id: str) -> None:
    with grpc.insecure_channel(server.target) as channel:
        stub = ForecastServiceStub(channel)
        request = pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(1, 2), horizon=2)
        said = stub.Forecast(request)
        status, answer = caller.forecast(session_id, horizon=2, lastSeen={"step": 2, "tag": str(said.version.tag)})
        assert (status, answer["version"]["tag"]) == (200, str(said.version.tag))
        assert answer["forecast"]["values"] == pytest.approx(list(said.forecast.values), rel=1e-7)
        caller.forecast(session_id, observations={"values": [3]})
        assert stub.GetSession(pb.GetSessionRequest(session_id=session_id)).session.version.step == 3


def test_models_are_described(caller: Caller) -> None:
    _, listed = caller.get("/v1/models")
    assert {"base", "tiny"} <= {model["name"] for model in listed["models"]}
    assert caller.get("/v1/models/tiny?version=1")[1]["model"]["version"] == "1"
    status, missing = caller.get("/v1/models/none")
    assert (status, reason(missing)) == (404, "MODEL_NOT_FOUND")


def test_a_frame_has_a_result_for_each_request(caller: Caller, session_id: str) -> None:
    requests = [
        {"sessionId": session_id, "open": {"model": "tiny"}, "observations": {"values": [1]}},
        {"sessionId": "x"},
    ]
    status, answer = caller.post("/v1/sessions:forecastMany", {"requests": requests})
    first, second = answer["results"]
    assert (status, first["response"]["opened"], second["status"]["code"]) == (200, True, 5)
    assert reason(second["status"]) == "SESSION_NOT_FOUND"


def test_an_error_names_the_field_and_is_logged(server: ServerProcess, caller: Caller, session_id: str) -> None:
    status, answer = caller.forecast(session_id, observations={"values": [1, "warm"]})
    assert (status, reason(answer)) == (400, "INVALID_FIELD")
    (violation,) = answer["details"][1]["fieldViolations"]
    assert violation["field"] == "observations.values[1]"
    await_true(lambda: 'error="observations.values[1]: not valid"' in server.log)  # without the caller's number


@pytest.mark.parametrize(
    "path", ["/%ff", "/v1/sessions/%c3", "/%", "/v1/sessions/%ed%a0%80", "/v1/sessions/%f5%80%80%80"]
)
def test_a_path_that_cannot_be_decoded_is_refused(caller: Caller, path: str) -> None:
    status, answer = caller.get(path)
    assert (status, answer["code"]) == (400, 3)
    assert "encode names in it as UTF-8" in answer["message"]


@pytest.mark.parametrize("name", ["é", "€", "𝄞", "a\x7fb", "퟿", "\U0010ffff", "%", "..."])
def test_every_name_can_be_in_a_path(caller: Caller, name: str) -> None:
    status, answer = caller.get(f"/v1/sessions/{quote(name, safe='')}")
    assert (status, answer["code"]) in {(404, 5), (400, 3)}
    assert "path" not in answer["message"]


def test_a_large_body_is_taken_up_to_the_limit(caller: Caller, session_id: str) -> None:
    values = {"values": [0.123456789] * 9_000}
    status, _ = caller.forecast(session_id, open={"model": "tiny"}, observations=values)
    assert status == 200
    status, answer = caller.forecast(session_id, observations={"values": [0.123456789] * 100_000})
    assert (status, answer["code"]) == (413, 8)


def test_many_callers_at_once(caller: Caller, session_id: str) -> None:
    def call(index: int) -> int:
        return caller.forecast(f"{session_id}-{index}", open={"model": "tiny"}, observations={"values": [index]})[0]

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(call, range(64))) == {200}


def test_a_connection_takes_calls_one_after_the_other(server: ServerProcess, session_id: str) -> None:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    for path, status in (
        ("/v1/models", 200),
        ("/nothing", 404),
        (f"/v1/sessions/{session_id}", 404),
        ("/v1/models", 200),
    ):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (status, True)
    connection.close()


def test_half_a_body_is_not_answered_and_harms_nobody(server: ServerProcess, caller: Caller) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as half:
        head = (
            "POST /v1/sessions/x:forecast HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99"
        )
        half.sendall(f"{head}\r\n\r\n{{".encode())
        assert caller.get("/v1/models")[0] == 200


def test_pages_of_named_origins_may_call(caller: Caller) -> None:
    asks: dict[str, Any] = {"access_control_request_method": "POST", "access_control_request_headers": "content-type"}
    _, headers, _ = caller.raw("OPTIONS", "/v1/sessions/x:forecast", origin=ORIGIN, **asks)
    assert headers["access-control-allow-origin"] == ORIGIN
    assert headers["access-control-allow-methods"] == "GET,POST,DELETE"
    _, headers, _ = caller.raw("GET", "/v1/models", origin=ORIGIN)
    assert headers["access-control-allow-origin"] == ORIGIN
    _, headers, _ = caller.raw("OPTIONS", "/v1/sessions/x:forecast", origin="https://evil.example.org", **asks)
    assert "access-control-allow-origin" not in headers


def test_a_page_cannot_send_what_needs_no_question(caller: Caller, session_id: str) -> None:
    """Browsers send such content types to any server without asking it first."""
    body = json.dumps({"open": {}, "observations": {"values": [1]}}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert caller.raw("POST", f"/v1/sessions/{session_id}:forecast", body, content_type=kind)[0] == 415
    assert caller.get(f"/v1/sessions/{session_id}")[0] == 404


@dataclass
class Secured:
    """A server with TLS that asks for certificates and credentials."""

    server: ServerProcess
    keys: dict[str, str]
    contexts: dict[str, ssl.SSLContext]

    def caller(self, key: str = "", certificate: str = "nobody") -> Caller:
        return Caller(self.server, self.keys.get(key, key), self.contexts[certificate])


@pytest.fixture(scope="module")
def secured(
    any_redis: RedisProcess, models_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    keys, subjects, authority = folder / "keys.json", folder / "subjects.toml", Authority(folder)
    made = {
        f"{tenant} {role}": api_keys.create(keys, tenant, role)[1] for tenant in ("acme", "other") for role in ROLES
    }
    subjects.write_text('[subjects."CN=gateway"]\ntenant = "acme"\nrole = "write"\n')
    made["small"] = api_keys.create(keys, "small", "write")[1]
    limits = folder / "limits.toml"
    limits.write_text("[small]\nrequests_per_second = 1\n")
    pair, contexts = authority.server(), {}
    for name in ("gateway", "nobody"):
        client, contexts[name] = authority.client(name, file=name), ssl.create_default_context(cafile=authority.ca)
        contexts[name].load_cert_chain(client.cert, client.key)
    tls = ("--tls-cert", pair.cert, "--tls-key", pair.key, "--tls-client-ca", authority.ca, "--tls-subjects", subjects)
    common = ("--transport", "envoy", "--redis-url", any_redis.url, "--models", models_folder, "--api-keys", keys)
    others = ("--default-model", "tiny", "--tenant-limits", limits)
    server = ServerProcess(*map(str, (*common, *tls, *others)))
    yield Secured(server, made, contexts)
    assert server.stop() == 0


CALLS: dict[str, tuple[str, str, Any]] = {
    "Forecast": ("POST", "/v1/sessions/NAME:forecast", {"observations": {"values": [2]}}),
    "ForecastMany": ("POST", "/v1/sessions:forecastMany", {"requests": []}),
    "OpenSession": ("POST", "/v1/sessions/NAME:open", {}),
    "GetSession": ("GET", "/v1/sessions/NAME", None),
    "ListSessions": ("GET", "/v1/sessions", None),
    "ForkSession": ("POST", "/v1/sessions/NAME:fork", {"sessionId": "another"}),
    "UpgradeSession": ("POST", "/v1/sessions/NAME:upgrade", {}),
    "CloseSession": ("DELETE", "/v1/sessions/NAME", None),
    "ListModels": ("GET", "/v1/models", None),
    "GetModel": ("GET", "/v1/models/tiny", None),
}
CHANGES = {"Forecast", "ForkSession", "UpgradeSession", "CloseSession"}
"""Calls that a reader may not make; its open only resumes a session."""


@pytest.mark.parametrize("name", CALLS)
def test_every_call_asks_for_a_credential(secured: Secured, session_id: str, name: str) -> None:
    verb, path, body = CALLS[name]

    def call(caller: Caller) -> tuple[int, str]:
        there = path.replace("NAME", session_id)
        status, answer = caller.get(there, verb) if body is None else caller.post(there, body)
        return status, reason(answer) if status != 200 else ""

    assert secured.caller("acme write").forecast(session_id, open={}, observations={"values": [1]})[0] == 200
    assert call(secured.caller()) == (401, "CREDENTIAL_MISSING")
    assert call(secured.caller("sck_wrong")) == (401, "CREDENTIAL_INVALID")
    assert call(secured.caller("acme read")) == ((403, "ROLE_TOO_LOW") if name in CHANGES else (200, ""))
    if name in {*CHANGES, "GetSession"}:
        assert call(secured.caller("other write")) == (404, "SESSION_NOT_FOUND")
    assert call(secured.caller(certificate="gateway")) == (200, "")


def test_a_tenant_beyond_its_limit_is_told_when_to_come_again(secured: Secured, session_id: str) -> None:
    caller = secured.caller("small")
    answers = [caller.forecast(session_id, open={}) for _ in range(8)]
    refused = [answer for status, answer in answers if status == 429]
    assert answers[0][0] == 200
    assert reason(refused[0]) == "QUOTA_EXCEEDED"
    path = f"/v1/sessions/{session_id}:forecast"
    found = [caller.raw("POST", path, b"{}", content_type="application/json") for _ in range(4)]
    assert any(status == 429 and int(headers["retry-after"]) >= 1 for status, headers, _ in found)


def test_without_a_certificate_there_is_no_connection(secured: Secured) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Caller(secured.server, secured.keys["acme write"], context).get("/v1/models")
    with pytest.raises((OSError, ConnectionError)):
        Caller(secured.server, secured.keys["acme write"]).get("/v1/models")


def test_a_forged_certificate_header_counts_for_nothing(secured: Secured) -> None:
    forged = "Cert=x;Subject=CN=gateway"
    status, _, _ = secured.caller().raw("GET", "/v1/models", x_forwarded_client_cert=forged)
    assert status == 401
