"""systemd takes the unit without complaint, and finds little that it exposes."""

import re
import subprocess
from pathlib import Path

from deploy.files import DEPLOY
from support.programs import needs

from statecast.service.envoy.launcher import ENGINE_SECONDS

UNIT = DEPLOY / "systemd" / "statecast.service"
needs_systemd = needs("systemd-analyze")
MOST_EXPOSED = 2.0
"""Of ten, as systemd-analyze counts; a unit without any protection has 9.6."""


def values(name: str) -> list[str]:
    """Return all values of a setting of the unit."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def analyze(*command: str) -> str:
    done = subprocess.run(["systemd-analyze", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_systemd
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "statecast"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / UNIT.name).write_text(UNIT.read_text().replace("/opt/statecast/bin/statecast", str(program)))
    said = analyze("verify", "--man=no", str(tmp_path / UNIT.name))
    assert UNIT.name not in said, said


@needs_systemd
def test_the_unit_exposes_little() -> None:
    said = analyze("security", "--offline=yes", "--no-pager", str(UNIT))
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert score, said
    assert float(score[1]) <= MOST_EXPOSED, said


def test_a_stop_takes_less_time_than_systemd_grants() -> None:
    environment = dict(pair.split("=", 1) for line in values("Environment") for pair in line.split())
    stop = float(environment["STATECAST_DRAIN_SECONDS"]) + float(environment["STATECAST_GRACE_SECONDS"])
    assert float(values("TimeoutStopSec")[0]) > stop + ENGINE_SECONDS


def test_the_signal_reaches_the_server_alone() -> None:
    assert values("KillMode") == ["mixed"]
    assert values("KillSignal") == ["SIGTERM"]


def test_pytorch_may_compile_kernels() -> None:
    # With MemoryDenyWriteExecute the server starts, but oneDNN "could not create a primitive" for any forecast.
    assert values("MemoryDenyWriteExecute") in ([], ["no"])
