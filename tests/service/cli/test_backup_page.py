"""The commands of docs/backup.md do what the page shows."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import Client
from statecast.service.settings import Settings

PAGE = (Path(__file__).parents[3] / "docs" / "backup.md").read_text()
BLOCKS = re.findall(r"^ *```console\n *\$ (.*)\n((?:.*\n)*?) *```", PAGE, re.MULTILINE)
SHOWN = {command: [line.strip() for line in lines.splitlines()] for command, lines in BLOCKS}


@pytest.fixture
def servers(any_redis: RedisProcess, models_folder: Path, session_id: str) -> Iterator[tuple[str, str]]:
    """Start an old and a new server, and return their places; the old one has the three sessions of the page."""
    old, new = (
        ServerThread(Settings(redis_url=any_redis.url, models=models_folder, namespace=f"{session_id}-{name}"))
        for name in ("old", "new")
    )
    with Client(old.target) as client:
        for number in (17, 18, 19):
            client.session(f"pump-{number}").observe([20.1, 20.4, 20.3])
    yield old.target, new.target
    old.stop()
    new.stop()


def run(command: str, folder: Path, old: str, new: str) -> list[str]:
    """Run a command of the page as a shell does; return what it prints."""
    targets = {"old:50051": old, "new:50051": new}
    for name, target in targets.items():
        command = command.replace(name, target)
    if "--target" not in command:
        command = re.sub(r"statecast sessions (export|import)", rf"\g<0> --target {old}", command)
    program = shlex.quote(str(Path(sys.executable).with_name("statecast")))
    command = "set -o pipefail; " + command.replace("statecast sessions", f"{program} sessions")
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return (done.stderr + done.stdout).splitlines()


def close(target: str, name: str) -> None:
    with Client(target) as client:
        client.session(name).close()


def test_what_the_page_shows_is_what_happens(tmp_path: Path, servers: tuple[str, str]) -> None:
    backup, packed, restore, single, move = SHOWN
    told = run(backup, tmp_path, *servers)
    assert [line.split()[0] for line in told] == [line.split()[0] for line in SHOWN[backup]]
    assert [line.split()[1:] for line in told[2:3]] == [["3"]]
    assert run(packed, tmp_path, *servers) == SHOWN[packed]
    assert (tmp_path / "pumps.sessions.gz").read_bytes()[:2] == b"\x1f\x8b"
    close(servers[0], "pump-18")
    assert run(restore, tmp_path, *servers) == SHOWN[restore]
    with Client(servers[0]) as client:
        client.session("pump-17").observe(1.0)
    assert run(single, tmp_path, *servers) == SHOWN[single]
    assert run(move, tmp_path, *servers) == SHOWN[move]
    with Client(servers[1]) as client:
        assert {info.session_id: info.version.step for info in client.sessions()} == {
            f"pump-{number}": 3 for number in (17, 18, 19)
        }
