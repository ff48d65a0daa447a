"""docs/http.md: its commands are run and print what it shows, and its tables are what the server does."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.asgi import echo
from support.programs import needs
from support.redis_process import RedisProcess
from support.servers import ServerProcess

from statecast.service.envoy import launcher
from statecast.service.rpc.methods import Method
from statecast.service.transport.http_json.call import HTTP_STATUS, MOST_BYTES
from statecast.service.transport.http_json.reading import MOST_PARTS
from statecast.service.transport.http_json.routes import NoRoute, Routes
from statecast.v1 import admin_service_pb2, forecast_service_pb2, model_service_pb2

PAGE = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
CONSOLE = "\n".join(re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def server(any_redis: RedisProcess) -> Iterator[ServerProcess]:
    server = ServerProcess("--redis-url", any_redis.url, "--namespace", "http-page")
    yield server
    assert server.stop() == 0


@needs("curl")
@pytest.mark.skipif(bool(launcher.why_not()), reason=launcher.why_not())
def test_the_commands_print_what_the_page_shows(server: ServerProcess) -> None:
    shown = re.findall(r"^\$ (curl .*?)\n(.*?)(?=^\$|\Z)", CONSOLE.replace("\\\n", ""), re.MULTILINE | re.DOTALL)
    assert len(shown) == 6
    for command, expected in shown:
        line = command.replace("localhost:50051", server.target)
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
        pattern = ".*".join(map(re.escape, expected.strip().split("...")))
        assert re.fullmatch(pattern, done.stdout.strip()), (command, done.stdout)


def test_the_table_names_every_path() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+ /v1/.*?)` \|$", PAGE, re.MULTILINE))
    services = [
        service
        for module in (admin_service_pb2, forecast_service_pb2, model_service_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    methods = {
        method.name: f"/{service.full_name}/{method.name}"
        for service in services
        for method in service.methods
        if not (method.server_streaming or method.client_streaming)
    }
    assert set(rows) == set(methods)
    for name, path in rows.items():
        with pytest.raises(NoRoute, match=re.escape(f"there are: {path}")):
            Routes({methods[name]: Method(False, bytes, echo)}).find("GET", "/", b"")


def test_the_table_names_the_status_of_each_code() -> None:
    rows = {
        int(number): set(re.findall(r"`([A-Z_]+)`", codes))
        for number, codes in re.findall(r"^\| (\d{3}) \| (.*?) \|$", PAGE, re.MULTILINE)
    }
    for code in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ):
        assert code.name in rows[HTTP_STATUS[code]]


def test_the_limits_are_those_of_the_code() -> None:
    assert f"A body may have {MOST_BYTES // 2**20} MiB" in PAGE
    assert f"{MOST_PARTS:,} objects and lists" in PAGE
