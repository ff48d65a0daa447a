"""The peers: their environment, their processes and the requests to them."""

import base64
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import grpc

from .loads import Bytes
from .names import ECHO, HANDWRITTEN, TRITON
from .servers import private_redis, process, stop, temporary_folder, watch
from .sizes import CONCURRENCIES
from .usage import Watched

PEERS = Path(__file__).parents[1] / "peers"
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
PACKAGES = ("torch", "numpy", "grpcio", "redis[hiredis]", "nvidia-pytriton", "tritonclient[grpc]")
ECHO_BYTES = 200
READY_SECONDS = 60.0
INSTALL_SECONDS = 1800.0
_MODULES = "import torch, grpc, redis, hiredis, tritonclient.grpc, pytriton"


class PeerFailed(Exception):
    """A peer cannot run here; the message gives the reason."""


@dataclass(frozen=True)
class Peer:
    """A running peer.

    Attributes:
        name: The peer's name in the findings.
        target: Host and port.
        watched: The peer's processes and files.
        method: "/service/method".
        messages: The message that each session repeats.
        first: The message that each session sends first; empty if it does not differ.
        stream: The streaming method; empty without one.
    """

    name: str
    target: str
    watched: Watched
    method: str
    messages: Sequence[bytes]
    first: Sequence[bytes] = ()
    stream: str = ""

    def load(self, sessions: int) -> Bytes:
        """Return a load with one request in flight for each of `sessions` sessions."""
        return Bytes(self.target, self.method, tuple(self.messages[:sessions]), tuple(self.first[:sessions]))

    def stream_load(self, streams: int) -> Bytes:
        """Return a load with one message in flight on each of `streams` streams."""
        return Bytes(self.target, self.stream, tuple(self.messages[:streams]), is_stream=True)


Start: TypeAlias = Callable[[], AbstractContextManager[Peer]]
Interpreter: TypeAlias = Callable[[], Path]


def environment(cache: Path) -> Path:
    """Return the Python of the peers' own virtual environment; create it in `cache` if it is missing.

    Raises:
        PeerFailed: If it cannot be created.
    """
    python = cache / "peers" / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(cache / "peers")], check=True, capture_output=True)
        if subprocess.run([python, "-c", _MODULES], capture_output=True, check=False).returncode:
            command = [str(python), "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS), *PACKAGES]
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)
            subprocess.run([python, "-c", _MODULES], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        raise PeerFailed(f"its environment cannot be made: {error.stderr.decode().strip()[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerFailed(f"its environment cannot be made: {error}") from error
    return python


@contextmanager
def echo() -> Iterator[Peer]:
    """Run bare grpc.aio, with the same Python and packages as Statecast, whose floor it is."""
    port = free_port()
    with _started([sys.executable, str(PEERS / "echo.py"), str(port)], port) as server:
        messages = (bytes(ECHO_BYTES),) * max(CONCURRENCIES)
        yield Peer(ECHO, _at(port), Watched(server), "/bench.Echo/Unary", messages, stream="/bench.Echo/Stream")


def handwritten(interpreter: Interpreter) -> Start:
    """Return a function that starts a service of grpc.aio, redis.asyncio and torch, one request at a time."""

    @contextmanager
    def start() -> Iterator[Peer]:
        python, port = interpreter(), free_port()
        with private_redis() as redis:
            command = [str(python), str(PEERS / "handwritten.py"), str(port), str(redis.socket)]
            with _started(command, port) as server:
                # A request is the session's number and a value.
                messages = [number.to_bytes(8, "little") + bytes(4) for number in range(max(CONCURRENCIES))]
                yield Peer(HANDWRITTEN, _at(port), watch(server, redis), "/bench.Forecasts/Step", messages)

    return start


def triton(interpreter: Interpreter) -> Start:
    """Return a function that starts Triton: its sequence batcher over its Python backend."""

    @contextmanager
    def start() -> Iterator[Peer]:
        python, port = interpreter(), free_port()
        lines = _output(python, str(PEERS / "triton" / "requests.py"), str(max(CONCURRENCIES))).splitlines()
        first, messages = zip(*(map(base64.b64decode, line.split()) for line in lines), strict=True)
        shared = f"bench_{port}"
        with temporary_folder() as folder:
            command, variables = _triton_command(python, Path(folder), port, shared)
            try:
                with _started(command, port, **variables) as server:
                    method = "/inference.GRPCInferenceService/ModelInfer"
                    yield Peer(TRITON, _at(port), Watched(server), method, messages, first)
            finally:
                for left in Path("/dev/shm").glob(f"{shared}*"):
                    left.unlink(missing_ok=True)

    return start


def _triton_command(python: Path, folder: Path, port: int, shared: str) -> tuple[list[str], dict[str, str]]:
    """Write Triton's models into `folder`, and return its command and environment variables."""
    site = Path(_output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
    version = _output(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    home = site / "pytriton" / "tritonserver"
    stub = home / "backends" / "python" / "triton_python_backend_stub"
    if not stub.exists():
        shutil.copy(home / "python_backend_stubs" / version / stub.name, stub)
    model = folder / "forecasts"
    (model / "1").mkdir(parents=True)
    shutil.copy(PEERS / "triton" / "config.pbtxt", model)
    shutil.copy(PEERS / "triton" / "model.py", model / "1")
    command = [str(home / "bin" / "tritonserver"), f"--model-repository={folder}"]
    command += [f"--backend-directory={home / 'backends'}", f"--cache-directory={home / 'caches'}"]
    command += [f"--backend-config=python,shm-region-prefix-name={shared}", "--exit-timeout-secs=1"]
    command += ["--allow-http=false", "--allow-metrics=false", "--grpc-address=127.0.0.1", f"--grpc-port={port}"]
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    libraries = str(site / "nvidia_pytriton.libs")
    return command, {"PATH": path, "PYTHONPATH": str(site), "LD_LIBRARY_PATH": libraries}


@contextmanager
def _started(command: list[str], port: int, **variables: str) -> Iterator[int]:
    """Start a peer and yield its process id once it serves."""
    with temporary_folder() as folder:
        log = Path(folder) / "peer.log"
        try:
            with process(command, log, **variables) as server:
                _await_ready(server, port, log)
                yield server.pid
                stop(server)
        except OSError as error:
            raise PeerFailed(f"it cannot be started: {error}") from error


def _await_ready(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    with grpc.insecure_channel(_at(port), [("grpc.enable_http_proxy", 0)]) as channel:
        ready = grpc.channel_ready_future(channel)
        for _ in range(int(READY_SECONDS)):
            try:
                ready.result(timeout=1)
                return
            except grpc.FutureTimeoutError:
                if server.poll() is not None:
                    break
        ready.cancel()
    raise PeerFailed(f"it does not serve: {log.read_text(errors='replace').strip()[-500:]}")


def _output(python: Path, *arguments: str) -> str:
    try:
        return subprocess.run([python, *arguments], capture_output=True, check=True, text=True).stdout.strip()
    except subprocess.CalledProcessError as error:
        raise PeerFailed(f"{' '.join(arguments)}: {error.stderr.strip()[-500:]}") from error


def _at(port: int) -> str:
    return f"127.0.0.1:{port}"


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
