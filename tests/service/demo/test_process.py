"""The server that the demo starts and stops."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from statecast.service.demo.process import DemoServer, new_folder


def test_a_signal_while_the_server_is_being_started_does_not_leave_it_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts the tests may ignore it

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            os.kill(os.getpid(), signal.SIGINT)

    with new_folder() as folder:
        server = DemoServer(Path(folder))
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", Interrupted)
            with pytest.raises(KeyboardInterrupt):
                server.start()
        signal.signal(signal.SIGINT, before)
        server.stop()
        assert [process.poll() is not None for process in started] == [True]
