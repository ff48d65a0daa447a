"""The programs in other languages, built as docs/languages.md says, while their server is killed and started again."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.programs import needs
from support.redis_process import RedisProcess
from support.servers import ServerProcess

from statecast.client import Client

ROOT = Path(__file__).parents[2]
COUNT = 300
GO_PATH, JARS = Path("/usr/share/gocode/src/google.golang.org"), Path("/usr/share/java")
GO: tuple[str | Path, ...] = (
    "protoc",
    "protoc-gen-go",
    "protoc-gen-go-grpc",
    "go",
    *(GO_PATH / name for name in ("grpc", "genproto", "protobuf")),
)
JAVA: tuple[str | Path, ...] = (
    "protoc",
    "grpc_java_plugin",
    "javac",
    "java",
    *(JARS / f"{name}.jar" for name in ("grpc-netty", "netty-codec-http2", "gson", "perfmark-api")),
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(any_redis: RedisProcess) -> Iterator[ServerProcess]:
    """A server that may be killed; its Redis stays."""
    server = ServerProcess("--redis-url", any_redis.url, "--namespace", "languages")
    yield server
    assert server.stop() == 0


def commands(language: str) -> list[str]:
    """Return the commands of a language's part of the page."""
    page = (ROOT / "docs" / "languages.md").read_text()
    (block,) = re.findall(rf"^## {language}\n.*?^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for line in block.replace("\\\n", "").splitlines()]


@pytest.mark.parametrize(
    "language",
    [
        pytest.param("Node", marks=needs("node", "npm")),
        pytest.param("Go", marks=needs(*GO)),
        pytest.param("Java", marks=needs(*JAVA)),
    ],
)
def test_a_program_goes_on_after_the_server_was_killed(language: str, server: ServerProcess, tmp_path: Path) -> None:
    name = language.lower()
    for folder in ("proto", f"examples/{name}"):
        ignored = shutil.ignore_patterns("node_modules", "dist", "build", "generated", "__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    *build, start = commands(language)
    assert f"localhost:50051 {name} 100" in start
    server.wait_until_serving()
    start = start.replace(f"localhost:50051 {name} 100", f"{server.target} {name} {COUNT}")
    script = "\n".join(["set -eu", *build, "echo built", f"exec {start}"])
    program = subprocess.Popen(
        ["bash", "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert program.stdout is not None
    output = ""
    try:
        while f"{name}-1 step 10:" not in output and (line := program.stdout.readline()):
            output += line
        server.kill()
        server.launch()
        output += program.communicate(timeout=120)[0]
    finally:
        program.kill()
    assert program.returncode == 0, output
    ran = output.partition("built\n")[2]
    assert "refused: INVALID_FIELD: observations.values[0] is at fault: 1e+40 is too large" in ran
    assert "sending again what is unanswered" in ran, output
    with Client(server.target) as client:
        for number in (1, 2, 3):
            assert f"{name}-{number}: {COUNT} values sent, at step {COUNT}\n" in ran
            assert client.session(f"{name}-{number}").info().version.step == COUNT
