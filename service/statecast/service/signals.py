"""Signals that ask a process to stop. One that was ignored when the process began stays ignored, as under nohup."""

import signal
import sys
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Asked to stop, Ctrl-C, and the terminal is gone."""
_received: list[int] = []


def heeded() -> list[signal.Signals]:
    """The signals to stop at: a background job of a script, or one under nohup, is not to hear all of them."""
    return [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]


def end_when_asked() -> None:
    """End the process, with everything cleared away, at the first of them.

    The kernel drops signals to the first process of a container unless that has a handler. Ctrl-C stays a
    KeyboardInterrupt.
    """
    for number in heeded():
        signal.signal(number, _end)


def was_asked() -> bool:
    """Whether one has come: what is raised in the middle of an import may be caught there, and not end the process."""
    return bool(_received)


def _end(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    if number == signal.SIGINT:
        signal.default_int_handler(number, frame)
    sys.exit(128 + number)
