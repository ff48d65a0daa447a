"""`statecast serve` with a folder of models, as a process of its own, for as long as an example runs."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from statecast.service.demo.process import new_folder

START_SECONDS = 60.0
_PORT = re.compile(r"serving gRPC on [^ ]*:(\d+)")


@contextmanager
def serving(models: Path) -> Iterator[str]:
    """Serves the models of a folder, <name>/<version>/, on a free port, with a Redis of its own; where, as host:port.

    Raises:
        RuntimeError: The server did not start; the message is what it said.
    """
    # Not inside the models' folder: a Redis listens there, and a socket's path must be short.
    with new_folder() as folder:
        log = Path(folder) / "server.log"
        command = [sys.executable, "-m", "statecast.service", "serve", "--device", "cpu", "--models", str(models)]
        command += ["--port", "0", "--metrics-port", "0", "--data-dir", folder, "--drain-seconds", "0"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STATECAST_")}
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        try:
            yield f"127.0.0.1:{_await_port(process, log)}"
        finally:
            process.terminate()
            process.wait()


def _await_port(process: "subprocess.Popen[bytes]", log: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while not (found := _PORT.search(log.read_text(encoding="utf-8"))):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the server did not start: {log.read_text(encoding='utf-8').strip()}")
        time.sleep(0.05)
    return found[1]
