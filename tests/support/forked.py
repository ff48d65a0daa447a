"""Python modules run as by `python -m`, in processes forked from one that has already imported torch."""

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
    """A forked process, with the methods of subprocess.Popen that the tests use."""

    def __init__(self, module: str, arguments: Sequence[str], log: str, environment: Mapping[str, str]) -> None:
        """Start the process; its stderr is appended to the file `log`."""
        self._process = _CONTEXT.Process(target=_run, args=(module, list(arguments), log, dict(environment)))
        self._process.start()
        atexit.register(self.kill)  # otherwise Python waits for processes that a failed test has left
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit status if the process has ended; negative: the number of the signal that killed it."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended, and return its exit status.

        Raises:
            TimeoutExpired: If it takes longer than `timeout` seconds.
        """
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send the process a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
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
