"""Signals that ask a process to stop. Those ignored at its start stay ignored, as under nohup."""

import signal
import sys
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A request to stop, Ctrl-C, and a closed terminal."""
_received: list[int] = []


def heeded() -> list[signal.Signals]:
    """Return the signals to stop at: without those that a script's background job or nohup ignores."""
    return [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]


def end_when_asked() -> None:
    """Exit the process cleanly at the first stop signal.

    The kernel drops signals to a container's first process unless it handles them. Ctrl-C stays a KeyboardInterrupt.
    """
    for number in heeded():
        signal.signal(number, _end)


def was_asked() -> bool:
    """Return True if a stop signal has come: an import may have swallowed the exception that it raised."""
    return bool(_received)


def _end(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    if number == signal.SIGINT:
        signal.default_int_handler(number, frame)
    sys.exit(128 + number)
