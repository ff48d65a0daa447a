"""The demo, started as a command."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest


def demo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "statecast.service", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def shapes(text: str) -> set[str]:
    """Return the lines without numbers, tags and paths, which differ between runs."""
    lines = (re.sub(r"tag [0-9a-f]+", "tag", line) for line in text.splitlines())
    return {re.sub(r"\S*/\S+\.png|[\d,.]+", "_", line) for line in lines}


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
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    (shown,) = re.findall(r"^\$ make demo\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert shapes(shown) == shapes(done.stdout)


def test_a_series_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text(
        "when,load\n" + "".join(f"2024-01-{1 + at // 24:02d} {at % 24:02d}:00,{at % 24}\n" for at in range(200))
    )
    done = demo("--data", str(path), "--time", "when", "--target", "load", "--output", str(tmp_path / "o.png"))
    assert done.returncode == 0, done.stderr
    assert "✓ load: step 150" in done.stdout
    assert "200 observations sent, 200 taken" in done.stdout


def test_the_shortest_series_is_half_history_and_streamed_after_the_kill(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text("ds,y\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n")
    done = demo("--data", str(path), "--output", str(tmp_path / "o.png"))
    assert done.returncode == 0, done.stderr
    assert "✓ y: step 2," in done.stdout
    assert "3 observations sent, 3 taken" in done.stdout


@pytest.mark.parametrize(
    ("words", "number"), [("streaming", signal.SIGINT), ("killed with SIGKILL", signal.SIGTERM)], ids=str
)
def test_stopped_at_any_moment_it_leaves_nothing_behind(tmp_path: Path, words: str, number: signal.Signals) -> None:
    command = [
        sys.executable,
        "-u",
        "-m",
        "statecast.service",
        "demo",
        "--seconds",
        "4",
        "--output",
        str(tmp_path / "o.png"),
    ]
    environment = os.environ | {
        "TMPDIR": str(tmp_path),
        "STATECAST_REDIS_URL": "redis://nowhere",
        "STATECAST_PORT": "1",
    }
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if words in line:
                break
        os.killpg(process.pid, number)  # as a terminal does
        process.communicate(timeout=60)
    assert not list(tmp_path.iterdir())
    for other in psutil.process_iter(["cmdline"]):
        assert str(tmp_path) not in " ".join(other.info["cmdline"] or ())


def test_kept_up_it_can_be_looked_at_until_it_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text("ds,y\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n")
    command = [sys.executable, "-u", "-m", "statecast.service", "demo", "--keep", "--data", str(path)]
    with subprocess.Popen(
        [*command, "--output", str(tmp_path / "o.png")], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        said = ""
        while "press Ctrl-C to stop" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        (address,) = re.findall(r"look at it in a browser until you press Ctrl-C: (http://\S+/page/)", said)
        with urllib.request.urlopen(f"{address}api/sessions", timeout=20) as response:
            (session,) = json.load(response)["sessions"]
        assert (session["id"], session["step"]) == ("y", 3)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--data", "/no/such.csv"), "File '/no/such.csv' does not exist"),
        (("--data", __file__), "expected a file ending in .csv"),
        (("--output", "/no/such/folder/x.png"), "there is no folder /no/such/folder"),
        (("--output", "x.foo"), "x.foo should end in .png"),
        (("--seconds", "nan"), "--seconds"),
        (("--wide",), "--wide describes the file of --data, which is missing"),
        (("--target", "load"), "--target describes the file of --data, which is missing"),
        (("--data", __file__, "--seconds", "5"), "--seconds: how long the demo streams telemetry"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(arguments: tuple[str, ...], problem: str) -> None:
    done = demo(*arguments)
    assert done.returncode != 0
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
