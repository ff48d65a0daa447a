"""The demo as people start it."""

import subprocess
import sys
from pathlib import Path

import pytest


def demo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "statecast.service.cli", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_every_session_goes_on_after_the_kill_and_a_picture_is_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "out.png"
    done = demo("--seconds", "3", "--output", str(picture))
    assert done.returncode == 0, done.stderr
    assert "killed with SIGKILL" in done.stdout
    for name in ("cpu", "memory", "network", "disk"):
        assert f"✓ {name}: step" in done.stdout
    assert "none lost, none twice" in done.stdout
    assert "p99" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_series_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text(
        "when,load\n" + "".join(f"2024-01-{1 + at // 24:02d} {at % 24:02d}:00,{at % 24}\n" for at in range(200))
    )
    done = demo("--csv", str(path), "--time", "when", "--value", "load", "--output", str(tmp_path / "o.png"))
    assert done.returncode == 0, done.stderr
    assert "✓ load: step 150" in done.stdout
    assert "200 observations sent, 200 taken" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--csv", "x.csv"), "--csv, --time and --value go together"),
        (("--csv", "/no/such.csv", "--time", "t", "--value", "v"), "/no/such.csv cannot be read"),
        (("--output", "/no/such/folder/x.png"), "there is no folder /no/such/folder"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(arguments: tuple[str, ...], problem: str) -> None:
    done = demo(*arguments)
    assert done.returncode != 0
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
