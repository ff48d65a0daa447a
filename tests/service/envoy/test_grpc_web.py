"""gRPC-Web, as browsers speak it, on the same port: HTTP/1.1, with the trailers in the body."""

import base64
import http.client
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from support import await_true
from support.redis_process import RedisProcess
from support.servers import ServerProcess
from support.wire import OPEN, observations

from statecast.service.envoy import launcher
from statecast.service.transport.framing import framed
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

pytestmark = pytest.mark.skipif(bool(launcher.why_not()), reason=launcher.why_not())
FORECAST, GET_SESSION = (f"/statecast.v1.ForecastService/{name}" for name in ("Forecast", "GetSession"))


@pytest.fixture(scope="module")
def server(any_redis: RedisProcess, models_folder: Path) -> Iterator[ServerProcess]:
    server = ServerProcess("--transport", "envoy", "--redis-url", any_redis.url, "--models", str(models_folder))
    yield server
    assert server.stop() == 0


def post(server: ServerProcess, path: str, request: Message, kind: str) -> list[tuple[int, bytes]]:
    """Send a request; return the flag and the content of each part of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    body = framed(request.SerializeToString())
    if "text" in kind:
        body = base64.b64encode(body)
    headers = {"content-type": kind, "accept": kind, "x-grpc-web": "1"}
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("content-type")) == (200, kind)
    content = answer.read()
    connection.close()
    if "text" in kind:
        content = b"".join(base64.b64decode(each + b"==") for each in content.split(b"=") if each)
    parts, at = [], 0
    while at < len(content):
        end = at + 5 + int.from_bytes(content[at + 1 : at + 5], "big")
        parts.append((content[at], content[at + 5 : end]))
        at = end
    return parts


def test_a_browser_gets_a_forecast(server: ServerProcess, session_id: str) -> None:
    request = pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(1, 2), horizon=2)
    message, trailers = post(server, FORECAST, request, "application/grpc-web+proto")
    assert message[0] == 0
    assert pb.ForecastResponse.FromString(message[1]).version.step == 2
    assert trailers == (0x80, b"grpc-status:0\r\n")


def test_a_browser_gets_errors_with_their_details(server: ServerProcess, session_id: str) -> None:
    *_, trailers = post(server, GET_SESSION, pb.GetSessionRequest(session_id=session_id), "application/grpc-web+proto")
    found = dict(line.split(":", 1) for line in trailers[1].decode().splitlines())
    assert found["grpc-status"] == "5"
    assert "there is no session" in found["grpc-message"]
    assert found["grpc-status-details-bin"]


def test_a_caller_does_not_choose_its_address(server: ServerProcess, session_id: str) -> None:
    """Shares of the queue and of streams, and the throttle of wrong credentials, go by it."""
    asked = pb.GetSessionRequest(session_id=session_id)
    with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError, match="there is no session"):
        ForecastServiceStub(channel).GetSession(asked, metadata=(("x-forwarded-for", "203.0.113.9"),))
    await_true(lambda: f"session={session_id} " in server.log)
    (line,) = (line for line in server.log.splitlines() if f"session={session_id} " in line)
    assert " peer=127.0.0.1:" in line


@pytest.mark.parametrize("path", ["/%ff", "/a%c3", "/%"])
def test_a_path_that_cannot_be_decoded_does_not_reach_python(server: ServerProcess, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", path, b"", {"content-type": "application/grpc", "te": "trailers"})
    answer = connection.getresponse()
    assert answer.getheader("grpc-status") == "7"
    connection.close()
    assert "Traceback" not in server.log


def test_what_is_no_grpc_is_told_so(server: ServerProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert answer.status == 404
    assert b"GET /v1/models" in answer.read()
    connection.close()
