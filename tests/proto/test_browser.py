"""A page of another origin calls the server by gRPC-Web, in a real browser with Google's library."""

import html
import json
import re
import shutil
import subprocess
import threading
from base64 import b64decode
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import status_pb2
from support.programs import needs, run
from support.redis_process import RedisProcess
from support.servers import ServerProcess
from support.wire import OPEN, observations

from statecast.service.envoy import launcher
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

BROWSER = "chromium-headless-shell"
NODE = Path(__file__).parent / "node"
pytestmark = [
    needs(BROWSER, "npm"),
    pytest.mark.skipif(bool(launcher.why_not()), reason=launcher.why_not()),
]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the origin of a site with the page."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(NODE, folder, dirs_exist_ok=True)
    run("npm", "ci", "--silent", folder=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(any_redis: RedisProcess, models_folder: Path, site: str) -> Iterator[ServerProcess]:
    arguments = ("--transport", "envoy", "--redis-url", any_redis.url, "--models", str(models_folder))
    server = ServerProcess(*arguments, "--web-origins", f"https://app.example.org, {site}")
    yield server
    assert server.stop() == 0


def call(page: str, server: ServerProcess, name: str, request: Message, profile: Path) -> Any:
    """Open the page, which calls a method of the ForecastService; return what it shows."""
    path = f"/statecast.v1.ForecastService/{name}"
    asked = urlencode({"server": f"http://{server.target}", "path": path, "request": request.SerializeToString().hex()})
    options = ("--no-sandbox", f"--user-data-dir={profile}", "--virtual-time-budget=30000", "--dump-dom")
    command = [BROWSER, *options, f"{page}/page.html?{asked}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    (shown,) = re.findall(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    return json.loads(html.unescape(shown))


def test_a_page_of_a_named_origin_gets_a_forecast(
    site: str, server: ServerProcess, session_id: str, tmp_path: Path
) -> None:
    request = pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(1, 2), horizon=2)
    said = call(site, server, "Forecast", request, tmp_path)
    answer = pb.ForecastResponse.FromString(bytes.fromhex(said["answer"]))
    assert (answer.version.step, answer.forecast.horizon) == (2, 2)


def test_a_page_sees_the_details_of_an_error(site: str, server: ServerProcess, session_id: str, tmp_path: Path) -> None:
    said = call(site, server, "GetSession", pb.GetSessionRequest(session_id=session_id), tmp_path)
    assert said["code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert "there is no session" in said["message"]
    details = status_pb2.Status.FromString(b64decode(said["details"] + "=="))
    assert b"SESSION_NOT_FOUND" in details.details[0].value


def test_a_page_of_any_other_origin_is_refused_by_its_browser(
    site: str, server: ServerProcess, session_id: str, tmp_path: Path
) -> None:
    request = pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(1))
    said = call(site.replace("127.0.0.1", "localhost"), server, "Forecast", request, tmp_path)
    assert said["code"] == grpc.StatusCode.UNKNOWN.value[0]
    with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError, match="there is no session"):
        ForecastServiceStub(channel).GetSession(pb.GetSessionRequest(session_id=session_id))
