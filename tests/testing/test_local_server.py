"""A LocalServer starts, continues after a kill, and leaves nothing behind."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from support import await_true

from statecast.client import Client
from statecast.service.envoy import launcher
from statecast.testing import LocalServer, ServerFailed


def test_it_continues_after_a_kill_on_the_same_ports() -> None:
    with LocalServer() as server:
        ports, folder = (server.port, server.metrics_port), server.redis.folder
        with Client(server.target) as client:
            session = client.session("boiler 7")
            session.observe([20.4, 20.3])
            first = server.kill()
            assert server.start() > 0
            assert (server.port, server.metrics_port) == ports
            assert server.process_id != first
            assert psutil.Process(server.engine_process_id).name() == "envoy" or launcher.why_not()
            assert session.observe([20.2]).version.step == 3
        assert b"grpc_server_handled_total" in urlopen(server.metrics_url).read()
        assert "serving gRPC" in server.log
        redis = int((folder / "redis.pid").read_text())
    assert not folder.exists()
    await_true(lambda: not Path(f"/proc/{redis}").exists())


def test_options_and_variables_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECAST_PORT", "none")  # not of this process
    with (
        LocalServer("--namespace", "mine", environment={"STATECAST_MAX_OBSERVATIONS": "2"}) as server,
        Client(server.target) as client,
        pytest.raises(Exception, match="3 time steps are more than the 2"),
    ):
        client.session("s").observe([1.0, 2.0, 3.0])


def test_the_error_of_a_server_that_does_not_start_is_its_log() -> None:
    server = LocalServer("--default-model", "nope")
    with pytest.raises(ServerFailed, match="default-model 'nope' does not exist"):
        server.start()
    assert server.stop() == 1
    with pytest.raises(ServerFailed, match="was not started"):
        LocalServer().kill()


def test_the_port_file_is_there_while_the_server_serves(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    server = LocalServer("--port-file", str(file))
    server.launch()
    await_true(file.exists)
    assert set(json.loads(file.read_text())) == {"port", "metrics_port"}
    assert server.terminate() == 0
    assert not file.exists()
    server.stop()


def test_a_port_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    server = LocalServer("--port-file", str(tmp_path / "none" / "ports.json"))
    server.launch()
    with pytest.raises(ServerFailed, match=r"none/ports\.json cannot be written: No such file or directory"):
        server.wait_until_serving()
    assert server.stop() == 1


def test_a_signal_while_the_server_is_being_started_does_not_leave_it_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts the tests may ignore it

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            os.kill(os.getpid(), signal.SIGINT)

    server = LocalServer()
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            server.start()
    signal.signal(signal.SIGINT, before)
    server.stop()
    assert [process.poll() is not None for process in started] == [True]
