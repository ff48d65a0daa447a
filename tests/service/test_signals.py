"""Signals at moments and in ways that are easily forgotten: ignored from the start, or before anything is up."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import WAIT_SECONDS, await_true, short_folder

SERVE = [
    sys.executable,
    "-m",
    "statecast.service",
    "serve",
    "--port",
    "0",
    "--metrics-port",
    "0",
    "--drain-seconds",
    "0",
]
IGNORING = ["sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh"]
"""As nohup does, and a script of its background jobs."""


@contextmanager
def started(command: Sequence[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as file:
        environment = {**os.environ, "HOME": "/nonexistent"}
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_what_was_ignored_from_the_start_is_ignored(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with short_folder() as folder, started([*IGNORING, *SERVE, "--data-dir", str(folder)], log) as process:
        await_true(lambda: "serving gRPC" in log.read_text())
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
        time.sleep(0.5)
        assert process.poll() is None
        assert "shutting down" not in log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("after_seconds", [0.4, 0.8])
def test_a_signal_while_it_starts_ends_it(tmp_path: Path, number: signal.Signals, after_seconds: float) -> None:
    log = tmp_path / "log"
    with short_folder() as folder, started([*SERVE, "--data-dir", str(folder)], log) as process:
        time.sleep(after_seconds)
        process.send_signal(number)
        assert process.wait(WAIT_SECONDS) in (0, 1, 128 + number, -number)
        assert "Traceback" not in log.read_text()


SWALLOWING = """
import os, signal, sys
from statecast.service import signals
from statecast.service.cli.main import main
signals.end_when_asked()
try:
    os.kill(os.getpid(), int(sys.argv.pop(1)))
except BaseException:
    pass
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_an_import_swallows_ends_it_all_the_same(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", SWALLOWING, str(int(number)), *SERVE[3:]]
    with short_folder() as folder, started([*command, "--data-dir", str(folder)], log) as process:
        assert process.wait(WAIT_SECONDS) == 0, log.read_text()
        assert "stopped" in log.read_text()


def catches(process: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{process}/status").read_text()
    (mask,) = re.findall(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)
    return bool(int(mask, 16) >> number - 1 & 1)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs root, to be the first process")
def test_the_first_process_of_a_container_hears_it_too(tmp_path: Path) -> None:
    """Without a handler the kernel drops signals to such a process; it has one long before it serves."""
    log = tmp_path / "log"
    command = ["unshare", "--pid", "--fork", "--kill-child", *SERVE]
    with short_folder() as folder, started([*command, "--data-dir", str(folder)], log) as outer:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        await_true(lambda: bool(children.read_text()))
        server = int(children.read_text())
        await_true(lambda: catches(server, signal.SIGTERM))
        assert "serving" not in log.read_text()
        os.kill(server, signal.SIGTERM)
        outer.wait(WAIT_SECONDS)
        assert "Traceback" not in log.read_text()
