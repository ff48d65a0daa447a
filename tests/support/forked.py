"""Python modules run as `python -m` would, in processes that need not import torch first: one that has is forked."""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from subprocess import TimeoutExpired

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["__main__", "statecast.service.server", "statecast.service.cli.main"])


class Forked:
    """Such a process, with the methods of subprocess.Popen that are used here."""

    def __init__(self, module: str, arguments: Sequence[str], log: str, environment: Mapping[str, str]) -> None:
        """Start it; what it writes to stderr is appended to the file `log`."""
        self._process = _CONTEXT.Process(target=_run, args=(module, list(arguments), log, dict(environment)))
        self._process.start()
        atexit.register(self.kill)  # Python would wait for what a failed test has left
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit status, if it has ended: the negative number of the signal that killed it, if one did."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended.

        Raises:
            TimeoutExpired: if it takes longer than `timeout` seconds.
        """
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def _run(module: str, arguments: list[str], log: str, environment: dict[str, str]) -> None:
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 2)
    os.close(file)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also under nohup
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
