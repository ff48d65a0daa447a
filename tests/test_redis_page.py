"""The worked examples of docs/redis.md, command by command, on other ports."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import await_true, short_folder
from support.redis_cluster import free_ports
from support.servers import ServerProcess

from statecast.client import Client
from statecast.service.cli.main import main

PAGE = (Path(__file__).parents[1] / "docs" / "redis.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
PORT = re.compile(r"\b(?:6379|638\d|700\d|263[78]\d)\b")
STATECAST, SERVE, STOP = "statecast ", "statecast serve ", "shutdown"

pytestmark = pytest.mark.skipif(not shutil.which("redis-cli"), reason="redis-cli is not here")


def commands(title: str) -> list[str]:
    """Return the commands of an example, each with ports that are free."""
    blocks = re.findall(r"^```console\n(.*?)^```", SECTIONS[title], re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    named = sorted(set(PORT.findall("\n".join(lines))))
    free = dict(zip(named, map(str, free_ports(len(named))), strict=True))
    return [PORT.sub(lambda found: free[found.group()], line) for line in lines]


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.mark.parametrize("title", ["One Redis", "Sentinel", "A cluster"])
def test_the_commands_of_an_example_make_a_redis_that_a_server_starts_on(title: str, folder: Path) -> None:
    lines = commands(title)
    (serve,) = (line for line in lines if line.startswith(SERVE))
    stop = [line for line in lines if STOP in line]
    assert stop
    server = None
    try:
        for line in (line for line in lines if line not in (serve, *stop)):
            if not line.startswith(STATECAST):
                await_true(partial(_runs, line, folder))  # Sentinels need a moment
                continue
            await_true(partial(_checks, line))  # a new cluster needs a moment
            server = ServerProcess(*serve.removeprefix(SERVE).split(), "--transport", "grpc", "--kernels", "off")
            _observe(server, 1)
        assert server is not None
        _observe(server, 2)
    finally:
        if server is not None:
            server.stop()
        for line in stop:
            _runs(line, folder)


def _observe(server: ServerProcess, step: int) -> None:
    with Client(f"127.0.0.1:{server.port}", timeout_seconds=30.0) as client:
        assert client.session("pump").observe([1.0]).version.step == step


def _checks(line: str) -> bool:
    return CliRunner().invoke(main, line.removeprefix(STATECAST).split()).exit_code == 0


def _runs(line: str, folder: Path) -> bool:
    done = subprocess.run(["bash", "-ec", line], cwd=folder, capture_output=True, text=True, timeout=60)
    return done.returncode == 0 and not done.stdout.startswith("NOGOODSLAVE")
